"""Messages of the control socket between an application and the coordinator.

Source: docs/spec/app-api.md, "Control". JSON, one object a message. A request carries
``id`` and ``op``; its reply carries the same ``id`` and either ``ok`` or ``error``. Events carry
``event``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

API_VERSION = 1

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}\Z")]
Version = Annotated[int, Meta(ge=0, le=65535)]
Session = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Instance = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
"One life of an application; peers hear it."
PeerText = Annotated[str, Meta(pattern=r"^(dp2p://)?[a-z2-7]{51}[aq]\Z")]
"A node-ID, or ``dp2p://`` and a public key."
DatagramType = Annotated[int, Meta(ge=0, le=65535)]
Rate = Annotated[int, Meta(ge=1024, le=1 << 40)]
"Bytes of credit cost a second: each datagram counts its payload and 16."
Scope = Literal["node", "protocol", "peer"]
PriorityClass = Literal["urgent", "normal", "bulk"]


class Lift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Datagrams of the types ``first`` to ``last`` are more urgent than their protocol."""

    first: DatagramType
    last: DatagramType
    priority: Literal["urgent", "normal"]


class ProtocolSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an application says of a protocol when it registers it."""

    name: Name
    versions: Annotated[list[Version], Meta(min_length=1, max_length=16)]
    max_datagram: Annotated[int, Meta(ge=1, le=16 << 20)] = 1 << 20
    "Bytes of the largest payload."
    types: Annotated[int, Meta(ge=1, le=65536)] = 65536
    "Datagram types run from 0 to ``types - 1``."
    priority: PriorityClass = "normal"
    weight: Annotated[int, Meta(ge=1, le=255)] = 16
    lifts: Annotated[list[Lift], Meta(max_length=8)] = []
    "Each to a class above that of the protocol."
    slots: Annotated[int, Meta(ge=0, le=65535)] = 8
    window: Annotated[int, Meta(ge=0, le=256 << 20)] = 0
    "Bytes a peer may have under way to this application; 0 lets the node choose."
    shared: bool = False


class Request(msgspec.Struct, tag_field="op", kw_only=True, forbid_unknown_fields=True):
    """Base of all requests."""

    id: int


class Attach(Request, tag="attach"):
    """Begin a session. Reply: ``Attached``."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    version: int = API_VERSION
    instance: Instance | None = None
    "The same in all sessions of one life of the application; None: one for this session alone."


class Heartbeat(Request, tag="heartbeat"):
    """Prove that the application lives. Reply: empty, or error ``unknown_session``."""

    session: Session


class Register(Request, tag="register"):
    """Put a protocol on the air. Reply: ``Registered``."""

    session: Session
    protocol: ProtocolSpec


class Withdraw(Request, tag="withdraw"):
    """Take a protocol off the air. Reply: empty."""

    session: Session
    name: Name


class Detach(Request, tag="detach"):
    """End the session and with it its protocols. Reply: empty."""

    session: Session


class Status(Request, tag="status"):
    """Reply: the node's state, an object."""


class Peers(Request, tag="peers"):
    """Reply: ``{"peers": [...]}``."""


class Dial(Request, tag="dial"):
    """Connect to an address; the reply comes when the connection is open or has failed.

    Reply: the peer, and how it was met: see docs/spec/app-api.md, "dial".
    """

    address: Annotated[str, Meta(max_length=512)]
    timeout_s: Annotated[float, Meta(gt=0, le=120)] = 10.0


class Known(Request, tag="known"):
    """What the node remembers of a peer. Reply: an object, see docs/spec/app-api.md."""

    peer: PeerText


class Find(Request, tag="find"):
    """Ask connected peers to introduce others; the reply comes when all have answered, or in time.

    Reply: ``{"records": [...], "asked": how many peers}``.
    """

    protocol: Name | None = None
    near: PeerText | None = None
    "Peers close to it."
    limit: Annotated[int, Meta(ge=1, le=256)] = 16
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


class Lookup(Request, tag="lookup"):
    """Walk the network towards a node-ID. Reply: see docs/spec/app-api.md, "lookup"."""

    target: PeerText
    timeout_s: Annotated[float, Meta(gt=0, le=120)] = 30.0


class Table(Request, tag="table"):
    """Reply: discovery's table, see docs/spec/app-api.md, "table"."""


