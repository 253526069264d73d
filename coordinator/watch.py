"""The watch for a man in the middle: do others know another key where this node met this one?

Source: docs/guides/identity-and-trust.md. With a peer of trust ``none`` this node knows nothing but
where it is, so it asks peers that may have reached the same endpoint from elsewhere, or earlier.
What they say is no proof, since they may lie; a disagreement is told, and trust stays ``none``.

A claim weighs by its evidence: who says that a key answered there outweighs a record, which anybody
can sign for any endpoint. So a key is agreed to when it is named with no less evidence than any
other one.

Pure. Bounded: two endpoints a link, so many warnings a link, so many checks for each new peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest

from dp2p import ids
from dp2p.coordinator import notices
from dp2p.coordinator.conversations import Conversations, Misbehaved, Speaker, Tell
from dp2p.coordinator.known import Evidence, Store
from dp2p.coordinator.notices import Counters, Notice
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.searches import TRUST_RANK
from dp2p.introduction import Check, Keys
from dp2p.node_record import NodeRecord

ENDPOINTS_MAX = 2  # of an inbound peer: what it says of itself is only a claim
ASKED_PER_LINK = 8  # peers, when a link comes up
CHECKS_PER_PEER = 16  # asked of a peer that comes up later
WARNINGS_PER_LINK = 16
CLAIMANTS_MAX = 8  # inbound links with one endpoint that a record is held against

_WEIGHT = {Evidence.RECORD: 1, Evidence.DIALLED: 2}

Action = Tell | Misbehaved | Notice


@dataclass(frozen=True, slots=True)
class Warned:
    """Somebody knows another key for a peer's endpoint."""

    endpoint: str
    other: bytes
    reporter: bytes | None
    "None: this node itself."
    evidence: Evidence


