"""Workers of the shares group: applications that pour, tick and gauge, and the bottleneck between.

All of them share CLOCK_MONOTONIC, in nanoseconds, with each other and with the phase.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dp2p.sdk import blocking
from load.bench.harness import Station
from load.bench.model import SMALL_BYTES, PhaseError
from load.bottleneck import NS, Bottleneck, Shape

PATIENCE_S = 15.0
CALL_BYTES = 256 << 10  # handed over with one send_many, or one datagram
STAMP = struct.Struct("<q")
TICK_NS = NS // 50  # between urgent datagrams
Sample = tuple[int, int]
"When something came, and how much of it (bytes), or how old it was (ns)."


@dataclass(frozen=True, slots=True)
class Stream:
    """A protocol and what is sent in it."""

    name: str
    size: int = SMALL_BYTES
    "Bytes of a payload."
    priority: Literal["urgent", "normal", "bulk"] = "normal"
    weight: int = 16

    def register(self, node: blocking.Node) -> blocking.Protocol:
        """Put it on the air; all but the class and the weight is what applications get."""
        return node.register(self.name, priority=self.priority, weight=self.weight)


def wait_until(at_ns: int) -> None:
    """Sleep."""
    time.sleep(max(0, at_ns - time.monotonic_ns()) / NS)


def _hear_time(station: Station) -> int:
    word = station.hear()
    if not isinstance(word, int):
        raise PhaseError(f"a time was to come, not {word!r}")
    return word


def _stay(station: Station, samples: list[Sample]) -> None:
    """Tell them, and keep the protocol on the air until ended: its peer still sends."""
    station.tell(samples)
    station.hear()


def bottleneck(station: Station, port: int, shape: Shape) -> None:
    """A bottleneck before ``port``; tells its port, and works until ended."""
    between = Bottleneck(("127.0.0.1", port), shape)
    station.tell(between.place[1])
    between.run()


# --- applications that send -----------------------------------------------------------


def pour(station: Station, run_dir: Path, stream: Stream) -> None:
    """From the time it hears on, send as fast as ``send_many`` takes it, until ended."""
    with blocking.attach(run_dir, name=f"pour {stream.name}") as node:
        protocol = stream.register(node)
        peer = protocol.wait_peer(timeout=PATIENCE_S).id
        payloads = [bytes(stream.size)] * max(1, CALL_BYTES // stream.size)
        station.tell("connected")
        wait_until(_hear_time(station))
        while True:
            protocol.send_many(peer, payloads)


def tick(station: Station, run_dir: Path, stream: Stream) -> None:
    """From the time it hears on, send 50 datagrams a second, each with its time, until ended."""
    with blocking.attach(run_dir, name=f"tick {stream.name}") as node:
        protocol = stream.register(node)
        peer = protocol.wait_peer(timeout=PATIENCE_S).id
        rest = bytes(stream.size - STAMP.size)
        station.tell("connected")
        due = _hear_time(station)
        while True:
            wait_until(due)
            protocol.send(peer, STAMP.pack(due) + rest)
            due += TICK_NS


# --- applications that receive --------------------------------------------------------


Take = Callable[[blocking.Protocol, float], Sample]
"Wait for what comes next, so many seconds at most.  Raises: TimeoutError."


def _take_all(station: Station, run_dir: Path, stream: Stream, take: Take) -> None:
    """Take until the time it hears; tells the samples."""
    with blocking.attach(run_dir, name=f"receiver of {stream.name}") as node:
        protocol = stream.register(node)
        station.tell("ready")
        samples: list[Sample] = []
        end = _hear_time(station)
        while (left := end - time.monotonic_ns()) > 0:
            try:
                samples.append(take(protocol, left / NS))
            except TimeoutError:
                break
        _stay(station, samples)


def _take_bytes(protocol: blocking.Protocol, timeout: float) -> Sample:
    batch = protocol.recv_many(timeout)
    return time.monotonic_ns(), sum(map(len, batch.payloads))


def _take_age(protocol: blocking.Protocol, timeout: float) -> Sample:
    message = protocol.recv(timeout)
    (sent,) = STAMP.unpack_from(message.payload)
    now = time.monotonic_ns()
    return now, now - sent


def gauge(station: Station, run_dir: Path, stream: Stream) -> None:
    """Take all until the time it hears; tells when it came, and bytes of payload."""
    _take_all(station, run_dir, stream, _take_bytes)


def clock(station: Station, run_dir: Path, stream: Stream) -> None:
    """Take all until the time it hears; tells when it came, and its way in nanoseconds."""
    _take_all(station, run_dir, stream, _take_age)


def ignore(station: Station, run_dir: Path, stream: Stream) -> None:
    """Register, and read nothing until ended."""
    with blocking.attach(run_dir, name=f"ignore {stream.name}") as node:
        stream.register(node)
        station.tell("ready")
        while True:
            time.sleep(PATIENCE_S)


# --- from samples to figures ----------------------------------------------------------


def rate(samples: Sequence[Sample], start_ns: int, end_ns: int) -> float:
    """Bytes a second between the first and the last arrival within a span, so that large datagrams
    do not make it coarse.  Raises: PhaseError when too little came.
    """
    inside = [sample for sample in samples if start_ns <= sample[0] < end_ns]
    if len(inside) < 3 or inside[-1][0] == inside[0][0]:
        raise PhaseError(f"only {len(inside)} arrivals to take a rate from")
    return sum(size for _, size in inside[1:]) * NS / (inside[-1][0] - inside[0][0])


def percentile_ms(samples: Sequence[Sample], start_ns: int, end_ns: int, share: float) -> float:
    """Of the ages of what came within a span, in milliseconds.  Raises: PhaseError."""
    ages = sorted(age for at, age in samples if start_ns <= at < end_ns)
    if len(ages) < 10:
        raise PhaseError(f"only {len(ages)} arrivals to take a percentile from")
    return ages[min(len(ages) - 1, int(len(ages) * share))] / 1e6
