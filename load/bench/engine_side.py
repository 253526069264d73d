"""One side of an engine-to-engine measurement: a shard's loop with the application inside it.

It does what ``dp2p.shards.shard`` does for each message, without ZeroMQ: poll, events, outputs,
ingest. Applications' records are made and read as ``dp2p.records`` says, but payloads are not cut
into Python objects: that is the SDK's work and is measured from application to application.
"""

from __future__ import annotations

import gc
import secrets
import struct
import time
from typing import Any

from dp2p import records
from dp2p.hello import CloseReason, ControlType
from dp2p.records import DATAGRAM_COST, HEADER, Kind, Position
from dp2p.transport import (
    WOKEN_EVENTS,
    WOKEN_OUTPUT,
    Engine,
    Event,
    EventKind,
    FlowConfig,
    NodeConfig,
    Place,
    status_name,
)
from load.bench.model import PhaseError

HOST = "127.0.0.1"
PATIENCE_S = 10.0  # a silent peer ends the phase
POLL_MS = 1000
MAX_DATAGRAM = 1 << 20
WINDOW = 2 * (MAX_DATAGRAM + DATAGRAM_COST)
"What ``dp2p.coordinator.registry`` chooses for a protocol with these datagrams."
CONTROL = b"{}"  # of the first control datagram: no coordinator is here to read it
NUMBER = 7  # the protocol's channel, on both sides
_COUNTS = struct.Struct("<II")


def config(aead: str | None, network: str) -> NodeConfig:
    """A shard's limits, but for the caps that a crowd from one address would meet."""
    return NodeConfig(
        network=network,
        aead=aead,
        max_links=1 << 16,
        max_handshakes_per_address=1024,
        max_handshakes_per_network=1024,
    )


class Side:
    """An engine, one application's sink, and the loop's body. Subclasses say what to do."""

    def __init__(self, aead: str | None = None, network: str = "bench") -> None:
        self.engine = Engine(secrets.token_bytes(32), config(aead, network))
        self.sink = self.engine.sink_open()
        self._kept: dict[int, Any] = {}
        self._token = 0

    def listen(self) -> int:
        """Returns the port."""
        return self.engine.listen(Place(HOST, 0))

    def dial(self, port: int) -> None:
        """Begin to connect."""
        self.engine.dial(Place(HOST, port), dial=1)

    def settle(self) -> None:
        """As a shard before its loop: what was made so far lives as long as the process."""
        gc.collect()
        gc.freeze()

    def turn(self, timeout_ms: int = POLL_MS) -> int:
        """Wait for something, then handle all there is; returns the poll's bits."""
        engine = self.engine
        woken = engine.poll(timeout_ms)
        if woken & WOKEN_EVENTS:
            for event in engine.events():
                self.handle(event)
            engine.events_done()
        if woken & WOKEN_OUTPUT:
            for _, message in engine.outputs():
                self.take(message)
        while self._kept and (tokens := engine.released()):
            for token in tokens:
                self.let_go(self._kept.pop(token))
        return woken

    def turn_or_fail(self) -> None:
        """A turn in which something must happen. Raises: PhaseError after ``PATIENCE_S``."""
        until = time.monotonic() + PATIENCE_S
        while not self.turn():
            if time.monotonic() > until:
                raise PhaseError(f"nothing happened for {PATIENCE_S:g} s")

    def ingest(self, message: bytes) -> None:
        """An application's message."""
        self._token += 1
        if self.engine.ingest(self.sink, self._token, message):
            self._kept[self._token] = message

    def handle(self, event: Event) -> None:
        """One event of the engine."""
        match event.kind:
            case EventKind.READY:
                self.engine.admit(event.link, self.greeting(event))
            case EventKind.CONTROL:
                if event.type == ControlType.PROTOCOLS:
                    self.opened(event)
            case EventKind.DOWN:
                self.down(event)
            case EventKind.REFUSED:
                raise PhaseError(f"a record was refused: {status_name(event.status)}")

    def open_flow(self, link: int) -> int:
        """Join the protocol on a link that is open on both sides."""
        flow = FlowConfig(
            sink=self.sink,
            number=NUMBER,
            peer_number=NUMBER,
            max_datagram=MAX_DATAGRAM,
            window=WINDOW,
            peer_window=WINDOW,
        )
        return self.engine.flow_open(link, flow)

    # --- what subclasses say ---

    def greeting(self, _event: Event) -> bytes:
        """First control datagram on a link that is ready."""
        return CONTROL

    def opened(self, event: Event) -> None:
        """The peer has admitted the link too; event.data is its greeting."""

    def down(self, event: Event) -> None:
        """A link is gone."""
        if event.reason != CloseReason.BYE:
            raise PhaseError(f"link down: {status_name(event.status)}, reason {event.reason}")

    def take(self, message: Any) -> None:
        """One message for the application."""

    def let_go(self, message: bytes) -> None:
        """A message that was kept is sent, or its flow is gone."""


