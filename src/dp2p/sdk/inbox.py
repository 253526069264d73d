"""What has arrived for one protocol and the application has not taken yet.

A datagram counts as consumed when the application takes it. Handing out single messages costs no
bookkeeping: how many of a batch are gone is read off its iterator when somebody wants to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import length_hint

from dp2p.records import DATAGRAM_COST, Datagrams
from dp2p.sdk.arrivals import Arrivals
from dp2p.sdk.port import NOWHERE
from dp2p.sdk.types import Batch, Message

LEFT_BYTES_MAX = 64 << 20
"""Credit cost from which on what peers that have gone left behind unread is thrown away. They may
come back each time with a new window, so without an end a slow application would keep ever more.
"""
_message = partial(tuple.__new__, Message)  # a third of the cost of calling the class


class Inbox:
    """Batches of all flows of a protocol, in the order of arrival."""

    def __init__(self) -> None:
        self.quarter = 16 << 10
        "Bytes of credit after whose consumption the peer should hear of it."
        self.messages: Iterator[Message] = iter(())
        "The open batch, message by message: ``next(inbox.messages, None)``."
        self._closed: deque[tuple[Arrivals, Sequence[bytes], Sequence[int], int]] = deque()
        self._source: Arrivals | None = None
        self._payloads: Sequence[bytes] = ()
        self._types: Sequence[int] = ()
        self._left: Iterator[bytes] = iter(())
        self._settled = 0
        "Of the open batch, counted as consumed."
        self.cost = 0
        "Of the batches that are not open."
        self._shed_from = LEFT_BYTES_MAX

    def put(self, source: Arrivals, data: Datagrams) -> None:
        """A batch has arrived. One that costs much credit is cut, so that its beginning can be
        confirmed while the application works on the rest.
        """
        self.cost += data.cost
        count = len(data.payloads)
        pieces = min(count, -(-data.cost // self.quarter))
        if pieces <= 1:
            self._closed.append((source, data.payloads, data.types, data.cost))
            return
        step = -(-count // pieces)
        for start in range(0, count, step):
            payloads = data.payloads[start : start + step]
            cost = sum(map(len, payloads)) + DATAGRAM_COST * len(payloads)
            self._closed.append((source, payloads, data.types[start : start + step], cost))

    def open(self) -> Arrivals | None:
        """Begin the next batch, if the open one is used up; ``messages`` runs over it.

        None: nothing is there.
        """
        self.settle()
        if self._source is not None and self._settled < len(self._payloads):
            return self._source  # somebody else has begun it
        self._source = None
        if not self._closed:
            return None
        self._source, self._payloads, self._types, cost = self._closed.popleft()
        self.cost -= cost
        self._settled = 0
        self._left = iter(self._payloads)
        peer = repeat(self._source.peer)
        self.messages = map(_message, zip(peer, self._types, self._left, strict=False))
        return self._source

    def take_batch(self) -> tuple[Arrivals, Batch] | None:
        """All that is left of the open batch, or the next one; consumed at once."""
        self.settle()
        source, self._source, self.messages = self._source, None, iter(())
        if source is not None and self._settled < len(self._payloads):
            payloads = list(self._left)
            types = self._types[self._settled :]
            source.consume(len(payloads), sum(map(len, payloads)) + DATAGRAM_COST * len(payloads))
            return source, Batch(source.peer, payloads, types)
        if not self._closed:
            return None
        source, ready, types, cost = self._closed.popleft()
        self.cost -= cost
        source.consume(len(ready), cost)
        return source, Batch(source.peer, list(ready), types)

    def settle(self) -> None:
        """Count what has been taken of the open batch as consumed."""
        if self._source is None:
            return
        start, self._settled = self._settled, len(self._payloads) - length_hint(self._left)
        if taken := self._payloads[start : self._settled]:
            self._source.consume(len(taken), sum(map(len, taken)) + DATAGRAM_COST * len(taken))

    def clear(self) -> None:
        """Throw away what the application has not taken."""
        self.settle()
        self._source = None
        self._closed.clear()
        self.cost = 0
        self.messages = iter(())

    def shed(self) -> None:
        """If very much is unread, throw away what belongs to no flow that is there. None of it was
        confirmed: a peer that keeps it sends it again, and one that does not was told.
        """
        if self.cost <= self._shed_from:
            return
        gone = {
            source
            for source, *_ in self._closed
            if source.port is NOWHERE and source is not self._source
        }
        self._closed = deque(batch for batch in self._closed if batch[0] not in gone)
        for source in gone:
            source.rewind()
        self.cost = sum(cost for *_, cost in self._closed)
        self._shed_from = self.cost + LEFT_BYTES_MAX

    def __bool__(self) -> bool:
        """Whether something is there to take."""
        return bool(self._closed) or (length_hint(self._left) > 0 and self._source is not None)
