"""A shard's links when the engine has ended them before Python heard of it: nothing breaks, and
applications are told of every flow that ends, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from dp2p import ids
from dp2p.bus import LinkReport, ProtocolEntry
from dp2p.control import ProtocolSpec
from dp2p.hello import Ack, CloseReason, ControlType, Protocols, offer
from dp2p.records import Kind
from dp2p.shards.applications import Applications
from dp2p.shards.links import Links
from dp2p.transport import EventKind, Status
from wire import Pair


def entry(name: str, number: int) -> ProtocolEntry:
    spec = ProtocolSpec(name=name, versions=[1], window=1 << 21)
    return ProtocolEntry(number=number, spec=spec, session="s")


CHAT, FILES = entry("chat", 0), entry("files", 1)


@dataclass
class FakeApplications:
    """One application, which keeps what it is told."""

    sink: int
    told: list[tuple[Kind, int, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_session = {"s": SimpleNamespace(session="s", name="app", sink=self.sink)}

    def tell(self, _app: Any, kind: Kind, flow: int, body: Any) -> None:
        self.told.append((kind, flow, body))

    def count(self, kind: Kind) -> int:
        return len([one for one in self.told if one[0] == kind])


class Shard:
    """B's end of a pair, with an application; A is the peer."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.pair.run()
        self.node, self.link = self.pair.b.node, self.pair.b.link
        self.apps = FakeApplications(self.pair.b.sink)
        self.links = Links(self.node, cast(Applications, self.apps))
        self.report = LinkReport(
            link=self.link,
            key=ids.to_text(self.node.link(self.link).key),
            direction="in",
            endpoint="tcp4://192.0.2.1:1",
            instance="0" * 16,
            trust="none",
            listen=[],
        )
        self.links.add(self.link, self.report)
        self.links.set_protocols([CHAT])

    def up(self) -> Shard:
        """Admitted by both sides, with a flow for the protocol."""
        self.links.admit(self.link)
        assert self.links.control(self.link, ControlType.PROTOCOLS, peers_list(1, CHAT))
        assert self.apps.count(Kind.UP) == 1
        return self


def peers_list(generation: int, *entries: ProtocolEntry) -> bytes:
    offers = [offer(one.number, one.spec) for one in entries]
    return msgspec.json.encode(Protocols(generation=generation, protocols=offers))


@pytest.fixture
def shard() -> Shard:
    return Shard().up()


ACK = msgspec.json.encode(Ack(generation=1))


def test_what_the_coordinator_is_told() -> None:
    """Links that are not up yet are for it to decide, whoever has admitted them before."""
    shard = Shard()
    assert (shard.links.ready_reports(), shard.links.reports()) == ([shard.report], [])
    shard.links.admit(shard.link)
    assert (shard.links.ready_reports(), shard.links.reports()) == ([shard.report], [])
    shard.links.control(shard.link, ControlType.PROTOCOLS, peers_list(1))
    assert (shard.links.ready_reports(), shard.links.reports()) == ([], [shard.report])


def test_closed_and_then_told_of_other_protocols(shard: Shard) -> None:
    """Both can come from the coordinator in one turn."""
    shard.links.close(shard.link, CloseReason.DUPLICATE)
    shard.links.set_protocols([FILES])
    shard.links.set_protocols([])
    shard.links.admit(shard.link)
    shard.links.close(shard.link, CloseReason.BYE)
    assert shard.apps.count(Kind.DOWN) == 0
    assert shard.links.down(shard.link, "duplicate")
    assert shard.apps.told[-1][0::2] == (Kind.DOWN, {"reason": "duplicate"})
    assert shard.apps.count(Kind.DOWN) == 1


@pytest.mark.parametrize("freed", [False, True])
def test_the_engine_has_ended_it(shard: Shard, freed: bool) -> None:
    """What the peer said last is handled after that: its events come in one batch."""
    shard.node.end_link(shard.link, Status.IO)
    if freed:
        shard.node.events_done()
    for kind, data in (
        (ControlType.PROTOCOLS, peers_list(2)),
        (ControlType.PROTOCOLS, peers_list(3, CHAT, FILES)),
        (ControlType.ACK, ACK),
        (ControlType.ACK, b"garbage"),
    ):
        assert not shard.links.control(shard.link, kind, data)
    shard.links.set_protocols([CHAT, FILES])
    shard.links.close(shard.link, CloseReason.BYE)
    shard.links.down(shard.link, "eof")
    assert (shard.apps.count(Kind.UP), shard.apps.count(Kind.DOWN)) == (1, 1)


def test_the_engine_has_ended_it_before_the_shard_knows(shard: Shard) -> None:
    """Applications change first: nobody has noticed yet."""
    shard.node.end_link(shard.link, Status.IO)
    shard.links.set_protocols([FILES])
    shard.links.down(shard.link, "eof")
    assert (shard.apps.count(Kind.UP), shard.apps.count(Kind.DOWN)) == (1, 1)


def test_admitted_too_late() -> None:
    shard = Shard()
    shard.node.end_link(shard.link, Status.IO)
    shard.links.admit(shard.link)
    assert shard.links.down(shard.link, "eof")


def test_a_peer_that_says_much_and_reads_nothing(shard: Shard) -> None:
    """Its acknowledgements wait up to a bound; then the link is closed, and only the link."""
    generation = 1
    while shard.links.control(shard.link, ControlType.PROTOCOLS, peers_list(generation)) or (
        generation < 100_000 and not shard.pair.b.of(EventKind.DOWN)
    ):
        generation += 1
        offers = (CHAT,) if generation % 2 else ()
        shard.links.control(shard.link, ControlType.PROTOCOLS, peers_list(generation, *offers))
        if generation % 1000 == 0:
            shard.pair.b.events += shard.node.events()
    assert 1000 < generation < 100_000
    shard.links.down(shard.link, "protocol")
    assert shard.apps.count(Kind.UP) == shard.apps.count(Kind.DOWN)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ControlType.PROTOCOLS, b""),
        (ControlType.PROTOCOLS, b"{"),
        (ControlType.PROTOCOLS, b'{"a":' + b"[" * 60_000),
        (ControlType.ACK, b"[]"),
        (ControlType.ACK, b"\xff"),
    ],
)
def test_what_makes_no_sense_ends_the_link(shard: Shard, kind: int, data: bytes) -> None:
    assert not shard.links.control(shard.link, kind, data)
    (down,) = [event for event in shard.node.events() if event.kind == EventKind.DOWN]
    assert (down.status, down.reason) == (Status.OK, CloseReason.PROTOCOL)


def test_types_of_a_later_version_are_ignored(shard: Shard) -> None:
    assert not shard.links.control(shard.link, 77, b"\xff")
    assert not shard.node.events()[2:]
    assert shard.links.reports() == [shard.report]
