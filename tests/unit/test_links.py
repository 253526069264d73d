"""A shard's links as its Python half sees them: admission from both sides, what peers say on the
node's own channel, and links that the engine has ended before Python heard of it. Applications are
told of every flow that ends, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import ids
from dp2p.allowance import Allowance
from dp2p.bus import Admit, LinkReport, ProtocolEntry, Trust
from dp2p.control import ProtocolSpec
from dp2p.hello import Ack, CloseReason, ControlType, Protocols, offer
from dp2p.records import Kind
from dp2p.shards.applications import Applications
from dp2p.shards.links import (
    FORWARDED_BURST,
    FORWARDED_EVERY_S,
    FORWARDED_MAX,
    Heard,
    Links,
)
from dp2p.shards.metering import Metering
from dp2p.transport import EventKind, LinkState, Status
from metered import FakeEngine
from wire import Pair

NOW = 100.0
FORWARDED = [kind for kind in ControlType if kind not in (ControlType.PROTOCOLS, ControlType.ACK)]


def entry(name: str, number: int) -> ProtocolEntry:
    spec = ProtocolSpec(name=name, versions=[1], window=1 << 21)
    return ProtocolEntry(number=number, spec=spec, session="s", instance="0" * 16)


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
        self.engine = FakeEngine()
        self.metering = Metering(self.engine, 0, NOW)
        self.links = Links(self.node, cast(Applications, self.apps), self.metering, lambda: NOW)
        self.report = LinkReport(
            link=self.link,
            key=ids.to_text(self.node.link(self.link).key),
            direction="in",
            endpoint="tcp4://192.0.2.1:1",
            instance="0" * 16,
            mode="ik",
            listen=[],
        )
        self.links.add(self.link, self.report)
        self.links.set_protocols([CHAT])

    def up(self) -> Shard:
        """Admitted by both sides, with a flow for the protocol."""
        assert not self.admit()
        assert self.hear(ControlType.PROTOCOLS, peers_list(1, CHAT)) is Heard.UP
        assert self.apps.count(Kind.UP) == 1
        return self

    def admit(self, *, wait: bool = False, trust: Trust = "none", introducers: int = 0) -> bool:
        """The coordinator's word; whether the link is up with it."""
        admission = Admit(link=self.link, trust=trust, introducers=introducers, wait=wait)
        return self.links.admit(self.link, admission)

    def hear(self, kind: int, data: bytes, now: float = NOW) -> Heard:
        """A control datagram of the peer."""
        return self.links.control(self.link, kind, data, now)

    def state(self) -> LinkState:
        return self.node.link(self.link).state

    def peer_heard(self) -> list[tuple[int, Any]]:
        """All control datagrams that have come to the peer, which admits the link first."""
        a = self.pair.a
        if a.node.link(a.link).state == LinkState.READY:
            a.node.admit(a.link, peers_list(1))
        self.pair.run()
        return [(one.type, msgspec.json.decode(one.data)) for one in a.of(EventKind.CONTROL)]

    def why_closed(self) -> CloseReason:
        """What the peer will be told."""
        (down,) = [event for event in self.node.events() if event.kind == EventKind.DOWN]
        assert down.status == Status.OK
        return CloseReason(down.reason)


def test_applications_hear_which_life_of_the_peers_they_speak_with() -> None:
    shard = Shard().up()
    (up,) = [body for kind, _, body in shard.apps.told if kind == Kind.UP]
    assert up["application"] == CHAT.instance
    assert up["since"] == int(NOW * 1e6)


def peers_list(generation: int, *entries: ProtocolEntry) -> bytes:
    offers = [offer(one.number, one.spec, one.instance) for one in entries]
    return msgspec.json.encode(Protocols(generation=generation, protocols=offers))


def names_in(heard: tuple[int, Any]) -> list[str]:
    """Of a list that has come to the peer."""
    kind, body = heard
    assert kind == ControlType.PROTOCOLS
    return [one["name"] for one in body["protocols"]]


