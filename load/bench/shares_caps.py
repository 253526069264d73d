"""Ours: rate caps of a node with two shards, each of which has a connection that could take more.

The node in the middle is capped; each of two others is connected to another of its shards. How far
the rate of both together is from the cap, over 10 s, as credit cost counts (payload and 16 bytes).
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Literal, cast

import dp2p
from dp2p.sdk import blocking
from load.bench.harness import Crew, Station
from load.bench.model import (
    CAP_NODE_DOWN,
    CAP_NODE_UP,
    CAP_PROTOCOL_DOWN,
    CAP_PROTOCOL_UP,
    MB_PER_S,
    OFF_CAP,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)
from load.bench.nodes import Node, dial, running
from load.bench.shares_side import (
    CALL_BYTES,
    PATIENCE_S,
    Sample,
    Stream,
    gauge,
    pour,
    rate,
    wait_until,
)
from load.bottleneck import NS

NAME = "application"
CAP = 10_000_000
COST = 16  # of each datagram
DEADLINE_S = 60.0
SPAN_S = 10.0
QUICK = 0.4
SETTLE_S = 2.0
STREAM = Stream("capped", 10_000)

Scope = Literal["node", "protocol"]
Way = Literal["up", "down"]


def pour_to_all(station: Station, run_dir: Path, stream: Stream, count: int) -> None:
    """As ``pour``, to so many peers at a time."""
    asyncio.run(_pour_to_all(station, run_dir, stream, count))


async def _pour_to_all(station: Station, run_dir: Path, stream: Stream, count: int) -> None:
    async with dp2p.attach(run_dir, name=f"pour {stream.name}") as node:
        protocol = await node.register(stream.name)
        events = protocol.events()
        async with asyncio.timeout(PATIENCE_S):
            while len(protocol.peers) < count:
                await events.get()
        payloads = [bytes(stream.size)] * (CALL_BYTES // stream.size)

        async def feed(peer: str) -> None:
            while True:
                await protocol.send_many(peer, payloads)

        station.tell("connected")
        wait_until(cast("int", station.hear()))
        await asyncio.gather(*(feed(peer) for peer in protocol.peers))


def _measure(case: Case, scope: Scope, way: Way, settings: Settings) -> list[Measurement]:
    with Crew(DEADLINE_S) as crew, running("middle", "one", "two") as (middle, *others):
        for other in others:
            dial(middle, other, other.place)
        with blocking.attach(middle.run_dir, name="limits") as node:
            shards = {row["shard"] for row in node.peers()}
            if len(shards) != len(others):
                raise PhaseError(f"both connections are on shard {shards}")
            name = STREAM.name if scope == "protocol" else ""
            node.limit(scope, name, **{way: CAP})
        samples, start, end = _play(crew, middle, others, way, settings)
    reached = rate(sorted(samples), start, end) * (1 + COST / STREAM.size)
    values = {OFF_CAP: abs(reached / CAP - 1), MB_PER_S: reached / 1e6}
    return [Measurement(case, NAME, values, note=f"cap {CAP / 1e6:g} MB/s, two shards")]


def _play(
    crew: Crew, middle: Node, others: list[Node], way: Way, settings: Settings
) -> tuple[list[Sample], int, int]:
    """What has come, and the span that counts."""
    if way == "up":
        gauges = [crew.start("receiver", gauge, other.run_dir, STREAM) for other in others]
        senders = [crew.start("sender", pour_to_all, middle.run_dir, STREAM, len(others))]
    else:
        gauges = [crew.start("receiver", gauge, middle.run_dir, STREAM)]
        senders = [crew.start("sender", pour, other.run_dir, STREAM) for other in others]
    for worker in (*gauges, *senders):
        worker.hear()
    begin = time.monotonic_ns()
    start = begin + int(SETTLE_S * NS)
    end = start + int(SPAN_S * (QUICK if settings.quick else 1.0) * NS)
    for sender in senders:
        sender.tell(begin)
    for one in gauges:
        one.tell(end)
    return [each for one in gauges for each in cast("list[Sample]", one.hear())], start, end


CASES: tuple[tuple[Case, Scope, Way], ...] = (
    (CAP_PROTOCOL_UP, "protocol", "up"),
    (CAP_PROTOCOL_DOWN, "protocol", "down"),
    (CAP_NODE_UP, "node", "up"),
    (CAP_NODE_DOWN, "node", "down"),
)
SOURCES = tuple(
    Source(case, NAME, partial(_measure, case, scope, way), once=True) for case, scope, way in CASES
)
