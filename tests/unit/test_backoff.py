"""Pauses after failures: how they grow, what ends them, what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.backoff import FIRST_S, Backoff

LONGEST_S = 60.0


def steady(names_max: int = 8) -> Backoff:
    """Without jitter."""
    return Backoff(lambda: 0.5, LONGEST_S, names_max)


def test_pauses_double_up_to_the_longest() -> None:
    backoff, pauses = steady(), []
    for _ in range(9):
        backoff.failed("a", 100.0)
        pauses.append(backoff.allowed_at("a") - 100.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2000))
def test_jitter_is_half_of_the_pause_either_way(jitter: float, failures: int) -> None:
    backoff = Backoff(lambda: jitter, LONGEST_S)
    for _ in range(failures):
        backoff.failed("a", 0.0)
    pause = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 30))
    assert 0.5 * pause <= backoff.allowed_at("a") <= 1.5 * pause


@pytest.mark.parametrize("what", ["succeeded", "forget"])
def test_what_ends_a_pause(what: str) -> None:
    backoff = steady()
    backoff.failed("a", 0.0)
    backoff.failed("a", 0.0)
    getattr(backoff, what)("a")
    assert backoff.allowed_at("a") == float("-inf")
    backoff.failed("a", 0.0)
    assert backoff.allowed_at("a") == FIRST_S


def test_names_have_pauses_of_their_own() -> None:
    backoff = steady()
    backoff.failed("a", 0.0)
    assert backoff.allowed_at("b") == float("-inf")


def test_the_latest_success_is_preferred_then_the_fewest_failures() -> None:
    backoff = steady()
    for name in ("early", "late", "late but failed since"):
        backoff.succeeded(name)
    for name in ("late but failed since", "twice", "twice", "once"):
        backoff.failed(name, 0.0)
    names = ["twice", "once", "unknown", "early", "late", "late but failed since"]
    assert sorted(names, key=backoff.preference) == [
        "late but failed since",
        "late",
        "early",
        "unknown",
        "once",
        "twice",
    ]


def test_the_oldest_is_forgotten_first() -> None:
    backoff = steady(names_max=2)
    for name in ("a", "b", "a", "c"):
        backoff.failed(name, 0.0)
    assert len(backoff) == 2
    assert backoff.allowed_at("b") == float("-inf")
    assert backoff.allowed_at("a") == 1.0
