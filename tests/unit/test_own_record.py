"""The node's own record: what it says, and how seldom it is made anew."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import keys, node_record
from dp2p.coordinator.own_record import RENEW_S, SETTLE_S, OwnRecord
from dp2p.coordinator.store import PeerStore

NOW = 100.0
WALL = 1_700_000_000.0
IDENTITY = keys.identity(bytes(range(32)))
HERE = ["tcp4://192.0.2.1:4617", "tcp6://[2001:db8::1]:4617"]
TOO_LONG = [f"tcp4://{'a' * 63}.{'b' * 63}.{'c' * 63}.example:{n}" for n in range(1, 17)]


@pytest.fixture
def store() -> PeerStore:
    return PeerStore(None, max_peers=16)


@pytest.fixture
def own(store: PeerStore) -> OwnRecord:
    return OwnRecord(IDENTITY, store)


def make(own: OwnRecord, now: float) -> node_record.NodeRecord:
    """The record that is due at ``now``."""
    made = own.renew(now, WALL + now)
    assert made is not None
    assert made is own.record
    assert own.next_deadline() is None
    return made


def test_nothing_is_made_before_anything_is_said(own: OwnRecord) -> None:
    assert own.next_deadline() is None
    assert own.renew(NOW, WALL) is None
    assert own.record is None


def test_the_first_record(own: OwnRecord) -> None:
    own.say(HERE, ["files", "chat"], NOW)
    assert own.next_deadline() == NOW + SETTLE_S
    assert own.renew(NOW + SETTLE_S - 0.001, WALL) is None
    made = make(own, NOW + SETTLE_S)
    assert node_record.verify(made.signed) == made
    assert made.key == IDENTITY.public
    assert made.endpoints == tuple(HERE)
    assert (made.protocols, made.more) == (("chat", "files"), False)


def test_a_node_that_says_nothing_of_itself_has_a_record_too(own: OwnRecord) -> None:
    """Peers know it by its record, wherever it is and whatever it speaks."""
    own.say([], [], NOW)
    made = make(own, NOW + SETTLE_S)
    assert (made.endpoints, made.protocols) == ((), ())


def test_what_is_said_again_changes_nothing(own: OwnRecord) -> None:
    own.say(HERE, ["files", "chat"], NOW)
    make(own, NOW + 1)
    own.say(tuple(HERE), iter(["chat", "files"]), NOW + 100)
    assert own.next_deadline() is None
    assert own.renew(NOW + 1000, WALL) is None


@pytest.mark.parametrize(
    ("endpoints", "protocols"),
    [(HERE[::-1], ["chat"]), (HERE[:1], ["chat"]), (HERE, []), (HERE, ["chat", "files"])],
)
def test_what_is_new_makes_a_new_one(
    own: OwnRecord, endpoints: list[str], protocols: list[str]
) -> None:
    own.say(HERE, ["chat"], NOW)
    before = make(own, NOW + 1)
    own.say(endpoints, protocols, NOW + 100)
    assert own.next_deadline() == NOW + 100 + SETTLE_S
    after = make(own, NOW + 101)
    assert (after.endpoints, after.protocols) == (tuple(endpoints), tuple(protocols))
    assert after.seq > before.seq


def test_protocols_that_come_in_a_row_make_one_record(own: OwnRecord) -> None:
    for count in range(10):
        own.say(HERE, [f"chat/{n}" for n in range(count)], NOW + count * SETTLE_S / 10)
    assert own.next_deadline() == NOW + SETTLE_S, "the first change says when"
    assert len(make(own, NOW + SETTLE_S).protocols) == 9


def test_changes_soon_after_a_record_wait(own: OwnRecord) -> None:
    own.say(HERE, [], NOW)
    make(own, NOW + 1)
    own.say(HERE, ["chat"], NOW + 2)
    own.say(HERE, ["chat", "files"], NOW + 5)
    assert own.next_deadline() == NOW + 1 + RENEW_S
    assert own.renew(NOW + RENEW_S, WALL) is None
    assert make(own, NOW + 1 + RENEW_S).protocols == ("chat", "files")


protocols = st.sets(st.sampled_from(["chat", "files", "mail"]))


@given(st.lists(st.tuples(protocols, st.floats(0, 5)), min_size=1, max_size=30))
def test_an_application_that_comes_and_goes(changes: list[tuple[set[str], float]]) -> None:
    """Records are apart by at least ``RENEW_S``, their numbers grow, and the last one is true."""
    own, now = OwnRecord(IDENTITY, PeerStore(None, max_peers=16)), NOW
    made = []
    for said, pause in [*changes, (changes[-1][0], RENEW_S + SETTLE_S)]:
        own.say(HERE, said, now)
        now += pause
        if (record := own.renew(now, WALL + now)) is not None:
            made.append((now, record))
    assert made[-1][1].protocols == tuple(sorted(changes[-1][0]))
    for (earlier, old), (later, new) in pairwise(made):
        assert later - earlier >= RENEW_S - 1e-6
        assert new.seq > old.seq


def test_numbers_grow_beyond_a_restart(own: OwnRecord, store: PeerStore) -> None:
    """Even when the clock was set back: else peers would keep to the older record."""
    own.say(HERE, ["chat"], NOW)
    before = make(own, NOW + 1)
    again = OwnRecord(IDENTITY, store)
    again.say(HERE, ["chat"], 0.0)
    after = again.renew(SETTLE_S, WALL - 3600)
    assert after is not None
    assert after.seq > before.seq


def test_protocols_that_find_no_room_are_left_out(own: OwnRecord) -> None:
    own.say(HERE, [f"protocol-{n:03}-{'x' * 40}" for n in range(100)], NOW)
    made = make(own, NOW + 1)
    assert made.more
    assert 5 < len(made.protocols) < 100
    assert len(made.signed) <= node_record.SIGNED_MAX


def test_endpoints_that_find_no_room(own: OwnRecord) -> None:
    """The configuration's fault: there is no record, or no newer one, and the node goes on."""
    own.say(TOO_LONG, [], NOW)
    assert own.renew(NOW + 1, WALL) is None
    assert own.record is None
    own.say(HERE, [], NOW + 2)
    assert own.next_deadline() == NOW + 1 + RENEW_S
    before = make(own, NOW + 1 + RENEW_S)
    own.say(TOO_LONG, [], NOW + 100)
    assert own.renew(NOW + 101, WALL) is None
    assert own.record is before
