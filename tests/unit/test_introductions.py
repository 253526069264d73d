"""Introductions: whom a node hands over, what it believes, and who goes too far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus, ids, introduction, node_record, noise
from dp2p.coordinator import conversations, introductions
from dp2p.coordinator.conversations import Conversations, Misbehaved, Speaker, Tell
from dp2p.coordinator.introductions import FINDS_AT_UP, Action, Introductions, Learned
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.store import PeerStore
from dp2p.introduction import Check, Find, Found, KeyClaim, Keys, Record
from dp2p.node_record import NodeRecord

SEEDS = [bytes([n]) * 32 for n in range(1, 60)]
KEYS = [noise.identity_public(seed) for seed in SEEDS]
OWN, PEER, THIRD, FOURTH, FIFTH = range(5)
"Numbers of nodes, in ``SEEDS`` and ``KEYS``."
NET = "192.0.2.0/24"


def record(who: int, *endpoints: str, seq: int = 1, protocols: tuple[str, ...] = ()) -> NodeRecord:
    return node_record.sign(SEEDS[who], seq=seq, endpoints=endpoints, protocols=protocols)


def forged(who: int) -> bytes:
    """A record of which one bit of the signature was turned over."""
    signed = record(who).signed
    return bytes([signed[0] ^ 1]) + signed[1:]


def place(number: int) -> str:
    return f"tcp4://192.0.2.{number}:4617"


def speaker(who: int = PEER, link: int = 1, network: str = NET) -> Speaker:
    return Speaker(LinkId(0, link), KEYS[who], network)


def link_to(who: int, number: int = 1, trust: bus.Trust = "none") -> Link:
    report = bus.LinkReport(
        link=number,
        key=ids.to_text(KEYS[who]),
        direction="out",
        endpoint=place(who),
        instance="0" * 16,
        listen=[],
        mode="xx",
        trust=trust,
    )
    return Link(LinkId(0, number), ids.node_id_text(report.key), report, 0.0, up=True)


class Node:
    """One node's part in it."""

    def __init__(self, store: PeerStore, who: int = OWN) -> None:
        self.store, self.counters = store, Counters()
        self.talk = Conversations(self.counters)
        self.introductions = Introductions(store, self.counters, self.talk, KEYS[who])

    def said(self, message: Any, peer: Speaker | None = None, now: float = 0.0) -> list[Action]:
        return self.introductions.said(peer or speaker(), message, now, 1000.0 + now)

    def told(self, message: Any, peer: Speaker | None = None) -> Any:
        """The one message that ``message`` is answered with."""
        (action,) = self.said(message, peer)
        assert isinstance(action, Tell)
        assert action.link == (peer or speaker()).link
        return action.message

    def ask(self, limit: int = 16, link: int = 1, now: float = 0.0) -> int:
        """Ask the peer for others; returns the question's number."""
        (tell,) = self.introductions.on_up(link_to(PEER, link), (), now)
        assert isinstance(tell.message, Find)
        assert tell.message.limit == limit
        return tell.message.id

    def knows(self, who: int, *endpoints: str, **more: Any) -> None:
        """Have the record of a peer that was connected."""
        self.store.add_record(record(who, *endpoints, **more), 0.0)

    def introducers(self, who: int) -> list[tuple[bytes, str]]:
        known = self.store.peer(KEYS[who])
        return [(one.introducer, one.network) for one in known.introductions] if known else []


@pytest.fixture
def node() -> Iterator[Node]:
    with closing(PeerStore(None, max_peers=1000)) as store:
        yield Node(store)


@pytest.fixture
def other() -> Iterator[Node]:
    with closing(PeerStore(None, max_peers=1000)) as store:
        yield Node(store, PEER)


# --- answering FIND ---


def keys_in(found: Found) -> list[bytes]:
    return [node_record.verify(signed).key for signed in found.records]


def test_records_are_found_by_nearness(node: Node) -> None:
    for who in range(10, 40):
        node.knows(who)
    goal = ids.node_id(KEYS[45])
    found = node.told(Find(id=7, near=ids.to_text(goal), limit=5))
    nearest = sorted(KEYS[10:40], key=lambda key: ids.distance(ids.node_id(key), goal))
    assert (found.id, keys_in(found)) == (7, nearest[:5])
    assert node.counters.finds_answered == 1


