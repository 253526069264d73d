"""Admission: one link for each peer, and both sides of a pair of links keep the same one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus, ids
from dp2p.coordinator.peers import Action, Admit, Close, LinkId, Peers

KEYS = sorted(
    (ids.to_text(bytes([n]) * 32) for n in range(1, 6)),
    key=lambda key: ids.node_id(ids.from_text(key)),
)
SMALL, LARGE = KEYS[0], KEYS[-1]
"Keys of nodes in the order of their node-IDs."


def node(key: str) -> str:
    return ids.node_id_text(key)


def report(link: int, key: str, direction: str = "out", instance: str = "i1") -> bus.LinkReport:
    return bus.LinkReport(
        link=link,
        key=key,
        direction=direction,
        endpoint=f"tcp4://192.0.2.1:{link + 1}",
        instance=instance,
        trust="none",
        listen=[],
    )


def new_peers(own: str = SMALL, most: int = 8) -> Peers:
    return Peers(node(own), most)


def test_a_first_link_is_admitted_and_up_when_the_peer_agrees() -> None:
    peers = new_peers()
    assert peers.ready(0, report(1, LARGE), 0.0) == [Admit(LinkId(0, 1))]
    assert peers.connected(node(LARGE)) is None
    assert peers.up(LinkId(0, 1)) is peers.connected(node(LARGE))
    assert peers.up(LinkId(0, 9)) is None
    assert len(peers) == 1


def test_a_link_to_oneself_is_refused() -> None:
    assert new_peers().ready(0, report(1, SMALL), 0.0) == [Close(LinkId(0, 1), "self")]


def test_the_cap_counts_peers_and_not_links() -> None:
    peers = new_peers(most=2)
    assert isinstance(peers.ready(0, report(1, KEYS[1]), 0.0)[0], Admit)
    assert isinstance(peers.ready(0, report(2, KEYS[2]), 0.0)[0], Admit)
    assert peers.ready(0, report(3, KEYS[3]), 0.0) == [Close(LinkId(0, 3), "full")]
    assert Admit(LinkId(0, 4)) in peers.ready(0, report(4, KEYS[1]), 0.0)
    peers.down(LinkId(0, 2))
    assert peers.ready(0, report(5, KEYS[3]), 0.0) == [Admit(LinkId(0, 5))]


ROWS = [  # own key, peer's key, older, newer, which stays
    (SMALL, LARGE, ("out", "i1"), ("in", "i1"), "older"),
    (SMALL, LARGE, ("in", "i1"), ("out", "i1"), "newer"),
    (LARGE, SMALL, ("out", "i1"), ("in", "i1"), "newer"),
    (LARGE, SMALL, ("in", "i1"), ("out", "i1"), "older"),
    (SMALL, LARGE, ("out", "i1"), ("out", "i1"), "newer"),
    (LARGE, SMALL, ("in", "i1"), ("in", "i1"), "newer"),
    (SMALL, LARGE, ("out", "i1"), ("in", "i2"), "newer"),
    (LARGE, SMALL, ("in", "i1"), ("out", "i2"), "newer"),
]


@pytest.mark.parametrize(("own", "peer", "older", "newer", "stays"), ROWS)
def test_two_links_to_one_peer(
    own: str, peer: str, older: tuple[str, str], newer: tuple[str, str], stays: str
) -> None:
    peers = new_peers(own)
    peers.ready(0, report(1, peer, *older), 0.0)
    actions = peers.ready(1, report(1, peer, *newer), 1.0)
    if stays == "newer":
        assert actions == [Close(LinkId(0, 1), "duplicate"), Admit(LinkId(1, 1))]
    else:
        assert actions == [Close(LinkId(1, 1), "duplicate")]
    left = peers.link_of(node(peer))
    assert left is not None
    assert left.id.shard == (1 if stays == "newer" else 0)


class Side:
    """One node of a pair: what it has admitted and what it has closed."""

    def __init__(self, own: str, other: str) -> None:
        self.peers = Peers(node(own), 8)
        self.other = other
        self.open: set[int] = set()

    def sees(self, link: int, direction: str) -> None:
        self._do(self.peers.ready(0, report(link, self.other, direction), 0.0))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Admit):
                self.open.add(action.link.link)
            else:
                self.open.discard(action.link.link)


@given(
    st.sampled_from([(SMALL, LARGE), (LARGE, SMALL), (KEYS[1], KEYS[2])]),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
    st.randoms(use_true_random=False),
)
def test_both_sides_of_simultaneous_opens_keep_the_same_link(
    pair: tuple[str, str], openers: list[bool], random: object
) -> None:
    """Each side opens at most one link at a time; the sides see them in any order."""
    a, b = Side(*pair), Side(pair[1], pair[0])
    orders = [list(enumerate(openers)), list(enumerate(openers))]
    for order in orders:
        random.shuffle(order)  # type: ignore[attr-defined]
    for link, by_a in orders[0]:
        a.sees(link, "out" if by_a else "in")
    for link, by_a in orders[1]:
        b.sees(link, "in" if by_a else "out")
    assert a.open == b.open
    assert len(a.open) == 1


@given(st.data())
def test_the_books_always_balance(data: st.DataObject) -> None:
    """Whatever shards report: at most one link a peer, never more than the cap, all known."""
    peers = new_peers(KEYS[2], most=3)
    admitted: set[LinkId] = set()
    for number in range(data.draw(st.integers(0, 30))):
        shard = data.draw(st.integers(0, 2))
        what = data.draw(st.sampled_from(["ready", "down", "shard_down"]))
        if what == "ready":
            direction = data.draw(st.sampled_from(["in", "out"]))
            made = report(number, data.draw(st.sampled_from(KEYS)), direction)
            for action in peers.ready(shard, made, 0.0):
                (admitted.add if isinstance(action, Admit) else admitted.discard)(action.link)
        elif what == "down" and admitted:
            gone = data.draw(st.sampled_from(sorted(admitted, key=str)))
            peers.down(gone)
            admitted.discard(gone)
        else:
            peers.shard_down(shard)
            admitted = {link for link in admitted if link.shard != shard}
        held = {link.id for link in peers}
        assert held == admitted
        assert len(peers) <= 3
        assert sum(peers.count_by_shard().values()) == len(peers)


def test_ready_said_twice_is_admitted_again() -> None:
    peers = new_peers()
    peers.ready(0, report(1, LARGE), 0.0)
    assert peers.ready(0, report(1, LARGE), 0.0) == [Admit(LinkId(0, 1))]
    assert len(peers) == 1


def test_a_hello_brings_links_back_and_removes_those_it_leaves_out() -> None:
    peers = new_peers()
    peers.ready(0, report(1, KEYS[1]), 0.0)
    peers.ready(0, report(2, KEYS[2]), 0.0)
    peers.ready(1, report(1, KEYS[3]), 0.0)
    actions, gone = peers.shard_hello(0, [report(2, KEYS[2]), report(7, KEYS[4])], 1.0)
    assert actions == [Admit(LinkId(0, 2)), Admit(LinkId(0, 7))]
    assert [link.id for link in gone] == [LinkId(0, 1)]
    assert peers.connected(node(KEYS[4])) is not None
    assert peers.link_of(node(KEYS[3])) is not None


def test_two_shards_that_report_links_to_one_peer_are_left_with_one() -> None:
    peers = new_peers(SMALL)
    peers.shard_hello(0, [report(1, LARGE, "out")], 0.0)
    actions, _ = peers.shard_hello(1, [report(1, LARGE, "in")], 0.0)
    assert actions == [Close(LinkId(1, 1), "duplicate")]
    assert peers.connected(node(LARGE)) is peers.link_of(node(LARGE))


def test_down_of_a_replaced_link_leaves_the_one_that_stays() -> None:
    peers = new_peers()
    peers.ready(0, report(1, LARGE), 0.0)
    peers.ready(0, report(2, LARGE), 0.0)
    assert peers.down(LinkId(0, 1)) is None
    assert peers.link_of(node(LARGE)) is not None


def test_the_link_that_was_made_to_an_endpoint() -> None:
    peers = new_peers()
    peers.ready(0, report(1, KEYS[1]), 0.0)
    assert peers.open_to("tcp4://192.0.2.1:2") is None
    peers.up(LinkId(0, 1))
    assert peers.open_to("tcp4://192.0.2.1:2") is not None
    assert peers.open_to("tcp4://192.0.2.1:3") is None


def test_description_names_each_peer() -> None:
    peers = new_peers()
    peers.ready(3, report(1, LARGE), 10.0)
    (row,) = peers.describe(12.5)
    assert (row["peer"], row["shard"], row["open"], row["age_s"]) == (node(LARGE), 3, False, 2.5)
