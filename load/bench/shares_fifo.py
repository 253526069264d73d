"""What shares are held against: one TCP connection, first in, first out, without a scheduler.

Urgent messages come 50 times a second and wait until the bulk message that is being written, and
whatever the kernel holds, has gone before them.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

from load.bench.harness import Station
from load.bench.model import MS_ABOVE, P99_MS, SMALL_BYTES, URGENT, Measurement, PhaseError
from load.bench.shares_side import STAMP, TICK_NS, Sample, percentile_ms, wait_until

HOST = "127.0.0.1"
LENGTH = struct.Struct("<I")
READ_BYTES = 1 << 18
PATIENCE_S = 30.0
Span = tuple[int, int]


def above(contender: str, samples: Sequence[Sample], alone: Span, loaded: Span) -> Measurement:
    """The p99 of ways beside bulk, less that of ways without it."""
    before, after = (percentile_ms(samples, *span, 0.99) for span in (alone, loaded))
    middle = [percentile_ms(samples, *span, 0.5) for span in (alone, loaded)]
    note = (
        f"one way, ms: unloaded p50 {middle[0]:.1f}, p99 {before:.1f}; "
        f"loaded p50 {middle[1]:.1f}, p99 {after:.1f}"
    )
    return Measurement(URGENT, contender, {MS_ABOVE: after - before, P99_MS: after}, note=note)


def _connect(port: object) -> socket.socket:
    if not isinstance(port, int):
        raise PhaseError(f"a port was to come, not {port!r}")
    peer = socket.create_connection((HOST, port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def _accept(station: Station) -> socket.socket:
    with socket.create_server((HOST, 0)) as listener:
        station.tell(listener.getsockname()[1])
        peer, _ = listener.accept()
    peer.settimeout(PATIENCE_S)
    return peer


# --- urgent and bulk ------------------------------------------------------------------


def send(station: Station, port: int, size: int) -> None:
    """Urgent messages from a time on, bulk ones from another, in the order in which they come."""
    bulk = LENGTH.pack(size) + bytes(size)
    rest = bytes(SMALL_BYTES - STAMP.size)
    with _connect(port) as peer:
        station.tell("connected")
        word = station.hear()
        assert isinstance(word, tuple)
        due, alone, end = word
        while (now := time.monotonic_ns()) < end:
            while due <= now:
                peer.sendall(LENGTH.pack(SMALL_BYTES) + STAMP.pack(due) + rest)
                due += TICK_NS
            if now >= alone:
                peer.sendall(bulk)
            else:
                wait_until(min(due, end))


def _exactly(peer: socket.socket, view: memoryview) -> bool:
    """Fill the view; False at the end."""
    while view:
        size = peer.recv_into(view)
        if not size:
            return False
        view = view[size:]
    return True


def receive(station: Station) -> list[Sample]:
    """Take all until the end; of urgent messages, when they came and their way in nanoseconds."""
    samples: list[Sample] = []
    buffer = memoryview(bytearray(2 << 20))
    with _accept(station) as peer:
        while _exactly(peer, buffer[: LENGTH.size]):
            (size,) = LENGTH.unpack_from(buffer)
            if not _exactly(peer, buffer[:size]):
                break
            if size == SMALL_BYTES:
                now = time.monotonic_ns()
                samples.append((now, now - STAMP.unpack_from(buffer)[0]))
    return samples


# --- the bottleneck itself ------------------------------------------------------------


def flood(station: Station, port: int) -> None:
    """Send as fast as TCP takes it, until the time it hears."""
    data = bytes(READ_BYTES)
    with _connect(port) as peer:
        station.tell("connected")
        end = station.hear()
        assert isinstance(end, int)
        while time.monotonic_ns() < end:
            peer.sendall(data)


def swallow(station: Station) -> list[Sample]:
    """Take all until the end; when it came, and bytes."""
    samples: list[Sample] = []
    buffer = bytearray(READ_BYTES)
    with _accept(station) as peer:
        while size := peer.recv_into(buffer):
            samples.append((time.monotonic_ns(), size))
    return samples
