"""Baseline: TLS 1.3 over asyncio with uvloop, Protocol API, two processes.

The server has a self-signed P-256 certificate, which the client checks; the client has none (dp2p
and CURVE authenticate both sides). No session is resumed. A byte stream: no message boundaries.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from functools import partial
from typing import TypeVar, cast

import uvloop

from load.bench.harness import Station, Stopwatch, Usage, exchange, flow, latency, ping, throughput
from load.bench.model import (
    BULK_1M,
    BULK_64K,
    CONNECT_16,
    RTT_100,
    SMALL_100,
    SMALL_BYTES,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)
from load.bench.tls_context import HOST, client_context, self_signed, server_context

NAME = "tls13-uvloop"  # received by asyncio.Protocol
BUFFERED = "tls13-uvloop-buffered"  # received by asyncio.BufferedProtocol
HANDSHAKE_S = 10.0
HIGH_WATER = 64 << 10  # bytes in the transport before the sender is paused
READ_BYTES = 256 << 10
LAST = b"L"  # first byte of the request that ends a server
Place = tuple[int, bytes]  # port, certificate (PEM)
PeerT = TypeVar("PeerT", bound="Peer")


class Peer(asyncio.BaseProtocol):
    """A protocol that knows its transport and when that is closed."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def cipher(self) -> str:
        """What was negotiated, as OpenSSL calls it."""
        name, version, _ = self.transport.get_extra_info("cipher")
        return f"{version} {name}"


async def _listen(station: Station, peer: type[Peer]) -> asyncio.Future[Peer]:
    """Serve ``peer`` on a port of its own and tell where; resolves to the first connection."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[Peer] = loop.create_future()

    def made() -> Peer:
        one = peer()
        if not first.done():
            first.set_result(one)
        return one

    certificate, key = self_signed()
    server = await loop.create_server(
        made, "127.0.0.1", 0, ssl=server_context(certificate, key), backlog=128
    )
    station.tell((server.sockets[0].getsockname()[1], certificate))
    return first


async def _dial(place: Place, peer: type[PeerT], context: ssl.SSLContext) -> PeerT:
    loop = asyncio.get_running_loop()
    _, one = await loop.create_connection(
        peer,
        "127.0.0.1",
        place[0],
        ssl=context,
        server_hostname=HOST,
        ssl_handshake_timeout=HANDSHAKE_S,
    )
    return one


# --- bulk and small ---------------------------------------------------------------------


class Sink(Peer):
    """Counts what arrives, from the first byte on."""

    watch: Stopwatch | None = None
    taken = 0

    def count(self, size: int) -> None:
        self.watch = self.watch or Stopwatch()
        self.taken += size

    def usage(self) -> Usage:
        if self.watch is None:
            raise PhaseError("nothing arrived")
        return self.watch.stop(self.taken)


class BytesSink(Sink, asyncio.Protocol):
    """The usual API: every chunk is a bytes object of its own."""

    def data_received(self, data: bytes) -> None:
        self.count(len(data))


class BufferSink(Sink, asyncio.BufferedProtocol):
    """The frugal API: one buffer, written again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(READ_BYTES)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.count(nbytes)


async def _receive(station: Station, kind: type[Sink]) -> Usage:
    sink = await (await _listen(station, kind))
    assert isinstance(sink, Sink)
    await sink.closed
    return sink.usage()


def receive(station: Station, _size: int, _seconds: float) -> Usage:
    """Take everything until the sender closes; usage counts bytes."""
    return uvloop.run(_receive(station, BytesSink))


def receive_buffered(station: Station, _size: int, _seconds: float) -> Usage:
    """As ``receive``, with the frugal API."""
    return uvloop.run(_receive(station, BufferSink))


