"""What an application sees: messages, peers, events and the errors of sending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from dp2p.errors import RequestError


class Message(NamedTuple):
    """One datagram from a peer."""

    peer: str
    "Node-ID of the sender, base32."
    type: int
    payload: bytes


class Batch(NamedTuple):
    """Datagrams of one peer that arrived together, in order."""

    peer: str
    payloads: list[bytes]
    types: Sequence[int]
    "One for each payload."


class Peer(NamedTuple):
    """A peer that is connected and speaks the protocol."""

    id: str
    "Its node-ID, base32."
    protocol: str
    version: int
    "Highest version that both sides speak."
    key: str
    "Its public key, base32."
    trust: str
    """``none``, ``introduced`` or ``resumed``: what the key was known by when the connection
    opened. Fixed for as long as it lasts.
    """
    introducers: int
    "Peers that had independently introduced it by then."
    endpoint: str
    direction: str
    "``in`` or ``out``: who opened the connection, from this node."
    max_datagram: int
    "Bytes of the largest payload that it takes."
    types: int
    "It takes types 0 to ``types - 1``."
    mode: str = "xx"
    "The handshake that the connection began with: ``xx``, ``ik`` or ``resume``."


class Dialled(msgspec.Struct, frozen=True):
    """The peer that a dial has connected to, or was connected to already."""

    peer: str
    "Its node-ID, base32."
    key: str
    "Its public key, base32."
    endpoint: str
    mode: str = "xx"
    "The handshake that the connection began with: ``xx``, ``ik`` or ``resume``."
    fell_back: bool = False
    "What that handshake relied on was of no use, and trust was removed."
    trust: str = "none"
    "As in ``Peer``."
    introducers: int = 0


class Introduced(msgspec.Struct, frozen=True):
    """A peer that somebody has introduced. What it says of itself is signed and verified."""

    key: str
    "Its public key, base32."
    node: str
    "Its node-ID, base32."
    seq: int
    "The record's sequence number: a higher one is newer."
    endpoints: tuple[str, ...]
    "Where it says that it can be dialled, best first."
    protocols: tuple[str, ...]
    "Names of protocols that it says it receives."
    record: str = msgspec.field(name="text")
    "The record as text, to pass on (docs/spec/node-record.md)."


class Event:
    """Base of everything that ``events()`` yields."""


@dataclass(frozen=True, slots=True)
class PeerUp(Event):
    """A peer is there for a protocol and can be sent to."""

    peer: str
    protocol: str
    info: Peer
    resumed: bool = False
    """The conversation goes on: what was sent before and not confirmed is sent again, and positions
    count on.
    """


@dataclass(frozen=True, slots=True)
class PeerAway(Event):
    """The connection to a peer is gone, and something that was sent is not confirmed or waits. It
    is kept until ``PeerUp``, or until ``PeerDown`` says that the peer is given up.
    """

    peer: str
    protocol: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeerDown(Event):
    """A peer is given up for a protocol: at once if nothing is kept for it, else after it has been
    away too long, or when another application answers in its place. What it confirmed, its
    application has consumed; of the rest nobody knows how much.
    """

    peer: str
    protocol: str
    reason: str
    unconfirmed_from: int
    """Index of the first unconfirmed datagram: so many are confirmed, counting from the latest
    ``PeerUp`` that was not ``resumed``.
    """
    unconfirmed: int
    "Datagrams sent to the peer and not confirmed."
    unsent: int
    "Datagrams, behind those, that were accepted or waiting and never left this process."


@dataclass(frozen=True, slots=True)
class Trouble(Event):
    """The node refused something that no call is waiting for."""

    error: RequestError


@dataclass(frozen=True, slots=True)
class ProtocolLost(Event):
    """A protocol could not be registered again in a new session; it is closed."""

    protocol: str
    error: RequestError


@dataclass(frozen=True, slots=True)
class EventsLost(Event):
    """More came than is kept for a stream that is not read: the oldest were thrown away. Those that
    follow are whole; who is there now is in ``Protocol.peers``.
    """

    count: int
    "How many."


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """The node tells that trust was lost, or that somebody may be in the middle. Comes to sessions
    that have subscribed.
    """

    kind: str
    'See docs/spec/app-api.md, "Notices"; a later node may say more.'
    at: float
    "Seconds since 1970."
    fields: Mapping[str, str | float | bool | None] = field(hash=False)
    "Those of its kind. Keys are public keys, base32."


@dataclass(frozen=True, slots=True)
class Traffic(Event):
    """How the flows of this session's protocols stand. Comes to sessions that have subscribed to
    it, as often as they asked for.
    """

    at: float
    "Seconds since 1970."
    rows: Sequence[Mapping[str, Any]] = field(hash=False)
    'One for each flow, the longest queue first; see docs/spec/app-api.md, "traffic".'
    left_out: int = 0
    "Flows beyond the 1000 that are told."


@dataclass(frozen=True, slots=True)
class ShardFound(Event):
    """A shard is there; peers may come up over it."""

    index: int


@dataclass(frozen=True, slots=True)
class ShardLost(Event):
    """A shard is gone; ``PeerDown`` has been told for every peer that it carried."""

    index: int


@dataclass(frozen=True, slots=True)
class CoordinatorLost(Event):
    """The coordinator does not answer. Connections stay up and datagrams flow."""


@dataclass(frozen=True, slots=True)
class CoordinatorBack(Event):
    """The coordinator answers again."""


@dataclass(frozen=True, slots=True)
class SessionLost(Event):
    """The coordinator has forgotten this application; the SDK attaches and registers again."""


@dataclass(frozen=True, slots=True)
class SessionRestored(Event):
    """A new session has begun; its protocols are being registered."""

    session: str


class SendError(RequestError):
    """A call that sends ended early.

    ``accepted`` says how many payloads of the call, from its first, were taken before that;
    ``PeerDown`` counts those among its datagrams.
    """

    def __init__(
        self, code: str, message: str, *, protocol: str, peer: str, accepted: int = 0
    ) -> None:
        super().__init__(code, message, protocol=protocol, peer=peer)
        self.accepted = accepted
