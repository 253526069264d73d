"""``python -m dp2p.coordinator --config <run>/node.json``: the coordinator's process."""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import signal
import sys
import time
from pathlib import Path

from dp2p import config, keys, logs
from dp2p.coordinator.discoverer import Discoverer
from dp2p.coordinator.node import Node
from dp2p.coordinator.store import PeerStore
from dp2p.descriptors import raise_limit
from dp2p.errors import Dp2pError

DESCRIPTORS_MAX = 1 << 16  # ours: a socket for each application and shard


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="dp2p.coordinator", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="node.json of the run directory")
    path: Path = parser.parse_args().config
    try:
        settings = config.read_resolved(path)
        logs.setup("coordinator", settings.node.log_level, settings.node.log_format)
        identity = keys.load(Path(settings.node.key_file))
        raise_limit(DESCRIPTORS_MAX)
        store = PeerStore(Path(settings.store.file), max_peers=settings.store.max_peers)
        asyncio.run(_run(settings, identity, store))
    except Dp2pError as error:
        print(f"dp2p coordinator: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: config.Config, identity: keys.Identity, store: PeerStore) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    randomness = random.Random()  # noqa: S311 - jitter and choices, no secret
    discoverer = None
    if settings.discovery.enabled:
        discoverer = Discoverer(
            settings, identity, store, clock=time.monotonic, wall=time.time, random=randomness
        )
        discoverer.open()
    node = Node(
        settings,
        identity,
        store=store,
        clock=time.monotonic,
        wall=time.time,
        random=randomness.random,
        token=lambda: secrets.token_hex(16),
        first_dial=secrets.randbits(30) << 20,
        discoverer=discoverer,
    )
    await node.run(stop)


if __name__ == "__main__":
    sys.exit(main())
