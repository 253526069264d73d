"""When the store's writes are made safe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.upkeep import COMMIT_S, Upkeep

PATIENCE_S = 20.0  # for what must come
ENDPOINT = "tcp4://192.0.2.1:4617"
KEY = bytes([1]) * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeerStore]:
    with closing(PeerStore(tmp_path / "peers.db", max_peers=10)) as made:
        yield made


def test_writes_are_gathered_for_a_moment(store: PeerStore) -> None:
    upkeep = Upkeep(store, lambda: 0.0)
    upkeep.run(1.0)
    assert upkeep.next_deadline() is None
    store.connected(KEY, ENDPOINT, 0.0)
    upkeep.run(1.0)
    assert upkeep.next_deadline() == 1.0 + COMMIT_S
    upkeep.run(1.0 + COMMIT_S / 2)
    assert store.dirty
    upkeep.run(1.0 + COMMIT_S)
    assert (store.dirty, upkeep.next_deadline()) == (False, None)


async def test_a_checkpoint_waits_for_no_name_server(
    store: PeerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads that look up names are taken."""
    store.connected(KEY, ENDPOINT, 0.0)
    store.commit()
    assert store.checkpoint_due
    answered = threading.Event()
    with ThreadPoolExecutor(1) as names:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(names)
        lookup = loop.run_in_executor(None, answered.wait)
        done = asyncio.Event()
        monkeypatch.setattr(store, "checkpoint", lambda: loop.call_soon_threadsafe(done.set))
        upkeep = asyncio.create_task(Upkeep(store, lambda: 0.0).checkpoint(every_s=0.0))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await done.wait()
        finally:
            answered.set()
            await lookup
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep
