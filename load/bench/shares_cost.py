"""Ours: what it costs that many protocols are busy, engine to engine (``engine_side``).

One protocol against 250, with as much under way: records of as many datagrams, as many of them at a
time. CPU is that of both processes together.
"""

from __future__ import annotations

import struct
import time
from functools import partial
from itertools import cycle
from typing import Any

from dp2p import records
from dp2p.hello import CloseReason
from dp2p.records import DATAGRAM_COST, HEADER, Kind, Position
from dp2p.transport import Event, FlowConfig
from load.bench.engine_side import MAX_DATAGRAM, WINDOW, Side
from load.bench.harness import Station, Stopwatch, Usage, flow
from load.bench.model import (
    BUSY_PROTOCOLS,
    CPU_S_PER_MILLION,
    DATAGRAMS_PER_S,
    SMALL_BYTES,
    Measurement,
    PhaseError,
    Settings,
    Source,
)

RECORD_COUNT = 64  # datagrams of a record
UNDER_WAY = 1000  # records handed over and not sent, in all flows
WARM_S = 0.3
LEAVE_S = 0.3
_COUNTS = struct.Struct("<II")
COST = RECORD_COUNT * (SMALL_BYTES + DATAGRAM_COST)


class Many(Side):
    """A side with one link and a number of flows."""

    def __init__(self, protocols: int) -> None:
        super().__init__()
        self._protocols = protocols
        self._link = 0
        self.flows: list[int] = []
        self.leaving = False

    def opened(self, event: Event) -> None:
        self._link = event.link
        for number in range(self._protocols):
            config = FlowConfig(
                sink=self.sink,
                number=number,
                peer_number=number,
                max_datagram=MAX_DATAGRAM,
                window=WINDOW,
                peer_window=WINDOW,
            )
            self.flows.append(self.engine.flow_open(event.link, config))

    def meet(self) -> None:
        """Until the link and all flows are open."""
        while not self.flows:
            self.turn_or_fail()
        self.settle()

    def leave(self) -> None:
        """Close the link with a word, behind what the kernel does not take at once."""
        self.leaving = True
        self.engine.close_link(self._link, CloseReason.BYE)
        until = time.perf_counter() + LEAVE_S
        while time.perf_counter() < until:
            self.turn(10)


class Sender(Many):
    """Hands a record over again when it was sent; or later, when credit lacks."""

    def start(self) -> None:
        self.sent = dict.fromkeys(self.flows, 0)
        self.limit = dict.fromkeys(self.flows, WINDOW)
        self._waiting: dict[int, list[bytes]] = {one: [] for one in self.flows}
        for _, one in zip(range(UNDER_WAY), cycle(self.flows), strict=False):
            self._offer(one, records.encode_data(one, [bytes(SMALL_BYTES)] * RECORD_COUNT, 0))

    def _offer(self, number: int, record: bytes) -> None:
        if self.sent[number] + COST > self.limit[number]:
            self._waiting[number].append(record)
            return
        self.sent[number] += COST
        self.ingest(record)

    def let_go(self, message: bytes) -> None:
        if not self.leaving:
            self._offer(HEADER.unpack_from(message)[3], message)

    def take(self, message: Any) -> None:
        offset, size = 0, len(message)
        while offset < size:
            length, kind, _, number = HEADER.unpack_from(message, offset)
            if kind == Kind.CREDIT:
                body = memoryview(message)[offset + HEADER.size : offset + length]
                position = records.decode_position(body)
                self.limit[number] = position.bytes + position.window
                waiting, self._waiting[number] = self._waiting[number], []
                for record in waiting:
                    self._offer(number, record)
            offset += length


class Receiver(Many):
    """Counts, and grants credit by quarters of the window."""

    gone = False

    def down(self, event: Event) -> None:
        """The sender has left; its farewell is lost when credit was just being written."""
        self.gone = True

    def start(self) -> None:
        self.count = 0
        self._taken = {one: [0, 0, 0] for one in self.flows}

    def take(self, message: Any) -> None:
        offset, size = 0, len(message)
        while offset < size:
            length, kind, _, number = HEADER.unpack_from(message, offset)
            if kind == Kind.DATA:
                count, payload = _COUNTS.unpack_from(message, offset + HEADER.size)
                self._consume(number, count, payload + DATAGRAM_COST * count)
            offset += length

    def _consume(self, number: int, count: int, cost: int) -> None:
        self.count += count
        taken = self._taken[number]
        taken[0] += count
        taken[1] += cost
        if taken[1] - taken[2] >= WINDOW // 4:
            taken[2] = taken[1]
            position = Position(0, taken[0], taken[1])
            self.ingest(records.encode_position(Kind.CONSUMED, number, position))


def receive(station: Station, protocols: int, _seconds: float) -> Usage:
    """Take all until the link goes down; usage from ``WARM_S`` after the first datagram on."""
    side = Receiver(protocols)
    station.tell(side.listen())
    side.meet()
    side.start()
    while not side.count:
        side.turn_or_fail()
    until = time.perf_counter() + WARM_S
    while time.perf_counter() < until:
        side.turn_or_fail()
    watch, before = Stopwatch(), side.count
    while not side.gone:
        side.turn_or_fail()
    return watch.stop(side.count - before, str(side.engine.aead))


def send(station: Station, port: int, protocols: int, seconds: float) -> Usage:
    """Keep as much under way, for a while; usage without the first part of it."""
    side = Sender(protocols)
    side.dial(port)
    side.meet()
    side.start()
    begin = time.perf_counter()
    while time.perf_counter() < begin + WARM_S:
        side.turn_or_fail()
    watch, before = Stopwatch(), side.engine.stats()["datagrams_out"]
    while time.perf_counter() < begin + WARM_S + seconds:
        side.turn_or_fail()
    usage = watch.stop(side.engine.stats()["datagrams_out"] - before)
    side.leave()
    station.hear()
    return usage


def _measure(protocols: int, settings: Settings) -> list[Measurement]:
    sent, received = flow(settings, receive, send, protocols, settings.seconds)
    if not sent.count or not received.count:
        raise PhaseError("nothing was carried")
    by_process = {
        "sender": sent.cpu_s / sent.count * 1e6,
        "receiver": received.cpu_s / received.count * 1e6,
    }
    values = {
        CPU_S_PER_MILLION: sum(by_process.values()),
        DATAGRAMS_PER_S: received.count / received.seconds,
    }
    note = f"records of {RECORD_COUNT} datagrams, {UNDER_WAY} under way; {received.note}"
    return [Measurement(BUSY_PROTOCOLS, f"engine-{protocols}", values, by_process, note)]


SOURCES = tuple(
    Source(BUSY_PROTOCOLS, f"engine-{count}", partial(_measure, count))
    for count in (1, BUSY_PROTOCOLS.count)
)
