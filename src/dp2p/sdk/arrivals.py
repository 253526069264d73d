"""The receiving half of a conversation: what has come from a peer's application, and how much of it
this application has taken, over whatever connections.

Source: docs/spec/app-api.md, "Order and delivery". Positions here are absolute, those in records
count from the flow's UP; what lies between is the base that the peer said in its EPOCH.
"""

from __future__ import annotations

from dp2p import records
from dp2p.errors import Dp2pError
from dp2p.records import Datagrams, Epoch, Kind, Position
from dp2p.sdk.port import NOWHERE, Port


class GapError(Dp2pError):
    """What the peer says of its conversation does not fit what has come of it."""


class Arrivals:
    """One conversation from its beginning, or from where this application came to know it."""

    __slots__ = (
        "_base",
        "_skip_bytes",
        "_told",
        "announced_bytes",
        "consumed_bytes",
        "consumed_datagrams",
        "epoch",
        "number",
        "peer",
        "port",
        "received_bytes",
        "received_datagrams",
        "skip_datagrams",
    )

    def __init__(self, peer: str, base: Epoch | None = None) -> None:
        """``base``: where it begins; None: the peer keeps nothing, and it lasts for one flow."""
        start = base or Epoch(0, 0, 0)
        self.peer = peer
        "The peer's node-ID."
        self.epoch = None if base is None else base.epoch
        self.port = NOWHERE
        self.number = 0
        self.received_datagrams = self.consumed_datagrams = start.datagrams
        self.received_bytes = self.consumed_bytes = self.announced_bytes = start.bytes
        self.skip_datagrams = self._skip_bytes = 0
        "Of this flow, yet to come and known already."
        self._base = start
        self._told = 0

    def holds(self, base: Epoch) -> bool:
        """Whether a flow may begin at ``base``: it leaves nothing out, and what it passes over was
        consumed, for nothing else was ever confirmed.
        """
        if base.datagrams > self.consumed_datagrams:
            return False
        datagrams = self.received_datagrams - base.datagrams
        size = self.received_bytes - base.bytes
        return (datagrams == size == 0) or (datagrams > 0 and size > 0)

    def bind(self, port: Port, number: int, base: Epoch) -> None:
        """A flow goes on with it, from ``base``; what has come already will come again."""
        self.port, self.number, self._base = port, number, base
        self.skip_datagrams = self.received_datagrams - base.datagrams
        self._skip_bytes = self.received_bytes - base.bytes
        self._told = 0
        self.announced_bytes = base.bytes

    def leave(self) -> None:
        """The flow is gone."""
        self.port.consumed.pop(self, None)
        self.port = NOWHERE

    def take_in(self, data: Datagrams) -> Datagrams:
        """Datagrams of the flow, in order; returns those that are new.

        Raises: GapError when those that came before were others; nothing is counted then.
        """
        if self.skip_datagrams:
            data = self._skip(data)
        self.received_datagrams += len(data.payloads)
        self.received_bytes += data.cost
        return data

    def _skip(self, data: Datagrams) -> Datagrams:
        known = min(self.skip_datagrams, len(data.payloads))
        payloads = data.payloads[known:]
        new = Datagrams(payloads, data.types[known:], sum(map(len, payloads)))
        left = self._skip_bytes - (data.cost - new.cost)
        if left < 0 or (left and known == self.skip_datagrams):
            raise GapError("what came before had another size")
        self.skip_datagrams -= known
        self._skip_bytes = left
        self.port.consumed[self] = None
        return new

    def restarted(self) -> Arrivals:
        """What comes in this flow from here on, as a conversation of its own."""
        anew = Arrivals(self.peer)
        anew.received_datagrams = anew.consumed_datagrams = self._arrived_datagrams
        anew.received_bytes = anew.consumed_bytes = self._arrived_bytes
        anew.port, anew.number, anew._told = self.port, self.number, self._told
        anew.port.consumed[anew] = None
        self.leave()
        return anew

    def rewind(self) -> None:
        """What the application has not taken it never will: let it come once more."""
        self.received_datagrams, self.received_bytes = self.consumed_datagrams, self.consumed_bytes

    @property
    def _arrived_datagrams(self) -> int:
        return self.received_datagrams - self.skip_datagrams - self._base.datagrams

    @property
    def _arrived_bytes(self) -> int:
        return self.received_bytes - self._skip_bytes - self._base.bytes

    def consume(self, datagrams: int, cost: int) -> None:
        """The application has taken so much; the shard is told with the next flush."""
        self.consumed_datagrams += datagrams
        self.consumed_bytes += cost
        if self.port is not NOWHERE:
            self.port.consumed[self] = None

    def take_consumed(self) -> bytes:
        """The CONSUMED record that is due; empty when there is nothing new to say. What comes
        again counts as consumed as far as it was, once it has come.
        """
        datagrams = min(self.consumed_datagrams - self._base.datagrams, self._arrived_datagrams)
        if datagrams <= self._told:
            return b""
        size = max(0, min(self.consumed_bytes - self._base.bytes, self._arrived_bytes))
        self._told = datagrams
        self.announced_bytes = self._base.bytes + size
        return records.encode_position(Kind.CONSUMED, self.number, Position(0, datagrams, size))