def test_records_are_found_by_protocol_and_by_both(node: Node) -> None:
    for who in range(10, 30):
        node.knows(who, protocols=("chat",) if who % 2 else ("files",))
    chat = {KEYS[who] for who in range(10, 30) if who % 2}
    assert set(keys_in(node.told(Find(id=1, protocol="chat", limit=32)))) == chat
    goal = ids.node_id(KEYS[45])
    both = keys_in(node.told(Find(id=2, protocol="chat", near=ids.to_text(goal), limit=3)))
    assert both == sorted(chat, key=lambda key: ids.distance(ids.node_id(key), goal))[:3]
    assert keys_in(node.told(Find(id=3, protocol="none"))) == []


def test_without_a_wish_the_asker_gets_those_near_itself(node: Node) -> None:
    for who in range(10, 30):
        node.knows(who)
    goal = ids.node_id(KEYS[PEER])
    nearest = sorted(KEYS[10:30], key=lambda key: ids.distance(ids.node_id(key), goal))
    assert keys_in(node.told(Find(id=1, limit=4))) == nearest[:4]


def test_nobody_is_introduced_to_itself_or_to_who_answers(node: Node) -> None:
    for who in (OWN, PEER, THIRD):
        node.knows(who)
    for asked in (Find(id=1), Find(id=1, near=ids.to_text(ids.node_id(KEYS[PEER])), limit=1)):
        assert keys_in(node.told(asked)) == [KEYS[THIRD]]


def test_who_was_introduced_wrongly_is_not_handed_on(node: Node) -> None:
    for who in (THIRD, FOURTH, FIFTH):
        node.knows(who, place(who))
        node.store.introduced(KEYS[who], KEYS[PEER], NET, 0.0)
        node.store.doubt(KEYS[who], place(who), 1.0)
    node.store.connected(KEYS[FOURTH], place(99), 2.0)  # it answered here
    node.store.introduced(KEYS[FIFTH], KEYS[50], NET, 2.0)  # somebody else knows it
    assert set(keys_in(node.told(Find(id=1), speaker(20)))) == {KEYS[FOURTH], KEYS[FIFTH]}


# --- answering CHECK ---


def claim(who: int, evidence: Any) -> KeyClaim:
    return KeyClaim(key=ids.to_text(KEYS[who]), evidence=evidence)


def test_a_check_is_answered_with_the_best_evidence_first(node: Node) -> None:
    node.knows(THIRD, place(1))
    node.store.connected(KEYS[FOURTH], place(1), 1.0)
    node.store.connected(KEYS[FIFTH], place(2), 1.0)
    keys = node.told(Check(id=3, endpoint=place(1)))
    assert keys == Keys(id=3, keys=[claim(FOURTH, "dialled"), claim(THIRD, "record")])
    assert node.told(Check(id=4, endpoint="tcp4://192.0.2.1:04617")).keys == keys.keys
    assert node.told(Check(id=5, endpoint=place(3))) == Keys(id=5, keys=[])


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp4://", "tcp9://[::1]:1", "\0" * 272])
def test_a_check_of_no_endpoint_is_answered_with_nothing(node: Node, endpoint: str) -> None:
    assert node.told(Check(id=1, endpoint=endpoint)) == Keys(id=1, keys=[])


def test_a_check_says_nothing_that_is_doubted(node: Node) -> None:
    node.knows(THIRD, place(1), place(2))
    node.store.introduced(KEYS[THIRD], KEYS[PEER], NET, 0.0)
    node.store.doubt(KEYS[THIRD], place(1), 1.0)
    assert node.told(Check(id=1, endpoint=place(1))).keys == []
    assert node.told(Check(id=2, endpoint=place(2))).keys == []


def test_a_check_of_an_own_endpoint_is_answered(node: Node) -> None:
    assert node.introductions.renewed(record(OWN, place(1)), [], 0.0) == []
    node.store.connected(KEYS[THIRD], place(1), 1.0)
    keys = node.told(Check(id=1, endpoint=place(1))).keys
    assert keys == [claim(THIRD, "dialled"), claim(OWN, "record")]


