"""Contacts out of the store, and anchors back into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dp2p import ids, node_record, noise
from dp2p.coordinator import seeds
from dp2p.coordinator.discovery.bucket import Entry
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.table import BucketView
from dp2p.coordinator.store import PeerStore
from dp2p.node_record import NodeRecord

NOW = 1_700_000_000.0
OWN = noise.identity_public(bytes(32))


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def key(number: int) -> bytes:
    return noise.identity_public(seed(number))


def record(number: int, *endpoints: str) -> NodeRecord:
    return node_record.sign(seed(number), seq=1, endpoints=endpoints, protocols=[])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeerStore]:
    made = PeerStore(tmp_path / "peers.db", max_peers=1000)
    yield made
    made.close()


def test_of_a_record_discoverys_endpoints_count() -> None:
    said = record(
        1,
        "tcp4://192.0.2.1:1",
        "udp4://192.0.2.1:2",
        "udp6://[2001:db8::1]:3",
        "udp4://a.example:4",
    )
    found = seeds.contacts_of(said, local=False)
    assert found == [Contact(key(1), ("192.0.2.1", 2)), Contact(key(1), ("2001:db8::1", 3))]


def test_addresses_of_a_site_mean_something_within_it_only() -> None:
    said = record(1, "udp4://192.168.0.7:1", "udp6://[fd00::7]:1")
    assert seeds.contacts_of(said, local=False) == []
    assert len(seeds.contacts_of(said, local=True)) == 2


def test_anchors_come_first_and_the_node_itself_never(store: PeerStore) -> None:
    store.add_record(record(0, "udp4://192.0.2.99:1"), NOW)  # its own
    for number in range(1, 9):
        store.add_record(record(number, f"udp4://192.0.2.{number}:1"), NOW)
    store.set_anchors([key(7), key(100)])
    found = seeds.remembered(store, OWN, [ids.node_id(key(3))], private=False)
    assert found[0].key == key(7)
    assert {one.key for one in found} == {key(number) for number in range(1, 9)}
    assert len(found) == 8


def test_private_addresses_of_the_store(store: PeerStore) -> None:
    """Of anchors, of who has answered there, and in a private network of all."""
    for number in (1, 2, 3):
        store.add_record(record(number, f"udp4://10.0.0.{number}:1"), NOW)
    store.set_anchors([key(1)])
    store.connected(key(2), "tcp4://10.0.0.2:1", NOW)
    found = seeds.remembered(store, OWN, [], private=False)
    assert {one.key for one in found} == {key(1), key(2)}
    assert len(seeds.remembered(store, OWN, [], private=True)) == 3


def entry(number: int, host: str, since: float, checks: int = 1) -> Entry:
    return Entry(Contact(key(number), (host, 1)), since, came=False, checks=checks)


def test_anchors_are_known_for_long_and_of_several_networks() -> None:
    entries = [
        entry(1, "198.51.1.1", 30.0),
        entry(2, "198.51.1.2", 10.0),
        entry(3, "198.51.1.3", 20.0),
        entry(4, "198.51.2.1", 40.0),
        entry(5, "198.51.3.1", 90.0),  # too new
        entry(6, "198.51.4.1", 0.0, checks=0),  # never answered
        *(entry(number, "127.0.0.1", 50.0) for number in (7, 8, 9)),  # all one machine
    ]
    found = seeds.anchors([BucketView(256, entries[:4], 0), BucketView(255, entries[4:], 0)], 140.0)
    assert found == [key(number) for number in (2, 7, 3, 8, 9, 4)]  # from each distance in turn


def test_anchors_are_bounded() -> None:
    entries = [entry(number, f"198.51.{number}.1", 0.0) for number in range(100)]
    assert len(seeds.anchors([BucketView(256, entries, 0)], 1000.0)) == seeds.ANCHORS_MAX
