"""What the node remembers of peers, and how the coordinator's parts reach it.

Keys are 32 bytes of Ed25519. Times are wall-clock seconds: what is remembered outlives the
machine's uptime. ``dp2p.coordinator.store`` keeps it in SQLite; tests keep it there too, in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dp2p.node_record import NodeRecord

TICKET_NAME_BYTES = 16
TICKET_BYTES = 48


class Evidence(StrEnum):
    """Why a key is thought to be at an endpoint."""

    DIALLED = "dialled"
    "It answered there when this node dialled."
    RECORD = "record"
    "Its own signed record says so."


class Direction(StrEnum):
    """Whose next dial a ticket is for."""

    DIAL = "dial"
    "This node's."
    ACCEPT = "accept"
    "The peer's."


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a session left for the next one with the same peer."""

    key: bytes
    "The peer's."
    secret: bytes = field(repr=False)
    "Name (16 bytes, shown once on the wire) and psk (32 bytes)."
    expires: float = field(default=math.inf, compare=False)
    "Of one that the store gives: wall-clock seconds."

    @property
    def name(self) -> bytes:
        return self.secret[:TICKET_NAME_BYTES]

    @property
    def psk(self) -> bytes:
        return self.secret[TICKET_NAME_BYTES:]


@dataclass(frozen=True, slots=True)
class KnownEndpoint:
    """One place of a peer."""

    endpoint: str
    "``tcp4://host:port``"
    last_success: float | None
    last_failure: float | None
    failures: int
    "Since the last success."


@dataclass(frozen=True, slots=True)
class Claim:
    """That a key is at an endpoint."""

    key: bytes
    evidence: Evidence
    at: float
    "When it last was dialled there, or the record came."


@dataclass(frozen=True, slots=True)
class Introduction:
    """Who handed over a peer's record."""

    introducer: bytes
    network: str
    "The introducer's IP network, ``192.0.2.0/24``: introducers of one network count as one."
    at: float
    wrong: bool
    "A handshake that relied on it met another key."


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """All that is remembered of a peer but its tickets' contents."""

    key: bytes
    record: NodeRecord | None
    first_seen: float
    last_seen: float
    "When it was last connected, or its record last came."
    endpoints: tuple[KnownEndpoint, ...]
    "Those that worked last come first."
    introductions: tuple[Introduction, ...]
    dial_tickets: int
    accept_tickets: int

    @property
    def introducers(self) -> int:
        """Independent ones that are not known to be wrong."""
        return len({one.network for one in self.introductions if not one.wrong})


@dataclass(frozen=True, slots=True)
class Ban:
    """Whom this node has nothing to do with."""

    subject: bytes | str
    "A key, or an IP network in canonical spelling."
    until: float | None
    "None: for good."
    reason: str
    since: float


class Store(Protocol):
    """What is remembered. No call waits for a disk; what was said is safe after the next commit."""

    def peer(self, key: bytes) -> KnownPeer | None:
        """All about one peer."""

    def key_of(self, node_id: bytes) -> bytes | None:
        """The key of a node-ID that is known."""

    def at_endpoint(self, endpoint: str) -> list[Claim]:
        """Who is thought to be at an endpoint, best evidence and newest first; at most 8."""

    def by_protocol(self, name: str, limit: int) -> list[NodeRecord]:
        """Records of peers that speak a protocol, most valuable first."""

    def nearest(self, node_id: bytes, limit: int, protocol: str | None = None) -> list[NodeRecord]:
        """Records of the peers closest to a node-ID (XOR), closest first."""

    def connected(self, key: bytes, endpoint: str | None, now: float) -> None:
        """A link to the peer is up; ``endpoint`` is where it was dialled, None for an inbound."""

    def dial_failed(self, endpoint: str, now: float) -> None:
        """Nobody that was asked for answered there: counts against all who are said to be there."""

    def add_record(self, record: NodeRecord, now: float) -> bool:
        """Keep a verified record; False when one with this or a newer sequence number is there."""

    def introduced(
        self, key: bytes, introducer: bytes, network: str, now: float, seq: int | None = None
    ) -> None:
        """A connected peer has handed over the record of another, with that sequence number; None
        stands for the one that is kept.
        """

    def doubt(self, key: bytes, endpoint: str, now: float) -> None:
        """Another key answered where ``key`` was thought to be: its introductions are wrong, and
        it is no longer thought to be at ``endpoint``.
        """

    def put_ticket(self, ticket: Ticket, direction: Direction, expires: float) -> None:
        """Keep a ticket. The newest few of a peer and direction stay."""

    def take_dial_ticket(self, key: bytes, now: float) -> Ticket | None:
        """The newest ticket for a dial to the peer, once: it is forgotten."""

    def take_accept_ticket(self, name: bytes, now: float) -> Ticket | None:
        """The ticket that an inbound handshake names, once: it is forgotten."""

    def drop_tickets(self, key: bytes) -> None:
        """Forget all tickets of a peer."""

    def next_sequence(self, now: float) -> int:
        """A sequence number for this node's own record, higher than all before."""

    # --- bans and anchors ---

    def ban(self, subject: bytes | str, until: float | None, reason: str, now: float) -> None:
        """Have nothing to do with a key or an IP network (``192.0.2.0/24``, or an address) until
        then, or for good. A later word on the same subject counts.  Raises: ValueError.
        """

    def unban(self, subject: bytes | str) -> bool:
        """End a ban early; False when there was none.  Raises: ValueError."""

    def banned(self, key: bytes | None, network: str | None, now: float) -> str | None:
        """Why one may have nothing to do with a key, or with an address or network (a ban of one
        that it lies in counts); None when one may.  Raises: ValueError.
        """

    def bans(self, now: float) -> list[Ban]:
        """All bans that hold, the latest first."""

    def set_anchors(self, keys: Iterable[bytes]) -> None:
        """Remember which peers to go to first after a restart, best first; at most 64. They stay
        in the store when others leave it.
        """

    def anchors(self) -> list[bytes]:
        """Keys, as they were set."""

    # --- upkeep ---

    @property
    def dirty(self) -> bool:
        """Something was written since the last commit."""

    def commit(self) -> None:
        """Keep what was written."""

    def expire(self, now: float) -> int:
        """Forget tickets and bans whose time is over, some of them at each call; how many."""

    def counts(self) -> dict[str, int]:
        """How many peers, records, endpoints, introductions, tickets and bans there are; how often
        the store failed and was replaced.
        """
