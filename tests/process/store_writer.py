"""``python store_writer.py PATH FIRST``: write batches to a peer store until killed.

Says the number of each batch on stdout, once it is committed. A checkpoint follows each, while the
next one is being written.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from dp2p.coordinator.known import Direction
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_bounds import Limits
from stored import DAY, NOW, endpoint, key, record, ticket

PEERS = 20  # in a batch
MAX_PEERS = 1_000_000
LIMITS = Limits(wal_bytes=1 << 19, cache_bytes=1 << 18)
"Small, so that checkpoints, and pages written before their commit, are frequent."


def write_batch(store: PeerStore, batch: int) -> None:
    """Things that belong together: all of it is kept, or nothing."""
    for number in range(batch * PEERS, (batch + 1) * PEERS):
        store.add_record(record(number), NOW)
        store.connected(key(number), endpoint(number), NOW + batch)
        store.introduced(key(number), key(number + 1), "192.0.2.0/24", NOW)
        store.put_ticket(ticket(number), Direction.DIAL, NOW + DAY)
    store.take_dial_ticket(key((batch - 1) * PEERS), NOW)
    store.ban(key(batch * PEERS), None, f"batch {batch}", NOW)
    store.set_anchors([key(batch * PEERS)])
    store.next_sequence(0.0)


def main() -> None:
    """Write for ever."""
    store = PeerStore(Path(sys.argv[1]), max_peers=MAX_PEERS, limits=LIMITS)

    committed = threading.Event()

    def checkpoint() -> None:
        while committed.wait():  # a thread that only asked would take the writer's turns
            committed.clear()
            store.checkpoint()

    threading.Thread(target=checkpoint, daemon=True).start()
    batch = int(sys.argv[2])
    while True:
        write_batch(store, batch)
        store.commit()
        committed.set()
        print(batch, flush=True)
        batch += 1


if __name__ == "__main__":
    main()
