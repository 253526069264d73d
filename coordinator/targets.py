"""What the dialer keeps for each address, and what it asks of whoever drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from dp2p import bus
from dp2p.addresses import Address, Endpoint, PeerOnly
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.places import Place

Wanted = Address | PeerOnly
"What can be dialled."


class Phase(Enum):
    """What a target waits for."""

    IDLE = auto()
    RESOLVING = auto()
    QUEUED = auto()
    DIALLING = auto()
    OPENING = auto()
    HELD = auto()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a dial can rely on."""

    key: str | None = None
    "The public key that is thought to be there, base32."
    ticket: bytes | None = field(default=None, repr=False)
    "Of an earlier session with ``key``. Secret, and used once."

    @property
    def mode(self) -> bus.Mode:
        """The handshake that begins with it."""
        if self.key is None:
            return "xx"
        return "ik" if self.ticket is None else "resume"


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


@dataclass(frozen=True, slots=True)
class Tried:
    """What has come of a ``Connect``. Each has exactly one."""

    dial: int
    endpoint: str
    "``tcp4://host:port``, numeric."
    key: str | None
    "That it relied on, base32."
    pinned: bool
    "No other key would do."
    mode: bus.Mode
    "The handshake that it began with."
    ok: bool
    "The handshake is done; whether the link is admitted is another matter."
    reason: str | None = None
    "Of ``DialFailed``, or ``shard_down``, which says nothing of the endpoint. None when ``ok``."
    answered: str | None = None
    "The key that answered, base32, when that is known."


Action = Resolve | Connect | Connected | Failed | Tried


class View(Protocol):
    """What the dialer sees of the node."""

    def connected(self, peer: str) -> Link | None:
        """The open link to a peer."""

    def open_to(self, endpoint: str) -> Link | None:
        """The open link that was made to an endpoint."""

    def least_loaded(self) -> int | None:
        """The shard to dial through; None when there is none."""

    def places(self, key: str) -> list[Place]:
        """Where a peer may be, best first."""

    def knowledge(self, key: str | None, endpoint: str) -> Knowledge:
        """What a dial to ``endpoint`` that begins now can rely on; a ticket is used up with that.

        ``key``: the peer that is asked for, None for whoever is there.
        """


@dataclass(slots=True)
class Target:
    """An address somebody wants connected."""

    number: int
    address: Wanted
    key: str | None
    "The public key that must answer, base32; None when any will do."
    peer: str | None
    "Node-ID, once known."
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
    place: Place | None = None
    dial: int | None = None
    shard: int | None = None
    link: LinkId | None = None

    # --- of this round ---

    places: list[Place] = field(default_factory=list)
    "Where it is still to be tried."
    left: int = 0
    "How many of them at most."
    met: set[str] = field(default_factory=set)
    "Names, as ``Backoff`` has them, of places that were tried, or left alone as they had failed."
    turn: int = 0
    "When it is queued: grows with each that joins the queue."
    error: tuple[str, str] | None = None
    "The most telling failure."

    def enter(self, phase: Phase, deadline: float = float("inf")) -> None:
        """Go on to a phase."""
        self.phase, self.deadline = phase, deadline

    def note(self, code: str, message: str) -> None:
        """Keep the failure that says most: a wrong key before everything else, else the last."""
        if self.error is None or self.error[0] != "identity_mismatch":
            self.error = (code, message)


class Targets:
    """All targets."""

    def __init__(self) -> None:
        self._last = 0
        self._by_number: dict[int, Target] = {}
        self._by_address: dict[Wanted, Target] = {}

    def __iter__(self) -> Iterator[Target]:
        """Those there are now, whatever becomes of them meanwhile."""
        return iter(list(self._by_number.values()))

    def __contains__(self, target: Target) -> bool:
        return target.number in self._by_number

    def get(self, number: int) -> Target | None:
        """The target with that number."""
        return self._by_number.get(number)

    def of(self, address: Wanted, now: float) -> Target:
        """The target of an address; a new one is due at once."""
        target = self._by_address.get(address)
        if target is None:
            key = None if isinstance(address, Endpoint) else address.key
            peer = None if isinstance(address, Endpoint) else address.peer
            target = Target(self.next_number(), address, key, peer, deadline=now)
            self._by_number[target.number] = self._by_address[address] = target
        return target

    def next_number(self) -> int:
        """Higher than all before."""
        self._last += 1
        return self._last

    def of_link(self, link: LinkId) -> Target | None:
        """The target whose link is opening."""
        return next((one for one in self if one.link == link), None)

    def queued(self) -> list[Target]:
        """Those that applications wait for first, and in the order of coming."""
        queue = [one for one in self if one.phase is Phase.QUEUED]
        return sorted(queue, key=lambda one: (not one.waiters, one.turn))

    def next_deadline(self) -> float:
        """Of all phases and requests; infinite when there is none."""
        times = (time for one in self for time in (one.deadline, *one.waiters.values()))
        return min(times, default=float("inf"))

    def forget_unwanted(self, target: Target) -> None:
        """Drop it, if nobody wants it connected any more."""
        if not (target.static or target.waiters or target.tries):
            self._by_number.pop(target.number, None)
            self._by_address.pop(target.address, None)
