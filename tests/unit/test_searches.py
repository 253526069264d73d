"""Searches of applications: who is asked, what is put together, and when they are over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from dp2p import bus, ids, node_record, noise
from dp2p.coordinator import conversations, searches
from dp2p.coordinator.conversations import Conversations, Speaker, Tell
from dp2p.coordinator.introductions import Action, Introductions, Learned
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.searches import Answered, Wanted
from dp2p.coordinator.store import PeerStore
from dp2p.errors import RequestError
from dp2p.introduction import FOUND_MAX, Find, Found
from dp2p.node_record import NodeRecord

SEEDS = [bytes([n]) * 32 for n in range(1, 60)]
KEYS = [noise.identity_public(seed) for seed in SEEDS]
GOAL = ids.node_id(KEYS[50])


def record(who: int, *, seq: int = 1, protocols: tuple[str, ...] = ()) -> NodeRecord:
    return node_record.sign(SEEDS[who], seq=seq, endpoints=[], protocols=protocols)


def link_to(who: int, trust: bus.Trust = "none") -> Link:
    report = bus.LinkReport(
        link=who,
        key=ids.to_text(KEYS[who]),
        direction="out",
        endpoint=f"tcp4://192.0.2.{who}:4617",
        instance="0" * 16,
        listen=[],
        mode="xx",
        trust=trust,
    )
    return Link(LinkId(0, who), ids.node_id_text(report.key), report, 0.0, up=True)


class Node:
    """A node that searches. Its peers are numbers, as are those that they know."""

    def __init__(self, store: PeerStore) -> None:
        self.counters = Counters()
        self.talk = Conversations(self.counters)
        self.introductions = Introductions(store, self.counters, self.talk, KEYS[0])
        self.searches = self.introductions.searches
        self.questions: dict[int, Find] = {}

    def find(self, token: int, wanted: Wanted, links: list[Link], now: float = 0.0) -> list[Action]:
        """What is to be done but asking; what was asked is kept in ``questions``."""
        told = self.searches.find(token, wanted, links, now + 5.0, now)
        self.questions = {
            tell.link.link: tell.message
            for tell in told
            if isinstance(tell, Tell) and isinstance(tell.message, Find)
        }
        return [one for one in told if not isinstance(one, Tell)]

    def answer(self, who: int, *records: NodeRecord) -> list[Answered]:
        """A peer answers; returns what is over by that."""
        signed = [one.signed for one in records]
        message = Found(id=self.questions[who].id, records=signed)
        told = self.introductions.said(
            Speaker(LinkId(0, who), KEYS[who], "192.0.2.0/24"), message, 0.0, 0.0
        )
        assert all(isinstance(one, Learned | Answered) for one in told)
        return [one for one in told if isinstance(one, Answered)]


@pytest.fixture
def node() -> Iterator[Node]:
    with closing(PeerStore(None, max_peers=1000)) as store:
        yield Node(store)


def test_answers_are_put_together(node: Node) -> None:
    assert node.find(7, Wanted(), [link_to(1), link_to(2)]) == []
    assert node.answer(1, record(10), record(11, seq=2), record(0)) == []
    assert node.answer(2, record(12), record(11, seq=3), record(10)) == [
        Answered(7, (record(10), record(12), record(11, seq=3)), 2)
    ]
    assert len(node.searches) == 0


def test_the_older_of_two_records_is_left_out_whichever_came_first(node: Node) -> None:
    node.find(7, Wanted(), [link_to(1), link_to(2)])
    node.answer(1, record(11, seq=3))
    assert node.answer(2, record(11, seq=2)) == [Answered(7, (record(11, seq=3),), 2)]


def test_near_ones_come_closest_first_and_no_more_than_wanted(node: Node) -> None:
    wanted = Wanted(near=ids.to_text(GOAL), limit=5)
    node.find(1, wanted, [link_to(1), link_to(2)])
    assert node.questions[1] == Find(id=1, near=ids.to_text(GOAL), limit=5)
    node.answer(1, *(record(who) for who in range(10, 15)))
    (answered,) = node.answer(2, *(record(who) for who in range(15, 20)))
    nearest = sorted(KEYS[10:20], key=lambda key: ids.distance(ids.node_id(key), GOAL))
    assert [one.key for one in answered.records] == nearest[:5]


def test_only_who_speaks_the_protocol_is_handed_on(node: Node) -> None:
    many = record(12, protocols=tuple(f"{'x' * 50}{n:02}" for n in range(60)))
    assert many.more
    node.find(1, Wanted(protocol="chat"), [link_to(1)])
    (answered,) = node.answer(1, record(10, protocols=("chat",)), record(11), many)
    assert [one.key for one in answered.records] == [KEYS[10], KEYS[12]]


def test_without_peers_a_search_is_over_at_once(node: Node) -> None:
    closed = link_to(1)
    closed.up = False
    assert node.find(3, Wanted(), [closed]) == [Answered(3, (), 0)]
    assert node.searches.next_deadline() is None


def test_the_most_trusted_are_asked_and_then_the_closest(node: Node) -> None:
    links = [link_to(who) for who in range(1, 30)]
    links += [link_to(31, "introduced"), link_to(32, "resumed")]
    node.find(1, Wanted(near=ids.to_text(GOAL)), links)
    closest = sorted(range(1, 30), key=lambda who: ids.distance(ids.node_id(KEYS[who]), GOAL))
    assert list(node.questions) == [32, 31, *closest[: searches.ASKED_MAX - 2]]


def test_at_its_deadline_a_search_ends_with_what_there_is(node: Node) -> None:
    node.find(1, Wanted(), [link_to(1), link_to(2)])
    node.answer(1, record(10))
    assert node.searches.next_deadline() == 5.0
    assert node.searches.run(4.9) == []
    assert node.searches.run(5.0) == [Answered(1, (record(10),), 2)]
    assert node.answer(2, record(11)) == []  # late, and kept for another time
    assert node.searches.next_deadline() is None


def test_a_search_does_not_wait_for_a_link_that_is_gone(node: Node) -> None:
    node.find(1, Wanted(), [link_to(1), link_to(2)])
    assert node.searches.down(LinkId(0, 2)) == []
    assert node.searches.down(LinkId(0, 3)) == []
    assert node.answer(1, record(10)) == [Answered(1, (record(10),), 2)]
    node.find(2, Wanted(), [link_to(1)])
    assert node.searches.down(LinkId(0, 1)) == [Answered(2, (), 1)]


def test_a_peer_answers_a_search_once(node: Node) -> None:
    node.find(1, Wanted(), [link_to(1), link_to(2)])
    node.answer(1, record(10))
    assert node.searches.answer(1, LinkId(0, 1), [record(11)]) == []
    assert node.searches.answer(1, LinkId(0, 9), [record(12)]) == []
    assert node.answer(2) == [Answered(1, (record(10),), 2)]


def test_searches_are_bounded(node: Node) -> None:
    for token in range(searches.SEARCHES_MAX):
        node.find(token, Wanted(), [link_to(token % 40)])
    with pytest.raises(RequestError, match="busy"):
        node.find(1000, Wanted(), [link_to(1)])
    assert len(node.searches.run(5.0)) == searches.SEARCHES_MAX
    assert node.find(1000, Wanted(), [link_to(1)]) == []


def test_a_peer_that_was_asked_too_much_is_left_out(node: Node) -> None:
    full = link_to(1)
    for _ in range(conversations.ASKED_AT_ONCE + conversations.WAITING_MAX):
        node.talk.ask(full.id, Find(id=0), "other", 0.0)
    node.find(1, Wanted(), [full, link_to(2)])
    assert list(node.questions) == [2]
    assert node.answer(2) == [Answered(1, (), 1)]


@pytest.mark.parametrize(("limit", "asked"), [(0, 1), (5, 5), (1000, FOUND_MAX)])
def test_a_peer_is_asked_for_what_one_answer_may_hold(node: Node, limit: int, asked: int) -> None:
    node.find(1, Wanted(limit=limit), [link_to(1)])
    assert node.questions[1].limit == asked