@pytest.fixture
def shard() -> Shard:
    return Shard().up()


ACK = msgspec.json.encode(Ack(generation=1))


# --- admission ---


def test_what_the_coordinator_is_told() -> None:
    """Links that are not up yet are for it to decide, whoever has admitted them before."""
    shard = Shard()
    assert (shard.links.ready_reports(), shard.links.reports()) == ([shard.report], [])
    shard.admit()
    assert (shard.links.ready_reports(), shard.links.reports()) == ([shard.report], [])
    shard.hear(ControlType.PROTOCOLS, peers_list(1))
    assert (shard.links.ready_reports(), shard.links.reports()) == ([], [shard.report])


# Does the coordinator speak before the peer's list comes, is it to wait for that list
ORDERS = [(True, False), (True, True), (False, False), (False, True)]


@pytest.mark.parametrize(("first", "wait"), ORDERS)
def test_a_link_is_up_when_both_have_admitted_it(first: bool, wait: bool) -> None:
    """In whatever order they do: up once, with one list and one acknowledgement to the peer."""
    shard = Shard()
    if first:
        assert not shard.admit(wait=wait)
        assert shard.state() is (LinkState.READY if wait else LinkState.OPEN)
        assert shard.hear(ControlType.PROTOCOLS, peers_list(5, CHAT)) is Heard.UP
    else:
        assert shard.hear(ControlType.PROTOCOLS, peers_list(5, CHAT)) is Heard.NOTHING
        assert shard.state() is LinkState.READY
        assert shard.admit(wait=wait)
    assert shard.state() is LinkState.OPEN
    assert shard.links.reports() == [shard.report]
    assert shard.apps.count(Kind.UP) == 1
    ours, ack = shard.peer_heard()
    assert names_in(ours) == ["chat"]
    assert ack == (ControlType.ACK, {"generation": 5})


def test_who_waits_says_nothing_before_the_peer_has_chosen() -> None:
    shard = Shard()
    shard.admit(wait=True)
    shard.links.set_protocols([CHAT, FILES])
    assert shard.peer_heard() == []
    assert shard.hear(ControlType.PROTOCOLS, peers_list(1, FILES)) is Heard.UP
    assert names_in(shard.peer_heard()[0]) == ["chat", "files"], "the list of now, not of then"
    assert [body["protocol"] for _, _, body in shard.apps.told] == ["files"]


def test_a_later_word_of_the_coordinator_opens_what_waits() -> None:
    """A new one may say it, which knows no more of the former's decisions than of the link."""
    shard = Shard()
    assert not shard.admit(wait=True, trust="none")
    assert not shard.admit(wait=False, trust="resumed")
    assert shard.state() is LinkState.OPEN
    shard.hear(ControlType.PROTOCOLS, peers_list(1, CHAT))
    assert shard.links.reports()[0].trust == "resumed"


