"""The own place: who has a vote, when there is agreement, who can change it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts import contact
from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.own_place import VOTERS_MAX, WINDOW_S, OwnPlace

HERE: Place = ("203.0.113.5", 4617)
THERE: Place = ("198.51.100.9", 4617)
SITE: Place = ("192.168.1.20", 4617)
NOW = 1000.0


def votes(own: OwnPlace, seen: Place, voters: range, now: float = NOW) -> list[bool]:
    return [own.vote(contact(number), seen, now) for number in voters]


def test_three_networks_agree() -> None:
    own = OwnPlace()
    assert votes(own, HERE, range(1, 5)) == [False, False, True, False]
    assert own.agreed4 == HERE
    assert own.agreed6 is None


def test_a_network_has_one_vote() -> None:
    own = OwnPlace()
    for number in range(1, 100):
        assert not own.vote(contact(number, ("198.51.100.4", 1000 + number)), HERE, NOW)
    assert own.agreed4 is None


def test_behind_a_nat_with_another_port_for_each_there_is_no_agreement() -> None:
    own = OwnPlace()
    for number in range(1, 100):
        assert not own.vote(contact(number), (HERE[0], 1000 + number), NOW)
    assert own.agreed4 is None


def test_it_changes_only_when_most_say_so() -> None:
    own = OwnPlace()
    votes(own, HERE, range(1, 11))
    assert votes(own, THERE, range(1, 6)) == [False] * 5  # five against five
    assert own.agreed4 == HERE
    assert votes(own, THERE, range(6, 7)) == [True]
    assert own.agreed4 == THERE


def test_what_was_agreed_on_stays_without_another_agreement() -> None:
    own = OwnPlace()
    votes(own, HERE, range(1, 5))
    for number in range(1, 50):
        own.vote(contact(number), (HERE[0], 1000 + number), NOW + 1)
    assert own.agreed4 == HERE


def test_old_votes_do_not_count() -> None:
    own = OwnPlace()
    votes(own, HERE, range(1, 100))
    assert votes(own, THERE, range(200, 203), NOW + WINDOW_S)[-1]


def test_versions_have_agreements_of_their_own() -> None:
    own = OwnPlace()
    place6: Place = ("2001:db8:1::5", 4617)
    for number in range(3):
        voter = contact(number, (f"2001:db8:{number + 16:x}::1", 4617))
        assert not own.vote(voter, HERE, NOW)
        own.vote(voter, place6, NOW)
    assert (own.agreed4, own.agreed6) == (None, place6)


# (where the voter is, where it sees this node, whether it has a vote)
KINDS = [
    ("192.168.1.7", SITE, True),
    ("192.168.1.7", HERE, False),
    ("11.0.1.7", SITE, False),
    ("127.0.0.1", ("127.0.0.1", 4617), True),
]


@pytest.mark.parametrize(("voter", "seen", "counts"), KINDS)
def test_who_has_a_vote_on_what(voter: str, seen: Place, counts: bool) -> None:
    own = OwnPlace()
    for number in range(1, 5):
        own.vote(contact(number, (voter, 5000 + number)), seen, NOW)
    assert own.agreed4 == (seen if counts else None)


def test_a_public_place_comes_before_one_of_the_site() -> None:
    own = OwnPlace()
    for number in range(1, 5):
        own.vote(contact(number, ("192.168.1.7", 5000 + number)), SITE, NOW)
    assert own.agreed4 == SITE
    assert votes(own, HERE, range(1, 4))[-1]
    assert own.agreed4 == HERE
    assert not any(
        own.vote(contact(number, ("192.168.1.7", 5000 + number)), ("10.0.0.1", 1), NOW)
        for number in range(1, 9)
    )


def test_votes_are_bounded() -> None:
    own = OwnPlace()
    votes(own, HERE, range(1, 2 * VOTERS_MAX))
    assert sum(len(one._votes) for one in own._ballots.values()) == VOTERS_MAX


@given(
    honest=st.integers(3, 20),
    script=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 3)), max_size=100),
)
def test_fewer_than_half_of_the_networks_never_move_it(
    honest: int, script: list[tuple[int, int]]
) -> None:
    """Whatever they say, however often, in whatever order between the honest ones' votes."""
    own = OwnPlace()
    votes(own, HERE, range(1, honest + 1))
    for step, (voter, where) in enumerate(script):
        own.vote(contact(100 + voter % (honest - 1)), ("198.51.100.9", 1 + where), NOW + step)
        own.vote(contact(1 + voter % honest), HERE, NOW + step)
        assert own.agreed4 == HERE
