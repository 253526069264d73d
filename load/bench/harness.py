"""Worker processes, CPU accounting and deadlines for one measured phase.

A phase is a ``Crew``: a few processes, each running one function that gets a ``Station`` (its pipe
to the phase) as first argument. Nothing outlives the phase: at its end or deadline every worker is
ended, by its own process handle; a worker whose parent died is ended by its own alarm.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from load.bench.model import (
    CONNECTIONS_PER_S,
    CPU_MS_PER_CONNECTION,
    CPU_S_PER_GB,
    CPU_S_PER_MILLION,
    DATAGRAMS_PER_S,
    MB_PER_S,
    P50_US,
    P99_US,
    Case,
    Measurement,
    PhaseError,
    Settings,
)

MAX_WORKERS = 8  # of one phase
STOP_S = 2.0  # between the polite and the final end of a worker
ALARM_SLACK_S = 5.0  # a worker's own alarm, past the phase's deadline
WARM_UP_ROUNDS = 200  # round trips not counted, or a quarter of fewer
ROUNDS_MIN = 100  # below, a p99 means nothing
SCALE = {  # unit -> what one count per second, or one CPU second per count, is in it
    MB_PER_S: 1e-6,
    DATAGRAMS_PER_S: 1.0,
    CONNECTIONS_PER_S: 1.0,
    CPU_S_PER_GB: 1e9,
    CPU_S_PER_MILLION: 1e6,
    CPU_MS_PER_CONNECTION: 1e3,
}


# --- CPU and memory -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process did between two moments."""

    count: int
    "Bytes (bulk), datagrams (small) or connections."
    seconds: float
    cpu_s: float
    note: str = ""
    "What only the worker knows (a negotiated cipher, say)."


def own_cpu_s() -> float:
    """User and system seconds of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Stopwatch:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        self._cpu_s = own_cpu_s()
        self._since = time.perf_counter()

    def stop(self, count: int, note: str = "") -> Usage:
        """What was used so far, for ``count`` units of work."""
        seconds = time.perf_counter() - self._since
        return Usage(count, seconds, own_cpu_s() - self._cpu_s, note)


def process_cpu_s(pid: int) -> float:
    """User and system seconds of another process, all its threads, from /proc.

    Resolution: one clock tick (10 ms). Raises: PhaseError when the process is gone.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError as cause:
        raise PhaseError(f"process {pid} is gone") from cause
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_private_kib(pid: int) -> float:
    """Memory that this process alone holds (private clean and dirty pages), in KiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError as cause:
        raise PhaseError(f"process {pid} is gone or not ours") from cause
    return float(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")))


class ForeignStopwatch:
    """CPU seconds of processes the harness did not start as workers (a node's, say)."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {role: process_cpu_s(pid) for role, pid in pids.items()}

    def stop(self) -> dict[str, float]:
        """Role -> CPU seconds since the watch was made."""
        return {role: process_cpu_s(pid) - self._before[role] for role, pid in self._pids.items()}


# --- workers --------------------------------------------------------------------------


class Station:
    """A worker's end of the phase: picklable words to and from the phase that started it."""

    def __init__(self, pipe: Connection, deadline_s: float) -> None:
        self._pipe = pipe
        self._deadline_s = deadline_s

    def tell(self, word: object) -> None:
        """Send a word to the phase."""
        self._pipe.send(word)

    def hear(self) -> object:
        """The phase's next word. Raises: PhaseError when none comes in time."""
        if not self._pipe.poll(self._deadline_s):
            raise PhaseError("the phase said nothing in time")
        return self._pipe.recv()


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str


def _work(pipe: Connection, deadline_s: float, run: Callable[..., object], args: object) -> None:
    """A worker's main: ``run``'s return value is its last word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the phase ends its workers
    signal.setitimer(signal.ITIMER_REAL, deadline_s + ALARM_SLACK_S)
    assert isinstance(args, tuple)
    try:
        pipe.send(run(Station(pipe, deadline_s), *args))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        pipe.send(_Failure(f"{type(error).__name__}: {error} ({where})"))


class Worker:
    """The phase's end of one worker process."""

    def __init__(self, role: str, process: SpawnProcess, pipe: Connection, crew: Crew) -> None:
        self.role = role
        self.pipe = pipe
        self._process = process
        self._crew = crew
        self._words: deque[object] = deque()

    @property
    def pid(self) -> int:
        """Its process id, for the foreign measures."""
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, word: object) -> None:
        """Send a word to the worker. Raises: PhaseError when it has ended."""
        try:
            self.pipe.send(word)
        except OSError as cause:
            raise PhaseError(f"{self.role}: ended before its time") from cause

    def hear(self) -> object:
        """Its next word; the last one is what its function returned.

        Raises: PhaseError when any worker of the crew fails meanwhile, when this one ends without
        a word, or past the deadline.
        """
        while not self._words:
            self._crew.listen(self)
        return self._words.popleft()

    def hear_usage(self) -> Usage:
        """Its next word, which must be a ``Usage``."""
        word = self.hear()
        if not isinstance(word, Usage):
            raise PhaseError(f"{self.role}: said {type(word).__name__} instead of its usage")
        return word

    def take(self) -> bool:
        """Keep the word that its pipe holds; False when there will be no more.

        Raises: PhaseError with the worker's error.
        """
        try:
            word = self.pipe.recv()
        except (EOFError, ConnectionError):
            return False
        if isinstance(word, _Failure):
            raise PhaseError(f"{self.role}: {word.text}")
        self._words.append(word)
        return True

    def stop(self) -> None:
        """End the process, politely first."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(STOP_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join(STOP_S)
        self.pipe.close()


class Crew:
    """The worker processes of one phase; a context manager that leaves none behind."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._until = time.monotonic() + deadline_s
        self._workers: list[Worker] = []
        self._speaking: dict[Connection, Worker] = {}

    def start(self, role: str, run: Callable[..., object], *args: object) -> Worker:
        """Run ``run(station, *args)`` in a process of its own.

        ``run`` is a module-level function. Raises: PhaseError past ``MAX_WORKERS``.
        """
        if len(self._workers) >= MAX_WORKERS:
            raise PhaseError(f"more than {MAX_WORKERS} workers")
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, self._deadline_s, run, args), name=role, daemon=True
        )
        process.start()
        theirs.close()
        worker = Worker(role, process, ours, self)
        self._workers.append(worker)
        self._speaking[ours] = worker
        return worker

    def listen(self, wanted: Worker) -> None:
        """Wait for words from any worker and keep them; see ``Worker.hear`` for the errors."""
        if wanted.pipe not in self._speaking:
            raise PhaseError(f"{wanted.role}: ended without a word")
        ready = wait(list(self._speaking), max(0.0, self._until - time.monotonic()))
        if not ready:
            raise PhaseError(f"{wanted.role}: missed the deadline")
        for pipe in list(self._speaking):
            if pipe in ready and not self._speaking[pipe].take():
                del self._speaking[pipe]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.stop()


