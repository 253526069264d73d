"""What the dialer keeps for each address, and what it asks of whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from dp2p import bus
from dp2p.addresses import Address
from dp2p.coordinator.peers import Link, LinkId

Place = tuple[str, int]
"Numeric address and port."


class Phase(Enum):
    """What a target waits for."""

    IDLE = auto()
    RESOLVING = auto()
    DIALLING = auto()
    OPENING = auto()
    HELD = auto()


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look up ``host``; answer with ``resolved`` or ``resolve_failed``."""

    target: int
    host: str
    port: int
    family: int | None
    "4 or 6 when only that will do."


@dataclass(frozen=True, slots=True)
class Connect:
    """Send ``message`` to the shard."""

    shard: int
    message: bus.DialLink


@dataclass(frozen=True, slots=True)
class Connected:
    """A requested dial has its connection."""

    token: int
    link: Link


@dataclass(frozen=True, slots=True)
class Failed:
    """A requested dial has failed."""

    token: int
    code: str
    message: str


Action = Resolve | Connect | Connected | Failed


class View(Protocol):
    """What the dialer sees of the node."""

    def connected(self, peer: str) -> Link | None:
        """The open link to a peer."""

    def open_to(self, endpoint: str) -> Link | None:
        """The open link that was made to an endpoint."""

    def least_loaded(self) -> int | None:
        """The shard to dial through; None when there is none."""


@dataclass(slots=True)
class Target:
    """An address somebody wants connected."""

    number: int
    address: Address
    static: bool = False
    tries: int = 0
    "How often it is tried again when nobody waits for it."
    waiters: dict[int, float] = field(default_factory=dict)
    "Token of a request -> its deadline."
    phase: Phase = Phase.IDLE
    deadline: float = 0.0
    "When the phase ends by itself; in IDLE, when to dial."
    alternates: list[Place] = field(default_factory=list)
    "Where else the same peer may be."
    places: list[Place] = field(default_factory=list)
    "Where it is still to be tried in this round."
    place: Place | None = None
    dial: int | None = None
    shard: int | None = None
    link: LinkId | None = None
    peer: str | None = None
    "Node-ID, once known."
    failures: int = 0
    error: tuple[str, str] | None = None
    "The most telling failure of this round."
