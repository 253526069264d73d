"""One flow: a peer and a protocol, from up to down. Credit, positions, and what waits for them.

Source: docs/spec/app-api.md, "Credit". Positions are absolute, count from the flow's UP record, and
are in datagrams and in bytes of credit (a datagram costs its payload and 16 bytes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from dp2p import records
from dp2p.records import DATAGRAM_COST, Kind, Position
from dp2p.sdk.types import Peer, SendError

SLICE_BYTES = 260 << 10
"""Credit that goes into one DATA record, if a single datagram does not need more. Ours: four
datagrams of 64 KiB; beyond that a message costs no less.
"""
FLUSH_BYTES = SLICE_BYTES // 2
_SHARE_BYTES = 8 << 10


class Up(msgspec.Struct, frozen=True):
    """Body of an UP record."""

    protocol: str
    version: int
    peer: str
    key: str
    trust: str
    endpoint: str
    direction: str
    max_datagram: int
    types: int
    window: int
    introducers: int = 0
    mode: str = "xx"


class Port:
    """A shard as this application sees it: what is to go to it."""

    __slots__ = ("attached", "backlog", "consumed", "endpoint", "index", "ready", "urgent")

    def __init__(self, index: int, endpoint: str) -> None:
        self.index = index
        self.endpoint = endpoint
        self.attached = False
        self.urgent: list[bytes] = []
        "Records that go before all others."
        self.ready: list[Flow] = []
        "Flows with datagrams to go, in the order in which they began."
        self.consumed: dict[Flow, None] = {}
        "Flows with a consumed position that the shard has not been told."
        self.backlog = 0
        "Bytes in finished DATA records; from ``FLUSH_BYTES`` on it is time to flush."

    def take_messages(self) -> list[bytes]:
        """All that is to go, as ZeroMQ messages: small records share one, large ones are not
        copied again.
        """
        messages: list[bytes] = []
        shared = self.urgent
        shared += [flow.take_consumed() for flow in self.consumed if flow.down is None]
        for flow in self.ready:
            for record in flow.take_records():
                if len(record) < _SHARE_BYTES:
                    shared.append(record)
                    continue
                if shared:
                    messages.append(b"".join(shared))
                    shared = []
                messages.append(record)
        if shared:
            messages.append(b"".join(shared))
        self.urgent, self.ready, self.consumed, self.backlog = [], [], {}, 0
        return messages


class Outgoing:
    """Payloads of one call on their way into a flow, in order."""

    __slots__ = (
        "_ends",
        "accepted",
        "cost",
        "count",
        "error",
        "payloads",
        "sizes",
        "taken",
        "token",
        "types",
    )

    def __init__(
        self, payloads: Sequence[bytes], types: int | Sequence[int], token: Any = None
    ) -> None:
        self.payloads = payloads
        self.types = types
        self.sizes = list(map(len, payloads))
        self.count = len(self.sizes)
        self.cost = sum(self.sizes) + DATAGRAM_COST * self.count
        self.taken = 0
        "Credit that the accepted ones took."
        self.accepted = 0
        "Payloads that the flow has taken, from the first."
        self.error: SendError | None = None
        "Why the rest never will be."
        self.token = token
        "The caller's own."
        self._ends: list[int] | None = None

    @property
    def done(self) -> bool:
        """Whether the flow has nothing more to do for it."""
        return self.accepted == self.count or self.error is not None

    def stop_within(self, credit: int, slice_bytes: int) -> int:
        """Index behind the last payload of the next record: at most ``credit``, and at most
        ``slice_bytes`` unless a single datagram needs more.
        """
        if self.cost - self.taken <= min(credit, slice_bytes):
            return self.count
        if self._ends is None:
            self._ends = list(accumulate(map(DATAGRAM_COST.__add__, self.sizes)))
        stop = bisect_right(self._ends, self.taken + min(credit, slice_bytes), self.accepted)
        if stop == self.accepted and self.sizes[stop] + DATAGRAM_COST <= credit:
            stop += 1
        return stop

    def cut(self, flow: int, stop: int) -> bytes:
        """The DATA record up to ``stop``; what is in it counts as accepted."""
        start, self.accepted = self.accepted, stop
        if start == 0 and stop == self.count:
            self.taken = self.cost
            return records.encode_data(flow, self.payloads, self.types, self.sizes)
        types = self.types if isinstance(self.types, int) else self.types[start:stop]
        sizes = self.sizes[start:stop]
        self.taken += sum(sizes) + DATAGRAM_COST * len(sizes)
        return records.encode_data(flow, self.payloads[start:stop], types, sizes)


class Flow:
    """Both directions of one flow."""

    __slots__ = (
        "_limit",
        "_marked",
        "_queued",
        "_records",
        "announced_bytes",
        "confirmed_bytes",
        "confirmed_datagrams",
        "consumed_bytes",
        "consumed_datagrams",
        "down",
        "handed_datagrams",
        "max_datagram",
        "number",
        "payloads",
        "peer",
        "port",
        "protocol",
        "received_bytes",
        "received_datagrams",
        "sent_bytes",
        "sent_datagrams",
        "type_count",
        "types",
        "waiting",
        "window",
    )  # fmt: skip

    def __init__(self, port: Port, number: int, up: Up) -> None:
        self.port = port
        self.number = number
        self.protocol = up.protocol
        self.peer = Peer(
            up.peer, up.protocol, up.version, up.key, up.trust, up.introducers, up.endpoint,
            up.direction, up.max_datagram, up.types, up.mode,
        )  # fmt: skip
        self.max_datagram = up.max_datagram
        self.type_count = up.types
        self.down: str | None = None
        "Why it went down, if it did."
        # --- sending ---
        self.window = up.window
        self._limit = up.window
        "``sent_bytes`` may go up to here: confirmed bytes plus window."
        self.sent_datagrams = self.sent_bytes = 0
        "Accepted, whether or not they have left this process."
        self.handed_datagrams = 0
        "Of those, handed to the socket."
        self.confirmed_datagrams = self.confirmed_bytes = 0
        self.payloads: list[bytes] = []
        self.types: list[int] = []
        self._queued = 0
        self._records: list[tuple[bytes, int]] = []
        self._marked = False
        self.waiting: deque[Outgoing] = deque()
        # --- receiving ---
        self.received_datagrams = self.received_bytes = 0
        self.consumed_datagrams = self.consumed_bytes = 0
        self.announced_bytes = 0

    # --- sending ---

    def check(self, largest: int, lowest_type: int, highest_type: int) -> None:
        """Raise what the node would refuse: size and type."""
        most = min(self.max_datagram, self.window - DATAGRAM_COST)
        if largest > most:
            raise self.error("datagram_too_large", f"{largest} bytes, the peer takes {most}")
        if lowest_type < 0 or highest_type >= self.type_count:
            bad = lowest_type if lowest_type < 0 else highest_type
            raise self.error("bad_type", f"type {bad}, the peer takes 0 to {self.type_count - 1}")

    def error(self, code: str, message: str, accepted: int = 0) -> SendError:
        """An error that names this flow's peer and protocol."""
        return SendError(
            code, message, protocol=self.protocol, peer=self.peer.id, accepted=accepted
        )

    def offer(self, payload: bytes, type: int) -> bool:  # noqa: A002
        """Take one datagram if credit allows and nobody waits.  Raises: SendError."""
        size = len(payload)
        if payload.__class__ is not bytes:
            payload = bytes(payload)  # a buffer that its owner may change before it has left
        if size > self.max_datagram or not 0 <= type < self.type_count:
            self.check(size, type, type)
        cost = size + DATAGRAM_COST
        if self.sent_bytes + cost > self._limit or self.waiting or self.down is not None:
            return False
        self.sent_bytes += cost
        self.sent_datagrams += 1
        self.payloads.append(payload)
        self.types.append(type)
        self._queued += cost
        if not self._marked:
            self._marked = True
            self.port.ready.append(self)
        if self._queued >= SLICE_BYTES:
            self._close_record()
        return True

    def submit(self, outgoing: Outgoing) -> None:
        """Queue a call's payloads behind those that wait; ``pump`` takes them."""
        if self.down is not None:
            outgoing.error = self.error("peer_down", self.down)
        elif outgoing.count:
            self.waiting.append(outgoing)

    def pump(self) -> list[Outgoing] | None:
        """Move waiting payloads, as far as credit goes, into one record. Returns the calls that
        this finished, or None when nothing moved: flush and call again until then.
        """
        if not self.waiting:
            return None
        head = self.waiting[0]
        credit = self._limit - self.sent_bytes
        if credit < min(head.cost - head.taken, self.window // 4):
            return None  # little credit beside much to send: more will come, go in larger steps
        before = head.taken, head.accepted
        stop = head.stop_within(credit, SLICE_BYTES)
        if stop == head.accepted:
            return None
        self._close_record()
        self._records.append((head.cut(self.number, stop), stop - before[1]))
        self.sent_bytes += head.taken - before[0]
        self.sent_datagrams += stop - before[1]
        self.port.backlog += head.taken - before[0]
        if not self._marked:
            self._marked = True
            self.port.ready.append(self)
        return [self.waiting.popleft()] if head.done else []

    def give_up(self, outgoing: Outgoing) -> None:
        """Take back what the flow has not accepted of a call."""
        if outgoing in self.waiting:
            self.waiting.remove(outgoing)

    def take_records(self) -> list[bytes]:
        """What goes to the socket now."""
        self._close_record()
        self._marked = False
        done = [record for record, _ in self._records]
        self.handed_datagrams += sum(count for _, count in self._records)
        self._records = []
        return done

    def confirm(self, position: Position) -> None:
        """The peer's application has consumed up to ``position``. Positions never go back."""
        self.window = position.window
        self.confirmed_datagrams = max(self.confirmed_datagrams, position.datagrams)
        self.confirmed_bytes = max(self.confirmed_bytes, position.bytes)
        self._limit = self.confirmed_bytes + position.window

    @property
    def credit(self) -> int:
        """Bytes that may be sent now; a datagram costs 16 more than its payload."""
        return max(0, self._limit - self.sent_bytes)

    @property
    def unconfirmed(self) -> int:
        """Datagrams accepted and not consumed by the peer's application, as far as known."""
        return self.sent_datagrams - self.confirmed_datagrams

    def _close_record(self) -> None:
        if self.payloads:
            record = records.encode_data(self.number, self.payloads, self.types)
            self._records.append((record, len(self.payloads)))
            self.payloads, self.types = [], []
            self.port.backlog += self._queued
            self._queued = 0

    def close(self, reason: str) -> list[Outgoing]:
        """The flow is down: nothing more goes out. Returns the calls that will never finish."""
        self.down = reason
        left = list(self.waiting)
        for outgoing in left:
            outgoing.error = self.error("peer_down", reason, outgoing.accepted)
        self.waiting.clear()
        self.payloads, self.types, self._records = [], [], []
        return left

    # --- receiving ---

    def consume(self, datagrams: int, cost: int) -> None:
        """The application has taken so much; the shard is told with the next flush."""
        self.consumed_datagrams += datagrams
        self.consumed_bytes += cost
        if self.down is None:
            self.port.consumed[self] = None

    def take_consumed(self) -> bytes:
        """The CONSUMED record that is due."""
        self.announced_bytes = self.consumed_bytes
        position = Position(0, self.consumed_datagrams, self.consumed_bytes)
        return records.encode_position(Kind.CONSUMED, self.number, position)
