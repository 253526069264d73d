"""A protocol of this application: its peers and what has come from them."""

from __future__ import annotations

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.flow import Flow
from dp2p.sdk.inbox import Inbox

_DOWNS_KEPT = 1024  # peers whose reason for going is remembered


class Registration:
    """A protocol of this application."""

    def __init__(self, spec: control.ProtocolSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.number: int | None = None
        "As the node numbers it; None until the first reply."
        self.flows: dict[str, Flow] = {}
        "By the peer's node-ID."
        self.downs: dict[str, str] = {}
        "Why peers went, the latest ones."
        self.inbox = Inbox()
        self.closed: RequestError | None = None
        "Why it is closed, if it is."

    def flow(self, peer: str) -> Flow:
        """The flow to a peer.  Raises: SendError with ``peer_down``, ``unknown_peer`` or the
        reason for which the protocol is closed.
        """
        if flow := self.flows.get(peer):
            return flow
        raise self.refusal(peer)

    def refusal(self, peer: str) -> RequestError:
        """Why a peer cannot be sent to."""
        if self.closed is not None:
            return RequestError(
                self.closed.code, self.closed.message, protocol=self.name, peer=peer
            )
        if reason := self.downs.get(peer):
            return RequestError("peer_down", reason, protocol=self.name, peer=peer)
        text = "no such peer is connected for the protocol"
        return RequestError("unknown_peer", text, protocol=self.name, peer=peer)

    def learn(self, registered: control.Registered) -> None:
        """Take over what the node filled in."""
        self.number = registered.number
        if registered.window:
            self.inbox.quarter = max(1, registered.window // 4)

    def remember(self, peer: str, reason: str) -> None:
        """Why a peer went, for those who send to it later."""
        self.downs[peer] = reason
        if len(self.downs) > _DOWNS_KEPT:
            del self.downs[next(iter(self.downs))]
