"""Ours: process memory per idle connection, each open on both sides with one flow.

Private memory (``smaps_rollup``) of the listening and of the dialling process: what it grew by from
a few connections to many. No Python object is kept per connection; what a shard's own objects add
is measured by ``shard_idle``. Kernel sockets are not process memory.
"""

from __future__ import annotations

import gc
import resource
from functools import partial

from dp2p.transport import Event
from load.bench.engine_side import Side
from load.bench.harness import Crew, Station, process_private_kib
from load.bench.model import (
    IDLE_1K,
    IDLE_10K,
    KIB_PER_CONNECTION,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
    Unavailable,
)

NAME = "engine"
AT_A_TIME = 16  # handshakes under way
WARM = 64  # connections that are there before memory is looked at
QUICK_MOST = 2000  # connections in a smoke run
DEADLINE_S = 60.0  # 10,000 handshakes take longer than other phases
SPARE_FILES = 64


def allow_files(count: int) -> None:
    """Raises: Unavailable when this process may not open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_FILES
    if soft < needed and hard != resource.RLIM_INFINITY and hard < needed:
        raise Unavailable(f"{needed} open files needed, {hard} allowed")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Idler(Side):
    """Opens a flow on every link and counts."""

    count = 0

    def opened(self, event: Event) -> None:
        self.open_flow(event.link)
        self.count += 1

    def come_to_rest(self, station: Station) -> None:
        """Nothing is under way: say so, with the engine's own figure for its buffers."""
        while self.turn(20):
            pass
        gc.collect()
        stats = self.engine.stats()
        if stats["links"] != self.count or stats["flows"] != self.count:
            raise PhaseError(f"{stats['links']} links, {stats['flows']} flows, not {self.count}")
        station.tell(stats["buffer_bytes"])
        station.hear()


def listen(station: Station, count: int) -> None:
    """Take connections: a few, then all; rests after each."""
    allow_files(count)
    side = Idler()
    station.tell(side.listen())
    side.settle()
    for goal in (WARM, count):
        while side.count < goal:
            side.turn_or_fail()
        side.come_to_rest(station)


def dial(station: Station, port: int, count: int) -> None:
    """Make connections: a few, then all; rests after each."""
    allow_files(count)
    side = Idler()
    side.settle()
    begun = 0
    for goal in (WARM, count):
        while side.count < goal:
            while begun < goal and begun - side.count < AT_A_TIME:
                side.dial(port)
                begun += 1
            side.turn_or_fail()
        side.come_to_rest(station)


def measure(case: Case, settings: Settings) -> list[Measurement]:
    more = min(case.count, QUICK_MOST) if settings.quick else case.count
    allow_files(WARM + more)
    with Crew(max(settings.deadline_s, DEADLINE_S)) as crew:
        listener = crew.start("listening", listen, WARM + more)
        dialler = crew.start("dialling", dial, listener.hear(), WARM + more)
        sides = (listener, dialler)
        buffers = [side.hear() for side in sides]
        before = {side.role: process_private_kib(side.pid) for side in sides}
        for side in sides:
            side.tell("go on")
        buffers = [side.hear() for side in sides]
        grown = {side.role: process_private_kib(side.pid) - before[side.role] for side in sides}
    by_process = {role: kib / more for role, kib in grown.items()}
    note = f"the larger side; one flow each; buffers {buffers[0]} and {buffers[1]} B in all"
    if more < case.count:
        note = f"{more:,} connections; {note}"
    return [
        Measurement(case, NAME, {KIB_PER_CONNECTION: max(by_process.values())}, by_process, note)
    ]


SOURCES = tuple(Source(case, NAME, partial(measure, case)) for case in (IDLE_1K, IDLE_10K))
