"""Discovery: one node's part in the network of all.

Pure: sessions and sockets stand outside. Messages and events come in with the time, and each call
returns what is to be done. ``run`` is called by ``next_deadline`` at the latest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import (
    Action,
    Answered,
    Counters,
    DiscoveryBusy,
    LookedUp,
    Own,
    PlaceAgreed,
    Send,
    Serves,
    Settings,
    Token,
)
from dp2p.coordinator.discovery.advertising import Advertising
from dp2p.coordinator.discovery.adverts import AdvertLimits, Adverts
from dp2p.coordinator.discovery.answering import Answering
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.chance import Random
from dp2p.coordinator.discovery.contact import Contact, Place, Serving
from dp2p.coordinator.discovery.fetching import Fetching
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Answer,
    AskRecord,
    Find,
    FindProtocol,
    Message,
    Ping,
    Pong,
    Providers,
    RecordIs,
)
from dp2p.coordinator.discovery.own_place import OwnPlace
from dp2p.coordinator.discovery.reachability import Reachability
from dp2p.coordinator.discovery.scopes import scope
from dp2p.coordinator.discovery.searches import Searches
from dp2p.coordinator.discovery.tending import Tending
from dp2p.coordinator.discovery.walks import Walks, Wish
from dp2p.node_record import NodeRecord

QUESTIONS_MAX = 512  # of ``ask``, under way
SEARCH_WANTED_MAX = 64
EXPIRE_EVERY_S = 60.0


class Hello(Protocol):
    """What a contact says of itself when a session is made."""

    @property
    def serves(self) -> bool:
        """Others may keep it in their tables."""

    @property
    def seq(self) -> int:
        """Of its record; 0 while it has none."""


class Discovery:
    """Table, lookups, searches and adverts, and what keeps them up."""

    def __init__(self, own: Own, settings: Settings, *, random: Random) -> None:
        self.counters = Counters()
        self.adverts = Adverts(AdvertLimits(local=settings.limits.local))
        self.own_place = OwnPlace()
        self._own = own
        self._random = random
        self._asking = Asking(own, settings, self.counters, random, self._on_pong)
        self._walks = Walks(self._asking)
        self._answering = Answering(self._asking, self.adverts)
        self._tending = Tending(self._asking, self._walks)
        self._searches = Searches(self._asking, self._walks)
        self._advertising = Advertising(self._asking, self._walks)
        self._fetching = Fetching(self._asking)
        self._reachability = Reachability(settings.serve, own.places)
        self._questions = 0
        self._expire_at = 0.0
        self.table = self._asking.table

    # --- what this node is ---

    @property
    def serves(self) -> Serving:
        """What this node's hellos say."""
        return self._reachability.serves

    @property
    def seq(self) -> int:
        """Of this node's record, as its hellos and pings say it; 0 while it has none."""
        return self._asking.seq

    @property
    def joined(self) -> bool:
        """Whether anybody has answered, since the table was empty last."""
        return self._tending.joined

    def own_record(self, record: NodeRecord | None, now: float) -> list[Action]:
        """This node's record is new. Contacts fetch it when they hear its number."""
        self._asking.seq = record.seq if record else 0
        self._answering.record = record.signed if record else b""
        return self.run(now)

    def serve(self, protocols: Iterable[str], now: float) -> list[Action]:
        """From now on these protocols are advertised."""
        self._advertising.serve(map(messages.topic, protocols), now)
        return self.run(now)

    # --- what sessions say ---

    def established(
        self, contact: Contact, hello: Hello, initiated: bool, seen: Place | None, now: float
    ) -> list[Action]:
        """There is a session. ``initiated``: this node began it; else the contact did, and has
        proven its address.
        """
        self._asking.introduced(contact, serves=hello.serves, came=not initiated, now=now)
        actions: list[Action] = []
        if not initiated and self._reachability.came(contact):
            actions += self._serves_otherwise()
        elif seen is not None:
            actions += self._voted(contact, seen, now)
        actions += self._fetching.heard(contact, hello.seq, now, checked=False)
        return self._out(actions)

    def unreachable(self, contact: Contact, now: float) -> list[Action]:
        """No session with a contact could be made."""
        return self._out(self._asking.requests.unreachable(contact, now))

    def received(self, contact: Contact, message: Message, now: float) -> list[Action]:
        """A contact has said something, in a session."""
        if isinstance(message, Ping | Find | AskRecord | FindProtocol | Advertise):
            actions = self._answering.request(contact, message, now)
            if actions:
                self._asking.came(contact, now)
            if actions and isinstance(message, Ping):
                actions += self._fetching.heard(contact, message.seq, now, checked=False)
            return self._out(actions)
        actions = self._asking.requests.take(contact, message, now)
        if self._tending.answered(now):
            actions += self._tending.run(now)
        return self._out(actions)

    # --- what the node wants ---

    def candidates(self, contacts: Iterable[Contact], now: float) -> list[Action]:
        """Contacts by hearsay: of the configuration, the store, or links."""
        return self._out(self._tending.candidates(contacts, now))

    def lookup(
        self, token: Token, target: int, now: float, paths: int | None = None
    ) -> list[Action]:
        """The contacts closest to ``target``: a LookedUp will come.  Raises: DiscoveryBusy."""
        wish = Wish(
            target,
            paths or self._asking.settings.paths,
            lambda result, _now: [LookedUp(token, result)],
        )
        return self._out(self._walks.request(wish, now))

    def search(self, token: Token, protocol: str, now: float, count: int = 8) -> list[Action]:
        """Up to ``count`` who serve a protocol: a Found will come.  Raises: DiscoveryBusy."""
        topic, wanted = messages.topic(protocol), max(1, min(count, SEARCH_WANTED_MAX))
        known = self.adverts.find(topic, wanted, now, self._random)
        return self._out(self._searches.begin(token, topic, wanted, known, now))

    def ask(
        self,
        token: Token,
        contact: Contact,
        request: Ping | Find | AskRecord | FindProtocol,
        now: float,
    ) -> list[Action]:
        """One question to one contact, whose number is chosen here: an Answered will come.

        Raises: DiscoveryBusy.
        """
        if self._questions >= QUESTIONS_MAX:
            self.counters.busy += 1
            raise DiscoveryBusy(f"question: {QUESTIONS_MAX} are under way, which is the most")
        self._questions += 1

        def make(number: int) -> Ping | Find | AskRecord | FindProtocol:
            return msgspec.structs.replace(request, id=number)

        def then(contact: Contact, answers: list[Answer], _now: float) -> list[Action]:
            self._questions -= 1
            return [Answered(token, contact, self._read(contact, answers))]

        return self._out(self._asking.ask(contact, make, then, now))

    # --- time ---

    def run(self, now: float) -> list[Action]:
        """Do what is due."""
        actions = self._asking.requests.run(now)
        actions += self._walks.run(now)
        actions += self._tending.run(now)
        actions += self._advertising.run(now, serves=bool(self.serves))
        if now >= self._reachability.next_deadline() and self._reachability.look(
            self.table.contacts(), now
        ):
            actions += self._serves_otherwise()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE_EVERY_S
            self.adverts.expire(now)
        return self._out(actions)

    def next_deadline(self) -> float:
        """When ``run`` is to be called, at the latest (s)."""
        return min(
            self._asking.requests.next_deadline(),
            self._walks.next_deadline(),
            self._tending.next_deadline(),
            self._advertising.next_deadline(serves=bool(self.serves)),
            self._reachability.next_deadline(),
            self._expire_at,
        )

    def sizes(self) -> dict[str, int]:
        """How much of each is kept or under way."""
        return {
            "contacts": len(self.table.contacts()),
            "requests": len(self._asking.requests),
            "lookups": len(self._walks),
            "searches": len(self._searches),
        }

    # --- inside ---

    def _on_pong(self, contact: Contact, pong: Pong, now: float) -> list[Action]:
        """A ping of this node was answered."""
        seen = messages.place(pong.seen)
        actions = self._voted(contact, seen, now) if seen is not None else []
        return actions + self._fetching.heard(contact, pong.seq, now, checked=True)

    def _voted(self, contact: Contact, seen: Place, now: float) -> list[Action]:
        """A contact says from where this node's packets come."""
        before = (self.own_place.agreed4, self.own_place.agreed6)
        if scope(seen[0]) is None or not self.own_place.vote(contact, seen, now):
            return []
        after = (self.own_place.agreed4, self.own_place.agreed6)
        self._asking.own_places = frozenset([*self._own.places, *filter(None, after)])
        actions: list[Action] = []
        for old, new in zip(before, after, strict=True):
            if new is not None and new != old:
                actions.append(PlaceAgreed(new))
                if self._reachability.agreed(new):
                    actions += self._serves_otherwise()
        return actions

    def _serves_otherwise(self) -> list[Action]:
        """Hellos say something else from now on, and contacts are to hear it with the next ping."""
        doubts = map(self._asking.doubt, self.table.contacts())
        return [Serves(self.serves), *doubts]

    def _read(self, contact: Contact, answers: list[Answer]) -> tuple[Contact, ...] | bytes | None:
        match answers:
            case []:
                return None
            case [RecordIs(record=record)]:
                return record
            case [Providers(), *_]:
                return tuple(self._asking.providers_in(contact, answers))
        return tuple(self._asking.contacts_in(contact, answers))

    def _out(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            if isinstance(action, Send):
                self._reachability.sent(action.contact)
        return actions
