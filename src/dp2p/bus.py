"""Messages of the fabric between the coordinator and its shards.

JSON over ZeroMQ; shards connect with a DEALER to the coordinator's ROUTER. Each message is tagged
by ``kind`` and travels in an envelope with the fabric's version. Messages that carry state carry
all of it, so that a lost process is made good by sending it again.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dp2p.control import ProtocolSpec
from dp2p.errors import Dp2pError

BUS_VERSION = 2


class BusError(Dp2pError):
    """A fabric message is malformed or of another version."""


Mode = Literal["xx", "ik", "resume"]
Trust = Literal["none", "introduced", "resumed"]


class Message(msgspec.Struct, tag_field="kind", frozen=True, kw_only=True):
    """Base of all fabric messages. Shown without the bytes in them, since some are secret."""

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (
            f"{name}=<{len(value)} bytes>" if isinstance(value, bytes) else f"{name}={value!r}"
            for name, value in values
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One open link as its shard knows it."""

    link: int
    "The shard's handle; unique within one life of the shard."
    key: str
    "The peer's public key, base32."
    direction: str
    "``in`` or ``out``: who opened the connection, from this node."
    endpoint: str
    "The socket's remote end."
    instance: str
    "The peer's life, from its hello."
    listen: list[str]
    "Endpoints under which the peer says it can be dialled."
    mode: Mode
    "The handshake that it began with, as the initiator chose it."
    fell_back: bool = False
    "The responder could not use what the initiator relied on, and XXfallback made the link."
    trust: Trust = "none"
    "As the coordinator judged when it admitted the link."
    introducers: int = 0
    "Independent ones that had introduced the peer when the link was admitted."
    record: bytes | None = None
    "The peer's signed record as it came, not verified."
    seen: str | None = None
    "This node's endpoint as the peer sees it."
    dial: int | None = None
    "The coordinator's dial that made it, if one did."


class AppReport(msgspec.Struct, frozen=True, kw_only=True):
    """One application session, as the coordinator tells shards and shards report back."""

    session: str
    name: str
    instance: str
    "The application's life, which may have had sessions before; no secret."


class ProtocolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol that one application serves.

    A shared one has an entry for each of its applications, with a number of its own.
    """

    number: int
    "Channel number under which this node receives it, 0-249."
    spec: ProtocolSpec
    "With ``window`` filled in."
    session: str
    instance: str
    "As in ``AppReport``, for the peers."


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """How fast something may be; bytes of credit cost a second, None: no cap."""

    scope: Literal["node", "protocol", "peer"]
    name: str
    "Of a protocol, or a peer's node-ID; empty for the node."
    up: int | None = None
    down: int | None = None


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """All caps of the node. Shards keep them for a coordinator that is started again."""

    generation: int = 0
    caps: list[Cap] = []


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A shard's part of a cap, bytes a second; 0: no cap."""

    up: int = 0
    down: int = 0


class Used(msgspec.Struct, frozen=True, array_like=True):
    """What a shard made of its share since it last said so."""

    up: float = 0.0
    "Bytes a second."
    down: float = 0.0
    up_short: bool = False
    "The share held something back."
    down_short: bool = False


class Total(msgspec.Struct, frozen=True, array_like=True):
    """What one peer and one protocol have exchanged over a shard since the shard began."""

    peer: str
    "Node-ID; empty: of those that are not kept apart any more."
    protocol: str
    up_datagrams: int = 0
    up_bytes: int = 0
    "Credit cost, as all bytes here."
    down_datagrams: int = 0
    down_bytes: int = 0


class ProtocolLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol on one shard, in short."""

    name: str
    flows: int
    rate_up: int
    "Bytes a second, over the last heartbeat."
    rate_down: int
    queued_bytes: int
    "As flows were seen last: within a second, or a few where there are thousands."
    unread_bytes: int


class FlowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One flow at one moment."""

    peer: str
    protocol: str
    shard: int
    priority: str
    weight: int
    window: int
    "Granted to the peer, bytes."
    peer_window: int
    "Granted by the peer, as far as it is used."
    credit_up: int
    "Bytes that may still be sent to the peer."
    credit_down: int
    "Bytes that the peer may still send."
    queued_datagrams: int
    queued_bytes: int
    "Accepted from the application, not sent."
    unread_datagrams: int
    unread_bytes: int
    "Received, not consumed by the application."
    wait_ms: int
    "How long what is next to be sent has waited."
    waited_max_ms: int
    "Longest wait since flows were last asked about."
    rate_up: int
    "Bytes a second, since the flow was looked at before."
    rate_down: int
    up_datagrams: int = 0
    "Of this peer and protocol since the node began, as the three below."
    up_bytes: int = 0
    down_datagrams: int = 0
    down_bytes: int = 0


