"""Two real nodes for a phase: each ``dp2p up`` with one coordinator and two shards, connected.

They live in a temporary folder with keys of their own, and are gone when the block is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dp2p import keys
from dp2p.errors import Dp2pError
from dp2p.sdk import blocking
from load.bench.harness import ForeignStopwatch
from load.bench.model import PhaseError

NETWORK = "bench"
SHARDS = 2
START_S = 15.0
STOP_S = 3.0
DIAL_S = 10.0
_PAUSE_S = 0.05
_MAIN = "from dp2p.cli import main; main()"


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

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        """``nodes``: side, as it is to be called, -> node."""
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


def environment() -> dict[str, str]:
    """This process's, without settings for nodes."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DP2P_")}


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that leads a group, politely first."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def spawn(arguments: list[str], home: Path) -> subprocess.Popen[bytes]:
    """A Python process in a group of its own; what it says is in ``home/log``."""
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=home,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _start(home: Path) -> subprocess.Popen[bytes]:
    home.mkdir()
    keys.create(home / "key")
    options = {
        "--key-file": str(home / "key"),
        "--network": NETWORK,
        "--listen": "tcp4://127.0.0.1:0",
        "--shards": str(SHARDS),
        "--log-level": "warning",
    }
    flags = [word for pair in options.items() for word in pair]
    return spawn(["-c", _MAIN, "--run-dir", str(home / "run"), "up", *flags], home)


def last_words(process: subprocess.Popen[bytes], home: Path) -> str:
    """Why a process is no use."""
    lines = (home / "log").read_text(errors="replace").strip().splitlines()
    state = "runs" if process.poll() is None else f"ended with {process.returncode}"
    return f"{home.name} {state}" + (f": {lines[-1]}" if lines else "")


def _await(process: subprocess.Popen[bytes], home: Path) -> Node:
    """The node, once all its shards are up. Raises: PhaseError."""
    run_dir = home / "run"
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with blocking.attach(run_dir, name="bench", timeout=1.0) as node:
                status = node.status()
        except Dp2pError:
            status = {}
        if status.get("settled") and len(status["shards"]) == SHARDS and status["listen"]:
            return Node(run_dir, status)
        time.sleep(_PAUSE_S)
    raise PhaseError(f"node {last_words(process, home)}")


@contextmanager
def running(*names: str) -> Iterator[list[Node]]:
    """Nodes that are up and do not know of each other. Raises: PhaseError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dp2p-bench-")))
        started = []
        for name in names:
            process = _start(folder / name)
            stack.callback(end, process)
            started.append((process, folder / name))
        yield [_await(process, home) for process, home in started]


@contextmanager
def connected() -> Iterator[tuple[Node, Node]]:
    """Two nodes; the first one has dialled the second. Raises: PhaseError."""
    with connected_through(lambda place: place) as nodes:
        yield nodes


@contextmanager
def connected_through(before: Callable[[str], str]) -> Iterator[tuple[Node, Node]]:
    """As ``connected``; ``before`` puts something in front of a place and says where that is."""
    with running("a", "b") as (first, second):
        dial(first, second, before(second.place))
        yield first, second


def dial(first: Node, second: Node, place: str) -> None:
    """Connect the first to the second, which answers at ``place``. Raises: PhaseError."""
    try:
        with blocking.attach(first.run_dir, name="dialler") as node:
            node.dial(f"dp2p://{second.status['key']}@{place}", DIAL_S)
    except Dp2pError as error:
        raise PhaseError(f"dial: {error}") from error