# --- usual phases ---------------------------------------------------------------------


def flow(
    settings: Settings,
    receiver: Callable[..., object],
    sender: Callable[..., object],
    *args: object,
) -> tuple[Usage, Usage]:
    """Sender to receiver for a while; returns the usage of (sender, receiver).

    Receiver: tells where it listens, returns its usage after the last datagram. Sender: is
    started with that place as first argument, hears "done" when the receiver has everything
    (threads of its own may work until then), returns its usage.
    """
    with Crew(settings.deadline_s) as crew:
        sink = crew.start("receiver", receiver, *args)
        place = sink.hear()
        source = crew.start("sender", sender, place, *args)
        received = sink.hear_usage()
        source.tell("done")
        return source.hear_usage(), received


def exchange(
    settings: Settings, server: Callable[..., object], client: Callable[..., object]
) -> tuple[Usage, Usage]:
    """Client against server; returns the usage of (client, server).

    Server: tells where it listens, serves until the client says over the wire that it is done,
    returns its usage since the first request. Client: is started with that place and the seconds.
    """
    with Crew(settings.deadline_s) as crew:
        host = crew.start("server", server)
        guest = crew.start("client", client, host.hear(), settings.seconds)
        return guest.hear_usage(), host.hear_usage()


def ping(
    settings: Settings, server: Callable[..., object], client: Callable[..., object]
) -> object:
    """As ``exchange``, for a server that only echoes until it is ended."""
    with Crew(settings.deadline_s) as crew:
        host = crew.start("server", server)
        return crew.start("client", client, host.hear(), settings.seconds).hear()


# --- from usage to measurement --------------------------------------------------------


def throughput(
    case: Case, contender: str, done: Usage, cpu_s: Mapping[str, float], note: str = ""
) -> Measurement:
    """A rate and a cost: ``done`` says how much in which time, ``cpu_s`` what it cost, by role.

    Raises: PhaseError when nothing was done.
    """
    if done.count <= 0 or done.seconds <= 0:
        raise PhaseError("nothing was carried")
    scale = SCALE[case.cost] / done.count
    by_process = {role: seconds * scale for role, seconds in cpu_s.items()}
    values = {
        case.rate: done.count / done.seconds * SCALE[case.rate],
        case.cost: sum(by_process.values()),
    }
    return Measurement(case, contender, values, by_process, note)


def latency(case: Case, contender: str, samples_ns: object, note: str = "") -> Measurement:
    """p50 and p99 of round trips, given as a sequence of nanoseconds in order of time."""
    if not isinstance(samples_ns, Sequence) or len(samples_ns) < ROUNDS_MIN:
        raise PhaseError("too few round trips")
    ordered = sorted(samples_ns[min(WARM_UP_ROUNDS, len(samples_ns) // 4) :])
    values = {
        P50_US: ordered[len(ordered) // 2] / 1e3,
        P99_US: ordered[len(ordered) * 99 // 100] / 1e3,
    }
    return Measurement(case, contender, values, note=note)
