"""The peer store: what it remembers, and what it forgets of one peer."""

from __future__ import annotations

import pytest

from dp2p import ids, node_record
from dp2p.coordinator.known import Claim, Direction, Evidence, Introduction, KnownEndpoint, Store
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_bounds import Limits
from stored import DAY, NOW, endpoint, key, record, ticket

X = "tcp4://198.51.100.7:4617"
NETWORKS = [f"192.0.{n}.0/24" for n in range(32)]


@pytest.fixture
def store() -> PeerStore:
    return PeerStore(None, max_peers=1000)


def test_it_is_a_store(store: PeerStore) -> None:
    kept: Store = store
    assert kept.peer(key(1)) is None


# --- records ---


def test_a_record_comes_back_as_it_was_verified(store: PeerStore) -> None:
    signed = node_record.sign(
        bytes(32), seq=7, endpoints=[X, "tcp6://[::1]:1"], protocols=["b", "a"]
    )
    assert store.add_record(signed, NOW)
    known = store.peer(signed.key)
    assert known is not None
    assert known.record == signed
    assert known.record.signed == signed.signed
    assert known.first_seen == known.last_seen == NOW
    assert [one.endpoint for one in known.endpoints] == [X, "tcp6://[::1]:1"]


def test_only_a_newer_record_counts(store: PeerStore) -> None:
    assert store.add_record(record(1, seq=5), NOW)
    assert not store.add_record(record(1, seq=5), NOW + 1)
    assert not store.add_record(record(1, seq=4, protocols=("old",)), NOW + 1)
    assert store.by_protocol("old", 8) == []
    assert store.add_record(record(1, seq=6, protocols=("new",)), NOW + 2)
    assert store.by_protocol("chat", 8) == []
    assert store.by_protocol("new", 8) == [record(1, seq=6, protocols=("new",))]


def test_an_old_record_does_not_keep_a_peer_fresh(store: PeerStore) -> None:
    store.add_record(record(1, seq=5), NOW)
    store.add_record(record(1, seq=4), NOW + DAY)
    assert last_seen(store, 1) == NOW
    store.add_record(record(1, seq=5), NOW + DAY)
    assert last_seen(store, 1) == NOW + DAY


def last_seen(store: PeerStore, number: int) -> float:
    known = store.peer(key(number))
    assert known is not None
    return known.last_seen


def test_a_peer_without_a_record_is_known_but_not_handed_on(store: PeerStore) -> None:
    store.connected(key(1), None, NOW)
    known = store.peer(key(1))
    assert known is not None
    assert known.record is None
    assert known.endpoints == ()
    assert store.key_of(ids.node_id(key(1))) == key(1)
    assert store.nearest(ids.node_id(key(1)), 4) == []


def test_a_key_is_found_by_its_node_id(store: PeerStore) -> None:
    store.add_record(record(1), NOW)
    assert store.key_of(ids.node_id(key(1))) == key(1)
    assert store.key_of(ids.node_id(key(2))) is None


# --- endpoints ---


def test_a_dialled_endpoint_outranks_what_records_say(store: PeerStore) -> None:
    store.add_record(record(1, endpoints=(X,)), NOW + 5)
    store.connected(key(2), X, NOW)
    store.add_record(record(3, endpoints=(X,)), NOW + 9)
    assert store.at_endpoint(X) == [
        Claim(key(2), Evidence.DIALLED, NOW),
        Claim(key(3), Evidence.RECORD, NOW + 9),
        Claim(key(1), Evidence.RECORD, NOW + 5),
    ]
    assert store.at_endpoint(endpoint(1)) == []


def test_at_most_eight_claims_are_told(store: PeerStore) -> None:
    for number in range(20):
        store.add_record(record(number, endpoints=(X,)), NOW + number)
    claims = store.at_endpoint(X)
    assert [one.key for one in claims] == [key(number) for number in range(19, 11, -1)]


def test_failures_count_until_a_success(store: PeerStore) -> None:
    store.connected(key(1), X, NOW)
    store.dial_failed(X, NOW + 1)
    store.dial_failed(X, NOW + 2)
    assert endpoints(store, 1) == (KnownEndpoint(X, NOW, NOW + 2, 2),)
    store.connected(key(1), X, NOW + 3)
    assert endpoints(store, 1) == (KnownEndpoint(X, NOW + 3, NOW + 2, 0),)


def test_a_failure_counts_against_all_who_are_said_to_be_there(store: PeerStore) -> None:
    for number in range(3):
        store.add_record(record(number, endpoints=(X, endpoint(number))), NOW)
    store.dial_failed(X, NOW + 1)
    for number in range(3):
        assert {one.endpoint: one.failures for one in endpoints(store, number)} == {
            X: 1,
            endpoint(number): 0,
        }


