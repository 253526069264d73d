"""How much of something peers may have, each and all together."""

from __future__ import annotations

import pytest

from dp2p.allowance import Shares
from dp2p.networks import is_local


def test_one_name_has_no_more_than_its_share() -> None:
    shares = Shares((2, 10.0), (100, 1.0))
    assert [shares.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert shares.take("b", 0.0)
    assert [shares.take("a", 10.0) for _ in range(2)] == [True, False]


def test_all_names_together_have_no_more_than_there_is() -> None:
    shares = Shares((2, 10.0), (3, 1.0))
    assert [shares.take(name, 0.0) for name in "abcd"] == [True, True, True, False]
    assert shares.take("d", 1.0)
    assert not shares.take("a", 1.0)


def test_what_is_not_given_costs_a_name_nothing() -> None:
    shares = Shares((1, 100.0), (1, 1.0))
    assert shares.take("a", 0.0)
    assert not shares.take("b", 0.0)
    assert shares.take("b", 1.0)


def test_asking_what_is_left_takes_nothing() -> None:
    shares = Shares((1, 100.0), (2, 10.0))
    assert [shares.left_for(name, 0.0) for name in ("a", "a", "b", None)] == [True] * 4
    assert len(shares) == 0
    assert shares.take("a", 0.0)
    assert [shares.left_for(name, 0.0) for name in ("a", "b", None)] == [False, True, True]
    assert shares.take("b", 0.0)
    assert (shares.left(0.0), shares.left_for("c", 0.0), shares.left_for(None, 0.0)) == (False,) * 3
    assert shares.left(10.0)


def test_without_a_name_only_the_bound_of_all_holds() -> None:
    shares = Shares((1, 10.0), (3, 1.0))
    assert [shares.take(None, 0.0) for _ in range(4)] == [True, True, True, False]
    assert len(shares) == 0


def test_names_are_bounded_and_who_took_last_is_remembered() -> None:
    shares = Shares((2, 1e9), (10_000, 0.0), names_max=3)
    for name in ("a", "b", "c", "a", "d", "e"):
        assert shares.take(name, 0.0)
    assert len(shares) == 3
    assert not shares.take("a", 0.0)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("10.1.2.3", True), ("::1", True), ("fd00::1", True), ("fe80::1", True),
     ("192.0.2.1", False), ("172.32.0.1", False), ("2001:db8::1", False)],
)  # fmt: skip
def test_what_is_of_this_site(host: str, local: bool) -> None:
    assert is_local(host) is local
