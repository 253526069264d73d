"""How far a connection is trusted, and what is no longer believed when a handshake falls back.

Source: docs/guides/identity-and-trust.md. Every rule about trust stands in ``judge``:

| how the link came about | trust |
|---|---|
| its handshake fell back, on either side | none |
| under a ticket of an earlier session | resumed |
| the caller's address named the key (the operator introduced it) | introduced |
| the key had been introduced by somebody who is not known to be wrong | introduced |
| all else | none |
"""

from __future__ import annotations

from dataclasses import dataclass

from dp2p import bus, ids
from dp2p.addresses import numeric_endpoint
from dp2p.coordinator import notices
from dp2p.coordinator.known import TICKET_NAME_BYTES, KnownPeer, Store
from dp2p.coordinator.notices import Counters, Notice
from dp2p.coordinator.tickets import Tickets


@dataclass(frozen=True, slots=True)
class Reliance:
    """What a dial of this node relied on."""

    key: bytes
    "The public key that was thought to be there."
    endpoint: str
    "``tcp4://host:port``, numeric."
    pinned: bool
    "The caller asked for this key."
    ticket: bytes | None
    "Name of the ticket that the dial took along."

    @property
    def mode(self) -> bus.Mode:
        return "ik" if self.ticket is None else "resume"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a link is worth when it is admitted."""

    trust: bus.Trust
    introducers: int
    "Independent ones that are not known to be wrong."


def reliance(dial: bus.DialLink) -> Reliance | None:
    """What a dial relies on; None when it is open to whoever answers."""
    if dial.key is None:
        return None
    endpoint = str(numeric_endpoint(dial.host, dial.port))
    name = dial.ticket and dial.ticket[:TICKET_NAME_BYTES]
    return Reliance(ids.from_text(dial.key), endpoint, dial.pinned, name)


def judge(report: bus.LinkReport, known: KnownPeer | None, relied: Reliance | None) -> Judgement:
    """``known``: what was remembered of the peer before this link. ``relied``: of the dial that
    made it, None for an inbound link.
    """
    introducers = known.introducers if known else 0
    pinned = relied is not None and relied.pinned and ids.to_text(relied.key) == report.key
    if report.fell_back:
        return Judgement("none", introducers)
    if report.mode == "resume":
        return Judgement("resumed", introducers)
    return Judgement("introduced" if pinned or introducers else "none", introducers)


class Trust:
    """Judges handshakes and makes the store forget what they have shown to be wrong."""

    def __init__(self, store: Store, tickets: Tickets, counters: Counters) -> None:
        self._store = store
        self._tickets = tickets
        self._counters = counters

    def met(
        self, report: bus.LinkReport, relied: Reliance | None, wall: float
    ) -> tuple[Judgement, list[Notice]]:
        """A handshake is done. To be told before the store hears that the peer is connected."""
        judgement = judge(report, self._store.peer(ids.from_text(report.key)), relied)
        if report.fell_back:
            return judgement, self._lost(report, relied, wall)
        match report.mode:
            case "xx":
                self._counters.handshakes_xx += 1
            case "ik":
                self._counters.handshakes_ik += 1
            case "resume":
                self._counters.handshakes_resume += 1
        return judgement, []

    def _lost(self, report: bus.LinkReport, relied: Reliance | None, wall: float) -> list[Notice]:
        """A handshake fell back: the ticket it used is gone already, the peer's others go now.

        Somebody who breaks bytes on the way can have the same key answer, so that alone says
        nothing against who introduced it (docs/adr/0008). The responder forgets nothing: anybody
        can send it a first message that it cannot use.
        """
        self._counters.fallbacks += 1
        told = [notices.fallback(report, relied.key if relied else None)]
        if relied is None:
            return told
        self._tickets.drop(relied.key)
        if ids.to_text(relied.key) != report.key:
            told.append(self._doubt(relied, wall))
        return told

    def failed(self, failure: bus.DialFailed, relied: Reliance | None, wall: float) -> list[Notice]:
        """A dial ended without a link: whether it was because another key answered."""
        if failure.reason != "identity" or relied is None:
            return []
        self._counters.identity_errors += 1
        answered = ids.from_text(failure.answered) if failure.answered else None
        told = [notices.identity_error(relied.endpoint, relied.mode, relied.key, answered)]
        if not self._believed(relied):  # a wrong address in somebody's hand says nothing of the key
            return told
        if relied.ticket:
            self._tickets.drop(relied.key)
        if answered not in (None, relied.key):
            told.append(self._doubt(relied, wall))
        return told

    def _believed(self, relied: Reliance) -> bool:
        """Whether this node itself thought that the key was there."""
        claims = self._store.at_endpoint(relied.endpoint)
        return any(claim.key == relied.key for claim in claims)

    def _doubt(self, relied: Reliance, wall: float) -> Notice:
        self._counters.doubted += 1
        self._store.doubt(relied.key, relied.endpoint, wall)
        return notices.doubted(relied.key, relied.endpoint)