def test_an_answer_to_a_check_is_bounded(node: Node) -> None:
    for who in range(10, 40):
        node.store.connected(KEYS[who], place(1), float(who))
    node.introductions.renewed(record(OWN, place(1)), [], 0.0)
    assert len(node.told(Check(id=1, endpoint=place(1))).keys) == introduction.KEYS_MAX


# --- learning from FOUND ---


def test_two_nodes_introduce_a_third(node: Node, other: Node) -> None:
    other.knows(THIRD, place(3))
    (question,) = node.introductions.on_up(link_to(PEER), (), 0.0)
    answer = other.told(question.message, speaker(OWN, link=8))
    kind, body = introduction.encode(answer)
    message = introduction.decode(kind, body)
    assert node.said(message) == [Learned(record(THIRD, place(3)), KEYS[PEER], new=True)]
    known = node.store.peer(KEYS[THIRD])
    assert known is not None
    assert (known.record, known.introducers) == (record(THIRD, place(3)), 1)
    assert node.introducers(THIRD) == [(KEYS[PEER], NET)]
    assert node.counters.introductions_received == 1


def test_an_answer_counts_once_and_on_its_link_only(node: Node) -> None:
    number = node.ask()
    answer = Found(id=number, records=[record(THIRD).signed])
    assert node.said(answer, speaker(link=2)) == []
    assert node.said(Found(id=number + 1, records=answer.records)) == []
    assert node.store.peer(KEYS[THIRD]) is None
    assert node.counters.unasked == 2
    assert len(node.said(answer)) == 1
    assert node.said(Found(id=number, records=[record(FOURTH).signed])) == []
    assert node.store.peer(KEYS[FOURTH]) is None
    assert node.counters.unasked == 3


def test_an_answer_to_a_link_that_is_gone_is_none(node: Node) -> None:
    number = node.ask()
    node.talk.down(LinkId(0, 1))
    assert node.said(Found(id=number, records=[record(THIRD).signed])) == []
    assert node.store.peer(KEYS[THIRD]) is None


def test_answers_without_questions_end_the_link_when_they_are_many(node: Node) -> None:
    answer = Found(id=5, records=[record(THIRD).signed] * 32)
    for _ in range(conversations.TOLERATED):
        assert node.said(answer) == []
    (bad,) = node.said(answer)
    assert isinstance(bad, Misbehaved)
    assert node.said(answer, speaker(link=2)) == []
    assert node.counters.introductions_refused == 0


def test_forged_records_are_left_out_and_the_rest_is_kept(node: Node) -> None:
    number = node.ask()
    records = [forged(THIRD), b"", b"x" * 1024, forged(FIFTH), record(FOURTH).signed]
    learned = node.said(Found(id=number, records=records))
    assert learned == [Learned(record(FOURTH), KEYS[PEER], new=True)]
    assert node.store.peer(KEYS[THIRD]) is None
    assert node.counters.introductions_refused == 4


def test_who_hands_over_many_forged_records_misbehaves(node: Node) -> None:
    bad: list[Action] = []
    for _ in range(5):
        bad += node.said(Found(id=node.ask(), records=[forged(THIRD)] * 16))
    assert len(bad) == 5 * 16 - conversations.TOLERATED
    assert all(isinstance(one, Misbehaved) for one in bad)


def test_a_known_record_is_not_verified_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.knows(THIRD)
    node.knows(FOURTH, seq=2)
    verified: list[bytes] = []

    def verify(signed: bytes) -> NodeRecord:
        verified.append(signed)
        return real(signed)

    real = node_record.verify
    monkeypatch.setattr(node_record, "verify", verify)
    records = [record(THIRD).signed] * 3 + [record(FOURTH, seq=1).signed, record(FIFTH).signed] * 2
    learned = node.said(Found(id=node.ask(), records=records))
    assert len(learned) == 7
    assert verified.count(record(THIRD).signed) == 0
    assert verified.count(record(FIFTH).signed) == 1
    for who in (THIRD, FOURTH, FIFTH):  # it introduces even whom this node knew before
        assert node.introducers(who) == [(KEYS[PEER], NET)]
    kept = node.store.peer(KEYS[FOURTH])
    assert kept is not None
    assert kept.record == record(FOURTH, seq=2)


