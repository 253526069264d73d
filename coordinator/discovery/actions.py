"""What goes into discovery and what comes out of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from typing import Literal

from dp2p.coordinator.discovery.contact import Contact, Place, Serving
from dp2p.coordinator.discovery.messages import Message
from dp2p.coordinator.discovery.table import NetworkLimits
from dp2p.errors import Dp2pError

Token = Hashable
"Comes back with the result, so that whoever asked knows it."


class DiscoveryBusy(Dp2pError):
    """More is asked of discovery at a time than it does or keeps waiting."""


@dataclass(frozen=True, slots=True)
class Own:
    """This node."""

    key: bytes
    "Its public key."
    places: tuple[Place, ...]
    "Where it takes discovery's packets, by the addresses of its own interfaces."


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides."""

    serve: Literal["auto", "always", "never"] = "auto"
    "Whether others may keep this node in their tables; auto: while it can be reached."
    paths: int = 8
    "Disjoint paths of a lookup whose result matters."
    limits: NetworkLimits = field(default_factory=NetworkLimits)
    "Contacts of one IP network."


@dataclass(frozen=True, slots=True)
class Result:
    """How a lookup went."""

    contacts: tuple[Contact, ...]
    "Those closest to the target that answered themselves, closest first."
    hops: int
    asked: int
    failed: int
    "Of those asked."
    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message, in a session that is made when there is none."""

    contact: Contact
    message: Message


@dataclass(frozen=True, slots=True)
class Doubt:
    """A request went unanswered: the session may have been lost on the other side."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A lookup has ended."""

    token: Token
    result: Result


@dataclass(frozen=True, slots=True)
class Found:
    """A search has ended. Each provider was advertised and has answered itself."""

    token: Token
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of ``ask``."""

    token: Token
    contact: Contact
    answer: tuple[Contact, ...] | bytes | None
    "Contacts (providers, of a protocol; none, to a ping), a signed record or b''; None: silence."


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A contact has handed over its record, which nobody has verified yet."""

    contact: Contact
    signed: bytes


@dataclass(frozen=True, slots=True)
class PlaceAgreed:
    """Independent contacts agree that this node's packets come from here."""

    place: Place


@dataclass(frozen=True, slots=True)
class Serves:
    """What this node says, from now on, of whether others may keep it in their tables."""

    serves: Serving


Action = Send | Doubt | LookedUp | Found | Answered | RecordSeen | PlaceAgreed | Serves


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    requests: int = 0
    retries: int = 0
    answers: int = 0
    incomplete: int = 0
    "Answers of which parts never came; the rest was used."
    failures: int = 0
    "Requests that got no answer."
    unasked: int = 0
    "Answers to what this node did not ask, or not of whom it asked."
    odd: int = 0
    "Answers of another kind than the request's, parts twice, parts that do not count up."
    refused_contacts: int = 0
    "Contacts in answers that are no use: no place, a private one, this node itself, too many."
    served: int = 0
    "Requests answered."
    limited_contact: int = 0
    "Requests left unanswered, as their sender had too many."
    limited_network: int = 0
    limited_all: int = 0
    lookups: int = 0
    lookups_cut: int = 0
    "Ended when their time was over, with what they had."
    searches: int = 0
    busy: int = 0
    "Lookups, searches and questions that were refused."
    candidates_dropped: int = 0
    adverts_taken: int = 0
    adverts_refused: int = 0
    adverts_placed: int = 0
    records_asked: int = 0
    records_limited: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
