"""What a round trip from application to application is made of: an ipc hop, and raw TCP.

Blocking sockets on both sides. One hop one way is half of the ipc round trip.
"""

from __future__ import annotations

import os
import socket
import time

import zmq

from load.bench.harness import Station, latency, ping
from load.bench.model import RTT_100, SMALL_BYTES, Measurement, Settings, Source
from load.bench.pyzmq_curve import round_trips

IPC = "pyzmq-ipc"
TCP = "tcp-python"
PATIENCE_S = 10.0


# --- pyzmq over ipc -------------------------------------------------------------------


def echo_ipc(station: Station) -> None:
    """Answer every request until ended."""
    place = f"ipc://@dp2p-bench-{os.getpid()}"  # abstract: nothing to remove afterwards
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(place)
    router.rcvtimeo = int(PATIENCE_S * 1e3)
    station.tell(place)
    while True:
        router.send_multipart(router.recv_multipart())


def ask_ipc(_: Station, place: str, seconds: float) -> list[int]:
    """Round trips, in nanoseconds."""
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.rcvtimeo = dealer.sndtimeo = int(PATIENCE_S * 1e3)
    dealer.linger = 0
    dealer.connect(place)
    return round_trips(dealer, seconds)


def _measure_ipc(settings: Settings) -> list[Measurement]:
    note = "DEALER/ROUTER; one hop is half of it"
    return [latency(RTT_100, IPC, ping(settings, echo_ipc, ask_ipc), note)]


# --- raw TCP in Python ----------------------------------------------------------------


def echo_tcp(station: Station) -> None:
    """Send everything back, on one connection, until it closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        station.tell(listener.getsockname())
        peer, _ = listener.accept()
    with peer:
        peer.settimeout(None)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := peer.recv(SMALL_BYTES, socket.MSG_WAITALL):
            peer.sendall(data)


def ask_tcp(_: Station, place: tuple[str, int], seconds: float) -> list[int]:
    """Round trips, in nanoseconds."""
    clock, payload = time.perf_counter_ns, bytes(SMALL_BYTES)
    samples: list[int] = []
    with socket.create_connection(place) as peer:
        peer.settimeout(None)  # blocking: no poll before each call
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        now = clock()
        until = now + int(seconds * 1e9)
        while now < until:
            before = now
            peer.sendall(payload)
            peer.recv(SMALL_BYTES, socket.MSG_WAITALL)
            now = clock()
            samples.append(now - before)
    return samples


def _measure_tcp(settings: Settings) -> list[Measurement]:
    note = "raw TCP, blocking sockets in Python"
    return [latency(RTT_100, TCP, ping(settings, echo_tcp, ask_tcp), note)]


SOURCES = (Source(RTT_100, IPC, _measure_ipc), Source(RTT_100, TCP, _measure_tcp))
