"""Ours: new connections that a whole node takes, its coordinator admitting each one.

Peers have one connection with a node, so each dial comes from an identity of its own: 16 threads,
each with an engine (which waits without the interpreter's lock), made anew for every connection.
"""

from __future__ import annotations

import threading
import time

import msgspec

from dp2p.hello import CloseReason, Hello, Protocols
from dp2p.transport import Event
from load.bench.engine_side import Side
from load.bench.harness import Crew, Station, Stopwatch, Usage, throughput
from load.bench.model import CONNECT_16, Measurement, PhaseError, Settings, Source
from load.bench.nodes import NETWORK, NodesWatch, running

NAME = "application"
HELLO = msgspec.json.encode(Hello(instance="0" * 16))
NOTHING = msgspec.json.encode(Protocols(generation=1, protocols=[]))


class Visitor(Side):
    """One connection to a node: admitted on both sides, then closed."""

    link = 0  # once it is open

    def __init__(self, port: int) -> None:
        super().__init__(network=NETWORK)
        self.engine.set_hello(HELLO)
        self.dial(port)

    def greeting(self, _event: Event) -> bytes:
        return NOTHING

    def opened(self, event: Event) -> None:
        self.link = event.link

    def visit(self) -> None:
        """Until it is open, then close it. Raises: PhaseError when the node refuses."""
        while not self.link:
            self.turn_or_fail()
        self.engine.close_link(self.link, CloseReason.BYE)
        self.turn(0)
        self.engine.close()


class Crowd:
    """Threads that visit until the time is over."""

    def __init__(self, port: int, seconds: float) -> None:
        self.counts: list[int] = []
        self.failures: list[str] = []
        self._port = port
        self._until = time.perf_counter() + seconds
        self._threads = [threading.Thread(target=self._run) for _ in range(CONNECT_16.count)]

    def _run(self) -> None:
        count = 0
        try:
            while True:
                Visitor(self._port).visit()
                if time.perf_counter() >= self._until:
                    break
                count += 1
        except PhaseError as error:
            self.failures.append(str(error))
        self.counts.append(count)

    def visit(self) -> int:
        """How many connections were made in time. Raises: PhaseError."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise PhaseError(f"{len(self.failures)} visitors failed: {self.failures[0]}")
        return sum(self.counts)


def visit(_: Station, port: int, seconds: float) -> Usage:
    """Keep 16 connections under way for a while; those still under way at the end do not count."""
    watch = Stopwatch()
    return watch.stop(Crowd(port, seconds).visit())


def _measure(settings: Settings) -> list[Measurement]:
    with running("a") as (node,), Crew(settings.deadline_s) as crew:
        watch = NodesWatch({"node's": node})
        port = int(node.place.rpartition(":")[2])
        made = crew.start("dialling", visit, port, settings.seconds).hear_usage()
        nodes = watch.stop()
    note = f"a node with two shards; each dialler a new identity and engine; {node.aead}"
    return [throughput(CONNECT_16, NAME, made, {"dialling": made.cpu_s, **nodes}, note)]


SOURCES = (Source(CONNECT_16, NAME, _measure),)