def test_a_failure_at_an_unknown_endpoint_is_no_peer(store: PeerStore) -> None:
    store.dial_failed(X, NOW)
    assert store.counts()["peers"] == 0


def test_a_flood_of_claims_does_not_make_failures_slow() -> None:
    store = PeerStore(None, max_peers=1000, limits=Limits(failing=4))
    for number in range(20):
        store.add_record(record(number, endpoints=(X,)), NOW + number)
    store.dial_failed(X, NOW + 99)
    failed = [n for n in range(20) if endpoints(store, n)[0].failures]
    assert failed == [16, 17, 18, 19]


def test_what_worked_last_comes_first(store: PeerStore) -> None:
    store.add_record(record(1, endpoints=("tcp4://a:1", "tcp4://b:1", "tcp4://c:1")), NOW)
    store.connected(key(1), "tcp4://c:1", NOW + 1)
    store.connected(key(1), "tcp4://b:1", NOW + 2)
    assert [one.endpoint[7] for one in endpoints(store, 1)] == ["b", "c", "a"]


def test_a_newer_record_withdraws_what_an_older_one_listed(store: PeerStore) -> None:
    store.connected(key(1), "tcp4://dialled:1", NOW)
    store.add_record(record(1, seq=1, endpoints=("tcp4://old:1", "tcp4://both:1")), NOW)
    store.connected(key(1), "tcp4://old:1", NOW)
    store.add_record(record(1, seq=2, endpoints=("tcp4://both:1", "tcp4://new:1")), NOW + 1)
    assert {one.endpoint for one in endpoints(store, 1)} == {
        "tcp4://dialled:1",
        "tcp4://both:1",
        "tcp4://new:1",
    }


def test_of_too_many_endpoints_the_failing_and_the_old_leave(store: PeerStore) -> None:
    for number in range(8):
        store.connected(key(1), endpoint(number), NOW + number)
    store.dial_failed(endpoint(7), NOW + 10)
    store.connected(key(1), endpoint(8), NOW + 11)
    store.connected(key(1), endpoint(9), NOW + 12)
    left = {one.endpoint for one in endpoints(store, 1)}
    assert left == {endpoint(number) for number in (1, 2, 3, 4, 5, 6, 8, 9)}


def test_a_new_record_finds_room_among_old_endpoints(store: PeerStore) -> None:
    for number in range(8):
        store.connected(key(1), endpoint(number), NOW)
    store.add_record(record(1, endpoints=(X,)), NOW + DAY)
    assert X in {one.endpoint for one in endpoints(store, 1)}
    assert len(endpoints(store, 1)) == 8


def endpoints(store: PeerStore, number: int) -> tuple[KnownEndpoint, ...]:
    known = store.peer(key(number))
    assert known is not None
    return known.endpoints


# --- introductions ---


def introducers(store: PeerStore, number: int = 1) -> int:
    known = store.peer(key(number))
    assert known is not None
    return known.introducers


def test_introducers_of_one_network_count_as_one(store: PeerStore) -> None:
    store.add_record(record(1), NOW)
    store.introduced(key(1), key(2), NETWORKS[0], NOW)
    store.introduced(key(1), key(3), NETWORKS[0], NOW + 1)
    store.introduced(key(1), key(4), NETWORKS[1], NOW + 2)
    known = store.peer(key(1))
    assert known is not None
    assert known.introductions == (
        Introduction(key(4), NETWORKS[1], NOW + 2, False),
        Introduction(key(3), NETWORKS[0], NOW + 1, False),
        Introduction(key(2), NETWORKS[0], NOW, False),
    )
    assert introducers(store) == 2


def test_doubt_makes_introductions_wrong_and_leaves_the_endpoint(store: PeerStore) -> None:
    store.add_record(record(1, endpoints=(X, endpoint(1))), NOW)
    store.introduced(key(1), key(2), NETWORKS[0], NOW)
    store.doubt(key(1), X, NOW + 1)
    assert introducers(store) == 0
    assert store.at_endpoint(X) == []
    assert [one.endpoint for one in endpoints(store, 1)] == [endpoint(1)]
    assert store.peer(key(2)) is None
    store.doubt(key(9), X, NOW)
    assert store.peer(key(9)) is None