@dataclass(slots=True)
class _Suspect:
    """A link with trust ``none``."""

    link: LinkId
    peer: str
    "Node-ID."
    key: bytes
    endpoints: tuple[str, ...]
    checks: int = 0
    "How many were asked about it."
    warnings: dict[tuple[bytes, bytes | None], Warned] = field(default_factory=dict)
    "By other key and reporter."


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a CHECK was about."""

    suspect: LinkId
    endpoint: str


class Watch:
    """All links with trust ``none`` whose endpoint is known."""

    def __init__(self, store: Store, counters: Counters, talk: Conversations) -> None:
        self._store = store
        self._counters = counters
        self._talk = talk
        self._suspects: dict[LinkId, _Suspect] = {}
        "Oldest first."
        self._by_peer: dict[str, dict[LinkId, None]] = {}
        self._by_endpoint: dict[str, dict[LinkId, None]] = {}

    def on_up(
        self, link: Link, record: NodeRecord | None, others: Iterable[Link], now: float
    ) -> list[Action]:
        """A link is open. ``record``: what the peer says of itself, verified; ``others``: the links
        that were open before.
        """
        told = self._ask_it(link, now)
        if link.report.trust != "none" or link.id in self._suspects:
            return told
        suspect = _Suspect(
            link.id, link.peer, ids.from_text(link.report.key), _endpoints(link, record)
        )
        if not suspect.endpoints:
            return told
        self._add(suspect, link.report.direction == "out")
        return [*told, *self._remember(suspect), *self._ask_others(suspect, others, now)]

    def said(self, peer: Speaker, message: Keys, now: float) -> list[Action]:
        """A connected peer has answered a check."""
        checked = self._talk.answered(peer.link, message.id, _Checked)
        if checked is None:
            self._counters.unasked += 1
            return [*self._talk.bear(peer.link, "an answer without a question", now)]
        self._counters.keys_received += 1
        suspect = self._suspects.get(checked.suspect)
        if suspect is None:
            return []
        claims = [(ids.from_text(one.key), Evidence(one.evidence)) for one in message.keys]
        self._counters.keys_agreed += any(other == suspect.key for other, _ in claims)
        self._counters.keys_disputed += any(other != suspect.key for other, _ in claims)
        return [*self._weigh(suspect, checked.endpoint, peer.key, claims)]

    def learned(self, record: NodeRecord, introducer: bytes) -> list[Notice]:
        """A peer has handed over a record: whether it puts another key where a suspect is."""
        told: list[Notice] = []
        for endpoint in record.dialable:
            for link in self._by_endpoint.get(endpoint, ()):
                claims = [(record.key, Evidence.RECORD)]
                told += self._weigh(self._suspects[link], endpoint, introducer, claims)
        return told

    def down(self, link: LinkId) -> None:
        """The link is gone, and its warnings with it."""
        suspect = self._suspects.pop(link, None)
        if suspect is None:
            return
        _leave(self._by_peer, suspect.peer, link)
        for endpoint in suspect.endpoints:
            _leave(self._by_endpoint, endpoint, link)

    def warnings_of(self, peer: str) -> list[Warned]:
        """Active warnings about a connected peer, by its node-ID."""
        return [
            warned
            for link in self._by_peer.get(peer, ())
            for warned in self._suspects[link].warnings.values()
        ]

    @property
    def links(self) -> Iterable[LinkId]:
        """All that are watched."""
        return self._suspects.keys()

    def __len__(self) -> int:
        return len(self._suspects)

    def _add(self, suspect: _Suspect, dialled: bool) -> None:
        """Of inbound links that claim one endpoint, few are looked up by it."""
        self._suspects[suspect.link] = suspect
        self._by_peer.setdefault(suspect.peer, {})[suspect.link] = None
        for endpoint in suspect.endpoints:
            links = self._by_endpoint.setdefault(endpoint, {})
            if dialled or len(links) < CLAIMANTS_MAX:
                links[suspect.link] = None

    def _ask_it(self, peer: Link, now: float) -> list[Action]:
        """Ask a peer that has come up about the links that were checked least, the oldest first."""
        places = (
            (suspect, endpoint)
            for suspect in self._suspects.values()
            if suspect.peer != peer.peer
            for endpoint in suspect.endpoints
        )
        told: list[Action] = []
        for suspect, endpoint in nsmallest(
            CHECKS_PER_PEER, places, key=lambda place: place[0].checks
        ):
            told += self._check(suspect, endpoint, peer.id, now)
        return told

    def _ask_others(self, suspect: _Suspect, others: Iterable[Link], now: float) -> list[Action]:
        able = [one for one in others if one.up and one.peer != suspect.peer]
        able.sort(key=lambda one: (-TRUST_RANK[one.report.trust], -one.report.introducers))
        told: list[Action] = []
        for other in able[:ASKED_PER_LINK]:
            for endpoint in suspect.endpoints:
                told += self._check(suspect, endpoint, other.id, now)
        return told

    def _check(self, suspect: _Suspect, endpoint: str, peer: LinkId, now: float) -> list[Tell]:
        suspect.checks += 1
        about = _Checked(suspect.link, endpoint)
        return self._talk.ask(peer, Check(id=0, endpoint=endpoint), about, now)

    def _remember(self, suspect: _Suspect) -> list[Notice]:
        """Whether another key answered this node there before."""
        told: list[Notice] = []
        for endpoint in suspect.endpoints:
            for claim in self._store.at_endpoint(endpoint):
                if claim.evidence is Evidence.DIALLED and claim.key != suspect.key:
                    told += self._warn(suspect, endpoint, claim.key, None, claim.evidence)
        return told

    def _weigh(
        self,
        suspect: _Suspect,
        endpoint: str,
        reporter: bytes,
        claims: list[tuple[bytes, Evidence]],
    ) -> list[Notice]:
        ours = max((_WEIGHT[how] for key, how in claims if key == suspect.key), default=0)
        return [
            notice
            for key, how in claims
            if key != suspect.key and _WEIGHT[how] > ours
            for notice in self._warn(suspect, endpoint, key, reporter, how)
        ]

    def _warn(
        self,
        suspect: _Suspect,
        endpoint: str,
        other: bytes,
        reporter: bytes | None,
        evidence: Evidence,
    ) -> list[Notice]:
        """Once for each other key and reporter."""
        key = (other, reporter)
        if key in suspect.warnings or len(suspect.warnings) >= WARNINGS_PER_LINK:
            return []
        suspect.warnings[key] = Warned(endpoint, other, reporter, evidence)
        self._counters.warnings += 1
        return [
            notices.mitm_warning(
                peer=suspect.peer,
                endpoint=endpoint,
                met=suspect.key,
                other=other,
                reporter=reporter,
                evidence=evidence.value,
            )
        ]


def _leave(book: dict[str, dict[LinkId, None]], name: str, link: LinkId) -> None:
    """Strike a link out under a name."""
    links = book.get(name, {})
    links.pop(link, None)
    if not links:
        book.pop(name, None)


def _endpoints(link: Link, record: NodeRecord | None) -> tuple[str, ...]:
    """Where the peer is thought to be: where it was dialled, else what its record claims."""
    if link.report.direction == "out":
        return (link.report.endpoint,)
    return record.dialable[:ENDPOINTS_MAX] if record else ()