def test_no_more_is_looked_at_than_was_asked_for(node: Node) -> None:
    records = [record(who).signed for who in range(10, 40)]
    assert len(node.said(Found(id=node.ask(limit=16), records=records))) == 16
    assert node.store.counts()["peers"] == 16


def test_nobody_introduces_itself_or_this_node(node: Node) -> None:
    records = [record(OWN).signed, record(PEER, seq=3).signed]
    learned = node.said(Found(id=node.ask(), records=records))
    assert learned == [Learned(record(PEER, seq=3), KEYS[PEER], new=True)]
    assert node.store.peer(KEYS[OWN]) is None
    assert node.introducers(PEER) == []
    assert node.counters.introductions_received == 0


def test_introducers_are_counted_by_network(node: Node) -> None:
    networks = ["192.0.2.0/24", "192.0.2.0/24", "198.51.100.0/24"]
    for n, network in enumerate(networks):
        (tell,) = node.introductions.on_up(link_to(20 + n, n), (), 0.0)
        assert isinstance(tell.message, Find)
        answer = Found(id=tell.message.id, records=[record(THIRD).signed])
        node.said(answer, speaker(20 + n, n, network))
    known = node.store.peer(KEYS[THIRD])
    assert known is not None
    assert (len(known.introductions), known.introducers) == (3, 2)


# --- RECORD, and what a hello says ---


def test_a_peer_tells_its_own_record_and_the_newer_counts(node: Node) -> None:
    for seq, new in ((2, True), (1, False), (2, False), (3, True)):
        learned = node.said(Record(record=record(PEER, seq=seq).signed))
        assert learned == ([Learned(record(PEER, seq=seq), KEYS[PEER], True)] if new else [])
    known = node.store.peer(KEYS[PEER])
    assert known is not None
    assert (known.record, known.introductions) == (record(PEER, seq=3), ())


def test_a_record_of_another_key_ends_the_link(node: Node) -> None:
    for signed in (record(THIRD).signed, forged(THIRD), record(OWN).signed):
        (bad,) = node.said(Record(record=signed))
        assert isinstance(bad, Misbehaved)
    assert node.store.counts()["peers"] == 0
    assert node.counters.misbehaved == 3


def test_an_own_record_that_does_not_verify_is_borne(node: Node) -> None:
    for signed in (forged(PEER), b"", b"x" * 1024, b"{" * 1024):
        assert node.said(Record(record=signed)) == []
    assert node.store.counts()["peers"] == 0
    assert node.counters.introductions_refused == 4


def test_what_a_hello_says_of_its_sender(node: Node) -> None:
    keep = node.introductions.record_of_itself
    assert keep(KEYS[PEER], forged(PEER), 0.0) is None
    assert keep(KEYS[PEER], record(THIRD).signed, 0.0) is None
    assert node.store.counts()["peers"] == 0
    assert keep(KEYS[PEER], record(PEER).signed, 0.0) == Learned(record(PEER), KEYS[PEER], True)
    assert keep(KEYS[PEER], record(PEER).signed, 0.0) == Learned(record(PEER), KEYS[PEER], False)
    assert node.counters.introductions_refused == 2


# --- floods ---

COSTLY = [Find(id=1), Check(id=1, endpoint=place(1)), Record(record=record(PEER).signed)]


@pytest.mark.parametrize("message", COSTLY)
def test_a_flood_is_answered_a_little_borne_for_long_and_then_ended(
    node: Node, message: Find | Check | Record
) -> None:
    node.knows(THIRD, place(1))
    for _ in range(conversations.ANSWERED_AT_ONCE + conversations.TOLERATED):
        assert not any(isinstance(one, Misbehaved) for one in node.said(message))
    assert node.counters.limited == conversations.TOLERATED
    (bad,) = node.said(message)
    assert isinstance(bad, Misbehaved)
    assert node.counters.finds_answered + node.counters.checks_answered in (
        0,
        conversations.ANSWERED_AT_ONCE,
    )
    assert node.told(Find(id=9), speaker(FOURTH, link=2)).id == 9  # others are served


