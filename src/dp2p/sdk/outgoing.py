"""Payloads of one call that sends, on their way into a flow."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from dp2p import records
from dp2p.records import DATAGRAM_COST
from dp2p.sdk.types import SendError


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
