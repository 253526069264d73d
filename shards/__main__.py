"""``python -m dp2p.shards --config <run>/node.json --index 0``: one shard's process."""

from __future__ import annotations

import argparse
import gc
import secrets
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from dp2p import config, keys, logs
from dp2p.descriptors import raise_limit
from dp2p.errors import Dp2pError
from dp2p.shards.shard import Shard
from dp2p.transport import process_tune

DESCRIPTORS_MAX = 1 << 20
DESCRIPTORS_KEPT = 64  # and an eighth of all: for applications, listeners and ourselves


def main() -> int:
    """Run until SIGTERM, SIGINT or the coordinator's word; the exit code."""
    parser = argparse.ArgumentParser(prog="dp2p.shards", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="node.json of the run directory")
    parser.add_argument("--index", type=int, required=True, help="number of this shard")
    arguments = parser.parse_args()
    try:
        settings = config.read_resolved(arguments.config)
        logs.setup(f"shard-{arguments.index}", settings.node.log_level, settings.node.log_format)
        _run(_with_room(settings), arguments.index)
    except Dp2pError as error:
        print(f"dp2p shard {arguments.index}: {error}", file=sys.stderr)
        return 1
    return 0


def _with_room(settings: config.Config) -> config.Config:
    """Raise the limit on descriptors, and have no more links than leave room for local sockets."""
    most = raise_limit(DESCRIPTORS_MAX)
    fitting = max(1, most - most // 8 - DESCRIPTORS_KEPT)
    limits = settings.limits
    limits = msgspec.structs.replace(
        limits, max_links_per_shard=min(limits.max_links_per_shard, fitting)
    )
    return msgspec.structs.replace(settings, limits=limits)


def _run(settings: config.Config, index: int) -> None:
    process_tune()
    shard = Shard(
        settings,
        keys.load(Path(settings.node.key_file)),
        index=index,
        incarnation=secrets.token_hex(4),
        clock=time.monotonic,
        cpu=time.process_time,
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        shard.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    shard.start()
    gc.freeze()  # what was made so far lives as long as the process
    try:
        while not shard.stopping:
            shard.turn()
    finally:
        shard.close()


if __name__ == "__main__":
    sys.exit(main())
