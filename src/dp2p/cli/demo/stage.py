"""The demo's processes: two nodes and two applications, started and stopped together."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dp2p import control, keys
from dp2p.cli import client
from dp2p.errors import Dp2pError, RequestError

START_S = 30.0
STOP_S = 5.0
SHARDS = 2
_POLL_S = 0.05
_TAIL_LINES = 15
_MAIN = "from dp2p.cli import main; main()"


class StageError(Dp2pError):
    """A process of the demo failed."""


@dataclass(slots=True)
class Running:
    """One process that was started."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def check(self) -> None:
        """Raise when it has ended, with the end of its log."""
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            tail = "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"
            raise StageError(f"{self.name} ended with exit code {code}; its log ends with\n{tail}")


class Stage:
    """A temporary folder and what runs in it. Leaving the block stops everything."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="dp2p-demo-")
        self.folder = Path(self._temporary.name)
        self.running: list[Running] = []
        self.reports: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        "What applications say: name and line."

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for running in reversed(self.running):
            running.process.terminate()
        deadline = time.monotonic() + STOP_S
        for running in reversed(self.running):
            _end(running.process, deadline)
        self._temporary.cleanup()

    def check(self) -> None:
        """Raise when a node or an application has ended."""
        for running in self.running:
            running.check()

    def check_nodes(self) -> None:
        """Raise when a node has ended: then applications' failures only follow from it."""
        for running in self.running:
            if running.name.startswith("node "):
                running.check()

    def node(self, name: str) -> Path:
        """Start a node; returns its run directory. ``await_node`` waits until it is up."""
        home = self.folder / name
        home.mkdir()
        keys.create(home / "key")
        run_dir = home / "run"
        options = {
            "--key-file": home / "key",
            "--network": "demo",
            "--listen": "tcp4://127.0.0.1:0",
            "--shards": SHARDS,
            "--log-level": "warning",
        }
        flags = [str(word) for pair in options.items() for word in pair]
        self._start(
            f"node {name}", ["-c", _MAIN, "--run-dir", str(run_dir), "up", *flags], cwd=home
        )
        return run_dir

    def await_node(self, run_dir: Path) -> dict[str, Any]:
        """The node's status, once all its shards are up.  Raises: StageError."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self.check()
            try:
                status: dict[str, Any] = client.request(run_dir, control.Status(id=1), 1.0)
            except (client.NodeUnreachableError, RequestError):
                status = {}
            if status.get("settled") and len(status["shards"]) == SHARDS and status["listen"]:
                return status
            time.sleep(_POLL_S)
        raise StageError(f"the node at {run_dir} is not up after {START_S:g} s")

    def application(self, role: str, run_dir: Path, folder: Path) -> IO[str]:
        """Start an application; returns its stdin."""
        arguments = ["-m", "dp2p.cli.demo.worker", role, str(run_dir), str(folder)]
        running = self._start(role, arguments, cwd=self.folder, talks=True)
        process = running.process
        assert process.stdin is not None
        threading.Thread(target=self._listen, args=(role, process.stdout), daemon=True).start()
        return process.stdin

    def _listen(self, role: str, lines: IO[str]) -> None:
        for line in lines:
            self.reports.put((role, json.loads(line)))

    def _start(self, name: str, arguments: list[str], *, cwd: Path, talks: bool = False) -> Running:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DP2P_")}
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is ours alone: we stop it in order
            )
        running = Running(name, process, log)
        self.running.append(running)
        return running

    def cpu_s(self, *, nodes: bool) -> float:
        """CPU seconds so far of the nodes' processes, or of the applications'."""
        chosen = {
            running.process.pid
            for running in self.running
            if running.name.startswith("node ") == nodes
        }
        return sum(map(_cpu_s, _with_descendants(chosen)))


def _end(process: subprocess.Popen[str], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _with_descendants(pids: set[int]) -> set[int]:
    found = set(pids)
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parent(process: Path) -> int:
    fields = _stat(process)
    return int(fields[1]) if fields else 0


def _cpu_s(pid: int) -> float:
    fields = _stat(Path("/proc") / str(pid))
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _stat(process: Path) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