class Streamer(Side):
    """A side with one link and one flow, and its application's bookkeeping of credit."""

    def __init__(self, aead: str | None = None) -> None:
        super().__init__(aead)
        self.flow = 0
        self._link = 0
        self.ended = False
        "The peer's last datagram, of type 1, is here."
        self.sent_datagrams = self.sent_bytes = 0
        self.limit = WINDOW
        self.confirmed = Position(WINDOW, 0, 0)
        self.taken_datagrams = self.taken_bytes = 0
        self.announced = 0

    def opened(self, event: Event) -> None:
        self.flow, self._link = self.open_flow(event.link), event.link

    def leave(self) -> None:
        """Close the link with a word."""
        self.engine.close_link(self._link, CloseReason.BYE)
        self.turn(0)

    def meet(self) -> None:
        """Until the link and its flow are open."""
        while not self.flow:
            self.turn_or_fail()
        self.settle()

    # --- sending ---

    def record(self, size: int, count: int, type_: int = 0) -> bytes:
        """A DATA record as the SDK makes it."""
        return records.encode_data(self.flow, [bytes(size)] * count, type_)

    def send(self, record: bytes, count: int, cost: int) -> bool:
        """Hand a record over if credit allows."""
        if self.sent_bytes + cost > self.limit:
            return False
        self.ingest(record)
        self.sent_bytes += cost
        self.sent_datagrams += count
        return True

    def drain(self) -> None:
        """Until the peer's application has consumed everything."""
        while self.confirmed.datagrams < self.sent_datagrams:
            self.turn_or_fail()

    # --- receiving ---

    def take(self, message: Any) -> None:
        offset, size = 0, len(message)
        while offset < size:
            length, kind, _, flow = HEADER.unpack_from(message, offset)
            if flow != self.flow:
                raise PhaseError(f"a record of flow {flow}, not {self.flow}")
            if kind == Kind.DATA:
                self._take_data(message, offset, length)
            elif kind == Kind.CREDIT:
                body = memoryview(message)[offset + HEADER.size : offset + length]
                self.confirmed = records.decode_position(body)
                self.limit = self.confirmed.bytes + self.confirmed.window
            offset += length

    def _take_data(self, message: Any, offset: int, length: int) -> None:
        """Consume a record; the peer hears of it every quarter of the window, and at the end."""
        count, payload = _COUNTS.unpack_from(message, offset + HEADER.size)
        self.taken_datagrams += count
        self.taken_bytes += payload + DATAGRAM_COST * count
        last_type = offset + length - 2 - 2 * (count % 2)
        self.ended |= message[last_type] != b"\0"
        if self.ended or self.taken_bytes - self.announced >= WINDOW // 4:
            self.announce()

    def announce(self) -> None:
        """Grant credit by what was consumed."""
        self.announced = self.taken_bytes
        position = Position(0, self.taken_datagrams, self.taken_bytes)
        self.ingest(records.encode_position(Kind.CONSUMED, self.flow, position))
