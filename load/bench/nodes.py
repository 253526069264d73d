"""Two real nodes for a phase: each ``dp2p up`` with one coordinator and two shards, connected.

They are started as the demo starts them, in a temporary folder with keys of their own, and are gone
when the block is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dp2p import control
from dp2p.cli import client
from dp2p.cli.demo.stage import Stage
from dp2p.errors import Dp2pError
from load.bench.harness import ForeignStopwatch
from load.bench.model import PhaseError

DIAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Node:
    """One node that is up."""

    run_dir: Path
    status: dict[str, Any]

    @property
    def place(self) -> str:
        """``host:port`` that it listens on."""
        return str(self.status["listen"][0]).partition("://")[2]

    @property
    def aead(self) -> str:
        """The provider that its shards use."""
        return ", ".join(sorted({shard["aead"] for shard in self.status["shards"]}))

    def pids(self) -> dict[str, int]:
        """``coordinator``, ``shard-0``, ... -> process id."""
        return {row["name"]: row["pid"] for row in self.status["processes"]}


class NodesWatch:
    """CPU seconds of nodes' processes: each node's shards together, all coordinators together."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._roles: dict[str, str] = {}
        pids: dict[str, int] = {}
        for side, node in nodes.items():
            for name, pid in node.pids().items():
                key = f"{side} {name}"
                pids[key] = pid
                self._roles[key] = f"{side} shards" if "shard" in name else "coordinators"
        self._watch = ForeignStopwatch(pids)

    def stop(self) -> dict[str, float]:
        """Role -> CPU seconds since the watch was made."""
        sums = dict.fromkeys(self._roles.values(), 0.0)
        for key, seconds in self._watch.stop().items():
            sums[self._roles[key]] += seconds
        return sums


@contextmanager
def running(*names: str) -> Iterator[list[Node]]:
    """Nodes that are up and do not know of each other. Raises: PhaseError."""
    with Stage() as stage:
        try:
            folders = [stage.node(name) for name in names]
            nodes = [Node(folder, stage.await_node(folder)) for folder in folders]
        except Dp2pError as error:
            raise PhaseError(str(error)) from error
        yield nodes


@contextmanager
def connected() -> Iterator[tuple[Node, Node]]:
    """Two nodes; the first one has dialled the second. Raises: PhaseError."""
    with running("a", "b") as (first, second):
        address = f"dp2p://{second.status['key']}@{second.place}"
        try:
            client.request(first.run_dir, control.Dial(id=1, address=address), DIAL_S)
        except Dp2pError as error:
            raise PhaseError(f"dial: {error}") from error
        yield first, second