# --- shard to coordinator ---


class ShardHello(Message, frozen=True, kw_only=True, tag="shard_hello"):
    """First message of a shard, and again whenever a coordinator is new to it."""

    shard: int
    incarnation: str
    pid: int
    aead: str
    data_endpoint: str
    listening: list[str]
    links: list[LinkReport]
    generation: int
    apps: list[AppReport]
    protocols: list[ProtocolEntry]
    caps: Caps = Caps()
    "Those that are in force here."


class ShardHeartbeat(Message, frozen=True, kw_only=True, tag="shard_heartbeat"):
    """Sent every second, with the shard's counters."""

    shard: int
    stats: dict[str, Any]
    load: list[ProtocolLoad] = []


class Totals(Message, frozen=True, kw_only=True, tag="totals"):
    """Totals that have changed since the shard last said them; all of them after a hello."""

    totals: list[Total]
    folded: list[tuple[str, str]] = []
    "Peer and protocol of those that have gone into one of all others."


class Usage(Message, frozen=True, kw_only=True, tag="usage"):
    """Sent every 250 ms while caps are divided among shards."""

    generation: int
    "Of the caps that are in force there."
    node: Used | None
    "None where there is no such cap."
    protocols: dict[str, Used]


class TrafficTold(Message, frozen=True, kw_only=True, tag="traffic_told"):
    """Answer to ``AskTraffic`` with the same ``id``."""

    id: int
    rows: list[FlowRow]
    left_out: int = 0
    "Flows beyond the limit."


class LinkReady(Message, frozen=True, kw_only=True, tag="link_ready"):
    """A handshake is done; the link waits for ``Admit`` or ``Close``."""

    report: LinkReport
    dial_ticket: bytes | None = None
    "For this node's next dial to the peer: name (16) and psk (32). Secret; None when said again."
    accept_ticket: bytes | None = None
    "For the peer's next dial to this node. Secret."


class TicketAsked(Message, frozen=True, kw_only=True, tag="ticket_asked"):
    """An inbound handshake names a ticket and waits for ``Ticket``."""

    link: int
    name: bytes


class LinkUp(Message, frozen=True, kw_only=True, tag="link_up"):
    """An admitted link is open on both sides: the peer has admitted it too."""

    link: int


class LinkDown(Message, frozen=True, kw_only=True, tag="link_down"):
    """A link that was reported ready is gone."""

    link: int
    reason: str
    remote: bool
    "True when the peer gave the reason."


class DialFailed(Message, frozen=True, kw_only=True, tag="dial_failed"):
    """A dial ended before its handshake was done."""

    dial: int
    reason: str
    answered: str | None = None
    "With reason ``identity``: the key that answered, base32."
    unsent: bool = False
    "Nothing has left: its ticket was shown to nobody."


class PeerSaid(Message, frozen=True, kw_only=True, tag="peer_said"):
    """A control datagram that concerns the coordinator (``dp2p.introduction``)."""

    link: int
    type: int
    body: bytes


class Probed(Message, frozen=True, kw_only=True, tag="probed"):
    """Answer to ``Probe``: whether anything came from the peer since. Not sent for a link that went
    down meanwhile.
    """

    link: int
    alive: bool


class AppGone(Message, frozen=True, kw_only=True, tag="app_gone"):
    """A session's data socket no longer answers."""

    session: str


# --- coordinator to shard ---


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """Answer to ``ShardHello``."""

    coordinator: str
    "This life of the coordinator."


class WhoAreYou(Message, frozen=True, kw_only=True, tag="who_are_you"):
    """Answer to any message of a shard that this coordinator has not met: say hello."""

    coordinator: str


class Registry(Message, frozen=True, kw_only=True, tag="registry"):
    """All sessions and protocols of the node. Replaces what was before."""

    generation: int
    apps: list[AppReport]
    protocols: list[ProtocolEntry]


