"""Discovery for the node: sessions and discovery joined, and what comes of both.

Carries out what discovery decides: packets go to ``transmit``, records that verify into the store,
results to whoever asked. Pure; ``now`` is monotonic (s), ``wall`` seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

from dp2p import addresses, ids, node_record
from dp2p.coordinator.discovery.actions import (
    Action,
    Answered,
    DiscoveryBusy,
    Doubt,
    Found,
    LookedUp,
    PlaceAgreed,
    RecordSeen,
    Result,
    Send,
    Serves,
)
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import (
    AskRecord,
    Find,
    FindProtocol,
    MessageError,
    Ping,
    decode,
    encode,
)
from dp2p.coordinator.discovery.service import Discovery
from dp2p.coordinator.discovery.sessions import (
    Datagram,
    Delivered,
    Established,
    Event,
    Sessions,
    Unreachable,
)
from dp2p.coordinator.discovery.table import BucketView
from dp2p.coordinator.known import Store
from dp2p.errors import NodeRecordError
from dp2p.node_record import NodeRecord

Question = Ping | AskRecord | Find | FindProtocol
"Its number is chosen when it is asked."
Answer = tuple[Contact, ...] | bytes | None

FETCHED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Located:
    """What came of looking for a node."""

    contact: Contact | None = None
    "It has answered there; None when it was not found."
    record: NodeRecord | None = None
    asked: int = 0
    "Contacts on the way."


class Discovering:
    """Of one node."""

    def __init__(
        self,
        sessions: Sessions,
        discovery: Discovery,
        store: Store,
        *,
        transmit: Callable[[Datagram], None],
        place_agreed: Callable[[Place], None],
        wall: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._discovery = discovery
        self._store = store
        self._transmit = transmit
        self._place_agreed = place_agreed
        self._wall = wall
        self._tokens = count(1)
        self._waiting: dict[int, Callable[[Any], None]] = {}
        "Who is told what comes of a token."
        self._fetched: dict[bytes, None] = {}
        "Keys of contacts that were asked for the record."
        self._serves = discovery.serves
        self._seq = 0
        sessions.say(self._serves, self._seq)
        self.malformed = 0
        "Messages, in sessions, that could not be read."
        self.records_refused = 0
        "Records that did not verify, or were another's."

    # --- what happens ---

    def datagram(self, data: bytes, source: Place, now: float) -> None:
        """A packet has come."""
        self._carry_out(now, *self._sessions.received(data, source, now))

    def run(self, now: float) -> None:
        """Do what is due."""
        self._carry_out(now, *self._sessions.run(now))
        self._do(self._discovery.run(now), now)

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        times = (self._sessions.next_deadline(), self._discovery.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def candidates(self, contacts: Iterable[Contact], now: float) -> None:
        """Contacts that may be there; each is checked before it counts."""
        self._do(self._discovery.candidates(contacts, now), now)

    # --- what the node says of itself ---

    def serve(self, protocols: Iterable[str], now: float) -> None:
        """The protocols on the air, for others to find this node by."""
        self._do(self._discovery.serve(protocols, now), now)

    def own_record(self, record: NodeRecord, now: float) -> None:
        """This node's record is new."""
        self._seq = record.seq
        self._sessions.say(self._serves, self._seq)
        self._do(self._discovery.own_record(record, now), now)

    # --- questions ---

    def lookup(self, target: int, done: Callable[[Result], None], now: float) -> None:
        """The contacts closest to a node-ID.  Raises: DiscoveryBusy."""
        token = self._expect(done)
        self._start(token, lambda: self._discovery.lookup(token, target, now), now)

    def search(
        self, protocol: str, wanted: int, done: Callable[[tuple[Contact, ...]], None], now: float
    ) -> None:
        """Up to ``wanted`` contacts that serve a protocol.  Raises: DiscoveryBusy."""
        token = self._expect(done)
        self._start(token, lambda: self._discovery.search(token, protocol, now, wanted), now)

    def ask(
        self, contact: Contact, question: Question, done: Callable[[Answer], None], now: float
    ) -> None:
        """One question to one contact; None is silence.  Raises: DiscoveryBusy."""
        token = self._expect(done)
        self._start(token, lambda: self._discovery.ask(token, contact, question, now), now)

    def fetch(
        self, contact: Contact, done: Callable[[NodeRecord | None], None], now: float
    ) -> None:
        """A contact's record, verified, which the store keeps.  Raises: DiscoveryBusy."""

        def answered(answer: Answer) -> None:
            done(self._keep(contact, answer) if isinstance(answer, bytes) else None)

        self.ask(contact, AskRecord(0), answered, now)

    def fetch_missing(self, most: int, now: float) -> None:
        """Ask some contacts of the table for records that the store has not, each once: a node
        that starts again begins with those it has.
        """
        missing = (
            one
            for one in self._discovery.table.contacts()
            if one.key not in self._fetched and not self._has_record(one.key)
        )
        for contact in list(islice(missing, most)):
            self._fetched[contact.key] = None
            if len(self._fetched) > FETCHED_MAX:
                del self._fetched[next(iter(self._fetched))]
            with suppress(DiscoveryBusy):
                self.fetch(contact, lambda _: None, now)

    def _has_record(self, key: bytes) -> bool:
        known = self._store.peer(key)
        return known is not None and known.record is not None

    def locate(
        self, node_id: bytes, done: Callable[[Located], None], clock: Callable[[], float]
    ) -> None:
        """Find a node by its ID, and fetch its record.  Raises: DiscoveryBusy."""
        target = int.from_bytes(node_id, "big")

        def found(result: Result) -> None:
            there = next((one for one in result.contacts if one.id == target), None)
            if there is None:
                done(Located(asked=result.asked))
                return
            try:
                self.fetch(
                    there, lambda record: done(Located(there, record, result.asked)), clock()
                )
            except DiscoveryBusy:
                done(Located(there, None, result.asked))

        self.lookup(target, found, clock())

    def _expect(self, done: Callable[[Any], None]) -> int:
        token = next(self._tokens)
        self._waiting[token] = done
        return token

    def _start(self, token: int, begin: Callable[[], list[Action]], now: float) -> None:
        try:
            actions = begin()
        except Exception:
            del self._waiting[token]
            raise
        self._do(actions, now)

    # --- carrying out ---

    def _carry_out(self, now: float, datagrams: list[Datagram], events: list[Event]) -> None:
        self._send(datagrams)
        for event in events:
            self._do(self._heard(event, now), now)

    def _heard(self, event: Event, now: float) -> list[Action]:
        match event:
            case Established(contact, hello, initiated, seen):
                return self._discovery.established(contact, hello, initiated, seen, now)
            case Delivered(contact, body):
                return self._delivered(contact, body, now)
            case Unreachable(contact):
                return self._discovery.unreachable(contact, now)

    def _delivered(self, contact: Contact, body: bytes, now: float) -> list[Action]:
        try:
            message = decode(body)
        except MessageError:
            self.malformed += 1
            return []
        return self._discovery.received(contact, message, now)

    def _send(self, datagrams: list[Datagram]) -> None:
        for datagram in datagrams:
            self._transmit(datagram)

    def _do(self, actions: Iterable[Action], now: float) -> None:
        for action in actions:
            match action:
                case Send(contact, message):
                    self._send(self._sessions.send(contact, encode(message), now))
                case Doubt(contact):
                    self._sessions.doubt(contact)
                case LookedUp(token, result):
                    self._give(token, result)
                case Found(token, contacts):
                    self._give(token, contacts)
                case Answered(token, _, answer):
                    self._give(token, answer)
                case RecordSeen(contact, signed):
                    self._keep(contact, signed)
                case PlaceAgreed(place):
                    self._place_agreed(place)
                case Serves(serves):
                    self._serves = serves
                    self._sessions.say(serves, self._seq)

    def _give(self, token: Any, result: Any) -> None:
        done = self._waiting.pop(token, None)
        if done is not None:
            done(result)

    def _keep(self, contact: Contact, signed: bytes) -> NodeRecord | None:
        """Keep what a contact says of itself; None when it is no record of its key."""
        if not signed:
            return None
        known = self._store.peer(contact.key)
        if known and known.record and known.record.signed == signed:
            return known.record
        try:
            record = node_record.verify(signed)
        except NodeRecordError:
            record = None
        if record is None or record.key != contact.key:
            self.records_refused += 1
            return None
        self._store.add_record(record, self._wall())
        return record

    # --- what there is ---

    def buckets(self) -> list[BucketView]:
        """The table."""
        return self._discovery.table.buckets()

    @property
    def contacts(self) -> int:
        """How many have answered and are in the table."""
        return len(self._discovery.table)

    def status(self) -> dict[str, Any]:
        """Counters, for ``status``."""
        return {
            "contacts": self.contacts,
            "serves": bool(self._serves),
            "serves4": self._serves.v4,
            "serves6": self._serves.v6,
            "discovery": self._discovery.counters.as_dict(),
            "table": asdict(self._discovery.table.counters),
            "sessions": {**asdict(self._sessions.counters), **asdict(self._sessions.sizes)},
            "sizes": self._discovery.sizes(),
            "malformed": self.malformed,
            "records_refused": self.records_refused,
        }


def describe(contact: Contact) -> dict[str, str]:
    """A contact for people and applications."""
    return {
        "node": ids.to_text(contact.id.to_bytes(32, "big")),
        "key": ids.to_text(contact.key),
        "endpoint": str(addresses.datagram_endpoint(*contact.place)),
    }
