"""Searches in two ways at once: when they end, and with what."""

from __future__ import annotations

from dp2p import node_record
from dp2p.coordinator.finding import Finding
from dp2p.coordinator.searches import Answered
from dp2p.node_record import NodeRecord

TOKEN, LATE = 7, 5.0


def record(number: int, seq: int = 1) -> NodeRecord:
    return node_record.sign(bytes([number]) * 32, seq=seq, endpoints=[], protocols=["chat"])


def peers(*records: NodeRecord, asked: int = 2) -> Answered:
    return Answered(TOKEN, records, asked)


def begun(limit: int = 16) -> Finding:
    finding = Finding()
    finding.begin(TOKEN, limit, LATE)
    return finding


def test_a_search_that_only_peers_were_asked_for_ends_with_them() -> None:
    finding, answer = Finding(), peers(record(1))
    assert finding.answered(answer) == [answer]
    assert finding.next_deadline() is None


def test_both_ways_end_in_either_order() -> None:
    one, two = record(1), record(2)
    finding = begun()
    finding.discovered(TOKEN, one)
    assert finding.discovery_done(TOKEN) == []
    assert finding.answered(peers(two)) == [peers(one, two)]
    finding = begun()
    assert finding.answered(peers(two)) == []
    finding.discovered(TOKEN, one)
    assert finding.discovery_done(TOKEN) == [peers(one, two)]
    assert finding.discovery_done(TOKEN) == []  # it is over


def test_of_two_records_of_a_key_the_newer_counts() -> None:
    finding = begun()
    finding.discovered(TOKEN, record(1, seq=2))
    finding.discovered(TOKEN, record(2, seq=1))
    finding.answered(peers(record(1, seq=1), record(2, seq=2)))
    assert finding.discovery_done(TOKEN) == [peers(record(1, seq=2), record(2, seq=2))]


def test_no_more_than_were_asked_for() -> None:
    finding = begun(limit=2)
    for number in range(1, 5):
        finding.discovered(TOKEN, record(number))
    finding.discovery_done(TOKEN)
    (answer,) = finding.answered(peers(record(9)))
    assert answer.records == (record(1), record(2))


def test_at_the_deadline_what_is_there_is_the_answer() -> None:
    finding = begun()
    finding.discovered(TOKEN, record(1))
    assert finding.next_deadline() == LATE
    assert finding.run(LATE) == []  # peers have a deadline of their own, which is the same
    assert finding.answered(peers()) == []
    assert finding.run(LATE - 0.1) == []
    assert finding.run(LATE) == [peers(record(1))]
    finding.discovered(TOKEN, record(2))  # too late, and nobody minds
    assert finding.discovery_done(TOKEN) == []
