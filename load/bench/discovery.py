"""Ours: what discovery's packets cost, beside what discv5 says of its own.

One process with two nodes in memory: the code that a node runs, without sockets. A handshake is all
three packets, by both sides, with all that ``Sessions`` keeps and checks; a packet is sealed by one
and opened by the other. discv5's figures are those of its rationale, from another machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from dp2p import keys
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.sessions import Limits, Sessions
from load.bench.model import (
    CPU_US_PER_HANDSHAKE,
    CPU_US_PER_PACKET,
    DISCOVERY_HANDSHAKES,
    DISCOVERY_PACKETS,
    HANDSHAKES_PER_S,
    PACKETS_PER_S,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)

OURS = "sessions"
PUBLISHED = "discv5-published"
HANDSHAKE_US, PACKET_US = 500.0, 2.0  # discv5-rationale.md, of one side
PLACES = (("192.0.2.1", 4617), ("198.51.100.2", 4617))
BODY = bytes(100)
BATCH = 64  # between two looks at the clock

End = tuple[Sessions, Contact]


def pair() -> tuple[End, End]:
    """Two nodes whose doors stand open."""
    open_door = Limits(calm=(1 << 30, 0.0), calm_network=(1 << 30, 0.0))

    def end(place: tuple[str, int]) -> End:
        who = keys.identity(os.urandom(32))
        sessions = Sessions(who, "bench", random_bytes=os.urandom, limits=open_door)
        return sessions, Contact(who.public, place)

    one, other = map(end, PLACES)
    return one, other


def exchange(a: End, b: End) -> int:
    """One body from ``a`` to ``b``, with whatever it needs; how many packets that took."""
    under_way = [(a, b, data) for data, _ in a[0].send(b[1], BODY, 0.0)]
    count = 0
    while under_way:
        source, to, data = under_way.pop()
        count += 1
        datagrams, _ = to[0].received(data, source[1].place, 0.0)
        under_way += [(to, source, answer) for answer, _ in datagrams]
    return count


def cost_us(step: Callable[[], None], seconds: float) -> float:
    """CPU of one step, in µs."""
    steps, began, deadline = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _ in range(BATCH):
            step()
        steps += BATCH
    return 1e6 * (time.process_time() - began) / steps


def handshakes(settings: Settings) -> list[Measurement]:
    """One round."""
    a, b = pair()

    def step() -> None:
        a[0].doubt(b[1])
        if exchange(a, b) != 3:
            raise PhaseError("a handshake took another number of packets than three")

    exchange(a, b)
    return _measured(
        DISCOVERY_HANDSHAKES, cost_us(step, settings.seconds), HANDSHAKE_US, "both sides, 3 packets"
    )


def packets(settings: Settings) -> list[Measurement]:
    """One round."""
    a, b = pair()

    def step() -> None:
        if exchange(a, b) != 1:
            raise PhaseError("a session was lost")

    exchange(a, b)
    return _measured(
        DISCOVERY_PACKETS,
        cost_us(step, settings.seconds),
        PACKET_US,
        f"sealed and opened, {len(BODY)} B",
    )


UNITS = {
    DISCOVERY_HANDSHAKES: (CPU_US_PER_HANDSHAKE, HANDSHAKES_PER_S),
    DISCOVERY_PACKETS: (CPU_US_PER_PACKET, PACKETS_PER_S),
}


def _measured(case: Case, ours: float, theirs: float, note: str) -> list[Measurement]:
    cost, rate = UNITS[case]
    return [
        Measurement(case, OURS, {cost: ours, rate: 1e6 / ours}, note=note),
        Measurement(
            case, PUBLISHED, {cost: theirs, rate: 1e6 / theirs}, note="one side, its rationale"
        ),
    ]


SOURCES = tuple(
    Source(case, OURS, measure, also=(f"{case.name}/{PUBLISHED}",))
    for case, measure in ((DISCOVERY_HANDSHAKES, handshakes), (DISCOVERY_PACKETS, packets))
)