class AskContact(Request, tag="ask_contact"):
    """Ask one node of the network, over discovery; without a question, for its record.

    Reply: see docs/spec/app-api.md, "ask_contact".
    """

    key: Annotated[str, Meta(pattern=r"^[a-z2-7]{51}[aq]\Z")]
    endpoint: Annotated[str, Meta(max_length=64)]
    "``udp4://192.0.2.7:4617``, numeric."
    near: PeerText | None = None
    "Whom it knows close to this one."
    protocol: Name | None = None
    "Whom it knows to serve this protocol."


class Subscribe(Request, tag="subscribe"):
    """Get ``notice`` events from now on, and ``traffic`` if asked for. Reply: empty."""

    session: Session
    traffic_s: Annotated[float, Meta(ge=0.2, le=60)] | None = None
    "How often to tell of the session's own protocols; None: not at all."


class Limit(Request, tag="limit"):
    """Cap the rate of the node, a protocol or a peer; null lifts a cap, what is left out stays.

    Reply: the cap as it is now, as one entry of ``limits``.
    """

    scope: Scope
    name: Annotated[str, Meta(max_length=64)] = ""
    "The protocol's name, the peer's node-ID or ``dp2p://KEY``; empty for the node."
    up: Rate | UnsetType | None = UNSET
    down: Rate | UnsetType | None = UNSET


class Limits(Request, tag="limits"):
    """Reply: ``{"limits": [...]}``, all caps."""


class Traffic(Request, tag="traffic"):
    """How flows stand; the reply comes when the shards have said so, or after a second.

    Reply: see docs/spec/app-api.md, "traffic".
    """

    protocol: Name | None = None
    peer: PeerText | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    "Rows at most: those with the longest queues come first."


class Disconnect(Request, tag="disconnect"):
    """Close the connection to a peer. Reply: empty."""

    peer: str


AnyRequest = (
    Attach
    | Heartbeat
    | Register
    | Withdraw
    | Detach
    | Status
    | Peers
    | Dial
    | Known
    | Find
    | Lookup
    | Table
    | AskContact
    | Subscribe
    | Limit
    | Limits
    | Traffic
    | Disconnect
)


class ShardEndpoint(msgspec.Struct, frozen=True):
    """Where a shard's data socket is. A restarted shard has a new endpoint."""

    index: int
    endpoint: str


class Attached(msgspec.Struct, frozen=True):
    """Reply to ``attach``."""

    session: str
    node: str
    "The node's node-ID, base32."
    key: str
    "Its public key, base32."
    shards: list[ShardEndpoint]
    heartbeat_s: float
    "Send a heartbeat this often; without any for ``apps.heartbeat_expiry_s`` the session ends."


class Registered(msgspec.Struct, frozen=True):
    """Reply to ``register``: the protocol with all defaults filled in."""

    number: int
    "The number under which this node receives it, 0-249."
    window: int


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request failed."""

    code: str
    message: str
    protocol: str | None = None
    peer: str | None = None


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to the request with the same ``id``; exactly one of ``ok`` and ``error``.

    A message of which not even ``id`` can be read is answered with ``id`` -1.
    """

    id: int
    ok: Any = None
    error: ErrorBody | None = None


class ShardUp(msgspec.Struct, frozen=True, tag_field="event", tag="shard_up"):
    """A shard is there: connect to its data socket and attach."""

    index: int
    endpoint: str


class ShardDown(msgspec.Struct, frozen=True, tag_field="event", tag="shard_down"):
    """A shard is gone and every flow over it is down."""

    index: int
    endpoint: str


class Notice(msgspec.Struct, frozen=True, tag_field="event", tag="notice"):
    """Trust was lost, or somebody may be in the middle: for sessions that subscribed."""

    kind: str
    'One of those in docs/spec/app-api.md, "Notices".'
    at: float
    "Seconds since 1970."
    fields: Mapping[str, str | float | bool | None]


class TrafficSeen(msgspec.Struct, frozen=True, tag_field="event", tag="traffic"):
    """How the flows of the session's protocols stand: for sessions that asked for it."""

    at: float
    "Seconds since 1970."
    rows: list[dict[str, Any]]
    "As in the reply to ``traffic``."
    left_out: int = 0
    "Flows beyond the limit of rows."
    silent: list[int] = []
    "Shards that did not answer in time."


AnyEvent = ShardUp | ShardDown | Notice | TrafficSeen
