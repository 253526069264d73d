"""Dials under way: the caps, and that what is over makes room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.pending import LOCAL_MAX, NETWORK_MAX, Attempt, Pending
from dp2p.coordinator.places import Place
from dp2p.coordinator.targets import Knowledge


def attempt(dial: int, host: str, shard: int = 0, until: float = 10.0) -> Attempt:
    return Attempt(dial, 1, shard, (host, 1), Knowledge(), pinned=False, until=until)


def filled(hosts: list[str], most: int = 1000) -> Pending:
    """With dials to these hosts, as far as there is room."""
    pending = Pending(most)
    for dial, host in enumerate(hosts):
        if pending.room((host, 1)):
            pending.begin(attempt(dial, host))
    return pending


NETWORKS = [
    ([f"198.51.100.{n}" for n in range(200)], "198.51.101.1", NETWORK_MAX),
    ([f"2001:db8:1:{n}::1" for n in range(200)], "2001:db8:2::1", NETWORK_MAX),
    (["127.0.0.1"] * 200, "127.0.1.1", LOCAL_MAX),
    (["::1"] * 200, "2001:db8:2::1", LOCAL_MAX),
    ([f"10.1.2.{n}" for n in range(200)], "10.1.3.1", LOCAL_MAX),
    ([f"172.31.0.{n}" for n in range(200)], "172.31.1.1", LOCAL_MAX),
    ([f"172.32.0.{n}" for n in range(200)], "172.32.1.1", NETWORK_MAX),
    ([f"192.168.0.{n}" for n in range(200)], "192.168.1.1", LOCAL_MAX),
    ([f"fd00:0:0:{n}::1" for n in range(200)], "fd01::1", LOCAL_MAX),
]


@pytest.mark.parametrize(("hosts", "elsewhere", "most"), NETWORKS)
def test_so_many_go_to_one_network(hosts: list[str], elsewhere: str, most: int) -> None:
    pending = filled(hosts)
    assert len(pending) == most
    assert not pending.full
    assert pending.room((elsewhere, 1))


def test_so_many_go_anywhere() -> None:
    pending = filled([f"198.51.{n}.1" for n in range(200)], most=64)
    assert len(pending) == 64
    assert pending.full


def test_a_dial_is_over_once() -> None:
    pending = filled(["192.0.2.1"])
    over = pending.failed(0)
    assert over is not None
    assert over.endpoint == "tcp4://192.0.2.1:1"
    assert pending.failed(0) is None
    assert pending.opening(0, LinkId(0, 1), 20.0) is None
    assert len(pending) == 0


def test_after_the_handshake_it_is_under_way_until_its_link_is_open_or_gone() -> None:
    pending = filled(["192.0.2.1"])
    assert pending.opening(0, LinkId(0, 7), 20.0) is not None
    assert pending.opening(0, LinkId(0, 7), 30.0) is None
    assert pending.failed(0) is None
    assert pending.next_deadline() == 20.0
    assert pending.end_link(LinkId(1, 7)) == []
    assert [one.dial for one in pending.end_link(LinkId(0, 7))] == [0]
    assert pending.next_deadline() == float("inf")


@pytest.mark.parametrize(("now", "over"), [(9.0, []), (10.0, [0]), (12.0, [0, 1])])
def test_what_is_overdue(now: float, over: list[int]) -> None:
    pending = Pending(8)
    pending.begin(attempt(0, "192.0.2.1", until=10.0))
    pending.begin(attempt(1, "192.0.2.1", until=12.0))
    assert [one.dial for one in pending.overdue(now)] == over
    assert len(pending) == 2 - len(over)


PLACES: list[Place] = [(host, 1) for host in ("192.0.2.1", "192.0.2.2", "198.51.100.1", "::1")]


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(PLACES), st.integers(0, 4))))
def test_the_caps_hold_and_all_room_comes_back(
    steps: list[tuple[int, Place, int]],
) -> None:
    pending, begun = Pending(6), set[int]()
    for dial, place, what in steps:
        if what == 0 and dial not in begun and pending.room(place):
            begun.add(dial)
            pending.begin(attempt(dial, place[0], shard=dial % 2, until=float(dial)))
        elif what == 1:
            pending.opening(dial, LinkId(0, dial), 30.0)
        elif what == 2 and pending.failed(dial):
            begun.discard(dial)
        elif what == 3:
            begun -= {one.dial for one in pending.end_link(LinkId(0, dial))}
        elif what == 4:
            begun -= {one.dial for one in pending.end_shard(dial % 2)}
        assert len(pending) == len(begun) <= 6
    pending.overdue(100.0)
    assert len(pending) == 0
    assert all(pending.room(place) for place in PLACES)