def test_what_was_wrong_stays_so_until_a_newer_record_comes(store: PeerStore) -> None:
    store.add_record(record(1, seq=1), NOW)
    store.introduced(key(1), key(2), NETWORKS[0], NOW)
    store.add_record(record(1, seq=2), NOW)
    store.doubt(key(1), X, NOW + 1)
    store.introduced(key(1), key(2), NETWORKS[0], NOW + 2)
    assert introducers(store) == 0
    store.introduced(key(1), key(3), NETWORKS[1], NOW + 2)
    assert introducers(store) == 1
    store.add_record(record(1, seq=3), NOW + 3)
    assert introducers(store) == 1
    store.introduced(key(1), key(2), NETWORKS[0], NOW + 3, seq=2)  # the old one once more
    assert introducers(store) == 1
    store.introduced(key(1), key(2), NETWORKS[0], NOW + 3)
    assert introducers(store) == 2


def test_a_flood_from_one_network_pushes_out_itself(store: PeerStore) -> None:
    for number in range(4):
        store.introduced(key(1), key(100 + number), NETWORKS[number], NOW)
    for number in range(50):
        store.introduced(key(1), key(200 + number), NETWORKS[9], NOW + 1 + number)
    assert introducers(store) == 5
    assert store.counts()["introductions"] == 16


def test_what_was_wrong_is_not_pushed_out_by_new_networks(store: PeerStore) -> None:
    store.introduced(key(1), key(2), NETWORKS[0], NOW)
    store.doubt(key(1), X, NOW)
    for number in range(1, 16):
        store.introduced(key(1), key(100 + number), NETWORKS[number], NOW + number)
    assert introducers(store) == 15
    store.introduced(key(1), key(2), NETWORKS[0], NOW + 20)
    assert introducers(store) == 15


# --- tickets ---


def test_a_ticket_is_given_out_once(store: PeerStore) -> None:
    store.put_ticket(ticket(1), Direction.DIAL, NOW + DAY)
    store.put_ticket(ticket(1, 1), Direction.ACCEPT, NOW + DAY)
    known = store.peer(key(1))
    assert known is not None
    assert (known.dial_tickets, known.accept_tickets) == (1, 1)
    assert store.take_accept_ticket(ticket(1).name, NOW) is None
    assert store.take_dial_ticket(key(1), NOW) == ticket(1)
    assert store.take_dial_ticket(key(1), NOW) is None
    assert store.take_accept_ticket(ticket(1, 1).name, NOW) == ticket(1, 1)
    assert store.take_accept_ticket(ticket(1, 1).name, NOW) is None
    assert store.counts()["tickets"] == 0


def test_the_newest_dial_tickets_stay_and_the_newest_goes_first(store: PeerStore) -> None:
    for serial in range(5):
        store.put_ticket(ticket(1, serial), Direction.DIAL, NOW + DAY)
    taken = [store.take_dial_ticket(key(1), NOW) for _ in range(3)]
    assert taken == [ticket(1, 4), ticket(1, 3), None]


def test_the_newest_accept_tickets_stay(store: PeerStore) -> None:
    for serial in range(18):
        store.put_ticket(ticket(1, serial), Direction.ACCEPT, NOW + DAY)
    taken = [store.take_accept_ticket(ticket(1, serial).name, NOW) for serial in range(18)]
    assert taken == [None, None, *(ticket(1, serial) for serial in range(2, 18))]


def test_a_ticket_expires(store: PeerStore) -> None:
    store.put_ticket(ticket(1), Direction.DIAL, NOW + 10)
    store.put_ticket(ticket(1, 1), Direction.ACCEPT, NOW + 10)
    assert store.take_dial_ticket(key(1), NOW + 10) is None
    assert store.take_accept_ticket(ticket(1, 1).name, NOW + 10) is None
    assert store.expire(NOW + 9) == 0
    assert store.expire(NOW + 10) == 2
    assert store.counts()["tickets"] == 0


def test_expiry_does_a_bounded_amount_of_work() -> None:
    store = PeerStore(None, max_peers=100, limits=Limits(expiring=8))
    for number in range(20):
        store.put_ticket(ticket(number), Direction.DIAL, NOW)
    assert [store.expire(NOW) for _ in range(4)] == [8, 8, 4, 0]


def test_all_tickets_of_one_peer_are_dropped(store: PeerStore) -> None:
    for number in (1, 2):
        store.put_ticket(ticket(number), Direction.DIAL, NOW + DAY)
        store.put_ticket(ticket(number, 1), Direction.ACCEPT, NOW + DAY)
    store.drop_tickets(key(1))
    assert store.take_dial_ticket(key(1), NOW) is None
    assert store.take_accept_ticket(ticket(1, 1).name, NOW) is None
    assert store.take_dial_ticket(key(2), NOW) == ticket(2)


# --- bans, anchors, sequence ---


