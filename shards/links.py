"""A shard's links as Python sees them: reports for the coordinator, protocols, flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

from dp2p import ids
from dp2p.addresses import numeric_endpoint
from dp2p.allowance import Allowance
from dp2p.bus import Admit, LinkReport, ProtocolEntry
from dp2p.errors import Dp2pError, TransportError
from dp2p.hello import Ack, CloseReason, ControlType, HelloError, decode_ack, decode_protocols
from dp2p.logs import Log
from dp2p.records import Kind
from dp2p.shards.applications import Applications
from dp2p.shards.metering import Metering
from dp2p.shards.negotiation import Join, Negotiation, pressure
from dp2p.shards.traffic import Opened
from dp2p.transport import FlowConfig, Lift, Node, Place, Priority

_PRIORITY = {"urgent": Priority.URGENT, "normal": Priority.NORMAL, "bulk": Priority.BULK}

log = Log("shard.links")


FORWARDED_MAX = 1 << 16  # bytes of a control datagram for the coordinator
FORWARDED_BURST = 128  # of them that may come at once on a link
FORWARDED_EVERY_S = 0.1  # and then one each


class Heard(Enum):
    """What a control datagram is to its shard."""

    NOTHING = auto()
    "It is dealt with."
    UP = auto()
    "The link is up with it."
    FORWARD = auto()
    "It is for the coordinator."


@dataclass(slots=True)
class Link:
    """One authenticated link."""

    report: LinkReport
    negotiation: Negotiation
    admitted: bool = False
    waits: bool = False
    "To be admitted once the peer has."
    offered: int | None = None
    "Generation of the peer's first list, which says that it has admitted the link."
    up: bool = False
    "Both sides have admitted it."
    allowance: Allowance = field(
        default_factory=lambda: Allowance(FORWARDED_BURST, FORWARDED_EVERY_S)
    )
    closing: bool = False
    "Its end is on the way: nothing is sent on it, and no flow opened or closed."
    flows: dict[str, tuple[Join, int]] = field(default_factory=dict)
    "Handles of those whose application was told, by protocol name."


def endpoint_text(place: Place | None) -> str:
    """``tcp4://host:port`` of a numeric place."""
    return "" if place is None else str(numeric_endpoint(*place))


