"""Introductions: peers tell each other whom they know, under encryption, in signed records.

Source: docs/spec/wire.md, "Introductions". A record proves what its owner says of itself; who
handed it over is remembered as its introducer, and that is what trust is judged by.

Whom this node hands over (``tellable``): peers it has been connected to itself, and peers that
somebody introduced who is not known to be wrong.

Pure: ``now`` is monotonic (s), ``wall`` seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from dp2p import addresses, ids, node_record, noise
from dp2p.allowance import Shares
from dp2p.coordinator.conversations import Conversations, Misbehaved, Speaker, Tell
from dp2p.coordinator.known import Evidence, KnownPeer, Store
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.searches import Answered, Searches, Sought
from dp2p.errors import NodeRecordError
from dp2p.hello import MALFORMED, KeyText
from dp2p.introduction import KEYS_MAX, Check, Find, Found, KeyClaim, Keys, Record
from dp2p.networks import is_local, network_of_endpoint
from dp2p.node_record import NodeRecord

WANTED = 16  # records, in one answer to this node
FINDS_AT_UP = 8  # questions to a new peer: one by nearness, the others by protocol
ANSWERED = (64, 0.25), (256, 0.01)
"Questions that are looked at, of one IP network and of all: at once, and one more each (s)."
ASKED = (32, 5.0), (128, 0.2)
"Questions to new peers, in the same way: each answer is up to 16 signatures to check, and to keep."
SPARE = 8  # candidates beyond what was asked for, as some may not be handed over


@dataclass(frozen=True, slots=True)
class Learned:
    """A peer has handed over a record that verified."""

    record: NodeRecord
    introducer: bytes
    "The peer's key; the record's own when it told of itself."
    new: bool
    "The store had none as new."


Action = Tell | Misbehaved | Learned | Answered


class _Named(msgspec.Struct, frozen=True):
    """The one field of a record that is needed to see whether it is known already."""

    key: KeyText


_named = msgspec.json.Decoder(_Named)


class Introductions:
    """Asks, answers and remembers."""

    def __init__(
        self, store: Store, counters: Counters, talk: Conversations, own_key: bytes
    ) -> None:
        self._store = store
        self._counters = counters
        self._talk = talk
        self._own_key = own_key
        self._own_endpoints: frozenset[str] = frozenset()
        self._turn = 0
        self._answering = Shares(*ANSWERED)
        self._asking = Shares(*ASKED)
        self.searches = Searches(talk)

    # --- what this node asks and tells ---

    def renewed(self, own: NodeRecord, links: Iterable[LinkId], now: float) -> list[Tell]:
        """This node's own record is new: tell it on all open links."""
        self._own_endpoints = frozenset(own.dialable)
        return self._talk.announce(links, own.signed, now)

    def on_up(self, link: Link, wanted: Sequence[str], now: float) -> list[Tell]:
        """A peer is connected: ask it once whom it knows.

        ``wanted``: names of protocols that too few connected peers speak. When they are too many
        for one peer, the next peer is asked for the next ones.
        """
        count = min(len(wanted), FINDS_AT_UP - 1)
        names = [wanted[(self._turn + n) % len(wanted)] for n in range(count)]
        self._turn = (self._turn + count) % max(len(wanted), 1)
        near = Find(id=0, near=ids.to_text(ids.node_id(self._own_key)), limit=WANTED)
        finds = [near, *(Find(id=0, protocol=name, limit=WANTED) for name in names)]
        network = _counted(network_of_endpoint(link.report.endpoint))
        allowed = [find for find in finds if self._asking.take(network, now)]
        return [tell for find in allowed for tell in self._talk.ask(link.id, find, _OWN, now)]

    # --- what peers say ---

    def said(
        self, peer: Speaker, message: Find | Found | Check | Record, now: float, wall: float
    ) -> list[Action]:
        """A connected peer has said something."""
        if isinstance(message, Found):
            return self._on_found(peer, message, now, wall)
        if not self._talk.may_ask(peer.link, now):
            self._counters.limited += 1
            return [*self._talk.bear(peer.link, "asked too much", now)]
        if not self._answering.take(_counted(peer.network), now):
            self._counters.limited += 1  # which may be others' doing
            return []
        match message:
            case Find():
                return [Tell(peer.link, self._answer_find(peer.key, message))]
            case Check():
                return [Tell(peer.link, self._answer_check(message))]
        return self._on_record(peer, message, now, wall)

    def record_of_itself(self, key: bytes, signed: bytes, wall: float) -> Learned | None:
        """Keep what a peer says of itself, in its hello or later; None when it is no record of
        that key.
        """
        record = self._verified(signed)
        if record is None or record.key != key:
            self._counters.introductions_refused += record is not None
            return None
        return Learned(record, key, self._store.add_record(record, wall))

    # --- answers ---

    def _answer_find(self, asker: bytes, find: Find) -> Found:
        self._counters.finds_answered += 1
        most = find.limit + SPARE
        if find.near is None and find.protocol is not None:
            candidates = self._store.by_protocol(find.protocol, most)
        else:
            near = ids.from_text(find.near) if find.near else ids.node_id(asker)
            candidates = self._store.nearest(near, most, find.protocol)
        hidden = (asker, self._own_key)
        told = [one for one in candidates if one.key not in hidden and self._tellable(one.key)]
        return Found(id=find.id, records=[record.signed for record in told[: find.limit]])

    def _answer_check(self, check: Check) -> Keys:
        self._counters.checks_answered += 1
        endpoint = addresses.canonical_endpoint(check.endpoint)
        claims = [
            (claim.key, claim.evidence)
            for claim in (self._store.at_endpoint(endpoint) if endpoint else ())
            if claim.key != self._own_key and self._tellable(claim.key)
        ]
        if endpoint in self._own_endpoints:
            claims.insert(0, (self._own_key, Evidence.RECORD))
        claims.sort(key=lambda claim: claim[1] is not Evidence.DIALLED)
        keys = [KeyClaim(key=ids.to_text(key), evidence=how.value) for key, how in claims]
        return Keys(id=check.id, keys=keys[:KEYS_MAX])

    def _tellable(self, key: bytes) -> bool:
        known = self._store.peer(key)
        return known is not None and tellable(known)

    # --- what this node learns ---

    def _on_found(self, peer: Speaker, found: Found, now: float, wall: float) -> list[Action]:
        sought = self._talk.answered(peer.link, found.id, Sought)
        if sought is None:
            self._counters.unasked += 1
            return [*self._talk.bear(peer.link, "an answer without a question", now)]
        told: list[Action] = []
        records: list[NodeRecord] = []
        for signed in found.records[: sought.limit]:
            record = self._verified(signed)
            if record is None:
                told += self._talk.bear(peer.link, "a record that does not verify", now)
            elif record.key != self._own_key:
                told.append(self._introduced(record, peer, wall))
                records.append(record)
        if sought.search is not None:
            told += self.searches.answer(sought.search, peer.link, records)
        return told

    def _introduced(self, record: NodeRecord, introducer: Speaker, wall: float) -> Learned:
        """Nobody introduces itself."""
        new = self._store.add_record(record, wall)
        if record.key != introducer.key:
            self._counters.introductions_received += 1
            self._store.introduced(record.key, introducer.key, introducer.network, wall, record.seq)
        return Learned(record, introducer.key, new)

    def _on_record(self, peer: Speaker, message: Record, now: float, wall: float) -> list[Action]:
        if _key_in(message.record) not in (None, peer.key):
            return [*self._talk.end(peer.link, "told another's record as its own")]
        learned = self.record_of_itself(peer.key, message.record, wall)
        if learned is None:
            return [*self._talk.bear(peer.link, "a record that does not verify", now)]
        return [learned] if learned.new else []

    def _verified(self, signed: bytes) -> NodeRecord | None:
        """The record, if its signature is good; one that is kept to the byte was checked before."""
        key = _key_in(signed)
        known = self._store.peer(key) if key else None
        if known and known.record and known.record.signed == signed:
            return known.record
        try:
            return node_record.verify(signed)
        except NodeRecordError:
            self._counters.introductions_refused += 1
            return None


_OWN = Sought(WANTED)


def tellable(known: KnownPeer) -> bool:
    """Whether this node hands a peer's record to others.

    A record that nobody introduced came from its owner over a link. A doubted peer is still told of
    when it answered this node itself.
    """
    dialled = any(one.last_success is not None for one in known.endpoints)
    return bool(known.introducers) or not known.introductions or dialled


def _counted(network: str | None) -> str | None:
    """By which name one network's part of the work is counted; None for one of this site."""
    if network is None:
        return None
    host, separator, _ = network.partition("/")
    return None if separator and is_local(host) else network


def _key_in(signed: bytes) -> bytes | None:
    """The key that a record names, whoever signed it."""
    try:
        return ids.from_text(_named.decode(signed[noise.SIGNATURE_BYTES :]).key)
    except MALFORMED:
        return None
