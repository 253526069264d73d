"""A peer store whose file was damaged anywhere: no call fails, and it serves again."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp2p import ids
from dp2p.coordinator.known import Direction
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_bounds import Limits
from stored import DAY, NOW, endpoint, key, record, ticket

HEADER = 100  # bytes; with another version or owner in it, the file is refused and left alone
PEERS = 300
MAX_PEERS = 310
NETWORK = "192.0.2.0/24"

DAMAGE = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([1, 8, 64, 4096]))


@cache
def whole() -> bytes:
    """The file of a store with something in every table."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "peers.db"
        store = PeerStore(path, max_peers=MAX_PEERS)
        for number in range(PEERS):
            store.add_record(record(number), NOW)
            store.introduced(key(number), key(number + 1), NETWORK, NOW)
            store.put_ticket(ticket(number), Direction.ACCEPT, NOW + DAY)
            store.ban(key(number), None, "x", NOW)
        store.ban(NETWORK, None, "x", NOW)
        store.set_anchors([key(1)])
        store.next_sequence(NOW)
        store.close()
        return path.read_bytes()


def use(store: PeerStore) -> None:
    """Every call, on peers from all over the file."""
    for number in range(0, PEERS, 7):
        store.peer(key(number))
        store.key_of(ids.node_id(key(number)))
        store.at_endpoint(endpoint(number))
        store.connected(key(number), endpoint(number), NOW + 1)
        store.introduced(key(number), key(number + 1), NETWORK, NOW + 1)
        store.add_record(record(number, seq=2), NOW + 1)
        store.put_ticket(ticket(number, 1), Direction.DIAL, NOW + DAY)
        store.take_dial_ticket(key(number), NOW)
        store.take_accept_ticket(ticket(number).name, NOW)
        store.dial_failed(endpoint(number), NOW)
        store.doubt(key(number), endpoint(number), NOW)
        store.banned(key(number), NETWORK, NOW)
    for protocol in (None, "chat"):
        store.nearest(bytes(32), 16, protocol)
    store.by_protocol("chat", 16)
    store.bans(NOW)
    store.anchors()
    store.next_sequence(NOW)
    for number in range(1000, 1000 + MAX_PEERS):
        store.add_record(record(number), NOW)
    store.expire(NOW + 2 * DAY)
    store.commit()
    store.checkpoint()
    store.commit()
    store.counts()


@pytest.mark.parametrize("check_bytes", [0, 1 << 30])
@settings(max_examples=40, deadline=None)
@given(damage=st.lists(DAMAGE, min_size=1, max_size=10), filling=st.randoms(use_true_random=False))
def test_no_damage_reaches_the_caller(
    check_bytes: int, damage: list[tuple[float, int]], filling: random.Random
) -> None:
    data = bytearray(whole())
    for place, size in damage:
        start = HEADER + int(place * (len(data) - HEADER))
        junk = filling.randbytes(min(size, len(data) - start))
        data[start : start + len(junk)] = junk
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "peers.db"
        path.write_bytes(data)
        store = PeerStore(path, max_peers=MAX_PEERS, limits=Limits(check_bytes=check_bytes))
        use(store)
        store.close()
