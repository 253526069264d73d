"""What this node knows of its peers and does about it: trust, tickets, introductions, the watch.

Puts the parts together in the order in which they must hear of things: a handshake is judged by
what was known before it, and only then remembered. Pure: the node carries out what it returns.
``now`` is monotonic (s), ``wall`` seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dp2p import bus, ids, introduction, node_record
from dp2p.coordinator.conversations import Conversations, Misbehaved, Speaker, Tell
from dp2p.coordinator.introductions import Introductions, Learned
from dp2p.coordinator.known import Evidence, KnownPeer, Store
from dp2p.coordinator.notices import Counters, Notice
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.searches import Answered, Wanted
from dp2p.coordinator.tickets import Tickets
from dp2p.coordinator.trust import Judgement, Reliance, Trust, reliance
from dp2p.coordinator.watch import Watch
from dp2p.hello import HelloError
from dp2p.introduction import Keys
from dp2p.networks import network_of_endpoint
from dp2p.node_record import NodeRecord

Action = Tell | Misbehaved | Notice | Answered


class Acquaintance:
    """One node's view of all the others."""

    def __init__(self, store: Store, own_key: bytes, ticket_lifetime_s: float) -> None:
        self._store = store
        self._own_key = own_key
        self.counters = Counters()
        self._talk = Conversations(self.counters)
        self.tickets = Tickets(store, self.counters, ticket_lifetime_s)
        self._trust = Trust(store, self.tickets, self.counters)
        self._introductions = Introductions(store, self.counters, self._talk, own_key)
        self._watch = Watch(store, self.counters, self._talk)
        self._relied: dict[int, Reliance] = {}
        "What dials under way rely on; as many as the dialer has."

    # --- dials ---

    def dialling(self, dial: bus.DialLink) -> None:
        """A dial begins."""
        if relied := reliance(dial):
            self._relied[dial.dial] = relied

    def dial_over(self, dial: int) -> None:
        """A dial has ended in whatever way."""
        self._end(dial)

    def dial_failed(self, failure: bus.DialFailed, wall: float) -> list[Notice]:
        """A dial ended before its handshake was done."""
        return self._trust.failed(failure, self._end(failure.dial, failure.unsent), wall)

    def _end(self, dial: int, unsent: bool = False) -> Reliance | None:
        """A dial is over; what it relied on, the first time."""
        relied = self._relied.pop(dial, None)
        if relied is not None and relied.ticket is not None:
            (self.tickets.unused if unsent else self.tickets.used)(relied.ticket)
        return relied

    # --- links ---

    def ready(
        self, link: LinkId, ready: bus.LinkReady, wall: float
    ) -> tuple[Judgement, list[Notice]]:
        """A handshake is done, whether or not the link will be admitted. Tell it once."""
        relied = self._end(ready.report.dial) if ready.report.dial else None
        judgement, notices = self._trust.met(ready.report, relied, wall)
        if ids.from_text(ready.report.key) != self._own_key:  # else it would know itself by them
            self.tickets.made(link, ready, wall)
        return judgement, notices

    def up(
        self, link: Link, others: Iterable[Link], wanted: Sequence[str], now: float, wall: float
    ) -> list[Action]:
        """A link is open. ``others``: those that were open before; ``wanted``: protocols for which
        peers are sought.
        """
        report = link.report
        key = ids.from_text(report.key)
        self.tickets.proven(link.id, wall)
        self.census([link], wall)
        learned = None
        if report.record is not None:
            learned = self._introductions.record_of_itself(key, report.record, wall)
        record = learned.record if learned else None
        told: list[Action] = [*self._watch.on_up(link, record, others, now)]
        if record is not None:
            told += self._watch.learned(record, key)
        return [*told, *self._introductions.on_up(link, wanted, now)]

    def down(self, link: LinkId, remote: bool, wall: float) -> list[Action]:
        """The link is gone; ``remote``: the peer gave the reason."""
        self.tickets.down(link, remote, wall)
        self._watch.down(link)
        self._talk.down(link)
        return [*self._introductions.searches.down(link)]

    def census(self, links: Iterable[Link], wall: float) -> None:
        """These links are up, or were until now: what is connected for long is not forgotten."""
        for link in links:
            outbound = link.report.direction == "out"
            endpoint = link.report.endpoint if outbound else None
            self._store.connected(ids.from_text(link.report.key), endpoint, wall)

    def shard_down(self, shard: int, wall: float) -> list[Action]:
        """All links of a shard are gone, those that were refused and not yet down among them."""
        links = {*self.tickets.links, *self._watch.links, *self._talk.links}
        gone = [link for link in links if link.shard == shard]
        return [action for link in gone for action in self.down(link, remote=False, wall=wall)]

    # --- what peers say ---

    def said(self, link: Link, said: bus.PeerSaid, now: float, wall: float) -> list[Action]:
        """A control datagram that is not its shard's affair."""
        try:
            message = introduction.decode(said.type, said.body)
        except HelloError as error:
            return [*self._talk.end(link.id, str(error))]
        if message is None:
            return []
        speaker = Speaker(
            link=link.id,
            key=ids.from_text(link.report.key),
            network=network_of_endpoint(link.report.endpoint) or link.report.endpoint,
        )
        if isinstance(message, Keys):
            return [*self._watch.said(speaker, message, now)]
        told: list[Action] = []
        for action in self._introductions.said(speaker, message, now, wall):
            if isinstance(action, Learned):
                told += self._watch.learned(action.record, action.introducer)
            else:
                told.append(action)
        return told

    # --- what this node wants ---

    def renewed(self, own: NodeRecord, links: Iterable[LinkId], now: float) -> list[Action]:
        """The node's own record is new."""
        return [*self._introductions.renewed(own, links, now)]

    def find(
        self, token: int, wanted: Wanted, links: Iterable[Link], deadline: float, now: float
    ) -> list[Action]:
        """An application looks for peers.  Raises: RequestError ``busy``."""
        return [*self._introductions.searches.find(token, wanted, links, deadline, now)]

    def run(self, now: float) -> list[Action]:
        """Do what is due."""
        return [*self._talk.run(now), *self._introductions.searches.run(now)]

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        times = (self._talk.next_deadline(), self._introductions.searches.next_deadline())
        return min((time for time in times if time is not None), default=None)

    # --- what is known ---

    def thought_at(self, endpoint: str) -> bytes | None:
        """The key that is thought to be at an endpoint: that which answered there, else the one
        whose record says so. Records count only of peers that were introduced, since anybody can
        list any endpoint; and of several keys none is thought to be there.
        """
        claims = [one for one in self._store.at_endpoint(endpoint) if one.key != self._own_key]
        for evidence in (Evidence.DIALLED, Evidence.RECORD):
            keys = {one.key for one in claims if one.evidence is evidence}
            if evidence is Evidence.RECORD:
                keys = {key for key in keys if self._introduced(key)}
            if keys:
                return keys.pop() if len(keys) == 1 else None
        return None

    def _introduced(self, key: bytes) -> bool:
        known = self._store.peer(key)
        return known is not None and known.introducers > 0

    def describe(self, key: bytes) -> dict[str, Any] | None:
        """For ``known``; None for a peer that is not known."""
        known = self._store.peer(key)
        return None if known is None else _described(known)

    def warnings(self, peer: str) -> list[dict[str, Any]]:
        """Active warnings about a connected peer."""
        return [
            {
                "endpoint": one.endpoint,
                "other": ids.to_text(one.other),
                "reporter": ids.to_text(one.reporter) if one.reporter else None,
                "evidence": one.evidence.value,
            }
            for one in self._watch.warnings_of(peer)
        ]

    def status(self) -> dict[str, int]:
        """Counters, for ``status``."""
        return {**asdict(self.counters), "watched": len(self._watch), "open": len(self._talk)}


def _described(known: KnownPeer) -> dict[str, Any]:
    return {
        "key": ids.to_text(known.key),
        "node": ids.to_text(ids.node_id(known.key)),
        "record": None if known.record is None else node_record.to_text(known.record.signed),
        "first_seen": known.first_seen,
        "last_seen": known.last_seen,
        "endpoints": [asdict(one) for one in known.endpoints],
        "introducers": known.introducers,
        "introductions": [
            {
                "key": ids.to_text(one.introducer),
                "network": one.network,
                "at": one.at,
                "wrong": one.wrong,
            }
            for one in known.introductions
        ],
        "tickets": {"dial": known.dial_tickets, "accept": known.accept_tickets},
    }
