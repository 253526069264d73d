"""A bottleneck of known rate and delay between two ends of TCP connections, in user space.

Each direction is a token bucket, which all connections share, and behind it a delay line. What
waits for the bucket is at most ``queue`` bytes; the bottleneck reads no further then, and TCP holds
the sender back. Buffers of its sockets are small, so that hardly anything waits where nobody sees
it. Nothing is lost and nothing overtakes.

``Meter`` and ``Line`` are told the time; ``Bottleneck`` has the sockets.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NS = 1_000_000_000
SEGMENT = 1448  # payload of an Ethernet frame's worth of TCP
TICK_S = 0.001  # a faster bottleneck forwards what it lets through in this time at once
QUEUE_S = 0.004  # what may wait, in time
QUEUE_SEGMENTS = 4  # and at least so much
DEPTH_S = 0.02  # of the bucket, in time: the loop may be so late and lose no rate
BACKLOG = 16
CONGESTION = b"reno"  # of its own sockets: it never paces, and every kernel has it
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a bottleneck does to each direction."""

    rate: float
    "Bytes a second, of TCP's payload."
    delay_s: float
    "From the moment a byte has passed the bucket to its delivery: one way."

    @property
    def chunk(self) -> int:
        """Bytes that pass the bucket, and are delivered, together."""
        return max(SEGMENT, int(self.rate * TICK_S))

    @property
    def queue(self) -> int:
        """Bytes that may wait for the bucket."""
        return max(QUEUE_SEGMENTS * SEGMENT, int(self.rate * QUEUE_S))

    @property
    def burst(self) -> int:
        """Bytes that may pass beyond the rate, after a silence."""
        return int(self.rate * DEPTH_S)

    @property
    def most(self) -> int:
        """Bytes of a connection that it may hold in one direction, however slow the reader is."""
        return int(self.rate * self.delay_s) + self.burst + self.queue + self.chunk


class Meter:
    """The bucket of one direction: when has what was let in passed?"""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._ns_per_byte = NS / shape.rate
        self._free_ns = 0.0

    def waiting(self, now_ns: int) -> float:
        """Bytes that have not passed yet."""
        return max(0.0, self._free_ns - now_ns) / self._ns_per_byte

    def opens_ns(self) -> int:
        """When there is room for a chunk again."""
        room = self._shape.queue - self._shape.chunk
        return int(self._free_ns - room * self._ns_per_byte) + 1

    def admit(self, now_ns: int, size: int) -> int:
        """Let ``size`` bytes in behind all others; when the last of them has passed."""
        self._free_ns = max(self._free_ns, now_ns - DEPTH_S * NS) + size * self._ns_per_byte
        return max(now_ns, int(self._free_ns))


class Line:
    """One direction of one connection: bytes with the time when they are due at the other end."""

    def __init__(self, shape: Shape, meter: Meter) -> None:
        self._shape = shape
        self._meter = meter
        self._delay_ns = int(shape.delay_s * NS)
        self._parts: deque[tuple[int, memoryview]] = deque()
        self.held = 0
        "Bytes inside."
        self._ends_ns: int | None = None

    def room(self, now_ns: int) -> int:
        """Bytes to read now: none, or up to a chunk."""
        full = self.held + self._shape.chunk > self._shape.most
        if full or self._ends_ns is not None or now_ns < self._meter.opens_ns():
            return 0
        return self._shape.chunk

    def opens_ns(self) -> int | None:
        """When ``room`` has some again; None while that depends on the other end alone."""
        full = self.held + self._shape.chunk > self._shape.most
        return None if full or self._ends_ns is not None else self._meter.opens_ns()

    def put(self, now_ns: int, data: bytes) -> None:
        """Bytes that were read; none: the end, which takes as long as a byte would."""
        due = self._meter.admit(now_ns, len(data)) + self._delay_ns
        if not data:
            self._ends_ns = due
            return
        self._parts.append((due, memoryview(data)))
        self.held += len(data)

    def due_ns(self) -> int | None:
        """When there is something to deliver next; None: nothing is inside."""
        return self._parts[0][0] if self._parts else self._ends_ns

    def peek(self, now_ns: int) -> memoryview | None:
        """Bytes that are due; they stay until they are taken."""
        return self._parts[0][1] if self._parts and self._parts[0][0] <= now_ns else None

    def take(self, size: int) -> None:
        """``size`` bytes of those that ``peek`` showed are delivered."""
        due, data = self._parts.popleft()
        if size < len(data):
            self._parts.appendleft((due, data[size:]))
        self.held -= size

    def ended(self, now_ns: int) -> bool:
        """Whether all is delivered and the end is due."""
        return not self._parts and self._ends_ns is not None and self._ends_ns <= now_ns