class Admit(Message, frozen=True, kw_only=True, tag="admit"):
    """Let a ready link open."""

    link: int
    trust: Trust
    introducers: int
    wait: bool = False
    "Only once the peer has admitted it: the peer is the one who chooses among links."


class Ticket(Message, frozen=True, kw_only=True, tag="ticket"):
    """Answer to ``TicketAsked``. Both None: there is no such ticket."""

    link: int
    psk: bytes | None = None
    "Secret."
    key: str | None = None
    "The peer it was made with, base32."


class Probe(Message, frozen=True, kw_only=True, tag="probe"):
    """Ping a link and say in ``Probed`` whether it lives."""

    link: int


class TellPeer(Message, frozen=True, kw_only=True, tag="tell_peer"):
    """Send a control datagram on an open link; one that has gone down gets none."""

    link: int
    type: int
    body: bytes


class NodeRecord(Message, frozen=True, kw_only=True, tag="node_record"):
    """This node's signed record, for hellos from now on."""

    record: bytes


class Close(Message, frozen=True, kw_only=True, tag="close"):
    """Close or refuse a link with a reason (docs/spec/wire.md, "Close reasons")."""

    link: int
    reason: str


class DialLink(Message, frozen=True, kw_only=True, tag="dial"):
    """Open a connection. Answered by ``LinkReady`` or ``DialFailed`` with the same ``dial``."""

    dial: int
    host: str
    "A numeric address, IPv4 or IPv6."
    port: int
    key: str | None = None
    "The public key that is thought to be there, base32: a handshake that relies on it. None: XX."
    pinned: bool = False
    "No other key will do."
    ticket: bytes | None = None
    "Of an earlier session with ``key``: name (16) and psk (32). Secret."


class SetCaps(Message, frozen=True, kw_only=True, tag="set_caps"):
    """All caps of the node. Replaces what was before; the shares follow at once."""

    caps: Caps


class Rates(Message, frozen=True, kw_only=True, tag="rates"):
    """The shard's shares of the caps that are for the whole node. Replaces what was before."""

    generation: int
    "Of the caps that were divided; of others than those in force there it is not for the shard."
    node: Share
    protocols: dict[str, Share]


class AskTraffic(Message, frozen=True, kw_only=True, tag="ask_traffic"):
    """How all flows stand, or those of some protocols, or of a peer."""

    id: int
    protocols: list[str] | None = None
    peer: str | None = None
    limit: int


class Stop(Message, frozen=True, kw_only=True, tag="stop"):
    """Close all links and exit."""


FromShard = (
    ShardHello
    | ShardHeartbeat
    | Totals
    | Usage
    | TrafficTold
    | TicketAsked
    | LinkReady
    | LinkUp
    | LinkDown
    | DialFailed
    | PeerSaid
    | Probed
    | AppGone
)
ToShard = (
    Welcome
    | WhoAreYou
    | Registry
    | NodeRecord
    | Ticket
    | Admit
    | Close
    | Probe
    | TellPeer
    | DialLink
    | SetCaps
    | Rates
    | AskTraffic
    | Stop
)

_encoder = msgspec.json.Encoder()
_from_shard: msgspec.json.Decoder[FromShard] = msgspec.json.Decoder(FromShard)
_to_shard: msgspec.json.Decoder[ToShard] = msgspec.json.Decoder(ToShard)
_PREFIX = b"%d " % BUS_VERSION


def encode(message: Message) -> bytes:
    """The message as one ZeroMQ frame: version, a space, JSON."""
    return _PREFIX + _encoder.encode(message)


def _body(frame: bytes) -> bytes:
    version, separator, body = frame.partition(b" ")
    if not separator or version != b"%d" % BUS_VERSION:
        raise BusError(f"fabric message of version {version[:16]!r}, this is {BUS_VERSION}")
    return body


def decode_from_shard(frame: bytes) -> FromShard:
    """What a shard sent.  Raises: BusError."""
    try:
        return _from_shard.decode(_body(frame))
    except msgspec.MsgspecError as error:
        raise BusError(f"message from a shard: {error}") from error


def decode_to_shard(frame: bytes) -> ToShard:
    """What the coordinator sent.  Raises: BusError."""
    try:
        return _to_shard.decode(_body(frame))
    except msgspec.MsgspecError as error:
        raise BusError(f"message from the coordinator: {error}") from error
