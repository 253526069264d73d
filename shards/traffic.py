"""How a shard's flows stand: queues, credit, waiting times, rates, and what they have moved.

Pure but for looking into the engine; ``now`` is monotonic (s). Some flows are looked at every
second, in turn, so that the books are kept whoever watches; all of them when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from dp2p import bus
from dp2p.bus import FlowRow
from dp2p.errors import TransportError
from dp2p.shards.accounts import Accounts

LOOKS_MAX = 512  # each second, some 5 us each
ASKED_MAX = 8192  # looks for one question; the other flows are told as they were seen last
RATE_S = 0.15  # the least span over which a rate means something

Position = tuple[int, int]
"Datagrams, and bytes of credit cost."


class Info(Protocol):
    """See ``struct dp_flow_info``."""

    @property
    def accepted(self) -> Position: ...
    @property
    def sent(self) -> Position: ...
    @property
    def received(self) -> Position: ...
    @property
    def consumed(self) -> Position: ...
    @property
    def send_limit(self) -> int: ...
    @property
    def receive_limit(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def peer_window(self) -> int: ...
    @property
    def wait_ms(self) -> int: ...
    @property
    def waited_max_ms(self) -> int: ...


class Flows(Protocol):
    """What is needed of the engine."""

    def flow(self, handle: int) -> Info: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A flow that has come up."""

    handle: int
    peer: str
    "Node-ID."
    protocol: str
    priority: str
    weight: int

    @property
    def key(self) -> tuple[str, str]:
        """Under which it stands in the books."""
        return self.peer, self.protocol


@dataclass(slots=True)
class _Flow:
    opened: Opened
    info: Info
    "As it was seen last."
    rated: Info
    "As it was when its rates were last worked out."
    rated_at: float
    rate_up: int = 0
    rate_down: int = 0
    waited_max_ms: int = 0
    "Since somebody last asked; the engine forgets it when it is looked at."


@dataclass(slots=True)
class Sums:
    """A protocol's flows together, as they were seen last."""

    flows: int = 0
    queued_bytes: int = 0
    unread_bytes: int = 0


@dataclass(slots=True)
class Traffic:
    """All flows of a shard."""

    node: Flows
    shard: int
    accounts: Accounts = field(default_factory=Accounts)
    sums: dict[str, Sums] = field(default_factory=dict)
    "By protocol; only those with flows."
    _flows: dict[int, _Flow] = field(default_factory=dict)
    "By handle; those that were looked at longest ago come first."

    # --- flows come and go ---

    def opened(self, one: Opened, now: float) -> None:
        """A flow has come up."""
        info = self.node.flow(one.handle)
        self._flows[one.handle] = _Flow(one, info, info, now)
        self.accounts.opened(one.key)
        sums = self.sums.setdefault(one.protocol, Sums())
        sums.flows += 1
        self._sum(sums, info, 1)

    def closing(self, handle: int, now: float) -> None:
        """A flow is about to end: the last moment to see what it moved."""
        if flow := self._flows.get(handle):
            self._look(flow, now)
        self.gone(handle)

    def gone(self, handle: int) -> None:
        """A flow has ended. What it moved since it was last looked at is in no peer's book."""
        flow = self._flows.pop(handle, None)
        if flow is None:
            return
        self.accounts.closed(flow.opened.key)
        sums = self.sums[flow.opened.protocol]
        sums.flows -= 1
        self._sum(sums, flow.info, -1)
        if not sums.flows:
            del self.sums[flow.opened.protocol]

    @staticmethod
    def _sum(sums: Sums, info: Info, sign: int) -> None:
        sums.queued_bytes += sign * (info.accepted[1] - info.sent[1])
        sums.unread_bytes += sign * (info.received[1] - info.consumed[1])

    # --- looking ---

    def sweep(self, now: float, most: int = LOOKS_MAX) -> None:
        """Look at the flows whose turn it is. To be called every second."""
        for handle in list(islice(self._flows, most)):
            flow = self._flows.pop(handle)
            self._flows[handle] = flow
            self._look(flow, now)

    def _look(self, flow: _Flow, now: float) -> None:
        try:
            info = self.node.flow(flow.opened.handle)
        except TransportError:
            return  # the engine has ended it, and its DOWN event is waiting
        before, flow.info = flow.info, info
        sent, received = info.sent, info.received
        self.accounts.add(
            flow.opened.key,
            (
                sent[0] - before.sent[0],
                sent[1] - before.sent[1],
                received[0] - before.received[0],
                received[1] - before.received[1],
            ),
        )
        sums = self.sums[flow.opened.protocol]
        self._sum(sums, before, -1)
        self._sum(sums, info, 1)
        flow.waited_max_ms = max(flow.waited_max_ms, info.waited_max_ms)
        span = now - flow.rated_at
        if span >= RATE_S:
            flow.rate_up = round((sent[1] - flow.rated.sent[1]) / span)
            flow.rate_down = round((received[1] - flow.rated.received[1]) / span)
            flow.rated, flow.rated_at = info, now

    # --- telling ---

    def told(self, asked: bus.AskTraffic, now: float) -> bus.TrafficTold:
        """The flows that are asked for; of more than the limit those with the longest queues."""
        self.sweep(now, ASKED_MAX)
        flows = sorted(self._wanted(asked), key=_longest)
        rows = [self._row(flow) for flow in flows[: asked.limit]]
        return bus.TrafficTold(id=asked.id, rows=rows, left_out=len(flows) - len(rows))

    def _wanted(self, asked: bus.AskTraffic) -> Iterator[_Flow]:
        names: Iterable[str] | None = asked.protocols
        for flow in self._flows.values():
            if names is not None and flow.opened.protocol not in names:
                continue
            if asked.peer is None or flow.opened.peer == asked.peer:
                yield flow

    def _row(self, flow: _Flow) -> FlowRow:
        info, opened = flow.info, flow.opened
        waited, flow.waited_max_ms = max(flow.waited_max_ms, info.wait_ms), 0
        return FlowRow(
            peer=opened.peer,
            protocol=opened.protocol,
            shard=self.shard,
            priority=opened.priority,
            weight=opened.weight,
            window=info.window,
            peer_window=info.peer_window,
            credit_up=max(0, info.send_limit - info.accepted[1]),
            credit_down=max(0, info.receive_limit - info.received[1]),
            queued_datagrams=info.accepted[0] - info.sent[0],
            queued_bytes=info.accepted[1] - info.sent[1],
            unread_datagrams=info.received[0] - info.consumed[0],
            unread_bytes=info.received[1] - info.consumed[1],
            wait_ms=info.wait_ms,
            waited_max_ms=waited,
            rate_up=flow.rate_up,
            rate_down=flow.rate_down,
        )


def _longest(flow: _Flow) -> tuple[int, int]:
    """Longest queues first, then what moves most."""
    queued = flow.info.accepted[1] - flow.info.sent[1]
    return -queued, -(flow.rate_up + flow.rate_down)
