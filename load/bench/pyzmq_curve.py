"""Baseline: pyzmq over loopback TCP with CURVE, two processes, no broker in between.

Bulk and small: PUSH to PULL, one datagram per message, plain ``send`` and ``recv`` calls.
Round trip and connections: DEALER to ROUTER. One I/O thread a side, as pyzmq comes.
"""

from __future__ import annotations

import time
from functools import partial

import zmq

from load.bench.harness import Station, Stopwatch, Usage, exchange, flow, latency, ping, throughput
from load.bench.model import (
    BULK_1M,
    BULK_64K,
    CONNECT_16,
    RTT_100,
    SMALL_100,
    SMALL_BYTES,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)

NAME = "pyzmq-curve"
Place = tuple[str, bytes]  # endpoint, server's public key (CURVE: Z85)
Socket = zmq.Socket[bytes]

QUEUE_BYTES = 16 << 20  # high-water mark, a side; ours: bounds memory at 1 MiB datagrams
QUEUE_MIN, QUEUE_MAX = 16, 10_000  # datagrams
PATIENCE_MS = 10_000  # a silent peer ends the phase
END = b""  # the message after the last datagram
LAST = b"last"  # a request that ends the server
NO_COPY_FROM = 128 << 10  # bytes; below, copying is cheaper than tracking (tried)


