"""A process that writes to the peer store at full speed is killed, again and again."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dp2p.coordinator.store import PeerStore
from process.store_writer import LIMITS, MAX_PEERS, PEERS
from stored import NOW, endpoint, key, record

WRITER = Path(__file__).with_name("store_writer.py")
TESTS = WRITER.parents[1]
ROUNDS = 10


def write_until_killed(path: Path, first: int, batches: int) -> int:
    """Have batches from ``first`` on written, and kill after ``batches`` of them; the last one that
    was said to be committed.
    """
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    ) as writer:
        assert writer.stdout is not None
        try:
            lines = [writer.stdout.readline() for _ in range(batches)]
        finally:
            writer.kill()
        lines += writer.stdout.readlines()
    said = [int(line) for line in lines if line.endswith("\n")]
    assert said == list(range(first, first + len(said)))
    return said[-1]


def holds(store: PeerStore, batch: int) -> set[bool]:
    """Whether each thing of a batch is there."""
    first = batch * PEERS
    peers = [store.peer(key(number)) for number in range(first, first + PEERS)]
    return {
        store.banned(key(first), None, NOW) == f"batch {batch}",
        *(
            peer is not None
            and peer.record == record(number)
            and [one.endpoint for one in peer.endpoints] == [endpoint(number)]
            and peer.last_seen == NOW + batch
            and peer.introducers == 1
            for number, peer in enumerate(peers, first)
        ),
    }


def integrity(path: Path) -> list[tuple[str]]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "peers.db"
    draw = random.Random(seed)
    first = 1
    for earlier in range(ROUNDS // 2):
        last = write_until_killed(path, first, draw.randint(1, 40))
        store = PeerStore(path, max_peers=MAX_PEERS, limits=LIMITS)
        for batch in range(1, last + 1):
            assert holds(store, batch) == {True}, batch
        counts = store.counts()
        reached = counts["bans"]
        assert reached in (last, last + 1)  # killed between a commit and the word of it
        assert holds(store, reached) == {True}
        assert counts["peers"] == reached * PEERS
        assert counts["tickets"] == reached * (PEERS - 1) + 1
        assert counts["replaced"] == 0
        assert store.anchors() == [key(reached * PEERS)]
        for batch in range(1, reached):  # what was given out stays so
            assert store.take_dial_ticket(key(batch * PEERS), NOW) is None
        assert store.next_sequence(0.0) == reached + earlier + 1  # one taken here in each round
        store.close()
        assert integrity(path) == [("ok",)]
        first = reached + 1


def test_a_file_cut_short_anywhere_gives_way_to_a_usable_one(tmp_path: Path) -> None:
    path = tmp_path / "peers.db"
    store = PeerStore(path, max_peers=10)
    store.close()
    whole = path.read_bytes()
    for size in range(0, len(whole), 4096 * 3):
        path.write_bytes(whole[:size])
        store = PeerStore(path, max_peers=10)
        assert store.add_record(record(1), NOW)
        store.close()
        path.unlink()