def test_one_allowance_is_for_all_kinds_and_comes_back(node: Node) -> None:
    for n in range(conversations.ANSWERED_AT_ONCE):
        node.said(COSTLY[n % 3])
    assert node.said(Find(id=1)) == []
    assert len(node.said(Find(id=1), now=2.0)) == 1
    assert node.said(Find(id=1), now=2.0) == []


@pytest.mark.parametrize(("network", "shared"), [(NET, True), ("127.0.0.0/24", False)])
def test_peers_of_one_network_share_what_is_looked_at(
    node: Node, network: str, shared: bool
) -> None:
    for n in range(100):
        node.said(Check(id=1, endpoint=place(1)), speaker(PEER, n, network))
    at_once, _ = introductions.ANSWERED[0]
    assert node.counters.checks_answered == (at_once if shared else 100)
    assert node.counters.misbehaved == 0  # it may be the others' doing
    assert node.said(Check(id=1, endpoint=place(1)), speaker(PEER, 200, "203.0.113.0/24")) != []


def test_many_new_peers_of_one_network_are_asked_a_little(node: Node) -> None:
    asks = [node.introductions.on_up(link_to(PEER, n), (), 0.0) for n in range(100)]
    assert sum(map(len, asks)) == introductions.ASKED[0][0]
    assert node.introductions.on_up(link_to(PEER, 200), (), introductions.ASKED[0][1]) != []


MESSAGES = st.one_of(
    st.builds(
        Find,
        id=st.integers(0, 40),
        protocol=st.none() | st.just("chat"),
        near=st.none() | st.sampled_from([ids.to_text(key) for key in KEYS]),
        limit=st.integers(1, 32),
    ),
    st.builds(
        Found,
        id=st.integers(0, 40),
        records=st.lists(
            st.binary(max_size=200) | st.sampled_from([record(n).signed for n in range(20)]),
            max_size=8,
        ),
    ),
    st.builds(Check, id=st.integers(0, 40), endpoint=st.text(max_size=30) | st.just(place(1))),
    st.builds(Record, record=st.binary(max_size=200) | st.just(record(PEER).signed)),
)


@given(st.lists(MESSAGES, max_size=60))
def test_whatever_a_peer_says_nothing_unasked_is_believed(messages: list[Any]) -> None:
    with closing(PeerStore(None, max_peers=100)) as store:
        node = Node(store)
        for message in messages:
            node.said(message)
        assert store.counts()["peers"] <= 1
        assert store.counts()["introductions"] == 0
        node.talk.down(LinkId(0, 1))
        assert node.talk._links == {}


# --- asking ---


def asked(tells: list[Tell]) -> list[Find]:
    return [tell.message for tell in tells if isinstance(tell.message, Find)]


def test_a_new_peer_is_asked_for_near_ones_and_for_protocols(node: Node) -> None:
    near, chat = asked(node.introductions.on_up(link_to(PEER), ["chat"], 0.0))
    assert (near.near, near.protocol) == (ids.to_text(ids.node_id(KEYS[OWN])), None)
    assert (chat.near, chat.protocol) == (None, "chat")
    assert node.counters.finds_asked == 2


def test_many_protocols_are_spread_over_peers(node: Node) -> None:
    wanted = [f"p{n}" for n in range(20)]
    names: list[str | None] = []
    for number in range(3):
        finds = asked(node.introductions.on_up(link_to(PEER, number), wanted, 0.0))
        assert len(finds) == FINDS_AT_UP
        names += [find.protocol for find in finds[1:]]
    assert set(names) == set(wanted)


def test_a_new_own_record_is_told_to_all(node: Node) -> None:
    own = record(OWN, place(1))
    links = [LinkId(0, 1), LinkId(1, 1)]
    told = node.introductions.renewed(own, links, 0.0)
    assert told == [Tell(link, Record(record=own.signed)) for link in links]
