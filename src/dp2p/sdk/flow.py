"""One conversation: a peer and a protocol, for as long as both applications live.

Source: docs/spec/app-api.md, "Flows and credit". While the peer is there, the conversation is
bound to a flow of a shard. What is not confirmed is kept, and goes into the next flow first.
Positions here are absolute, in datagrams and in bytes of credit (a datagram costs its payload and
16 bytes); those in records count from the flow's UP, where the confirmed position was the base.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import accumulate

from dp2p import records
from dp2p.records import DATAGRAM_COST, HEADER, Datagrams, Epoch, Position
from dp2p.sdk.arrivals import Arrivals, GapError
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.port import NOWHERE, SLICE_BYTES, Port
from dp2p.sdk.types import SendError
from dp2p.sdk.up import Up


class Flow:
    """Both directions of one conversation."""

    __slots__ = (
        "_again",
        "_base",
        "_fresh",
        "_kept",
        "_limit",
        "_marked",
        "_queued",
        "_whole",
        "arrivals",
        "begun",
        "confirmed_bytes",
        "confirmed_datagrams",
        "down",
        "epoch",
        "handed_datagrams",
        "max_datagram",
        "number",
        "payloads",
        "peer",
        "port",
        "protocol",
        "sent_bytes",
        "sent_datagrams",
        "type_count",
        "types",
        "up",
        "waiting",
        "window",
    )

    def __init__(self, up: Up, epoch: int | None, arrivals: Arrivals | None = None) -> None:
        """``epoch`` names what is sent; None: nothing is kept, and the first flow is the last."""
        self.protocol = up.protocol
        self.epoch = epoch
        self.up = up
        self.peer = up.described()
        self.max_datagram = up.max_datagram
        self.type_count = up.types
        self.port = NOWHERE
        self.number = 0
        self.down: str | None = None
        "Why the peer was given up, if it was."
        self.begun = False
        "It has been bound."
        self.arrivals = arrivals or Arrivals(up.peer)
        "What comes; it is bound by the first record that comes in a flow."
        # --- sending ---
        self.window = up.window
        self._limit = 0
        "``sent_bytes`` may go up to here: confirmed bytes plus window; 0 while the peer is away."
        self.sent_datagrams = self.sent_bytes = 0
        "Accepted, whether or not they have left this process."
        self.handed_datagrams = 0
        "Of those, handed to a socket."
        self.confirmed_datagrams = self.confirmed_bytes = 0
        self.payloads: list[bytes] = []
        self.types: list[int] = []
        self._queued = 0
        self._fresh: list[bytes] = []
        "Records to hand to the socket next."
        self._kept: deque[_Kept] = deque()
        "Records of this flow that are not confirmed in whole."
        self._again: deque[_Kept] = deque()
        "Those of earlier flows that this one has had no credit for yet."
        self._base = self._whole = (0, 0)
        """Positions: at UP, and behind the last record that was confirmed in whole. Both are
        datagrams and bytes.
        """
        self._marked = False
        self.waiting: deque[Outgoing] = deque()

    # --- the flow of a shard that carries it ---

    def bind(self, port: Port, number: int, up: Up) -> None:
        """The peer is there. What was not confirmed goes again, as far as credit allows."""
        self.port, self.number, self.up = port, number, up
        self.peer = up.described()
        self.begun = True
        self.window = up.window
        self._base = self.confirmed_datagrams, self.confirmed_bytes
        self._limit = self.confirmed_bytes + up.window
        if self.epoch is not None:
            port.urgent.append(records.encode_epoch(number, Epoch(self.epoch, *self._base)))
        self._send_again()

    def leave(self) -> None:
        """The peer is away: nothing goes out, and what is not confirmed will go again."""
        self._close_record()
        if self._marked:
            self.port.ready.remove(self)
            self._marked = False
        self.arrivals.leave()
        self.port = NOWHERE
        self._limit = 0
        self._fresh = []
        self._kept.extend(self._again)
        self._again, self._kept = self._kept, deque()
        self._cut_confirmed()

    def close(self, reason: str) -> list[Outgoing]:
        """The peer is given up, after it has left: nothing is kept any more. Returns the calls
        that will never finish.
        """
        self.down = reason
        left = list(self.waiting)
        for outgoing in left:
            outgoing.error = self.error("peer_down", reason, outgoing.accepted)
        self.waiting.clear()
        self._again.clear()
        return left

    def heir(self, epoch: int | None) -> Flow:
        """What is left of it once it is closed: the other direction, and this one too if all was
        confirmed; else a new one begins, named by ``epoch``.
        """
        if self.unconfirmed or self.epoch is None:
            return Flow(self.up, epoch, self.arrivals)
        heir = Flow(self.up, self.epoch, self.arrivals)
        heir.begun = self.begun
        heir.sent_datagrams = heir.handed_datagrams = heir.confirmed_datagrams = self.sent_datagrams
        heir.sent_bytes = heir.confirmed_bytes = self.sent_bytes
        heir._whole = self.sent_datagrams, self.sent_bytes
        return heir

    @property
    def idle(self) -> bool:
        """Whether nothing is unconfirmed, and nothing waits."""
        return self.sent_datagrams == self.confirmed_datagrams and not self.waiting

    # --- sending ---

    def check(self, largest: int, lowest_type: int, highest_type: int) -> None:
        """Raise what the node would refuse: size and type."""
        if largest > self.max_datagram:
            text = f"{largest} bytes, the peer takes {self.max_datagram}"
            raise self.error("datagram_too_large", text)
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
        taken, accepted = head.taken, head.accepted
        stop = head.stop_within(credit, SLICE_BYTES)
        if stop == accepted:
            return None
        self._close_record()
        record = head.cut(self.number, stop)
        self.sent_bytes += head.taken - taken
        self.sent_datagrams += stop - accepted
        self._queue(record, self.sent_datagrams, self.sent_bytes)
        self.port.backlog += head.taken - taken
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
        done, self._fresh = self._fresh, []
        if self._kept:
            self.handed_datagrams = max(self.handed_datagrams, self._kept[-1][1])
        return done

    def confirm(self, position: Position) -> None:
        """The peer's application has consumed up to ``position`` of this flow. Positions never go
        back, and none is believed beyond what was handed out.
        """
        self.window = position.window
        datagrams = min(self._base[0] + position.datagrams, self.handed_datagrams)
        kept = self._kept
        while kept and kept[0][1] <= datagrams:
            self._whole = kept.popleft()[1:]
        if kept:
            size = min(self._base[1] + position.bytes, kept[0][2])
            self.confirmed_datagrams = max(self.confirmed_datagrams, datagrams)
            self.confirmed_bytes = max(self.confirmed_bytes, self._whole[1], size)
        else:
            self.confirmed_datagrams, self.confirmed_bytes = self._whole
        self._limit = self.confirmed_bytes + position.window
        if self._again:
            self._send_again()

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
            self._queue(record, self.sent_datagrams, self.sent_bytes)
            self.payloads, self.types = [], []
            self.port.backlog += self._queued
            self._queued = 0

    def _queue(self, record: bytes, datagrams: int, size: int) -> None:
        """A record for the socket; the positions are those behind it."""
        self._fresh.append(record)
        self._kept.append((record if self.epoch is not None else b"", datagrams, size))

    # --- sending again ---

    def _cut_confirmed(self) -> None:
        """Take the beginning that is confirmed off the first record that is kept."""
        if self.epoch is None:
            return
        if done := self.confirmed_datagrams - self._whole[0]:
            record, datagrams, size = self._again[0]
            data = records.decode_data(memoryview(record)[HEADER.size :])
            rest = records.encode_data(0, data.payloads[done:], data.types[done:])
            self._again[0] = rest, datagrams, size
            cost = sum(map(len, data.payloads[:done])) + DATAGRAM_COST * done
            self._whole = self.confirmed_datagrams, self._whole[1] + cost
        self.confirmed_datagrams, self.confirmed_bytes = self._whole

    def _send_again(self) -> None:
        """Move what earlier flows had sent into this one, as far as credit goes. Until it is all
        there, there is no credit for anything else.
        """
        again = self._again
        while again and again[0][2] <= self._limit:
            record, datagrams, size = again.popleft()
            self._queue(records.readdress(record, self.number), datagrams, size)
            self.port.backlog += len(record)
        if again and not self._kept:
            self._send_part()
        if self._fresh and not self._marked:
            self._marked = True
            self.port.ready.append(self)

    def _send_part(self) -> None:
        """The window is smaller than the next record, and nothing is under way: send a part."""
        record, datagrams, size = self._again[0]
        data = records.decode_data(memoryview(record)[HEADER.size :])
        ends = list(accumulate(len(payload) + DATAGRAM_COST for payload in data.payloads))
        stop = bisect_right(ends, self.window)
        if not stop:
            return
        part = records.encode_data(self.number, data.payloads[:stop], data.types[:stop])
        rest = records.encode_data(0, data.payloads[stop:], data.types[stop:])
        done_datagrams, done_bytes = self._whole
        self._again[0] = rest, datagrams, size
        self._queue(part, done_datagrams + stop, done_bytes + ends[stop - 1])
        self.port.backlog += len(part)

    @property
    def kept(self) -> list[bytes]:
        """Records that are kept because they are not confirmed in whole, in order."""
        return [record for record, _, _ in (*self._kept, *self._again)]

    # --- receiving ---

    def meet(self, said: Epoch) -> None:
        """The peer says where this flow begins in its conversation.

        Raises: GapError when this leaves something out; it goes on from there.
        """
        known = self.arrivals
        if known.port is not NOWHERE:
            raise GapError("the flow has begun already")
        whole = known.epoch == said.epoch and known.holds(said)
        if not whole:
            self.arrivals = Arrivals(self.peer.id, said)
        self.arrivals.bind(self.port, self.number, said)
        if known.epoch == said.epoch and not whole:
            raise GapError(
                f"{known.consumed_datagrams} were consumed, it goes on at {said.datagrams}"
            )

    def receive(self, data: Datagrams) -> Datagrams:
        """Datagrams of the peer; returns those that are new.

        Raises: GapError when they do not fit what came before; call it again with the same ones.
        """
        if self.arrivals.port is NOWHERE:  # the peer keeps nothing
            self.arrivals = Arrivals(self.peer.id)
            self.arrivals.bind(self.port, self.number, Epoch(0, 0, 0))
        try:
            return self.arrivals.take_in(data)
        except GapError:
            self.arrivals = self.arrivals.restarted()
            raise


_Kept = tuple[bytes, int, int]
"""A DATA record (empty if nothing is kept), and the position behind it: datagrams, bytes."""
