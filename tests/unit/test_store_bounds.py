"""The peer store's bounds: who leaves first, and that no call reads a whole table."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dp2p import ids
from dp2p.coordinator import store_bounds, store_nearest
from dp2p.coordinator.known import Direction
from dp2p.coordinator.store import PeerStore
from dp2p.node_record import NodeRecord
from stored import DAY, HOUR, NOW, endpoint, key, record, ticket

X = "tcp4://198.51.100.7:4617"
NETWORK = "192.0.2.0/24"


def filled(count: int, max_peers: int = 10_000) -> PeerStore:
    store = PeerStore(None, max_peers=max_peers)
    for number in range(count):
        store.add_record(record(number), NOW)
    return store


# --- who leaves ---

WORTH_ROWS = [
    # what is known of one peer, best first
    {"seen": NOW, "connected": NOW, "visits": 28, "introducers": 0, "failures": 0},
    {"seen": NOW, "connected": NOW - 9 * DAY, "visits": 28, "introducers": 0, "failures": 0},
    {"seen": NOW, "connected": NOW, "visits": 2, "introducers": 0, "failures": 0},
    {"seen": NOW, "connected": NOW, "visits": 1, "introducers": 4, "failures": 0},
    {"seen": NOW, "connected": None, "visits": 0, "introducers": 9, "failures": 0},
    {"seen": NOW, "connected": None, "visits": 0, "introducers": 1, "failures": 0},
    {"seen": NOW, "connected": None, "visits": 0, "introducers": 0, "failures": 0},
    {"seen": NOW, "connected": None, "visits": 0, "introducers": 0, "failures": 1},
    {"seen": NOW, "connected": None, "visits": 0, "introducers": 0, "failures": 8},
]


def test_worth_falls_from_row_to_row() -> None:
    values = [store_bounds.worth(**row) for row in WORTH_ROWS]  # type: ignore[arg-type]
    assert values == sorted(set(values), reverse=True)


def test_a_day_with_many_connections_counts_once() -> None:
    visits, last = 0, None
    for hour in range(24 * 5):
        now = 1000 * DAY + hour * HOUR
        visits, last = store_bounds.visits_after(visits, last, now), now
    assert visits == 5
    assert store_bounds.visits_after(28, NOW, NOW + DAY) == 28
    assert store_bounds.visits_after(28, NOW, NOW + 31 * DAY) == 1


def test_the_least_valuable_leave_first_in_batches() -> None:
    store = PeerStore(None, max_peers=64)
    for number in range(64):
        store.add_record(record(number), NOW)
    for number in range(10):
        store.connected(key(number), endpoint(number), NOW)
    for number in range(10, 20):
        store.introduced(key(number), key(99), NETWORK, NOW)
    for number in range(20, 30):
        store.dial_failed(endpoint(number), NOW)
    for number in range(1000, 1010):
        store.add_record(record(number), NOW)
        assert store.counts()["peers"] <= 64
    left = {number for number in (*range(64), *range(1000, 1010)) if store.peer(key(number))}
    assert left >= {*range(20), *range(1000, 1010)}
    assert not left & {*range(20, 30)}


def test_an_anchor_stays_even_if_it_is_worth_nothing() -> None:
    store = PeerStore(None, max_peers=32)
    store.add_record(record(1), NOW - 100 * DAY)
    store.set_anchors([key(1)])
    for number in range(2, 200):
        store.connected(key(number), None, NOW)
    assert store.peer(key(1)) is not None
    assert store.counts()["peers"] <= 32


def test_a_store_of_anchors_alone_still_learns() -> None:
    store = PeerStore(None, max_peers=2)
    for number in (1, 2):
        store.connected(key(number), None, NOW)
    store.set_anchors([key(1), key(2)])
    store.connected(key(3), None, NOW)
    assert store.peer(key(3)) is not None
    assert store.counts()["peers"] == 2


def test_a_store_that_became_smaller_shrinks_by_and_by(tmp_path: Path) -> None:
    path = tmp_path / "peers.db"
    store = PeerStore(path, max_peers=1000)
    for number in range(700):
        store.add_record(record(number), NOW)
    store.close()
    store = PeerStore(path, max_peers=100)
    counts = []
    for number in range(1000, 1006):
        store.add_record(record(number), NOW)
        counts.append(store.counts()["peers"])
    assert counts == [445, 190, 95, 96, 97, 98]
    store.close()


def test_all_that_hangs_on_a_peer_leaves_with_it() -> None:
    store = PeerStore(None, max_peers=1)
    store.add_record(record(1), NOW)
    store.introduced(key(1), key(2), NETWORK, NOW)
    store.put_ticket(ticket(1), Direction.ACCEPT, NOW + DAY)
    store.connected(key(3), None, NOW + 1)
    counts = store.counts()
    assert (counts["peers"], counts["records"], counts["tickets"]) == (1, 0, 0)
    assert (counts["endpoints"], counts["introductions"]) == (0, 0)
    assert store.take_accept_ticket(ticket(1).name, NOW) is None
    assert store.by_protocol("chat", 9) == []
    assert store.nearest(bytes(32), 9, "chat") == []


def test_by_protocol_gives_the_most_valuable_first() -> None:
    store = PeerStore(None, max_peers=1000)
    for number in range(6):
        store.add_record(record(number, protocols=("chat", "x") if number % 2 else ("x",)), NOW)
    store.connected(key(3), endpoint(3), NOW)
    store.introduced(key(5), key(9), NETWORK, NOW)
    found = [one.key for one in store.by_protocol("chat", 8)]
    assert found == [key(3), key(5), key(1)]
    assert [one.key for one in store.by_protocol("chat", 2)] == found[:2]


# --- nearest ---


def by_distance(records: list[NodeRecord], target: bytes) -> list[NodeRecord]:
    return sorted(records, key=lambda one: ids.distance(target, ids.node_id(one.key)))


@pytest.mark.parametrize("count", [0, 1, 5, 16, 17, 300])
@pytest.mark.parametrize("limit", [1, 4, 16])
def test_nearest_is_what_sorting_all_gives(count: int, limit: int) -> None:
    store = filled(count)
    everyone = [record(number) for number in range(count)]
    for target in (ids.node_id(key(0)), ids.node_id(key(-1)), bytes(32), b"\xff" * 32):
        assert store.nearest(target, limit) == by_distance(everyone, target)[:limit]


def test_nearest_of_those_that_speak_a_protocol() -> None:
    store = PeerStore(None, max_peers=1000)
    everyone = [
        record(number, protocols=("a", "b") if number % 7 == 0 else ("a",)) for number in range(300)
    ]
    for one in everyone:
        store.add_record(one, NOW)
    target = ids.node_id(key(-5))
    speakers = [one for one in everyone if "b" in one.protocols]
    assert store.nearest(target, 10, "b") == by_distance(speakers, target)[:10]


def test_nearest_looks_at_few_even_among_ids_that_were_made_to_crowd() -> None:
    crowd = sorted(b"\x42" * 12 + number.to_bytes(20, "big") for number in range(5000))
    looked = 0

    def members(low: bytes, high: bytes, most: int) -> list[bytes]:
        nonlocal looked
        found = [one for one in crowd if low <= one <= high][:most]
        looked += len(found)
        return found

    found = store_nearest.nearest(crowd[77], 16, store_nearest.guess_depth(5000, 16), members)
    assert found == sorted(crowd, key=lambda one: ids.distance(one, crowd[77]))[:16]
    assert looked < 256 * (6 * 16 + 1)


# --- no call reads a whole table ---


def test_every_statement_goes_by_an_index() -> None:
    store = filled(40, max_peers=40)
    database = store._db._connection
    seen: list[str] = []
    database.set_trace_callback(seen.append)
    store.connected(key(1), X, NOW)
    store.add_record(record(1, seq=2), NOW)
    store.add_record(record(500), NOW)
    store.introduced(key(1), key(2), NETWORK, NOW)
    store.dial_failed(X, NOW)
    store.put_ticket(ticket(1), Direction.DIAL, NOW)
    store.take_dial_ticket(key(1), NOW)
    store.take_accept_ticket(ticket(1).name, NOW)
    store.drop_tickets(key(1))
    store.ban("192.0.2.0/24", NOW, "x", NOW)
    store.banned(key(1), "192.0.2.1", NOW)
    store.unban("192.0.2.0/24")
    store.expire(NOW)
    store.next_sequence(NOW)
    store.peer(key(1))
    store.key_of(ids.node_id(key(1)))
    store.at_endpoint(X)
    store.by_protocol("chat", 16)
    store.nearest(bytes(32), 16)
    store.nearest(bytes(32), 16, "chat")
    store.doubt(key(1), X, NOW)
    database.set_trace_callback(None)
    statements = {one for one in seen if one.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")}
    assert len(statements) > 30
    assert [(one, step) for one in statements for step in whole_tables(database, one)] == []


def whole_tables(database: sqlite3.Connection, statement: str) -> list[str]:
    """The steps of a plan that read a table or an index from end to end, or sort one."""
    steps = [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + statement)]
    # In order with a LIMIT; a list that was handed in; the few rows of one peer; 64 anchors.
    fine = ("peers_by_worth", "json_each", "(subquery", "anchors")
    read = [one for one in steps if "SCAN" in one and not any(word in one for word in fine)]
    return read + [one for one in steps if "TEMP B-TREE" in one and "peer = " not in statement]
