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

from dp2p import config, keys, logs
from dp2p.errors import Dp2pError
from dp2p.shards.shard import Shard
from dp2p.transport import process_tune


def main() -> int:
    """Run until SIGTERM, SIGINT or the coordinator's word; the exit code."""
    parser = argparse.ArgumentParser(prog="dp2p.shards", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="node.json of the run directory")
    parser.add_argument("--index", type=int, required=True, help="number of this shard")
    arguments = parser.parse_args()
    try:
        settings = config.read_resolved(arguments.config)
        logs.setup(f"shard-{arguments.index}", settings.node.log_level, settings.node.log_format)
        _run(settings, arguments.index)
    except Dp2pError as error:
        print(f"dp2p shard {arguments.index}: {error}", file=sys.stderr)
        return 1
    return 0


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