class Spout(Peer, asyncio.Protocol):
    """A sender's end: says when the transport wants more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.wanted = asyncio.Event()
        self.wanted.set()

    def pause_writing(self) -> None:
        self.wanted.clear()

    def resume_writing(self) -> None:
        self.wanted.set()


async def _pour(spout: Spout, size: int, seconds: float) -> int:
    """Write until the time is over and everything is out; returns the bytes."""
    write, open_, payload = spout.transport.write, spout.wanted.is_set, bytes(size)
    block = range(100 if size <= SMALL_BYTES else 1)
    written, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in block:
            write(payload)
        written += size * len(block)
        if not open_():
            await spout.wanted.wait()
    spout.transport.close()
    await spout.closed
    return written


async def _send(station: Station, place: Place, size: int, seconds: float) -> Usage:
    spout = await _dial(place, Spout, client_context(place[1]))
    cipher = spout.cipher()
    watch = Stopwatch()
    written = await _pour(spout, size, seconds)
    station.hear()
    return watch.stop(written, cipher)


def send(station: Station, place: Place, size: int, seconds: float) -> Usage:
    """Send writes of ``size`` for a while; notes the cipher."""
    return uvloop.run(_send(station, place, size, seconds))


def _measure_flow(case: Case, contender: str, settings: Settings) -> list[Measurement]:
    self_signed()  # its absence is found here, not in a worker
    sink, api = SINKS[contender]
    sent, received = flow(settings, sink, send, case.size, settings.seconds)
    if sent.count != received.count:
        raise PhaseError("bytes lost")
    unit = case.size if case is SMALL_100 else 1
    done = Usage(received.count // unit, received.seconds, received.cpu_s)
    cpu_s = {"sender": sent.cpu_s, "receiver": received.cpu_s}
    return [throughput(case, contender, done, cpu_s, f"{sent.note}; a stream; {api}")]


SINKS = {NAME: (receive, "Protocol"), BUFFERED: (receive_buffered, "BufferedProtocol")}


# --- round trip and new connections ------------------------------------------------------


class Echo(Peer, asyncio.Protocol):
    """Sends everything back; usage from the first request to the last one."""

    watch: Stopwatch | None = None
    answered = 0
    usage: asyncio.Future[Usage]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if data.startswith(LAST) and Echo.watch and not Echo.usage.done():
            Echo.usage.set_result(Echo.watch.stop(Echo.answered))
        Echo.answered += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        Echo.watch = Echo.watch or Stopwatch()


async def _serve(station: Station) -> Usage:
    Echo.usage = asyncio.get_running_loop().create_future()
    await _listen(station, Echo)
    return await Echo.usage


def serve(station: Station) -> Usage:
    """Echo on every connection until the last request."""
    return uvloop.run(_serve(station))


class Asker(Peer, asyncio.Protocol):
    """One request at a time: ``answer`` resolves when it is back."""

    answer: asyncio.Future[None]
    missing = 0

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self.answer = asyncio.get_running_loop().create_future()
        self.missing = len(request)
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            self.answer.set_result(None)


class Pinger(Peer, asyncio.Protocol):
    """Asks again as soon as the answer is there, without a task in between."""

    payload = bytes(SMALL_BYTES)

    def start(self, seconds: float) -> None:
        self.samples: list[int] = []
        self.before = time.perf_counter_ns()
        self.until = self.before + int(seconds * 1e9)
        self.transport.write(self.payload)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()  # 100 bytes travel as one record: they come whole
        self.samples.append(now - self.before)
        if now >= self.until:
            self.transport.close()
            return
        self.before = now
        self.transport.write(self.payload)


async def _ask(place: Place, seconds: float) -> tuple[list[int], str]:
    pinger = await _dial(place, Pinger, client_context(place[1]))
    cipher = pinger.cipher()
    pinger.start(seconds)
    await pinger.closed
    return pinger.samples, cipher


def ask(_: Station, place: Place, seconds: float) -> tuple[list[int], str]:
    """Round trips in nanoseconds, and the cipher."""
    return uvloop.run(_ask(place, seconds))


def _measure_rtt(settings: Settings) -> list[Measurement]:
    self_signed()
    answer = ping(settings, serve, ask)
    assert isinstance(answer, tuple)
    samples, cipher = answer
    return [latency(RTT_100, NAME, samples, cipher)]


async def _visit_until(place: Place, context: ssl.SSLContext, until: float) -> int:
    """Connect, ask, close, again; returns how many were done in time."""
    count = 0
    while True:
        asker = await _dial(place, Asker, context)
        await asker.ask(bytes(SMALL_BYTES))
        asker.transport.abort()
        if time.perf_counter() >= until:
            return count
        count += 1


async def _visit(place: Place, seconds: float) -> Usage:
    context = client_context(place[1])
    watch = Stopwatch()
    until = time.perf_counter() + seconds
    visits = [_visit_until(place, context, until) for _ in range(CONNECT_16.count)]
    count = sum(await asyncio.gather(*visits))
    usage = watch.stop(count)
    last = await _dial(place, Asker, context)
    cipher = last.cipher()
    await last.ask(LAST)
    return dataclasses.replace(usage, note=cipher)


def visit(_: Station, place: Place, seconds: float) -> Usage:
    """Keep 16 connections under way for a while."""
    return uvloop.run(_visit(place, seconds))


def _measure_connections(settings: Settings) -> list[Measurement]:
    self_signed()
    made, served = exchange(settings, serve, visit)
    cpu_s = {"client": made.cpu_s, "server": served.cpu_s}
    note = f"{made.note}; full handshake, one message in, answered, closed"
    return [throughput(CONNECT_16, NAME, made, cpu_s, note)]


SOURCES = (
    *(
        Source(case, contender, partial(_measure_flow, case, contender))
        for case in (BULK_64K, BULK_1M, SMALL_100)
        for contender in SINKS
    ),
    Source(RTT_100, NAME, _measure_rtt),
    Source(CONNECT_16, NAME, _measure_connections),
)