class Links:
    """All authenticated links of the shard."""

    def __init__(
        self,
        node: Node,
        applications: Applications,
        metering: Metering,
        clock: Callable[[], float],
        window_bytes: int = 0,
    ) -> None:
        """``window_bytes`` are set aside for windows; 0: no end of them."""
        self._window_bytes = window_bytes
        self._node = node
        self._applications = applications
        self._metering = metering
        self._clock = clock
        self._entries: list[ProtocolEntry] = []
        self._links: dict[int, Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def add(self, handle: int, report: LinkReport) -> None:
        """A handshake is done."""
        peer = ids.node_id(ids.from_text(report.key))
        self._links[handle] = Link(report, Negotiation(peer))
        self._metering.link_up(handle, ids.to_text(peer))

    def get(self, handle: int) -> Link | None:
        """The link with that handle."""
        return self._links.get(handle)

    def reports(self) -> list[LinkReport]:
        """Links that are open on both sides."""
        return [link.report for link in self._links.values() if link.up and not link.closing]

    def ready_reports(self) -> list[LinkReport]:
        """Links that are not open on both sides yet: the coordinator may admit or refuse them,
        even those that an earlier one has admitted.
        """
        return [link.report for link in self._links.values() if not link.up and not link.closing]

    def admit(self, handle: int, admission: Admit) -> bool:
        """The coordinator lets it open, at once or when the peer has; True when it is up now."""
        link = self._links.get(handle)
        if link is None or link.admitted or link.closing:
            return False
        link.report = msgspec.structs.replace(
            link.report, trust=admission.trust, introducers=admission.introducers
        )
        link.waits = admission.wait
        return self._open(handle, link)

    def _open(self, handle: int, link: Link) -> bool:
        """Send the peer our protocols, when its turn has come; True when the link is up now."""
        if link.waits and link.offered is None:
            return False
        link.admitted = True
        link.negotiation.shift = self._pressure()
        protocols = link.negotiation.set_ours(self._on_air())
        try:
            self._node.admit(handle, msgspec.json.encode(protocols))
        except TransportError as error:
            self._refuse(handle, link, error)
        if link.offered is None or link.closing:
            return False
        self._send(handle, link, ControlType.ACK, Ack(generation=link.offered))
        self._settle(handle, link)
        link.up = not link.closing
        return link.up

    def _pressure(self) -> int:
        if not self._window_bytes:
            return 0
        stats = self._node.stats()
        return pressure(stats["window_bytes"] + stats["peer_window_bytes"], self._window_bytes)

    def close(self, handle: int, reason: CloseReason) -> None:
        """Close a link; its DOWN event cleans up."""
        if link := self._links.get(handle):
            self._close(handle, link, reason)

    def _close(self, handle: int, link: Link, reason: CloseReason) -> None:
        """The engine may have ended it already, and its DOWN event be waiting."""
        link.closing = True
        with suppress(TransportError):
            self._node.close_link(handle, reason)

    def _refuse(self, handle: int, link: Link, error: Dp2pError) -> None:
        log.warning("link closed", link=handle, why=str(error))
        self._close(handle, link, CloseReason.PROTOCOL)

    def set_protocols(self, entries: Iterable[ProtocolEntry]) -> None:
        """The node's protocols have changed."""
        self._entries = list(entries)
        self.refresh()

    def refresh(self) -> None:
        """Protocols or attached applications have changed: tell the peers that it concerns."""
        for handle, link in list(self._links.items()):
            if link.admitted and not link.closing:
                self._offer(handle, link)
                self._settle(handle, link)

    def _on_air(self) -> list[ProtocolEntry]:
        """Protocols whose application has attached to this shard."""
        attached = self._applications.by_session
        return [entry for entry in self._entries if entry.session in attached]

    def _send(self, handle: int, link: Link, kind: ControlType, body: Any) -> None:
        try:
            self._node.control(handle, kind, msgspec.json.encode(body))
        except TransportError as error:  # the peer takes nothing: it cannot be kept in step
            self._refuse(handle, link, error)

    def tell(self, handle: int, kind: int, body: bytes) -> None:
        """A control datagram of the coordinator's, for a peer whose link is up."""
        link = self._links.get(handle)
        if link is None or not link.up or link.closing:
            return
        try:
            self._node.control(handle, kind, body)
        except TransportError as error:
            self._refuse(handle, link, error)

    # --- what peers say ---

    def control(self, handle: int, kind: int, data: bytes, now: float) -> Heard:
        """A control datagram at ``now`` (s, monotonic), and what is to be done about it here."""
        link = self._links.get(handle)
        if link is None or link.closing:
            return Heard.NOTHING
        try:
            if not link.up:
                return self._first(handle, link, kind, data)
            if kind not in (ControlType.PROTOCOLS, ControlType.ACK):
                return self._for_coordinator(link, kind, data, now)
            self._control(handle, link, kind, data)
        except HelloError as error:
            self._refuse(handle, link, error)
        return Heard.NOTHING

    def _first(self, handle: int, link: Link, kind: int, data: bytes) -> Heard:
        """The peer's list, with which it admits the link."""
        if kind != ControlType.PROTOCOLS:
            raise HelloError(f"first control datagram is of type {kind}, not a protocol list")
        protocols = decode_protocols(data)
        link.negotiation.set_theirs(protocols)
        link.offered = protocols.generation
        if not link.admitted:
            up = link.waits and self._open(handle, link)
            return Heard.UP if up else Heard.NOTHING
        self._send(handle, link, ControlType.ACK, Ack(generation=link.offered))
        self._settle(handle, link)
        link.up = not link.closing
        return Heard.UP if link.up else Heard.NOTHING

    def _for_coordinator(self, link: Link, kind: int, data: bytes, now: float) -> Heard:
        """What concerns other nodes; a type that is not known is ignored."""
        if kind not in ControlType.__members__.values():
            return Heard.NOTHING
        if len(data) > FORWARDED_MAX:
            raise HelloError(f"control datagram of type {kind} has {len(data)} bytes")
        if not link.allowance.take(now):
            raise HelloError("more control datagrams than a peer may send")
        return Heard.FORWARD

    def _control(self, handle: int, link: Link, kind: int, data: bytes) -> None:
        if kind == ControlType.PROTOCOLS:
            protocols = decode_protocols(data)
            link.negotiation.set_theirs(protocols)
            self._send(handle, link, ControlType.ACK, Ack(generation=protocols.generation))
        else:
            for number in link.negotiation.acknowledged(decode_ack(data)):
                with suppress(TransportError):
                    self._node.flow_bury(handle, number)
            self._offer(handle, link)
        self._settle(handle, link)

    def _offer(self, handle: int, link: Link) -> None:
        """Send the peer our list, if it is another than before."""
        protocols = link.negotiation.set_ours(self._on_air())
        if protocols is not None:
            self._send(handle, link, ControlType.PROTOCOLS, protocols)

    def down(self, handle: int, reason: str) -> Link | None:
        """The link is gone: its flows' applications are told."""
        link = self._links.pop(handle, None)
        if link is None:
            return None
        for joined, flow in link.flows.values():
            self._metering.flow_gone(flow)
            self._flow_down(joined, flow, reason)
        self._metering.link_down(handle)
        return link

    # --- flows ---

    def _settle(self, handle: int, link: Link) -> None:
        """Open and close flows. On a link that is closing the engine has ended them all; ``down``
        tells the applications.
        """
        if link.closing:
            return
        change = link.negotiation.settle()
        try:
            for number in change.tombstone:
                self._node.flow_tombstone(handle, number)
            for joined, withdrawn in change.close:
                self._flow_over(link, joined, withdrawn)
            for joined in change.open:
                self._flow_up(handle, link, joined)
        except TransportError as error:  # the engine has ended it, and its DOWN event is waiting
            self._refuse(handle, link, error)

    def _flow_over(self, link: Link, joined: Join, withdrawn: bool) -> None:
        _, flow = link.flows[joined.name]
        if joined.session in self._applications.by_session:
            self._metering.flow_closing(flow, self._clock())
            self._node.flow_close(flow, tombstone=False)
            self._flow_down(joined, flow, "withdrawn" if withdrawn else "peer_withdrew")
        else:
            self._metering.flow_gone(flow)
        del link.flows[joined.name]

    def _flow_up(self, handle: int, link: Link, joined: Join) -> None:
        app = self._applications.by_session[joined.session]
        config = FlowConfig(
            sink=app.sink,
            number=joined.number,
            peer_number=joined.peer_number,
            max_datagram=joined.max_datagram,
            types=joined.types,
            window=joined.window,
            peer_window=joined.peer_window,
            priority=_PRIORITY[joined.priority],
            weight=joined.weight,
            group=self._metering.group(joined.name),
            lifts=tuple(
                Lift(lift.first, lift.last, _PRIORITY[lift.priority]) for lift in joined.lifts
            ),
        )
        flow = self._node.flow_open(handle, config)
        link.flows[joined.name] = joined, flow
        now = self._clock()
        self._metering.flow_up(_opened(flow, link.report, joined), now)
        window = self._node.flow(flow).peer_window
        self._applications.tell(app, Kind.UP, flow, _up(link.report, joined, window, now))

    def _flow_down(self, joined: Join, flow: int, reason: str) -> None:
        app = self._applications.by_session.get(joined.session)
        if app is not None:
            self._applications.tell(app, Kind.DOWN, flow, {"reason": reason})


def _opened(flow: int, report: LinkReport, joined: Join) -> Opened:
    peer = ids.node_id_text(report.key)
    return Opened(flow, peer, joined.name, joined.priority, joined.weight)


def _up(report: LinkReport, joined: Join, window: int, now: float) -> dict[str, Any]:
    """Body of an UP record at ``now`` (s, by a clock that all shards share); ``window`` is what is
    used of the peer's.
    """
    return {
        "protocol": joined.name,
        "version": joined.version,
        "peer": ids.node_id_text(report.key),
        "key": report.key,
        "trust": report.trust,
        "introducers": report.introducers,
        "mode": report.mode,
        "endpoint": report.endpoint,
        "direction": report.direction,
        "max_datagram": joined.max_datagram,
        "types": joined.types,
        "window": window,
        "application": joined.application,
        "since": int(now * 1e6),
    }
