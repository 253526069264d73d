"""Admission: one link for each peer, and one of two nodes that chooses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus, ids
from dp2p.coordinator.peers import WAITING_MAX, Action, Admit, Close, LinkId, Peers, Probe

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
        listen=[],
        mode="xx",
    )


def chooser(most: int = 8) -> Peers:
    """Of the node with the smallest node-ID."""
    return Peers(node(SMALL), most)


def follower(most: int = 8) -> Peers:
    """Of the node with the largest."""
    return Peers(node(LARGE), most)


def id_(shard: int, link: int = 1) -> LinkId:
    return LinkId(shard, link)


def contended() -> Peers:
    """A chooser with a link that is up in shard 0, and one that contends in shard 1."""
    peers = chooser()
    peers.ready(0, report(1, LARGE), 0.0)
    peers.up(id_(0))
    assert peers.ready(1, report(1, LARGE, "in"), 1.0) == [Probe(id_(0))]
    return peers


DUPLICATE = "duplicate"


# --- one link ---


def test_a_first_link_is_admitted_and_up_when_the_peer_agrees() -> None:
    peers = chooser()
    assert peers.ready(0, report(1, LARGE), 0.0) == [Admit(id_(0), wait=False)]
    assert peers.connected(node(LARGE)) is None
    assert peers.up(id_(0)) == ([], peers.connected(node(LARGE)))
    assert peers.connected(node(LARGE)) is not None
    assert peers.up(id_(0, 9)) == ([], None)
    assert len(peers) == 1


def test_who_is_not_the_chooser_waits_for_it() -> None:
    assert follower().ready(0, report(1, SMALL), 0.0) == [Admit(id_(0), wait=True)]


def test_a_link_to_oneself_is_refused() -> None:
    assert chooser().ready(0, report(1, SMALL), 0.0) == [Close(id_(0), "self")]


def test_the_cap_counts_peers_and_not_links() -> None:
    peers = Peers(node(KEYS[3]), 2)
    assert peers.ready(0, report(1, KEYS[1]), 0.0) == [Admit(id_(0, 1), wait=True)]
    assert peers.ready(0, report(2, KEYS[4]), 0.0) == [Admit(id_(0, 2), wait=False)]
    assert peers.ready(0, report(3, KEYS[2]), 0.0) == [Close(id_(0, 3), "full")]
    assert peers.ready(0, report(4, KEYS[1]), 0.0) == [Admit(id_(0, 4), wait=True)]
    peers.down(id_(0, 1))
    assert peers.ready(0, report(5, KEYS[2]), 0.0) == [Close(id_(0, 5), "full")]
    peers.down(id_(0, 4))
    assert peers.ready(0, report(6, KEYS[2]), 0.0) == [Admit(id_(0, 6), wait=True)]


@pytest.mark.parametrize(("own", "wait"), [(SMALL, False), (LARGE, True)])
def test_ready_said_twice_is_admitted_again(own: str, wait: bool) -> None:
    peers = Peers(node(own), 8)
    other = LARGE if own == SMALL else SMALL
    peers.ready(0, report(1, other), 0.0)
    assert peers.ready(0, report(1, other), 0.0) == [Admit(id_(0), wait)]
    assert len(peers) == 1


# --- several links, and this node chooses ---


def test_while_a_link_opens_another_is_refused() -> None:
    peers = chooser()
    peers.ready(0, report(1, LARGE), 0.0)
    assert peers.ready(1, report(1, LARGE, "in"), 0.0) == [Close(id_(1), DUPLICATE)]
    assert peers.get(id_(1)) is None


def test_the_older_lives_and_stays() -> None:
    peers = contended()
    assert peers.probed(id_(0), alive=True) == [Close(id_(1), DUPLICATE)]
    assert peers.probed(id_(0), alive=False) == []
    assert [link.id for link in peers.links_of(node(LARGE))] == [id_(0)]


def test_the_older_is_dead_and_gives_way() -> None:
    peers = contended()
    assert peers.probed(id_(0), alive=False) == [
        Close(id_(0), DUPLICATE),
        Admit(id_(1), wait=False),
    ]
    assert peers.connected(node(LARGE)) is None
    assert peers.up(id_(1)) == ([], peers.connected(node(LARGE)))


def test_the_older_goes_down_while_it_is_probed() -> None:
    peers = contended()
    actions, found = peers.down(id_(0))
    assert actions == [Admit(id_(1), wait=False)]
    assert found is not None
    assert found.up
    assert peers.probed(id_(0), alive=False) == []


def test_its_shard_goes_down_while_it_is_probed() -> None:
    peers = contended()
    actions, lost = peers.shard_down(0)
    assert (actions, [link.id for link in lost]) == ([Admit(id_(1), wait=False)], [id_(0)])


def test_the_contender_goes_down() -> None:
    peers = contended()
    actions, found = peers.down(id_(1))
    assert actions == []
    assert found is not None
    assert peers.probed(id_(0), alive=False) == []
    assert peers.connected(node(LARGE)) is not None
    assert peers.ready(2, report(1, LARGE), 2.0) == [Probe(id_(0))]


def test_one_contends_at_a_time() -> None:
    peers = contended()
    assert peers.ready(2, report(1, LARGE), 2.0) == [Close(id_(2), DUPLICATE)]
    assert peers.ready(1, report(1, LARGE, "in"), 2.0) == []


def test_a_contender_is_neither_counted_as_peer_nor_as_its_link() -> None:
    peers = contended()
    assert len(peers) == len(list(peers)) == 1
    current = peers.link_of(node(LARGE))
    assert current is not None
    assert current.id == id_(0)


@pytest.mark.parametrize("is_up", [False, True])
def test_another_life_of_the_peer_replaces_the_older_at_once(is_up: bool) -> None:
    peers = chooser()
    peers.ready(0, report(1, LARGE), 0.0)
    if is_up:
        peers.up(id_(0))
    actions = peers.ready(1, report(1, LARGE, instance="i2"), 1.0)
    assert actions == [Close(id_(0), DUPLICATE), Admit(id_(1), wait=False)]


def test_another_life_of_the_peer_replaces_a_contender_too() -> None:
    peers = contended()
    assert peers.ready(2, report(1, LARGE, instance="i2"), 1.0) == [
        Close(id_(0), DUPLICATE),
        Close(id_(1), DUPLICATE),
        Admit(id_(2), wait=False),
    ]


def test_a_contender_that_an_earlier_coordinator_admitted_comes_up() -> None:
    """The peer has followed that choice and closed the older."""
    peers = contended()
    actions, found = peers.up(id_(1))
    assert actions == [Close(id_(0), DUPLICATE)]
    assert found is peers.connected(node(LARGE))


# --- several links, and the peer chooses ---


def test_all_wait_up_to_a_number() -> None:
    peers = follower()
    for shard in range(WAITING_MAX):
        assert peers.ready(shard, report(1, SMALL), 0.0) == [Admit(id_(shard), wait=True)]
    assert peers.ready(9, report(1, SMALL), 0.0) == [Close(id_(9), DUPLICATE)]
    assert peers.up(id_(2))[0] == []
    assert peers.ready(9, report(1, SMALL), 0.0) == [Admit(id_(9), wait=True)]


def test_the_one_that_comes_up_is_the_chosen() -> None:
    peers = follower()
    for shard in range(3):
        peers.ready(shard, report(1, SMALL), 0.0)
    peers.up(id_(1))
    assert peers.connected(node(SMALL)) is peers.get(id_(1))
    actions, _ = peers.up(id_(2))
    assert actions == [Close(id_(1), DUPLICATE)]
    assert peers.connected(node(SMALL)) is peers.get(id_(2))
    assert peers.get(id_(0)) is not None
    assert peers.up(id_(2))[0] == []


def test_what_the_chooser_closes_is_forgotten() -> None:
    peers = follower()
    peers.ready(0, report(1, SMALL), 0.0)
    peers.ready(1, report(1, SMALL), 0.0)
    actions, found = peers.down(id_(0))
    assert actions == []
    assert found is not None
    assert peers.down(id_(0)) == ([], None)
    assert len(peers) == 1


# --- coordinators and shards that come back ---


def test_a_hello_brings_links_back_and_removes_those_it_leaves_out() -> None:
    peers = chooser()
    for link, key in ((1, KEYS[1]), (2, KEYS[2])):
        peers.ready(0, report(link, key), 0.0)
        peers.up(id_(0, link))
    peers.ready(1, report(1, KEYS[3]), 0.0)
    actions, gone = peers.shard_hello(0, [report(2, KEYS[2]), report(7, KEYS[4])], 1.0)
    assert actions == []
    assert [link.id for link in gone] == [id_(0, 1)]
    assert peers.connected(node(KEYS[4])) is not None
    assert peers.link_of(node(KEYS[3])) is not None


def test_a_hello_says_that_a_link_is_up() -> None:
    peers = chooser()
    peers.ready(0, report(1, LARGE), 0.0)
    assert peers.shard_hello(0, [report(1, LARGE)], 1.0) == ([], [])
    assert peers.connected(node(LARGE)) is not None


def test_a_hello_without_the_older_lets_the_contender_open() -> None:
    peers = contended()
    actions, gone = peers.shard_hello(0, [], 2.0)
    assert actions == [Admit(id_(1), wait=False)]
    assert [link.id for link in gone] == [id_(0)]


@pytest.mark.parametrize(("own", "other"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_of_two_links_that_are_up_the_first_that_is_taken_over_stays(own: str, other: str) -> None:
    peers = Peers(node(own), 8)
    assert peers.shard_hello(0, [report(1, other)], 0.0) == ([], [])
    actions, _ = peers.shard_hello(1, [report(1, other, "in")], 0.0)
    assert actions == [Close(id_(1), DUPLICATE)]
    assert peers.connected(node(other)) is peers.get(id_(0))


def test_a_link_that_is_up_is_taken_over_beside_one_that_waits() -> None:
    peers = follower()
    peers.ready(0, report(1, SMALL), 0.0)
    assert peers.shard_hello(1, [report(1, SMALL)], 0.0) == ([], [])
    assert peers.connected(node(SMALL)) is peers.get(id_(1))
    assert peers.up(id_(0))[0] == [Close(id_(1), DUPLICATE)]


def test_what_the_chooser_has_admitted_stays_against_one_that_is_taken_over() -> None:
    peers = chooser()
    peers.ready(0, report(1, LARGE), 0.0)
    assert peers.shard_hello(1, [report(1, LARGE)], 0.0)[0] == [Close(id_(1), DUPLICATE)]


# --- what is said of links ---


def test_the_link_that_was_made_to_an_endpoint() -> None:
    peers = chooser()
    peers.ready(0, report(1, KEYS[1]), 0.0)
    assert peers.open_to("tcp4://192.0.2.1:2") is None
    peers.up(id_(0))
    assert peers.open_to("tcp4://192.0.2.1:2") is not None
    assert peers.open_to("tcp4://192.0.2.1:3") is None


def test_description_names_each_peer_once() -> None:
    peers = contended()
    (row,) = peers.describe(12.5)
    assert (row["peer"], row["shard"], row["open"], row["age_s"]) == (node(LARGE), 0, True, 12.5)
    assert (row["mode"], row["fell_back"]) == ("xx", False)
    assert (row["trust"], row["introducers"]) == ("none", 0)


# --- whatever happens ---


@given(st.data())
def test_the_books_always_balance(data: st.DataObject) -> None:
    """Whatever shards report: bounded for each peer, never more peers than the cap, one up."""
    peers = Peers(node(KEYS[2]), 3)
    held: set[LinkId] = set()

    def take(actions: list[Action]) -> None:
        held.difference_update(one.link for one in actions if isinstance(one, Close))

    for number in range(data.draw(st.integers(0, 40))):
        link = data.draw(st.sampled_from(sorted(held, key=str))) if held else LinkId(0, 99)
        match data.draw(
            st.sampled_from(["ready", "ready", "up", "down", "probed", "shard", "hello"])
        ):
            case "ready":
                shard, key = data.draw(st.integers(0, 2)), data.draw(st.sampled_from(KEYS))
                instance = data.draw(st.sampled_from(["i1", "i1", "i2"]))
                held.add(LinkId(shard, number))
                take(peers.ready(shard, report(number, key, instance=instance), 0.0))
            case "up":
                take(peers.up(link)[0])
            case "down":
                take(peers.down(link)[0])
                held.discard(link)
            case "probed":
                take(peers.probed(link, alive=data.draw(st.booleans())))
            case "shard":
                take(peers.shard_down(link.shard)[0])
                held = {one for one in held if one.shard != link.shard}
            case "hello":
                stays = [one for one in held if one.shard == link.shard and one.link % 2]
                reports = [known.report for one in stays if (known := peers.get(one))]
                actions, gone = peers.shard_hello(link.shard, reports, 0.0)
                held -= {one.id for one in gone}
                take(actions)
        for key in KEYS:
            links = peers.links_of(node(key))
            assert sum(one.up for one in links) <= 1
            assert len(links) <= WAITING_MAX + 1
            assert not links or any(one.admitted for one in links)
        assert {one for one in held if peers.get(one)} == held
        assert sum(peers.count_by_shard().values()) == len(held)
        assert len(list(peers)) == len(peers) <= 3
