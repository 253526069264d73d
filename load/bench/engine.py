"""Ours: engine to engine, two processes, each a shard's loop without ZeroMQ (``engine_side``).

Sender and receiver are one connection; records are as large as applications would send them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from dp2p.errors import TransportError
from dp2p.hello import CloseReason
from dp2p.records import DATAGRAM_COST
from dp2p.transport import Engine, Event, NodeConfig
from load.bench import engine_idle as idle
from load.bench.engine_side import CONTROL, Side, Streamer
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
    Unavailable,
)

PROVIDERS = {"engine-openssl": "openssl", "engine-libsodium": "libsodium"}
NAME = "engine"  # where the provider hardly matters
RECORD_BYTES = 256 << 10  # of one DATA record of small datagrams
LAST = b"last"  # greeting on the connection that ends a listener


# --- bulk and small -------------------------------------------------------------------


class Sink(Streamer):
    """Receives; the watch starts with the first data."""

    watch: Stopwatch | None = None

    def take(self, message: Any) -> None:
        self.watch = self.watch or Stopwatch()
        super().take(message)


def receive(station: Station, aead: str, _size: int, _seconds: float) -> None:
    """Take everything until the last datagram and tell the usage, which counts datagrams without
    that one; then stay until ended.
    """
    side = Sink(aead)
    station.tell(side.listen())
    side.meet()
    while not side.ended:
        side.turn_or_fail()
    assert side.watch is not None
    station.tell(side.watch.stop(side.taken_datagrams - 1))
    while True:
        side.turn()


def send(station: Station, port: int, aead: str, size: int, seconds: float) -> Usage:
    """Send as fast as credit allows."""
    side = Streamer(aead)
    side.dial(port)
    side.meet()
    count = max(1, RECORD_BYTES // (size + DATAGRAM_COST)) if size <= SMALL_BYTES else 1
    record, cost = side.record(size, count), (size + DATAGRAM_COST) * count
    watch = Stopwatch()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        while side.send(record, count, cost):
            pass
        side.turn_or_fail()
    sent = side.sent_datagrams
    while not side.send(side.record(1, 1, 1), 1, 1 + DATAGRAM_COST):
        side.turn_or_fail()
    side.drain()
    usage = watch.stop(sent, side.engine.aead)
    station.hear()
    side.leave()
    return usage


def _need(aead: str) -> None:
    """Raises: Unavailable when the extension was built without this provider."""
    try:
        Engine(bytes(32), NodeConfig(aead=aead)).close()
    except TransportError as error:
        raise Unavailable(f"{aead} is not in this build ({error})") from error


def _measure_flow(case: Case, contender: str, settings: Settings) -> list[Measurement]:
    aead = PROVIDERS[contender]
    _need(aead)
    sent, received = flow(settings, receive, send, aead, case.size, settings.seconds)
    if sent.count != received.count:
        raise PhaseError(f"{sent.count} datagrams sent, {received.count} received")
    if sent.note != aead:
        raise PhaseError(f"{sent.note} in use instead of {aead}")
    unit = 1 if case is SMALL_100 else case.size
    done = Usage(received.count * unit, received.seconds, received.cpu_s)
    cpu_s = {"sender": sent.cpu_s, "receiver": received.cpu_s}
    note = f"records of {RECORD_BYTES >> 10} KiB" if case is SMALL_100 else "a record each"
    return [throughput(case, contender, done, cpu_s, note)]


# --- round trip -----------------------------------------------------------------------


class Echo(Streamer):
    """Sends every record back. A flow's DATA record has the same form in both directions."""

    def _take_data(self, message: Any, offset: int, length: int) -> None:
        super()._take_data(message, offset, length)
        self.ingest(message[offset : offset + length])


class Pinger(Streamer):
    """Asks again as soon as the answer is there."""

    def start(self, size: int) -> None:
        """The first question."""
        self.samples: list[int] = []
        self._record, self._cost = self.record(size, 1), size + DATAGRAM_COST
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter_ns()
        if not self.send(self._record, 1, self._cost):
            raise PhaseError("no credit for a round trip")

    def _take_data(self, message: Any, offset: int, length: int) -> None:
        self.samples.append(time.perf_counter_ns() - self._asked)
        super()._take_data(message, offset, length)
        self._ask()


def echo(station: Station) -> None:
    """Answer until ended."""
    side = Echo()
    station.tell(side.listen())
    side.meet()
    while True:
        side.turn()


def ask(_: Station, port: int, seconds: float) -> list[int]:
    """Round trips, in nanoseconds."""
    side = Pinger()
    side.dial(port)
    side.meet()
    side.start(SMALL_BYTES)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        side.turn_or_fail()
    side.leave()
    return side.samples


def _measure_rtt(settings: Settings) -> list[Measurement]:
    return [latency(RTT_100, NAME, ping(settings, echo, ask), "one link, one flow")]


# --- new connections ------------------------------------------------------------------


class Host(Side):
    """Admits everybody; the watch starts with the first handshake that is done."""

    watch: Stopwatch | None = None
    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.usages: list[Usage] = []

    def greeting(self, _event: Event) -> bytes:
        self.watch = self.watch or Stopwatch()
        return CONTROL

    def opened(self, event: Event) -> None:
        if event.data == LAST and self.watch:
            self.usages.append(self.watch.stop(self.count))
        self.count += 1


class Guest(Side):
    """Keeps some connections under way: each is opened on both sides, then closed."""

    count = 0
    under_way = 0
    words = CONTROL

    def enter(self, port: int, count: int) -> None:
        """Begin ``count`` connections."""
        for _ in range(count):
            self.dial(port)
        self.under_way += count

    def finish(self) -> None:
        """Until none is under way."""
        while self.under_way:
            self.turn_or_fail()

    def greeting(self, _event: Event) -> bytes:
        return self.words

    def opened(self, event: Event) -> None:
        self.count += 1
        self.under_way -= 1
        self.engine.close_link(event.link, CloseReason.BYE)


def welcome(station: Station) -> Usage:
    """Take connections until the last one; usage counts those that opened on this side."""
    side = Host()
    station.tell(side.listen())
    side.settle()
    while not side.usages:
        side.turn_or_fail()
    side.turn(0)  # what was said last is still to be written
    return side.usages[0]


def visit(_: Station, port: int, seconds: float) -> Usage:
    """Keep 16 connections under way for a while; those still under way at the end do not count."""
    side = Guest()
    side.settle()
    watch = Stopwatch()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        side.enter(port, CONNECT_16.count - side.under_way)
        side.turn_or_fail()
    usage = watch.stop(side.count, side.engine.aead)
    side.finish()
    side.words = LAST
    side.enter(port, 1)
    side.finish()
    side.turn(0)
    return usage


def _measure_connections(settings: Settings) -> list[Measurement]:
    made, served = exchange(settings, welcome, visit)
    if served.count < made.count:
        raise PhaseError(f"{made.count} connections made, {served.count} taken")
    cpu_s = {"dialling": made.cpu_s, "listening": served.cpu_s}
    note = "XX, first control datagram each way, closed with a word"
    return [throughput(CONNECT_16, NAME, made, cpu_s, note)]


SOURCES = (
    *(
        Source(case, contender, partial(_measure_flow, case, contender))
        for case in (BULK_64K, BULK_1M, SMALL_100)
        for contender in PROVIDERS
    ),
    Source(RTT_100, NAME, _measure_rtt),
    Source(CONNECT_16, NAME, _measure_connections),
    *idle.SOURCES,
)
