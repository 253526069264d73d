"""Ours, through a bottleneck: shares, latency and rates of protocols on one connection.

Two real nodes with two shards each; every protocol has an application of its own on either side.
The bottleneck (``load/bottleneck.py``) is a process of its own. "20 ms" is the way there, and as
much the way back. Phases are as long as their bars say, so one round is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from load.bench import shares_caps, shares_cost, shares_fifo
from load.bench.harness import Crew, Worker
from load.bench.model import (
    KIB,
    LONG_FAT,
    LONG_FAT_RTT,
    MB_PER_S,
    OF_RATE,
    OF_UNDISTURBED,
    OFF_SHARE,
    SHARES_1M,
    SHARES_10K,
    SHARES_100,
    SHARES_MIXED,
    STALLED,
    URGENT,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)
from load.bench.nodes import Node, connected_through
from load.bench.shares_side import (
    Sample,
    Stream,
    bottleneck,
    clock,
    gauge,
    ignore,
    pour,
    rate,
    tick,
)
from load.bottleneck import NS, Shape

NAME = "application"
PLAIN = "tcp"
DEADLINE_S = 60.0
MBIT = 1e6 / 8
HEADER = 6  # of a datagram on the wire: shares are of the line, not of payloads
SHARES = Shape(80 * MBIT, 0.010)
SLOW = Shape(8 * MBIT, 0.020)
FAT = Shape(1000 * MBIT, 0.060)
FAT_RTT = Shape(1000 * MBIT, 0.030)
WEIGHTS = (1, 2, 4)
SIZES = {
    SHARES_100: (100, 100, 100),
    SHARES_10K: (10_000, 10_000, 10_000),
    SHARES_1M: (KIB * KIB, KIB * KIB, KIB * KIB),
    SHARES_MIXED: (KIB * KIB, 10_000, 100),
}
SPAN_S = 10.0
QUICK = 0.4  # of every length, in a smoke run
SETTLE_S = 1.5  # queues fill, and windows go round
BULK = Stream("bulk", KIB * KIB, "bulk")


@dataclass(slots=True)
class Stage:
    """Two nodes with a bottleneck between, and the applications of one phase."""

    crew: Crew
    source: Node
    target: Node
    senders: dict[str, Worker] = field(default_factory=dict)
    receivers: dict[str, Worker] = field(default_factory=dict)

    def add(
        self,
        stream: Stream,
        send: Callable[..., object] = pour,
        receive: Callable[..., object] = gauge,
    ) -> None:
        """An application on either side."""
        self.receivers[stream.name] = self.crew.start(
            f"{stream.name} receiver", receive, self.target.run_dir, stream
        )
        self.senders[stream.name] = self.crew.start(
            f"{stream.name} sender", send, self.source.run_dir, stream
        )

    def meet(self) -> None:
        """Until all applications have found each other."""
        for worker in (*self.receivers.values(), *self.senders.values()):
            worker.hear()

    def play(self, starts: dict[str, int], end_ns: int) -> dict[str, list[Sample]]:
        """Have each stream sent from its time on, and all received until the end; the samples."""
        for name, start in starts.items():
            self.senders[name].tell(start)
            self.receivers[name].tell(end_ns)
        return {
            name: cast("list[Sample]", worker.hear())
            for name, worker in self.receivers.items()
            if name in starts
        }


@contextmanager
def stage(shape: Shape) -> Iterator[Stage]:
    """Nodes that are connected through a bottleneck. Raises: PhaseError."""
    with Crew(DEADLINE_S) as crew:

        def before(place: str) -> str:
            port = int(place.rpartition(":")[2])
            word = crew.start("bottleneck", bottleneck, port, shape).hear()
            return f"127.0.0.1:{word}"

        with connected_through(before) as (source, target):
            yield Stage(crew, source, target)


def _length_ns(settings: Settings, seconds: float) -> int:
    return int(seconds * (QUICK if settings.quick else 1.0) * NS)


def _rates(streams: Sequence[Stream], rates: Sequence[float]) -> dict[str, float]:
    return {one.name: value / 1e6 for one, value in zip(streams, rates, strict=True)}


# --- shares ---------------------------------------------------------------------------


def farthest(rates: Sequence[float], weights: Sequence[float]) -> float:
    """How far the worst one is from its share, as a part of that share."""
    total, weight = sum(rates), sum(weights)
    return max(abs(r / total / (w / weight) - 1) for r, w in zip(rates, weights, strict=True))


def _measure_shares(case: Case, settings: Settings) -> list[Measurement]:
    streams = [
        Stream(f"weight-{weight}", size, weight=weight)
        for weight, size in zip(WEIGHTS, SIZES[case], strict=True)
    ]
    with stage(SHARES) as play:
        for one in streams:
            play.add(one)
        play.meet()
        begin = time.monotonic_ns()
        start = begin + int(SETTLE_S * NS)
        end = start + _length_ns(settings, SPAN_S)
        samples = play.play({one.name: begin for one in streams}, end)
    rates = [rate(samples[one.name], start, end) * (1 + HEADER / one.size) for one in streams]
    values = {OFF_SHARE: farthest(rates, WEIGHTS), MB_PER_S: sum(rates) / 1e6}
    shares = " : ".join(f"{one * sum(WEIGHTS) / sum(rates):.2f}" for one in rates)
    return [Measurement(case, NAME, values, _rates(streams, rates), f"{shares}; 80 Mbit/s, 10 ms")]


# --- one that does not read -----------------------------------------------------------


def _measure_stalled(settings: Settings) -> list[Measurement]:
    streams = [Stream("one"), Stream("two", 10_000)]
    stalled = Stream("stalled", 10_000)
    span = _length_ns(settings, SPAN_S / 2)
    with stage(SHARES) as play:
        for one in streams:
            play.add(one)
        play.add(stalled, receive=ignore)
        play.meet()
        begin = time.monotonic_ns()
        first = begin + int(SETTLE_S * NS)
        second = first + span + int(SETTLE_S * NS)
        play.senders[stalled.name].tell(first + span)
        samples = play.play({one.name: begin for one in streams}, second + span)
    before = [rate(samples[one.name], first, first + span) for one in streams]
    after = [rate(samples[one.name], second, second + span) for one in streams]
    off = max(abs(now / then - 1) for now, then in zip(after, before, strict=True))
    note = "before: " + ", ".join(f"{one / 1e6:.2f}" for one in before)
    values = {OF_UNDISTURBED: off, MB_PER_S: sum(after) / 1e6}
    return [Measurement(STALLED, NAME, values, _rates(streams, after), note)]


# --- urgent beside bulk ---------------------------------------------------------------


def _measure_urgent(settings: Settings) -> list[Measurement]:
    urgent = Stream("urgent", priority="urgent")
    with stage(SLOW) as play:
        play.add(urgent, tick, clock)
        play.add(BULK)
        play.meet()
        begin = time.monotonic_ns()
        alone = begin + _length_ns(settings, SPAN_S / 2)
        loaded = alone + int(SETTLE_S * NS)
        end = loaded + _length_ns(settings, SPAN_S)
        samples = play.play({urgent.name: begin, BULK.name: alone}, end)
    return [shares_fifo.above(NAME, samples[urgent.name], (begin, alone), (loaded, end))]


def _measure_fifo(settings: Settings) -> list[Measurement]:
    with Crew(DEADLINE_S) as crew:
        receiver = crew.start("receiver", shares_fifo.receive)
        between = crew.start("bottleneck", bottleneck, receiver.hear(), SLOW)
        sender = crew.start("sender", shares_fifo.send, between.hear(), BULK.size)
        sender.hear()
        begin = time.monotonic_ns()
        alone = begin + _length_ns(settings, SPAN_S / 2)
        loaded = alone + int(SETTLE_S * NS)
        end = loaded + _length_ns(settings, SPAN_S)
        sender.tell((begin, alone, end))
        samples = cast("list[Sample]", receiver.hear())
    return [shares_fifo.above(PLAIN, samples, (begin, alone), (loaded, end))]


# --- a long, fat line -----------------------------------------------------------------


def _measure_fat(case: Case, shape: Shape, settings: Settings) -> list[Measurement]:
    with stage(shape) as play:
        play.add(BULK)
        play.meet()
        begin = time.monotonic_ns()
        start = begin + int(SETTLE_S * NS)
        end = start + _length_ns(settings, SPAN_S / 2)
        samples = play.play({BULK.name: begin}, end)
    reached = rate(samples[BULK.name], start, end)
    values = {OF_RATE: reached / shape.rate, MB_PER_S: reached / 1e6}
    return [Measurement(case, NAME, values, note="class bulk, windows as the node chooses")]


def _measure_plain(case: Case, shape: Shape, settings: Settings) -> list[Measurement]:
    """What the bottleneck itself lets through on this machine."""
    with Crew(DEADLINE_S) as crew:
        receiver = crew.start("receiver", shares_fifo.swallow)
        between = crew.start("bottleneck", bottleneck, receiver.hear(), shape)
        sender = crew.start("sender", shares_fifo.flood, between.hear())
        sender.hear()
        begin = time.monotonic_ns()
        start = begin + int(SETTLE_S * NS)
        end = start + _length_ns(settings, SPAN_S / 3)
        sender.tell(end)
        samples = cast("list[Sample]", receiver.hear())
    if not samples:
        raise PhaseError("nothing came")
    reached = rate(samples, start, end)
    values = {OF_RATE: reached / shape.rate, MB_PER_S: reached / 1e6}
    return [Measurement(case, PLAIN, values, note="one stream, nothing else")]


SOURCES = (
    *(Source(case, NAME, partial(_measure_shares, case), once=True) for case in SIZES),
    Source(STALLED, NAME, _measure_stalled, once=True),
    Source(URGENT, NAME, _measure_urgent, once=True),
    Source(URGENT, PLAIN, _measure_fifo, once=True),
    Source(LONG_FAT, NAME, partial(_measure_fat, LONG_FAT, FAT), once=True),
    Source(LONG_FAT, PLAIN, partial(_measure_plain, LONG_FAT, FAT), once=True),
    Source(LONG_FAT_RTT, NAME, partial(_measure_fat, LONG_FAT_RTT, FAT_RTT), once=True),
    *shares_cost.SOURCES,
    *shares_caps.SOURCES,
)
