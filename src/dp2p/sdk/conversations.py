"""Which peers are there for an application's protocols, which are away, and who is given up.

A conversation outlives its connection while something of it is not confirmed, for as long as its
registration says. Pure: time comes in, and epochs are drawn from an injected source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from dp2p.sdk.flow import Flow
from dp2p.sdk.port import NOWHERE, Port
from dp2p.sdk.registration import Gone, Registration
from dp2p.sdk.signals import CreditGrown, Unsendable
from dp2p.sdk.types import Event, PeerAway, PeerDown, PeerUp
from dp2p.sdk.up import Up

AWAY_MAX = 256
"""Peers that may be away at once; beyond, who went first is given up. Each may hold a window of
datagrams.
"""
AWAY_BYTES_MAX = 256 << 20
"""Credit cost of what may be kept for all of them; beyond, who went first is given up. A window is
at most a quarter of it, unless a peer was given more on purpose.
"""


class Conversations:
    """All flows of an application. ``protocols`` are its registrations, by name."""

    def __init__(self, protocols: Mapping[str, Registration], draw: Callable[[], int]) -> None:
        """``draw`` gives random integers of 64 bits."""
        self._protocols = protocols
        self._draw = draw
        self._flows: dict[tuple[Port, int], Flow] = {}
        "Those of peers that are there."
        self._away: dict[Flow, tuple[str, float | None]] = {}
        "Why the connection went, and when the peer is given up; None: nobody has said the time."

    def find(self, port: Port, number: int) -> Flow | None:
        """The flow of a shard that has this number."""
        return self._flows.get((port, number))

    def peer_up(self, port: Port, number: int, up: Up, registration: Registration) -> list[Event]:
        """A shard has a flow for a protocol. One that came up before that which is known here has
        ended since; its shard's socket was read later, and says so soon.
        """
        events: list[Event] = []
        flow = registration.flows.get(up.peer)
        if flow is not None and flow.port is not NOWHERE:
            if up.since < flow.up.since:
                return []
            events += self.lost(flow, "replaced")
            flow = registration.flows.get(up.peer)
        if flow is not None and not up.goes_on(flow.up):
            events += self._give_up(flow, "replaced")
            flow = None
        if flow is None:
            flow = self._begin(up, registration)
        self._away.pop(flow, None)
        resumed = flow.begun
        flow.bind(port, number, up)
        self._flows[port, number] = flow
        registration.flows[up.peer] = flow
        registration.downs.pop(up.peer, None)
        registration.inbox.shed()
        if flow.waiting:
            events.append(CreditGrown(flow))
        return [*events, PeerUp(up.peer, up.protocol, flow.peer, resumed)]

    def lost(self, flow: Flow, reason: str) -> list[Event]:
        """The connection that carried a flow is gone. The peer is away if there is something to
        keep for it, else given up.
        """
        self._unbind(flow)
        if flow.epoch is None or flow.idle:
            return self._give_up(flow, reason)
        self._away[flow] = reason, None
        events: list[Event] = [PeerAway(flow.peer.id, flow.protocol, reason)]
        while len(self._away) > AWAY_MAX or self._kept_bytes > AWAY_BYTES_MAX:
            first, (why, _) = next(iter(self._away.items()))
            events += self._give_up(first, why)
        return events

    @property
    def _kept_bytes(self) -> int:
        return sum(flow.sent_bytes - flow.confirmed_bytes for flow in self._away)

    def port_lost(self, port: Port, reason: str) -> list[Event]:
        """A shard is gone, and with it all connections that it carried."""
        flows = [flow for flow in self._flows.values() if flow.port is port]
        return [event for flow in flows for event in self.lost(flow, reason)]

    def give_up_all(self, registration: Registration, reason: str) -> list[Event]:
        """A protocol is off the air."""
        events: list[Event] = []
        for flow in list(registration.flows.values()):
            if flow.port is not NOWHERE:
                self._unbind(flow)
            events += self._give_up(flow, reason)
        return events

    @property
    def due(self) -> float | None:
        """When to call ``expire`` next; None when nobody is away."""
        if not self._away:
            return None
        return min(-math.inf if due is None else due for _, due in self._away.values())

    def expire(self, now: float) -> list[Event]:
        """Give up who has been away too long at ``now`` (s, monotonic). Call it soon after
        somebody went: the time is counted from then.
        """
        events: list[Event] = []
        for flow, (reason, due) in list(self._away.items()):
            if due is None:
                self._away[flow] = reason, now + self._protocols[flow.protocol].keep_s
            elif due <= now:
                events += self._give_up(flow, reason)
        return events

    def _unbind(self, flow: Flow) -> None:
        del self._flows[flow.port, flow.number]
        flow.leave()

    def _give_up(self, flow: Flow, reason: str) -> list[Event]:
        self._away.pop(flow, None)
        registration = self._protocols[flow.protocol]
        peer = flow.peer.id
        del registration.flows[peer]
        unsent = flow.sent_datagrams - flow.handed_datagrams
        unconfirmed = flow.handed_datagrams - flow.confirmed_datagrams
        left = flow.close(reason)
        registration.leave_behind(flow.heir(self._epoch(registration)))
        unsent += sum(outgoing.count - outgoing.accepted for outgoing in left)
        registration.remember(peer, Gone(reason, unconfirmed + unsent))
        down = PeerDown(peer, flow.protocol, reason, flow.confirmed_datagrams, unconfirmed, unsent)
        return [Unsendable(left), down] if left else [down]

    def _begin(self, up: Up, registration: Registration) -> Flow:
        left = registration.recall(up)
        epoch = self._epoch(registration)
        if left is None:
            return Flow(up, epoch)
        keeps_as_before = (left.epoch is None) is (epoch is None)  # it may be registered anew
        if not (keeps_as_before and up.goes_on(left.up)):
            return Flow(up, epoch, left.arrivals)
        return left

    def _epoch(self, registration: Registration) -> int | None:
        return self._draw() if registration.keep_s > 0 else None
