"""A protocol of this application: its peers and what has come from them."""

from __future__ import annotations

from typing import NamedTuple

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.flow import Flow
from dp2p.sdk.inbox import Inbox
from dp2p.sdk.port import NOWHERE
from dp2p.sdk.types import SendError
from dp2p.sdk.up import Up

KEEP_S = 30.0
"""How long a peer may be away before it is given up. Ours: a lost connection is made again within
some seconds, a killed node restarted within some more.
"""
_DOWNS_KEPT = 1024  # peers whose reason for going is remembered
_LEFT_KEPT = 1024  # conversations without a flow whose positions are remembered
_LIVES_KEPT = 8  # of one peer: that many of its applications may share a protocol, or be restarted


class Gone(NamedTuple):
    """A peer that was given up."""

    reason: str
    owed: int
    "Datagrams that it had not confirmed, those that never left among them."


class Registration:
    """A protocol of this application."""

    def __init__(self, spec: control.ProtocolSpec, keep_s: float = KEEP_S) -> None:
        self.spec = spec
        self.keep_s = keep_s
        "Seconds that what is not confirmed is kept for a peer that is away; 0: nothing is kept."
        self.name = spec.name
        self.number: int | None = None
        "As the node numbers it; None until the first reply."
        self.flows: dict[str, Flow] = {}
        "By the peer's node-ID; those of peers that are away among them."
        self._left: dict[tuple[str, str], Flow] = {}
        "Of peers that were given up, by node-ID and life of the application: what comes next."
        self.downs: dict[str, Gone] = {}
        "Peers that were given up, the latest ones, by node-ID."
        self.inbox = Inbox()
        self.closed: RequestError | None = None
        "Why it is closed, if it is."

    def inherit(self, former: Registration) -> None:
        """Go on where a withdrawn registration of the same name has stopped. What the application
        has not taken of that, it will get here.
        """
        former.inbox.clear()
        self._left = former._left
        for flow in self._left.values():
            flow.arrivals.rewind()

    def leave_behind(self, flow: Flow) -> None:
        """Remember what begins, or goes on, if this application of the peer comes back."""
        peer, application = flow.up.peer, flow.up.application
        if application is None:
            return
        lives = [life for life in self._left if life[0] == peer]
        if len(lives) >= _LIVES_KEPT:  # so a peer pushes out only what is its own
            del self._left[lives[0]]
        elif len(self._left) >= _LEFT_KEPT:
            del self._left[next(iter(self._left))]
        self._left[peer, application] = flow

    def recall(self, up: Up) -> Flow | None:
        """What was left behind of the conversations with an application of a peer."""
        return self._left.pop((up.peer, up.application or ""), None)

    def present(self, peer: str | None = None) -> Flow | None:
        """The flow to a peer (None: any) that is there now."""
        flows = self.flows.values() if peer is None else filter(None, [self.flows.get(peer)])
        return next((flow for flow in flows if flow.port is not NOWHERE), None)

    def flow(self, peer: str) -> Flow:
        """The flow to a peer that is there, or away.  Raises: SendError with ``peer_down``,
        ``unknown_peer`` or the reason for which the protocol is closed.
        """
        if flow := self.flows.get(peer):
            return flow
        raise self.refusal(peer)

    def refusal(self, peer: str) -> SendError:
        """Why a peer cannot be sent to."""
        if self.closed is not None:
            return SendError(self.closed.code, self.closed.message, protocol=self.name, peer=peer)
        if gone := self.downs.get(peer):
            return SendError("peer_down", gone.reason, protocol=self.name, peer=peer)
        text = "no such peer is connected for the protocol"
        return SendError("unknown_peer", text, protocol=self.name, peer=peer)

    def learn(self, registered: control.Registered) -> None:
        """Take over what the node filled in."""
        self.number = registered.number
        if registered.window:
            self.inbox.quarter = max(1, registered.window // 4)

    def undrained(self, peer: str | None) -> list[Flow]:
        """Flows that may have something unconfirmed. None to a peer that has gone and owed
        nothing.  Raises: as ``flow``.
        """
        if peer is None:
            return list(self.flows.values())
        gone = self.downs.get(peer)
        return [] if gone is not None and not gone.owed else [self.flow(peer)]

    def remember(self, peer: str, gone: Gone) -> None:
        """How a peer went, for those who send to it later."""
        self.downs[peer] = gone
        if len(self.downs) > _DOWNS_KEPT:
            del self.downs[next(iter(self.downs))]