def test_a_key_is_banned_for_a_time_or_for_good(store: PeerStore) -> None:
    store.ban(key(1), NOW + 10, "rude", NOW)
    store.ban(key(2), None, "worse", NOW)
    assert store.banned(key(1), None, NOW + 9) == "rude"
    assert store.banned(key(1), None, NOW + 10) is None
    assert store.banned(key(2), "192.0.2.1", NOW + 1e9) == "worse"
    assert store.banned(key(3), "192.0.2.1", NOW) is None
    assert store.peer(key(1)) is None


@pytest.mark.parametrize(
    ("banned", "asked", "refused"),
    [
        ("192.0.2.0/24", "192.0.2.0/24", True),
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.9/24", "192.0.2.0/24", True),
        ("192.0.2.0/24", "192.0.3.0/24", False),
        ("192.0.0.0/16", "192.0.2.0/24", True),
        ("192.0.2.0/25", "192.0.2.0/24", False),
        ("0.0.0.0/0", "8.8.8.8", True),
        ("0.0.0.0/0", "::1", False),
        ("2001:db8::/48", "2001:db8:0:1::5", True),
        ("2001:db8::/48", "2001:db8:1::/48", False),
    ],
)
def test_a_network_is_banned_with_all_within_it(
    store: PeerStore, banned: str, asked: str, refused: bool
) -> None:
    store.ban(banned, None, "scan", NOW)
    assert store.banned(key(1), asked, NOW) == ("scan" if refused else None)


def test_a_ban_is_changed_ended_and_listed(store: PeerStore) -> None:
    store.ban("192.0.2.1", NOW + 5, "first", NOW)
    store.ban("192.0.2.1/32", None, "second", NOW + 1)
    store.ban(key(1), None, "third", NOW + 2)
    assert [(one.subject, one.until, one.reason, one.since) for one in store.bans(NOW)] == [
        (key(1), None, "third", NOW + 2),
        ("192.0.2.1/32", None, "second", NOW + 1),
    ]
    assert store.unban("192.0.2.1")
    assert not store.unban("192.0.2.1")
    assert store.banned(None, "192.0.2.1", NOW) is None


@pytest.mark.parametrize("subject", [b"short", "", "192.0.2.300", "example.org"])
def test_what_cannot_be_banned_is_refused(store: PeerStore, subject: bytes | str) -> None:
    with pytest.raises(ValueError):
        store.ban(subject, None, "x", NOW)
    with pytest.raises(ValueError):
        store.unban(subject)


def test_of_too_many_bans_that_which_ends_first_leaves() -> None:
    store = PeerStore(None, max_peers=10, limits=Limits(bans=3))
    store.ban(key(1), None, "for good", NOW)
    store.ban(key(2), NOW + 50, "long", NOW)
    store.ban(key(3), NOW + 30, "short", NOW)
    store.ban(key(4), NOW + 10, "shorter, but the newest", NOW)
    assert {one.subject for one in store.bans(NOW)} == {key(1), key(2), key(4)}
    for number in (5, 6, 7):
        store.ban(key(number), None, "for good", NOW + number)
    assert {one.subject for one in store.bans(NOW)} == {key(5), key(6), key(7)}


def test_ended_bans_are_forgotten(store: PeerStore) -> None:
    store.ban(key(1), NOW + 1, "x", NOW)
    store.ban(key(2), None, "x", NOW)
    assert store.expire(NOW + 1) == 1
    assert store.counts()["bans"] == 1


def test_anchors_are_kept_in_order_and_bounded(store: PeerStore) -> None:
    store.set_anchors([key(3), key(1), key(3), key(2)])
    assert store.anchors() == [key(3), key(1), key(2)]
    store.set_anchors(key(number) for number in range(100))
    assert store.anchors() == [key(number) for number in range(64)]


def test_sequence_numbers_only_grow(store: PeerStore) -> None:
    assert store.next_sequence(NOW) == int(NOW * 1000)
    assert store.next_sequence(NOW) == int(NOW * 1000) + 1
    assert store.next_sequence(NOW - DAY) == int(NOW * 1000) + 2
    assert store.next_sequence(NOW + 1) == int(NOW * 1000) + 1000


# --- callers' errors, secrets ---


def test_wrong_lengths_are_the_callers_error(store: PeerStore) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        store.connected(b"short", None, NOW)
    with pytest.raises(ValueError, match="32 bytes"):
        store.introduced(key(1), b"short", NETWORKS[0], NOW)
    short = type(ticket(1))(key(1), b"secret")
    with pytest.raises(ValueError, match="48 bytes") as caught:
        store.put_ticket(short, Direction.DIAL, NOW)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError):
        PeerStore(None, max_peers=0)
    assert store.counts()["peers"] == 0


def test_a_ticket_does_not_show_its_secret() -> None:
    assert repr(ticket(1).secret) not in repr(ticket(1))
    assert "secret" not in repr(ticket(1))
