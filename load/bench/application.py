"""Ours: application to application over two real nodes, each one coordinator and two shards.

Applications use the blocking SDK, with its fastest documented calls: ``send_many``, ``recv_many``.
CPU counts applications, shards and coordinators of both sides. Another contender does the same with
``keep_s=0``, so that nothing is kept to be sent again: what keeping costs is the difference.
"""

from __future__ import annotations

import gc
import time
from functools import partial
from pathlib import Path

from dp2p.sdk import blocking
from dp2p.sdk.registration import KEEP_S
from load.bench import application_connect as connect
from load.bench.harness import Crew, Station, Stopwatch, Usage, latency, throughput
from load.bench.model import (
    BULK_1M,
    BULK_64K,
    RTT_100,
    SMALL_100,
    SMALL_BYTES,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)
from load.bench.nodes import NodesWatch, connected

NAME = "application"
FORGETFUL = "application-keeps-nothing"
PROTOCOL = "bench"
PATIENCE_S = 10.0
CALL_BYTES = 4 << 20  # handed over with one send_many: bulk
CALL_COUNT = 4000  # and small
LAST = 1  # type of the last datagram


def _prepare(node: blocking.Node, priority: str, keep_s: float = KEEP_S) -> blocking.Protocol:
    protocol = node.register(PROTOCOL, priority=priority, keep_s=keep_s)
    gc.freeze()
    return protocol


# --- bulk and small -------------------------------------------------------------------


def receive(station: Station, run_dir: Path, keep_s: float) -> None:
    """Take everything until the last datagram and tell the usage, which counts datagrams without
    that one; then stay until ended.
    """
    with blocking.attach(run_dir, name="receiver") as node:
        protocol = _prepare(node, "bulk", keep_s)
        station.tell("ready")
        batch = protocol.recv_many()
        watch = Stopwatch()
        count = size = 0
        while batch.types[-1] != LAST:
            count += len(batch.payloads)
            size += sum(map(len, batch.payloads))
            batch = protocol.recv_many(PATIENCE_S)
        count += len(batch.payloads) - 1
        station.tell(watch.stop(count))
        while True:  # what was consumed is announced by the next call that waits
            protocol.recv_many()


def send(station: Station, run_dir: Path, size: int, seconds: float, keep_s: float) -> Usage:
    """Send as fast as ``send_many`` takes it, until all is consumed at the other end."""
    with blocking.attach(run_dir, name="sender") as node:
        protocol = _prepare(node, "bulk", keep_s)
        peer = protocol.wait_peer(timeout=PATIENCE_S).id
        count = CALL_COUNT if size <= SMALL_BYTES else max(1, CALL_BYTES // size)
        payloads = [bytes(size)] * count
        station.tell("connected")
        station.hear()
        watch = Stopwatch()
        calls, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            protocol.send_many(peer, payloads, timeout=PATIENCE_S)
            calls += 1
        protocol.send(peer, b"", LAST, PATIENCE_S)
        protocol.drain(peer, PATIENCE_S)
        return watch.stop(calls * count)


def _measure_flow(case: Case, name: str, settings: Settings) -> list[Measurement]:
    keep_s = KEEP_S if name == NAME else 0.0
    with connected() as (first, second), Crew(settings.deadline_s) as crew:
        sink = crew.start("receiver", receive, second.run_dir, keep_s)
        sink.hear()
        source = crew.start("sender", send, first.run_dir, case.size, settings.seconds, keep_s)
        source.hear()
        watch = NodesWatch({"sender's": first, "receiver's": second})
        source.tell("go")
        received = sink.hear_usage()
        sent = source.hear_usage()
        nodes = watch.stop()
    if sent.count != received.count:
        raise PhaseError(f"{sent.count} datagrams sent, {received.count} received")
    unit = 1 if case is SMALL_100 else case.size
    done = Usage(received.count * unit, received.seconds, received.cpu_s)
    cpu_s = {"sender": sent.cpu_s, "receiver": received.cpu_s, **nodes}
    note = f"blocking SDK, send_many and recv_many; {first.aead}"
    return [throughput(case, name, done, cpu_s, note)]


# --- round trip -----------------------------------------------------------------------


def echo(station: Station, run_dir: Path) -> None:
    """Answer until ended."""
    with blocking.attach(run_dir, name="echo") as node:
        protocol = _prepare(node, "normal")
        station.tell("ready")
        for message in protocol:
            protocol.send(message.peer, message.payload)


def ask(_: Station, run_dir: Path, seconds: float) -> list[int]:
    """Round trips, in nanoseconds."""
    clock, payload = time.perf_counter_ns, bytes(SMALL_BYTES)
    samples: list[int] = []
    with blocking.attach(run_dir, name="asker") as node:
        protocol = _prepare(node, "normal")
        peer = protocol.wait_peer(timeout=PATIENCE_S).id
        now = clock()
        until = now + int(seconds * 1e9)
        while now < until:
            before = now
            protocol.send(peer, payload)
            protocol.recv(PATIENCE_S)
            now = clock()
            samples.append(now - before)
    return samples


def _measure_rtt(settings: Settings) -> list[Measurement]:
    with connected() as (first, second), Crew(settings.deadline_s) as crew:
        crew.start("echo", echo, second.run_dir).hear()
        samples = crew.start("asker", ask, first.run_dir, settings.seconds).hear()
    note = f"blocking SDK, send and recv; {first.aead}"
    return [latency(RTT_100, NAME, samples, note)]


SOURCES = (
    *(
        Source(case, name, partial(_measure_flow, case, name))
        for case in (BULK_64K, BULK_1M, SMALL_100)
        for name in (NAME, FORGETFUL)
    ),
    Source(RTT_100, NAME, _measure_rtt),
    *connect.SOURCES,
)
