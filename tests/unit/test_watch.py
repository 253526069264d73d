"""The watch for a man in the middle: who is asked, what is a disagreement, what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus, ids, node_record, noise
from dp2p.coordinator import conversations, watch
from dp2p.coordinator.conversations import Conversations, Misbehaved, Speaker, Tell
from dp2p.coordinator.introductions import Introductions
from dp2p.coordinator.known import Evidence
from dp2p.coordinator.notices import Counters, Kind, Notice
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.watch import Action, Warned, Watch
from dp2p.introduction import Check, KeyClaim, Keys
from dp2p.node_record import NodeRecord

SEEDS = [bytes([n]) * 32 for n in range(1, 100)]
KEYS = [noise.identity_public(seed) for seed in SEEDS]
ALICE, MALLORY, BOB, CAROL, DAVE = range(5)
"Alice watches. She dials Bob's place, and Mallory may be in between. Carol and Dave know things."
BOBS = "tcp4://192.0.2.200:4617"


def link_to(who: int, endpoint: str | None = None, **changes: Any) -> Link:
    fields: dict[str, Any] = {
        "link": who,
        "key": ids.to_text(KEYS[who]),
        "direction": "out" if endpoint else "in",
        "endpoint": endpoint or f"tcp4://198.51.100.{who}:50000",
        "instance": "0" * 16,
        "listen": [],
        "mode": "xx",
        "trust": "none",
    }
    report = bus.LinkReport(**{**fields, **changes})
    return Link(LinkId(0, report.link), ids.node_id_text(report.key), report, 0.0, up=True)


def trusted(who: int, trust: bus.Trust = "introduced", introducers: int = 1) -> Link:
    return link_to(who, trust=trust, introducers=introducers)


def record(who: int, *endpoints: str, seq: int = 1) -> NodeRecord:
    return node_record.sign(SEEDS[who], seq=seq, endpoints=endpoints, protocols=[])


def claim(who: int, evidence: Any = "dialled") -> KeyClaim:
    return KeyClaim(key=ids.to_text(KEYS[who]), evidence=evidence)


def speaker(who: int) -> Speaker:
    return Speaker(LinkId(0, who), KEYS[who], "198.51.100.0/24")


class Node:
    """Alice. ``open`` holds her links; ``asked`` the checks under way, by peer."""

    def __init__(self, store: PeerStore) -> None:
        self.store, self.counters = store, Counters()
        self.talk = Conversations(self.counters)
        self.watch = Watch(store, self.counters, self.talk)
        self.open: list[Link] = []
        self.asked: dict[int, list[Check]] = {}

    def up(self, link: Link, of_itself: NodeRecord | None = None) -> list[Notice]:
        told = self.watch.on_up(link, of_itself, self.open, 0.0)
        self.open.append(link)
        for one in told:
            if isinstance(one, Tell) and isinstance(one.message, Check):
                self.asked.setdefault(one.link.link, []).append(one.message)
        return [one for one in told if isinstance(one, Notice)]

    def answer(self, who: int, *claims: KeyClaim) -> list[Action]:
        """A peer answers the oldest check that it was asked."""
        message = Keys(id=self.asked[who].pop(0).id, keys=list(claims))
        return self.watch.said(speaker(who), message, 0.0)

    def active(self, who: int) -> list[Warned]:
        return self.watch.warnings_of(ids.to_text(ids.node_id(KEYS[who])))


@pytest.fixture
def node() -> Iterator[Node]:
    with closing(PeerStore(None, max_peers=1000)) as store:
        yield Node(store)


def test_a_man_in_the_middle_is_noticed_when_a_peer_knows_better(node: Node) -> None:
    node.up(trusted(CAROL))
    assert node.up(link_to(MALLORY, BOBS)) == []
    assert node.asked == {CAROL: [Check(id=1, endpoint=BOBS)]}
    (warning,) = node.answer(CAROL, claim(BOB))
    assert warning == Notice(
        Kind.MITM_WARNING,
        {
            "peer": ids.to_text(ids.node_id(KEYS[MALLORY])),
            "endpoint": BOBS,
            "met": ids.to_text(KEYS[MALLORY]),
            "other": ids.to_text(KEYS[BOB]),
            "reporter": ids.to_text(KEYS[CAROL]),
            "evidence": "dialled",
        },
    )
    assert node.active(MALLORY) == [Warned(BOBS, KEYS[BOB], KEYS[CAROL], Evidence.DIALLED)]
    assert node.active(CAROL) == []
    assert node.counters.warnings == 1


def test_a_man_in_the_middle_is_noticed_as_soon_as_an_honest_peer_comes(node: Node) -> None:
    assert node.up(link_to(MALLORY, BOBS)) == []
    assert node.asked == {}
    node.up(link_to(CAROL))
    assert node.asked == {CAROL: [Check(id=1, endpoint=BOBS)]}
    assert len(node.answer(CAROL, claim(BOB))) == 1


def test_two_nodes_and_their_stores() -> None:
    """Alice asks, Carol answers out of her store, through the parts that do so in a node."""
    with (
        closing(PeerStore(None, max_peers=10)) as hers,
        closing(PeerStore(None, max_peers=10)) as carols,
    ):
        alice = Node(hers)
        counters = Counters()
        carol = Introductions(carols, counters, Conversations(counters), KEYS[CAROL])
        carols.connected(KEYS[BOB], BOBS, 0.0)
        alice.up(link_to(MALLORY, BOBS))
        alice.up(link_to(CAROL))
        (tell,) = carol.said(speaker(ALICE), alice.asked[CAROL][0], 0.0, 0.0)
        assert isinstance(tell, Tell)
        assert isinstance(tell.message, Keys)
        (warning,) = alice.watch.said(speaker(CAROL), tell.message, 0.0)
        assert isinstance(warning, Notice)


ANSWERS = [  # what a peer says of the place where Mallory was met -> with whom it disagrees
    ("knows nothing", [], []),
    ("agrees", [claim(MALLORY)], []),
    ("agrees by record", [claim(MALLORY, "record")], []),
    ("knows another", [claim(BOB)], [BOB]),
    ("knows another by record", [claim(BOB, "record")], [BOB]),
    ("knows two others", [claim(BOB), claim(DAVE, "record")], [BOB, DAVE]),
    ("met both", [claim(BOB), claim(MALLORY)], []),
    ("met this one, has a record of another", [claim(MALLORY), claim(BOB, "record")], []),
    ("has records of both", [claim(BOB, "record"), claim(MALLORY, "record")], []),
    # Mallory can sign a record for any place and hand it to everybody.
    ("met another, has a record of this one", [claim(BOB), claim(MALLORY, "record")], [BOB]),
]


@pytest.mark.parametrize(
    ("claims", "others"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_what_is_a_disagreement(node: Node, claims: list[KeyClaim], others: list[int]) -> None:
    node.up(link_to(CAROL))
    node.up(link_to(MALLORY, BOBS))
    node.answer(CAROL, *claims)
    assert [warned.other for warned in node.active(MALLORY)] == [KEYS[who] for who in others]
    keys = [one.key for one in claims]
    ours = ids.to_text(KEYS[MALLORY])
    assert node.counters.keys_received == 1
    assert node.counters.keys_agreed == (ours in keys)
    assert node.counters.keys_disputed == any(key != ours for key in keys)


def test_a_warning_comes_once_for_each_key_and_reporter(node: Node) -> None:
    for who in (CAROL, DAVE):
        node.up(trusted(who))
    node.up(link_to(MALLORY, BOBS))
    assert len(node.answer(CAROL, claim(BOB), claim(BOB))) == 1
    assert len(node.answer(DAVE, claim(BOB))) == 1
    assert node.watch.learned(record(BOB, BOBS), KEYS[CAROL]) == []
    assert len(node.watch.learned(record(BOB, BOBS), KEYS[50])) == 1
    assert len(node.active(MALLORY)) == node.counters.warnings == 3


def test_a_link_that_is_trusted_is_not_watched(node: Node) -> None:
    node.up(trusted(CAROL))
    node.up(link_to(BOB, BOBS, trust="introduced"))
    node.up(link_to(DAVE, BOBS, trust="resumed"))
    assert (node.asked, len(node.watch)) == ({}, 0)
    assert node.watch.learned(record(MALLORY, BOBS), KEYS[CAROL]) == []


def test_an_inbound_peer_is_checked_where_its_record_says(node: Node) -> None:
    node.up(link_to(CAROL))
    places = [f"tcp4://192.0.2.{n}:1" for n in range(1, 5)]
    node.up(link_to(MALLORY), record(MALLORY, *places))
    assert [check.endpoint for check in node.asked[CAROL]] == places[: watch.ENDPOINTS_MAX]
    node.answer(CAROL, claim(MALLORY))
    assert node.active(MALLORY) == []
    node.answer(CAROL, claim(BOB))
    assert [warned.endpoint for warned in node.active(MALLORY)] == [places[1]]


def test_an_inbound_peer_that_says_no_place_cannot_be_checked(node: Node) -> None:
    node.up(link_to(CAROL))
    node.up(link_to(MALLORY))
    node.up(link_to(DAVE), record(DAVE))
    assert (node.asked, len(node.watch)) == ({}, 0)


def test_a_dialled_peer_is_checked_where_it_was_dialled(node: Node) -> None:
    node.up(trusted(CAROL))
    node.up(link_to(MALLORY, BOBS), record(MALLORY, "tcp4://192.0.2.9:1"))
    assert node.asked == {CAROL: [Check(id=1, endpoint=BOBS)]}


def test_the_most_trusted_are_asked_first(node: Node) -> None:
    for who in range(10, 20):
        node.up(trusted(who, "none"))
    node.up(trusted(30, "introduced", 1))
    node.up(trusted(31, "introduced", 3))
    node.up(trusted(32, "resumed", 0))
    closed = trusted(33, "resumed", 9)
    closed.up = False
    node.up(closed)
    node.up(link_to(MALLORY, BOBS))
    assert list(node.asked) == [32, 31, 30, *range(10, 10 + watch.ASKED_PER_LINK - 3)]


def test_nobody_is_asked_about_itself(node: Node) -> None:
    node.up(link_to(MALLORY, BOBS))
    node.up(link_to(MALLORY, "tcp4://192.0.2.77:1", link=90))
    assert node.asked == {}


def test_a_new_peer_is_asked_about_a_bounded_number_and_all_get_their_turn(node: Node) -> None:
    asked: Counter[str] = Counter()
    for who in range(10, 99):
        suspect = who < 60
        link = link_to(who, f"tcp4://192.0.2.{who}:1") if suspect else trusted(who)
        told = [*node.watch.on_up(link, None, [], 0.0), *node.talk.run(1000.0)]
        checks = [one.message for one in told if isinstance(one, Tell)]
        assert len(checks) == min(who - 10, watch.CHECKS_PER_PEER)
        asked.update(one.endpoint for one in checks if isinstance(one, Check))
    assert len(asked) == 50
    assert max(asked.values()) - min(asked.values()) <= 1


def test_of_those_that_were_checked_as_often_the_oldest_come_first(node: Node) -> None:
    for who in range(10, 40):
        node.up(link_to(who, f"tcp4://192.0.2.{who}:1"))
    node.asked.clear()
    for suspect in node.watch._suspects.values():
        suspect.checks = 5
    node.up(trusted(CAROL))
    places = [check.endpoint for check in node.asked[CAROL]]
    assert places == [f"tcp4://192.0.2.{10 + n}:1" for n in range(len(places))]


def test_what_this_node_met_there_before_is_a_disagreement_as_well(node: Node) -> None:
    node.store.connected(KEYS[BOB], BOBS, 0.0)
    node.store.add_record(record(DAVE, BOBS), 0.0)
    node.store.connected(KEYS[MALLORY], BOBS, 1.0)
    (warning,) = node.up(link_to(MALLORY, BOBS))
    assert (warning.fields["other"], warning.fields["reporter"]) == (ids.to_text(KEYS[BOB]), None)
    assert node.active(MALLORY) == [Warned(BOBS, KEYS[BOB], None, Evidence.DIALLED)]


def test_a_record_that_is_handed_over_may_disagree(node: Node) -> None:
    node.up(link_to(MALLORY, BOBS))
    other = "tcp4://192.0.2.9:1"
    assert node.watch.learned(record(BOB, other), KEYS[CAROL]) == []
    assert node.watch.learned(record(MALLORY, BOBS), KEYS[CAROL]) == []
    (warning,) = node.watch.learned(record(BOB, other, BOBS, seq=2), KEYS[CAROL])
    assert warning.fields["evidence"] == "record"
    assert node.active(MALLORY) == [Warned(BOBS, KEYS[BOB], KEYS[CAROL], Evidence.RECORD)]


def test_a_link_that_is_gone_takes_its_warnings_along(node: Node) -> None:
    node.up(trusted(CAROL))
    node.up(link_to(MALLORY, BOBS))
    node.up(trusted(DAVE))
    node.answer(CAROL, claim(BOB))
    node.watch.down(LinkId(0, MALLORY))
    node.watch.down(LinkId(0, MALLORY))
    assert (node.active(MALLORY), len(node.watch)) == ([], 0)
    assert node.answer(DAVE, claim(BOB)) == []
    assert node.watch.learned(record(BOB, BOBS), KEYS[CAROL]) == []
    assert node.up(trusted(50)) == []
    assert node.counters.warnings == 1


def test_an_answer_counts_once_and_on_its_link_only(node: Node) -> None:
    node.up(trusted(CAROL))
    node.up(trusted(DAVE))
    node.up(link_to(MALLORY, BOBS))
    check = node.asked[CAROL][0]
    assert node.watch.said(speaker(50), Keys(id=check.id, keys=[claim(BOB)]), 0.0) == []
    assert node.watch.said(speaker(CAROL), Keys(id=99, keys=[claim(BOB)]), 0.0) == []
    assert node.active(MALLORY) == []
    assert len(node.answer(CAROL, claim(BOB))) == 1
    assert node.watch.said(speaker(CAROL), Keys(id=check.id, keys=[claim(50)]), 0.0) == []
    assert len(node.active(MALLORY)) == 1
    assert node.counters.unasked == 3


def test_answers_without_questions_end_the_link_when_they_are_many(node: Node) -> None:
    node.up(link_to(MALLORY, BOBS))
    told = [
        one
        for _ in range(conversations.TOLERATED + 1)
        for one in node.watch.said(speaker(CAROL), Keys(id=1, keys=[claim(BOB)]), 0.0)
    ]
    assert [type(one) for one in told] == [Misbehaved]
    assert node.active(MALLORY) == []


def test_warnings_of_a_link_are_bounded(node: Node) -> None:
    node.up(link_to(MALLORY, BOBS))
    told = [
        notice
        for who in range(10, 60)
        for notice in node.watch.learned(record(who, BOBS), KEYS[CAROL])
    ]
    assert len(told) == len(node.active(MALLORY)) == watch.WARNINGS_PER_LINK


def test_many_who_claim_one_place_do_not_make_a_record_costly(node: Node) -> None:
    """And who was dialled there is looked at, however many claim to be there."""
    for who in range(10, 60):
        node.watch.on_up(link_to(who), record(who, BOBS), [], 0.0)
    node.up(link_to(MALLORY, BOBS))
    told = node.watch.learned(record(BOB, BOBS), KEYS[CAROL])
    assert len(told) == watch.CLAIMANTS_MAX + 1
    assert ids.to_text(KEYS[MALLORY]) in [notice.fields["met"] for notice in told]
    for who in (*range(10, 60), MALLORY):
        node.watch.down(LinkId(0, who))
    assert node.watch._by_endpoint == {}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["up", "down", "keys", "learned"]),
        st.integers(1, 8),
        st.lists(st.builds(claim, st.integers(1, 8), st.sampled_from(["dialled", "record"]))),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_only_open_links_without_trust_are_warned_of(
    steps: list[tuple[str, int, list[KeyClaim]]],
) -> None:
    places = [f"tcp4://192.0.2.{n}:1" for n in range(3)]
    with closing(PeerStore(None, max_peers=100)) as store:
        node = Node(store)
        for what, who, claims in steps:
            up = {link.id.link: link for link in node.open}
            if what == "up" and who not in up:
                node.up(link_to(who, places[who % 3], trust="introduced" if who > 5 else "none"))
            elif what == "down" and who in up:
                node.open.remove(up[who])
                node.asked.pop(who, None)
                node.watch.down(LinkId(0, who))
                node.talk.down(LinkId(0, who))
            elif what == "keys" and node.asked.get(who):
                node.answer(who, *claims[:8])
            elif what == "learned":
                node.watch.learned(record(who, *places[: len(claims)]), KEYS[who])
            for number in range(1, 9):
                warned = node.active(number)
                assert not warned or number in {link.id.link for link in node.open}
                assert not warned or number <= 5
                assert all(one.other != KEYS[number] for one in warned)
