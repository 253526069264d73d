"""``dp2p up``: the process that starts the node's others, and starts them again when they die.

It is small so that it has little reason to die itself. When it does, its children end with it
(docs/adr/0002-supervisor-is-its-own-process.md). It ends no process but those it started.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dp2p.logs import Log
from dp2p.places import PROCESSES_FILE

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STEADY_S = 10.0  # a process that lived so long begins anew with the shortest backoff
GRACE_S = 5.0  # between SIGTERM and SIGKILL
IMPATIENT_S = 0.5  # a stop signal so long after the first one means: now
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)

log = Log("supervisor")


@dataclass(frozen=True, slots=True)
class Command:
    """One process to keep running."""

    name: str
    argv: Sequence[str]
    leaves: str | None = None
    "Pattern of files in the run directory that a killed one leaves behind."


@dataclass(slots=True)
class Child:
    """What became of a command so far."""

    command: Command
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    starts: int = 0
    began: float = 0.0
    due: float = 0.0
    "When to start it (s, monotonic), while ``process`` is None."
    backoff: float = BACKOFF_FIRST_S
    last_exit: str | None = None


def next_backoff(backoff: float, lived: float) -> tuple[float, float]:
    """How long to wait before starting again, and the backoff after that."""
    wait = BACKOFF_FIRST_S if lived >= STEADY_S else backoff
    return wait, min(BACKOFF_MAX_S, wait * 2)


@dataclass
class Supervisor:
    """Keeps commands running until a signal comes."""

    commands: Sequence[Command]
    run_dir: Path
    clock: Callable[[], float] = time.monotonic
    grace_s: float = GRACE_S
    _children: list[Child] = field(default_factory=list)
    _stopping: bool = False
    _impatient: bool = False
    "A stop signal came again, a while after the first."
    _stop_began: float = 0.0

    def run(self) -> None:
        """Start everything, and return when everything has ended."""
        self._children = [Child(command) for command in self.commands]
        with selectors.DefaultSelector() as selector, _Signals() as signals:
            selector.register(signals.reader, selectors.EVENT_READ)
            try:
                while not self._stopping:
                    self._start_due(selector)
                    self._wait(selector, signals, self._next_due())
            finally:
                self._stop(selector, signals)

    # --- starting ---

    def _start_due(self, selector: selectors.BaseSelector) -> None:
        now = self.clock()
        due = [one for one in self._children if one.process is None and one.due <= now]
        for child in due:
            self._start(child, selector, now)
        if due:
            self._write_processes()

    def _start(self, child: Child, selector: selectors.BaseSelector, now: float) -> None:
        child.process = subprocess.Popen(
            child.command.argv,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C goes to the supervisor alone
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - there are no threads here
        )
        child.pidfd = os.pidfd_open(child.process.pid)
        selector.register(child.pidfd, selectors.EVENT_READ, child)
        child.starts += 1
        child.began = now
        log.info("process started", name=child.command.name, pid=child.process.pid)

    def _next_due(self) -> float | None:
        waiting = [child.due for child in self._children if child.process is None]
        return max(0.0, min(waiting) - self.clock()) if waiting else None

    # --- waiting ---

    def _wait(
        self, selector: selectors.BaseSelector, signals: _Signals, timeout: float | None
    ) -> None:
        for key, _ in selector.select(timeout):
            if isinstance(key.data, Child):
                self._ended(key.data, selector)
            else:
                self._told_to_stop(signals.take())

    def _ended(self, child: Child, selector: selectors.BaseSelector) -> None:
        assert child.process is not None
        selector.unregister(child.pidfd)
        os.close(child.pidfd)
        child.last_exit = _exit_text(child.process.wait())
        now = self.clock()
        wait, child.backoff = next_backoff(child.backoff, now - child.began)
        child.process, child.due = None, now + wait
        self._clear_up(child.command)
        if not self._stopping:
            log.warning(
                "process died", name=child.command.name, how=child.last_exit, restart_in_s=wait
            )

    def _clear_up(self, command: Command) -> None:
        for path in self.run_dir.glob(command.leaves) if command.leaves else ():
            path.unlink(missing_ok=True)

    # --- stopping ---

    def _told_to_stop(self, count: int) -> None:
        """Stop; a signal that comes twice at once, as `timeout` sends it, counts as one."""
        if count and not self._stopping:
            self._stopping, self._stop_began = True, self.clock()
        elif count and self.clock() - self._stop_began > IMPATIENT_S:
            self._impatient = True

    def _stop(self, selector: selectors.BaseSelector, signals: _Signals) -> None:
        self._told_to_stop(1)
        self._signal(signal.SIGTERM)
        deadline = self.clock() + self.grace_s
        while self._running() and not self._impatient and self.clock() < deadline:
            self._wait(selector, signals, max(0.0, deadline - self.clock()))
        if self._running():
            names = [child.command.name for child in self._running()]
            log.warning("killing what did not stop", processes=names)
            self._signal(signal.SIGKILL)
        while self._running():
            self._wait(selector, signals, None)
        (self.run_dir / PROCESSES_FILE).unlink(missing_ok=True)

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.process is not None]

    def _signal(self, number: signal.Signals) -> None:
        for child in self._running():
            signal.pidfd_send_signal(child.pidfd, number)

    def _write_processes(self) -> None:
        """Say what runs, for ``dp2p status``."""
        rows: list[dict[str, Any]] = [
            {
                "name": child.command.name,
                "pid": child.process.pid if child.process else None,
                "starts": child.starts,
                "last_exit": child.last_exit,
            }
            for child in self._children
        ]
        path = self.run_dir / PROCESSES_FILE
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(rows))
        temporary.replace(path)


class _Signals:
    """Stop signals as bytes on a socket, while it is entered."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd)
        self.reader.close()
        self._writer.close()

    def take(self) -> int:
        """How many stop signals came since the last call."""
        try:
            return sum(number in STOP_SIGNALS for number in self.reader.recv(64))
        except BlockingIOError:
            return 0


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program: ask to be killed with its parent."""

    def ask() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            os._exit(126)
        if os.getppid() != parent:  # it died in between, and no signal will come
            os._exit(125)

    return ask


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