def _socket(context: zmq.Context[Socket], kind: int, size: int) -> Socket:
    socket = context.socket(kind)
    socket.set_hwm(max(QUEUE_MIN, min(QUEUE_MAX, QUEUE_BYTES // size)))
    socket.rcvtimeo = socket.sndtimeo = PATIENCE_MS
    socket.linger = 0
    return socket


def _bound(context: zmq.Context[Socket], kind: int, size: int) -> tuple[Socket, Place]:
    """A listening CURVE server and where it is."""
    socket = _socket(context, kind, size)
    public, secret = zmq.curve_keypair()
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.bind("tcp://127.0.0.1:*")
    return socket, (socket.get_string(zmq.LAST_ENDPOINT), public)


def _connected(
    context: zmq.Context[Socket], kind: int, place: Place, keys: tuple[bytes, bytes], size: int
) -> Socket:
    endpoint, server_key = place
    socket = _socket(context, kind, size)
    socket.curve_serverkey = server_key
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.connect(endpoint)
    return socket


# --- bulk and small -------------------------------------------------------------------


def pull(station: Station, size: int, _: float) -> Usage:
    """Receive until the end; usage counts datagrams from the first one on."""
    socket, place = _bound(zmq.Context(), zmq.PULL, size)
    station.tell(place)
    recv, copy = socket.recv, size < NO_COPY_FROM
    recv()
    watch = Stopwatch()
    count = 0
    while len(recv(copy=copy)):
        count += 1
    return watch.stop(count)


def push(station: Station, place: Place, size: int, seconds: float) -> Usage:
    """Send as fast as the socket takes it; looks at the clock once per block."""
    socket = _connected(zmq.Context(), zmq.PUSH, place, zmq.curve_keypair(), size)
    send, copy, payload = socket.send, size < NO_COPY_FROM, bytes(size)
    block = range(1000 if copy else 8)
    count = 0
    send(payload, 0, copy)  # waits for the connection, is not counted
    watch = Stopwatch()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in block:
            send(payload, 0, copy)
        count += len(block)
    send(END)
    station.hear()
    return watch.stop(count)


def _measure_flow(case: Case, settings: Settings) -> list[Measurement]:
    sent, received = flow(settings, pull, push, case.size, settings.seconds)
    if sent.count != received.count:
        raise PhaseError("datagrams lost")
    unit = 1 if case is SMALL_100 else case.size
    done = Usage(received.count * unit, received.seconds, received.cpu_s)
    cpu_s = {"sender": sent.cpu_s, "receiver": received.cpu_s}
    return [throughput(case, NAME, done, cpu_s, "PUSH/PULL, one datagram per message")]


# --- round trip -----------------------------------------------------------------------


def echo(station: Station) -> None:
    """Answer every request until ended."""
    socket, place = _bound(zmq.Context(), zmq.ROUTER, SMALL_BYTES)
    station.tell(place)
    while True:
        socket.send_multipart(socket.recv_multipart())


def ask(_: Station, place: Place, seconds: float) -> list[int]:
    """Round trips, in nanoseconds."""
    keys = zmq.curve_keypair()
    socket = _connected(zmq.Context(), zmq.DEALER, place, keys, SMALL_BYTES)
    return round_trips(socket, seconds)


def round_trips(socket: Socket, seconds: float) -> list[int]:
    """One message out, the same back, one at a time; nanoseconds of each."""
    clock, send, recv, payload = time.perf_counter_ns, socket.send, socket.recv, bytes(SMALL_BYTES)
    samples: list[int] = []
    now = clock()
    until = now + int(seconds * 1e9)
    while now < until:
        before = now
        send(payload)
        recv()
        now = clock()
        samples.append(now - before)
    return samples


def _measure_rtt(settings: Settings) -> list[Measurement]:
    return [latency(RTT_100, NAME, ping(settings, echo, ask), "DEALER/ROUTER")]


# --- new connections ------------------------------------------------------------------


def welcome(station: Station) -> Usage:
    """Answer the first message of every connection until the last one."""
    socket, place = _bound(zmq.Context(), zmq.ROUTER, SMALL_BYTES)
    station.tell(place)
    watch, count = None, 0
    while True:
        who, request = socket.recv_multipart()
        watch = watch or Stopwatch()
        socket.send_multipart((who, request))
        if request == LAST:
            return watch.stop(count)
        count += 1


class _Visitors:
    """Some connections at a time: each sends one message, is answered, and is closed."""

    def __init__(self, place: Place) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._keys = zmq.curve_keypair()  # an identity is made once, not per connection
        self._place = place
        self._poller = zmq.Poller()

    def _connect(self) -> Socket:
        return _connected(self._context, zmq.DEALER, self._place, self._keys, SMALL_BYTES)

    def enter(self, count: int) -> None:
        """Open ``count`` connections and say something on each."""
        for _ in range(count):
            socket = self._connect()
            socket.send(bytes(SMALL_BYTES))
            self._poller.register(socket, zmq.POLLIN)

    def leave(self) -> int:
        """Close the answered ones; returns how many there were."""
        ready = self._poller.poll(PATIENCE_MS)
        if not ready:
            raise PhaseError("no answer")
        for socket, _ in ready:
            socket.recv()
            self._poller.unregister(socket)
            socket.close()
        return len(ready)

    def finish(self) -> None:
        """Tell the server that it is over."""
        socket = self._connect()
        socket.send(LAST)
        socket.recv()


def visit(_: Station, place: Place, seconds: float) -> Usage:
    """Keep 16 connections under way for a while; those still under way at the end do not count."""
    visitors = _Visitors(place)
    watch, count = Stopwatch(), 0
    until = time.perf_counter() + seconds
    visitors.enter(CONNECT_16.count)
    while time.perf_counter() < until:
        left = visitors.leave()
        visitors.enter(left)
        count += left
    usage = watch.stop(count)
    visitors.finish()
    return usage


def _measure_connections(settings: Settings) -> list[Measurement]:
    made, served = exchange(settings, welcome, visit)
    cpu_s = {"client": made.cpu_s, "server": served.cpu_s}
    note = "new DEALER, one message in, answered, closed"
    return [throughput(CONNECT_16, NAME, made, cpu_s, note)]


SOURCES = (
    Source(BULK_64K, NAME, partial(_measure_flow, BULK_64K)),
    Source(BULK_1M, NAME, partial(_measure_flow, BULK_1M)),
    Source(SMALL_100, NAME, partial(_measure_flow, SMALL_100)),
    Source(RTT_100, NAME, _measure_rtt),
    Source(CONNECT_16, NAME, _measure_connections),
)
