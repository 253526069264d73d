"""What the coordinator makes of its shards' reports: totals, questions, sessions that watch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus
from dp2p.bus import FlowRow, ProtocolLoad, Total
from dp2p.coordinator.traffic import (
    ANSWER_S,
    Questions,
    Totals,
    Watches,
    memory,
    summary,
)

ASK = bus.AskTraffic(id=0, limit=3)


def row(peer: str, queued: int = 0, **more: Any) -> FlowRow:
    zero = dict.fromkeys(FlowRow.__struct_fields__[4:], 0)
    fields: dict[str, Any] = zero | {"queued_bytes": queued} | more
    return FlowRow(peer=peer, protocol="chat", shard=0, priority="bulk", **fields)


@pytest.fixture
def questions() -> Questions:
    return Questions(Totals())


# --- totals ---


def test_totals_are_those_of_all_shards_and_of_those_that_are_gone() -> None:
    totals = Totals()
    totals.said(0, bus.Totals(totals=[Total("p", "chat", 1, 10, 2, 20)]))
    totals.said(0, bus.Totals(totals=[Total("p", "chat", 2, 20, 2, 20)]))
    totals.said(1, bus.Totals(totals=[Total("p", "chat", 5, 50, 0, 0)]))
    totals.shard_down(0)
    totals.said(0, bus.Totals(totals=[Total("p", "chat", 1, 1, 1, 1)]))
    assert totals.of("p", "chat") == Total("p", "chat", 8, 71, 3, 21)
    assert totals.by_protocol() == {"chat": Total("", "chat", 8, 71, 3, 21)}
    assert totals.of("q", "chat") == Total("q", "chat")


def test_after_a_hello_all_totals_come_anew() -> None:
    totals = Totals()
    totals.said(0, bus.Totals(totals=[Total("p", "chat", 1, 10), Total("q", "chat", 1, 10)]))
    totals.hello(0)
    totals.said(0, bus.Totals(totals=[Total("", "chat", 2, 20)]))
    assert totals.by_protocol() == {"chat": Total("", "chat", 2, 20)}


def test_what_a_shard_folds_is_not_counted_twice() -> None:
    totals = Totals()
    totals.said(0, bus.Totals(totals=[Total("p", "chat", 1, 10)]))
    folded = bus.Totals(totals=[Total("", "chat", 1, 10)], folded=[("p", "chat")])
    totals.said(0, folded)
    assert totals.by_protocol()["chat"].up_bytes == 10
    assert totals.of("p", "chat").up_bytes == 0


lives = st.lists(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9))), max_size=8)


@given(lives)
def test_nothing_of_dead_shards_is_lost_and_not_all_is_kept(lives: list[Any]) -> None:
    totals = Totals(past_max=3)
    moved = 0
    for life in lives:
        known = {peer: Total(peer, "chat", up_bytes=size) for peer, size in life}
        totals.said(0, bus.Totals(totals=list(known.values())))
        moved += sum(one.up_bytes for one in known.values())
        totals.shard_down(0)
    found = totals.by_protocol()
    assert sum(one.up_bytes for one in found.values()) == moved


# --- questions ---


def test_the_answer_comes_when_all_shards_have_told(questions: Questions) -> None:
    asked, seen = questions.ask(7, ASK, [0, 1], 10.0)
    assert seen == []
    assert questions.told(0, bus.TrafficTold(id=asked.id, rows=[row("a", 1)])) == []
    assert questions.told(0, bus.TrafficTold(id=asked.id, rows=[row("x")])) == []  # twice
    rows = [row("b", 5), row("c", 1, rate_up=9), row("d")]
    (answer,) = questions.told(1, bus.TrafficTold(id=asked.id, rows=rows, left_out=4))
    assert (answer.token, answer.left_out, answer.silent) == (7, 5, [])
    assert [one.peer for one in answer.rows] == ["b", "c", "a"]
    assert questions.told(1, bus.TrafficTold(id=asked.id, rows=[])) == []
    assert questions.next_deadline() == float("inf")


def test_a_shard_that_does_not_answer_is_named(questions: Questions) -> None:
    asked, _ = questions.ask(7, ASK, [0, 1], 10.0)
    questions.told(1, bus.TrafficTold(id=asked.id, rows=[row("a")]))
    assert questions.run(10.0 + ANSWER_S / 2) == []
    (answer,) = questions.run(questions.next_deadline())
    assert [one.peer for one in answer.rows] == ["a"]
    assert answer.silent == [0]


def test_a_shard_that_dies_is_not_waited_for(questions: Questions) -> None:
    questions.ask(7, ASK, [0], 10.0)
    (answer,) = questions.shard_down(0)
    assert (answer.token, answer.rows, answer.silent) == (7, [], [])
    _, seen = questions.ask(8, ASK, [], 10.0)
    assert [one.token for one in seen] == [8]


def test_rows_have_totals_of_all_shards() -> None:
    totals = Totals()
    totals.said(5, bus.Totals(totals=[Total("a", "chat", 1, 2, 3, 4)]))
    questions = Questions(totals)
    asked, _ = questions.ask(7, ASK, [0], 10.0)
    (answer,) = questions.told(0, bus.TrafficTold(id=asked.id, rows=[row("a")]))
    assert (answer.rows[0].up_bytes, answer.rows[0].down_datagrams) == (2, 3)


# --- sessions that watch ---


def test_a_session_is_asked_for_at_its_interval_and_not_before_it_is_answered() -> None:
    watches = Watches()
    watches.set("s", 0.5, 10.0)
    assert watches.due(10.0) == ["s"]
    assert watches.due(10.6) == []  # not answered yet
    assert watches.answered("s")
    assert watches.next_deadline() == 11.0
    assert watches.due(11.0) == ["s"]
    watches.set("s", 0.5, 11.0)  # said again with a heartbeat
    assert watches.due(11.1) == []
    watches.set("s", None, 11.2)
    assert not watches.answered("s")
    assert watches.next_deadline() == float("inf")


def test_one_that_was_late_is_not_asked_for_all_the_times_it_missed() -> None:
    watches = Watches()
    watches.set("s", 0.5, 10.0)
    assert watches.due(20.0) == ["s"]
    watches.answered("s")
    assert watches.due(20.0) == ["s"]
    watches.answered("s")
    assert watches.due(20.4) == []
    watches.keep([])
    assert not watches.answered("s")


# --- for status ---


def test_summary_adds_up_shards() -> None:
    load = ProtocolLoad(
        name="chat", flows=1, rate_up=2, rate_down=3, queued_bytes=4, unread_bytes=5
    )
    found = summary({0: [load], 1: [load]}, {"chat": Total("", "chat", 1, 100, 2, 200)})
    assert found == {
        "chat": {
            "peers": 2,
            "rate_up": 4,
            "rate_down": 6,
            "queued_bytes": 8,
            "unread_bytes": 10,
            "up_bytes": 100,
            "down_bytes": 200,
        }
    }


def test_memory_is_that_of_all_shards_that_have_said_so() -> None:
    found = memory([{"window_bytes": 3, "unread_bytes": 1}, {"window_bytes": 4}, {}])
    assert (found["window_bytes"], found["unread_bytes"], found["queued_bytes"]) == (7, 1, 0)