# --- sockets --------------------------------------------------------------------------


def _small(sock: socket.socket, shape: Shape) -> socket.socket:
    """Before it connects or listens: a short queue in the kernel, and segments that fit in it."""
    size = max(2 * SEGMENT, int(shape.rate * QUEUE_S))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
    return sock


class _Way:
    """One direction of a connection: from a socket, through a line, to a socket."""

    def __init__(self, line: Line, source: socket.socket, target: socket.socket) -> None:
        self.line = line
        self.source = source
        self.target = target
        self.done = False
        "The end is delivered."
        self.blocked = False
        "The target takes no more for now."

    def pull(self, now_ns: int) -> None:
        """Read once.  Raises: OSError."""
        if room := self.line.room(now_ns):
            self.line.put(now_ns, self.source.recv(room))

    def push(self, now_ns: int) -> None:
        """Deliver what is due.  Raises: OSError."""
        self.blocked = False
        try:
            while (data := self.line.peek(now_ns)) is not None:
                self.line.take(self.target.send(data))
        except BlockingIOError:
            self.blocked = True
        if self.line.ended(now_ns) and not self.done:
            self.done = True
            self.target.shutdown(socket.SHUT_WR)


class _Pair:
    """A connection that was accepted, and the one that it is joined to."""

    def __init__(
        self, shape: Shape, meters: tuple[Meter, Meter], near: socket.socket, far: socket.socket
    ) -> None:
        self.ways = (
            _Way(Line(shape, meters[0]), near, far),
            _Way(Line(shape, meters[1]), far, near),
        )

    def close(self) -> None:
        for way in self.ways:
            way.source.close()


class Bottleneck:
    """Listens on ``place``; what connects there is joined to ``target`` through the shape.

    ``run`` is the loop, in whatever thread; as a context manager it runs in a thread of its own.
    """

    def __init__(self, target: Place, shape: Shape) -> None:
        self._target = target
        self._shape = shape
        self._meters = Meter(shape), Meter(shape)
        self._pairs: list[_Pair] = []
        self._stop_read, self._stop_write = os.pipe()
        self._listener = _small(socket.socket(), shape)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._thread: threading.Thread | None = None

    @property
    def place(self) -> Place:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return str(host), int(port)

    # --- the loop ---

    def run(self) -> None:
        """Until ``stop``; then all connections are closed."""
        try:
            while self._turn():
                pass
        finally:
            for pair in self._pairs:
                pair.close()
            self._listener.close()
            os.close(self._stop_read)

    def _turn(self) -> bool:
        now = time.monotonic_ns()
        readers: list[int | socket.socket] = [self._stop_read, self._listener]
        writers: list[socket.socket] = []
        wake: list[int] = []
        for way in self._ways():
            due, opens = way.line.due_ns(), way.line.opens_ns()
            if way.blocked:
                writers.append(way.target)
            elif due is not None and not way.done:
                wake.append(due)
            if way.line.room(now):
                readers.append(way.source)
            elif opens is not None:
                wake.append(opens)
        timeout = max(0, min(wake) - now) / NS if wake else None
        readable, _, _ = select.select(readers, writers, [], timeout)
        if self._stop_read in readable:
            return False
        if self._listener in readable:
            self._accept()
        self._move(set(readable))
        return True

    def _ways(self) -> list[_Way]:
        return [way for pair in self._pairs for way in pair.ways]

    def _move(self, readable: set[int | socket.socket]) -> None:
        """Read and deliver; another connection goes first in each turn."""
        self._pairs = self._pairs[1:] + self._pairs[:1]
        for pair in list(self._pairs):
            try:
                for way in pair.ways:
                    if way.source in readable:
                        way.pull(time.monotonic_ns())
                    way.push(time.monotonic_ns())
            except OSError:  # one end has reset the connection: so do we
                self._drop(pair)
                continue
            if all(way.done for way in pair.ways):
                self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        pair.close()
        self._pairs.remove(pair)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = _small(socket.socket(), self._shape)
        try:
            far.connect(self._target)
        except OSError:
            near.close()
            far.close()
            return
        near.setblocking(False)
        far.setblocking(False)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append(_Pair(self._shape, self._meters, near, far))

    def stop(self) -> None:
        """End ``run``, from any thread."""
        os.close(self._stop_write)

    # --- as a thread ---

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="bottleneck")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()
