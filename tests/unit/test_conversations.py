"""Allowances on the nodes' own channel, from both ends of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.allowance import Allowance
from dp2p.coordinator import conversations
from dp2p.coordinator.conversations import Conversations, Misbehaved, Tell
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import LinkId
from dp2p.introduction import Check, Find, Record, Said

LINK, OTHER = LinkId(0, 1), LinkId(1, 1)
FIND = Find(id=0)
CHECK = Check(id=0, endpoint="tcp4://192.0.2.1:1")


def talk() -> tuple[Conversations, Counters]:
    counters = Counters()
    return Conversations(counters), counters


def run_out(parts: Conversations, until: float) -> list[tuple[float, Said]]:
    """All that is sent by itself up to a time, and when."""
    sent: list[tuple[float, Said]] = []
    while (due := parts.next_deadline()) is not None and due <= until:
        sent += [(due, tell.message) for tell in parts.run(due)]
    return sent


@given(
    at_once=st.integers(1, 20),
    every_s=st.floats(0.1, 10.0),
    steps=st.lists(st.floats(0.0, 5.0), max_size=200),
)
def test_an_allowance_is_never_exceeded(at_once: int, every_s: float, steps: list[float]) -> None:
    allowance, now, taken = Allowance(at_once, every_s), 0.0, []
    for step in steps:
        now += step
        ready = allowance.next_at() <= now
        assert allowance.take(now) is ready
        if ready:
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            allowed = at_once + (taken[last] - begin) / every_s
            assert last - first + 1 <= allowed + 1e-6


def test_an_allowance_comes_back() -> None:
    allowance = Allowance(2, 10.0)
    assert [allowance.take(0.0) for _ in range(3)] == [True, True, False]
    assert not allowance.take(9.9)
    assert [allowance.take(10.0) for _ in range(2)] == [True, False]
    assert [allowance.take(1000.0) for _ in range(3)] == [True, True, False]


def test_a_question_gets_a_number_and_its_answer_finds_what_it_was_about() -> None:
    parts, counters = talk()
    assert parts.ask(LINK, FIND, "first", 0.0) == [Tell(LINK, Find(id=1))]
    assert parts.ask(LINK, FIND, "second", 0.0) == [Tell(LINK, Find(id=2))]
    assert parts.answered(OTHER, 1, str) is None
    assert parts.answered(LINK, 1, int) is None
    assert parts.answered(LINK, 1, str) == "first"
    assert parts.answered(LINK, 1, str) is None
    assert parts.answered(LINK, 3, str) is None
    assert parts.answered(LINK, 2, str) == "second"
    assert len(parts) == 0
    assert counters.finds_asked == 2


def test_what_is_asked_keeps_to_what_a_peer_answers() -> None:
    """Two ends: whatever one asks, and however it bunches a little, the other allows it."""
    asker, _ = talk()
    answerer, _ = talk()
    now = 0.0
    sent = [tell for n in range(25) for tell in asker.ask(LINK, FIND, n, now)]
    assert len(sent) == conversations.ASKED_AT_ONCE
    assert all(answerer.may_ask(LINK, now) for _ in sent)
    late = run_out(asker, 1000.0)
    assert len(late) == 25 - len(sent)
    for at, _ in late:
        assert answerer.may_ask(LINK, at - 1.0)  # it came a second faster than those before
    assert asker.next_deadline() is None


def test_checks_go_first_and_then_the_own_record() -> None:
    parts, _ = talk()
    for n in range(conversations.ASKED_AT_ONCE):
        parts.ask(OTHER, FIND, n, 0.0)
        parts.ask(LINK, FIND, n, 0.0)
    parts.ask(LINK, FIND, "find", 0.0)
    parts.announce([LINK], b"old", 0.0)
    parts.announce([LINK], b"new", 0.0)
    parts.ask(LINK, CHECK, "check", 0.0)
    sent = [type(message) for _, message in run_out(parts, 100.0)]
    assert sent == [Check, Record, Find]


def test_a_record_is_told_on_every_link_and_only_the_newest_waits() -> None:
    parts, _ = talk()
    assert parts.announce([LINK, OTHER], b"first", 0.0) == [
        Tell(LINK, Record(record=b"first")),
        Tell(OTHER, Record(record=b"first")),
    ]
    for n in range(conversations.ASKED_AT_ONCE + 5):
        parts.announce([LINK], b"%d" % n, 0.0)
    last = b"%d" % (conversations.ASKED_AT_ONCE + 4)
    assert [message for _, message in run_out(parts, 100.0)] == [Record(record=last)]


def test_a_peer_that_asks_too_much_is_borne_for_long() -> None:
    parts, counters = talk()
    answered = [parts.may_ask(LINK, 0.0) for _ in range(100)]
    assert answered.count(True) == conversations.ANSWERED_AT_ONCE
    assert parts.may_ask(OTHER, 0.0)
    borne = [parts.bear(LINK, "too much", 0.0) for _ in range(conversations.TOLERATED)]
    assert borne == [[]] * conversations.TOLERATED
    assert counters.misbehaved == 0
    assert parts.bear(LINK, "too much", 0.0) == [Misbehaved(LINK, "too much")]
    assert parts.bear(OTHER, "too much", 0.0) == []
    assert counters.misbehaved == 1
    assert parts.bear(LINK, "too much", 2.0) == []


def test_a_peer_that_asks_twice_as_fast_gets_every_other_answer_for_ever() -> None:
    parts, _ = talk()
    answers = 0
    for second in range(10_000):
        if parts.may_ask(LINK, float(second)):
            answers += 1
        else:
            assert parts.bear(LINK, "too much", float(second)) == []
    assert answers == pytest.approx(5000, abs=20)


def test_memory_is_bounded_for_a_link_that_never_answers() -> None:
    parts, counters = talk()
    for n in range(1000):
        parts.ask(LINK, FIND, n, 0.0)
        parts.ask(LINK, CHECK, n, 0.0)
    assert not parts.may_find(LINK)
    assert parts.may_find(OTHER)
    sent = run_out(parts, 10_000.0)
    assert len(sent) == 2 * conversations.WAITING_MAX
    assert len(parts) == conversations.OPEN_PER_LINK
    asked = counters.finds_asked + counters.checks_asked
    assert asked == conversations.ASKED_AT_ONCE + len(sent)
    assert counters.unsent == 2000 - len(parts)
    assert parts.answered(LINK, 1, int) is None  # given up
    assert parts.answered(LINK, asked, int) is not None


def test_memory_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "OPEN_IN_ALL", 20)
    parts, counters = talk()
    for n in range(30):
        parts.ask(LinkId(0, n), FIND, n, 0.0)
    assert len(parts) == 20
    assert counters.unsent == 10
    assert parts.answered(LinkId(0, 9), 1, int) is None
    assert parts.answered(LinkId(0, 10), 1, int) == 10


@given(st.lists(st.tuples(st.sampled_from("acdr"), st.integers(0, 3), st.integers(1, 40))))
def test_nothing_is_left_of_links_that_are_gone(steps: list[tuple[str, int, int]]) -> None:
    parts, now = talk()[0], 0.0
    for what, number, count in steps:
        link = LinkId(0, number)
        if what == "a":
            for n in range(count):
                parts.ask(link, FIND if n % 2 else CHECK, n, now)
        elif what == "c":
            parts.answered(link, count, int)
        elif what == "d":
            parts.down(link)
        else:
            now += count
            parts.run(now)
        due = parts.next_deadline()
        assert due is None or due > now or what != "r"
    for number in range(4):
        parts.down(LinkId(0, number))
    assert (len(parts), parts.next_deadline(), parts.run(now + 1e6)) == (0, None, [])
    assert (parts._links, parts._open_of) == ({}, {})