def test_applications_are_told_how_the_peer_is_trusted() -> None:
    """As the coordinator judged when it admitted the link, once and for all."""
    shard = Shard()
    shard.admit(trust="introduced", introducers=3)
    shard.hear(ControlType.PROTOCOLS, peers_list(1, CHAT))
    assert not shard.admit(trust="resumed", introducers=4)
    shard.hear(ControlType.PROTOCOLS, peers_list(2, CHAT, FILES))
    shard.hear(ControlType.ACK, ACK)
    shard.links.set_protocols([CHAT, FILES])
    ups = [body for kind, _, body in shard.apps.told if kind == Kind.UP]
    assert [body["protocol"] for body in ups] == ["chat", "files"]
    for body in ups:
        assert (body["trust"], body["introducers"], body["mode"]) == ("introduced", 3, "ik")
    (report,) = shard.links.reports()
    assert (report.trust, report.introducers) == ("introduced", 3)


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("kind", [*FORWARDED, ControlType.ACK, 77])
def test_a_peer_begins_with_its_list(kind: int, wait: bool) -> None:
    shard = Shard()
    shard.admit(wait=wait)
    assert shard.hear(kind, b"{}") is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL
    assert shard.links.reports() == shard.links.ready_reports() == []
    assert not shard.admit(), "what comes too late opens nothing"
    assert shard.links.down(shard.link, "protocol")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"generation":1}', b'{"a":' + b"[" * 60_000])
def test_a_first_list_that_makes_no_sense(data: bytes) -> None:
    shard = Shard()
    assert shard.hear(ControlType.PROTOCOLS, data) is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL
    assert not shard.admit(wait=True)


def test_links_that_are_not_there(shard: Shard) -> None:
    stranger = shard.link + 1
    admission = Admit(link=stranger, trust="none", introducers=0)
    assert not shard.links.admit(stranger, admission)
    assert shard.links.control(stranger, ControlType.FIND, b"{}", NOW) is Heard.NOTHING
    shard.links.tell(stranger, ControlType.FIND, b"{}")
    shard.links.close(stranger, CloseReason.BYE)
    assert shard.links.down(stranger, "eof") is None
    assert len(shard.links) == 1


# --- the coordinator's conversation with peers ---


@pytest.mark.parametrize("kind", FORWARDED)
def test_what_concerns_other_nodes_is_for_the_coordinator(shard: Shard, kind: int) -> None:
    """Whatever it says: the coordinator reads it."""
    assert shard.hear(kind, b"\xff") is Heard.FORWARD
    assert shard.hear(kind, b"x" * FORWARDED_MAX) is Heard.FORWARD
    assert shard.links.reports() == [shard.report]


@pytest.mark.parametrize("kind", FORWARDED)
def test_bodies_have_a_bound(shard: Shard, kind: int) -> None:
    assert shard.hear(kind, b"x" * (FORWARDED_MAX + 1)) is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL
    assert shard.hear(kind, b"{}") is Heard.NOTHING


def test_types_of_a_later_version_are_ignored(shard: Shard) -> None:
    """And cost nobody's time, so that they take nothing from the allowance."""
    for _ in range(2 * FORWARDED_BURST):
        assert shard.hear(77, b"\xff" * (FORWARDED_MAX + 1)) is Heard.NOTHING
    assert shard.hear(ControlType.FIND, b"{}") is Heard.FORWARD
    assert shard.links.reports() == [shard.report]


def test_a_peer_that_says_too_much_is_closed(shard: Shard) -> None:
    """Lists and acknowledgements, which the shard deals with, do not count."""
    for generation in range(2, FORWARDED_BURST + 2):
        assert shard.hear(ControlType.FIND, b"{}") is Heard.FORWARD
        assert shard.hear(ControlType.PROTOCOLS, peers_list(generation, CHAT)) is Heard.NOTHING
        assert shard.hear(ControlType.ACK, ACK) is Heard.NOTHING
    assert shard.hear(ControlType.RECORD, b"{}") is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL
    assert shard.hear(ControlType.FIND, b"{}", NOW + 3600) is Heard.NOTHING


def test_the_allowance_comes_back(shard: Shard) -> None:
    for _ in range(FORWARDED_BURST):
        assert shard.hear(ControlType.FIND, b"{}") is Heard.FORWARD
    for _ in range(50):
        assert shard.hear(ControlType.FIND, b"{}", NOW + 50 * FORWARDED_EVERY_S) is Heard.FORWARD
    assert shard.hear(ControlType.FIND, b"{}", NOW + 50 * FORWARDED_EVERY_S) is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL


@given(st.lists(st.floats(0, 60), max_size=400).map(sorted))
def test_an_allowance_is_never_exceeded(times: list[float]) -> None:
    """In any span, no more than the burst and one each so many seconds."""
    allowance = Allowance(FORWARDED_BURST, FORWARDED_EVERY_S)
    taken = [time for time in times if allowance.take(time)]
    for count, time in enumerate(taken, start=1):
        since = taken[0]
        assert count <= FORWARDED_BURST + (time - since) / FORWARDED_EVERY_S + 1e-6


@given(st.integers(1, 1000), st.floats(0, 1e6))
def test_who_keeps_to_the_rate_is_always_heard(count: int, start: float) -> None:
    allowance = Allowance(FORWARDED_BURST, FORWARDED_EVERY_S)
    for _ in range(FORWARDED_BURST):
        assert allowance.take(start)
    step = FORWARDED_EVERY_S * 1.001
    assert all(allowance.take(start + step * number) for number in range(1, count + 1))


@pytest.mark.parametrize("kind", FORWARDED)
def test_the_coordinator_tells_the_peer(shard: Shard, kind: int) -> None:
    shard.links.tell(shard.link, kind, b'{"id":7}')
    assert shard.peer_heard()[-1] == (kind, {"id": 7})


def test_nothing_is_told_on_a_link_that_is_not_up() -> None:
    shard = Shard()
    shard.links.tell(shard.link, ControlType.FIND, b"{}")
    shard.admit()
    shard.links.tell(shard.link, ControlType.FIND, b"{}")
    (ours,) = shard.peer_heard()
    assert names_in(ours) == ["chat"]
    shard.hear(ControlType.PROTOCOLS, peers_list(1))
    shard.links.close(shard.link, CloseReason.BYE)
    shard.links.tell(shard.link, ControlType.FIND, b"{}")
    assert shard.why_closed() is CloseReason.BYE


def test_telling_a_link_that_the_engine_has_ended(shard: Shard) -> None:
    shard.node.end_link(shard.link, Status.IO)
    shard.links.tell(shard.link, ControlType.FIND, b"{}")
    assert shard.links.ready_reports() == []
    assert shard.links.down(shard.link, "eof")
    assert shard.apps.count(Kind.DOWN) == 1


def test_a_peer_that_does_not_take_what_it_is_told(shard: Shard) -> None:
    """What waits for it has a bound; then the link is closed."""
    body = b"x" * FORWARDED_MAX
    for _ in range(1000):
        shard.links.tell(shard.link, ControlType.FOUND, body)
    assert shard.why_closed() is CloseReason.PROTOCOL


# --- the engine was faster ---


def test_closed_and_then_told_of_other_protocols(shard: Shard) -> None:
    """Both can come from the coordinator in one turn."""
    shard.links.close(shard.link, CloseReason.DUPLICATE)
    shard.links.set_protocols([FILES])
    shard.links.set_protocols([])
    shard.admit()
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
        assert shard.hear(kind, data) is Heard.NOTHING
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


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("wait", [False, True])
def test_admitted_too_late(listed: bool, wait: bool) -> None:
    shard = Shard()
    if listed:
        shard.hear(ControlType.PROTOCOLS, peers_list(1, CHAT))
    shard.node.end_link(shard.link, Status.IO)
    assert not shard.admit(wait=wait)
    assert shard.links.down(shard.link, "eof")
    assert shard.apps.told == []


def test_the_list_it_waited_for_comes_with_its_end() -> None:
    shard = Shard()
    shard.admit(wait=True)
    shard.node.end_link(shard.link, Status.EOF)
    assert shard.hear(ControlType.PROTOCOLS, peers_list(1, CHAT)) is Heard.NOTHING
    assert shard.links.down(shard.link, "eof")
    assert shard.apps.told == []


def test_a_peer_that_says_much_and_reads_nothing(shard: Shard) -> None:
    """Its acknowledgements wait up to a bound; then the link is closed, and only the link."""
    generation = 1
    while generation < 100_000 and not shard.pair.b.of(EventKind.DOWN):
        generation += 1
        offers = (CHAT,) if generation % 2 else ()
        heard = shard.hear(ControlType.PROTOCOLS, peers_list(generation, *offers))
        assert heard is Heard.NOTHING
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
    assert shard.hear(kind, data) is Heard.NOTHING
    assert shard.why_closed() is CloseReason.PROTOCOL
