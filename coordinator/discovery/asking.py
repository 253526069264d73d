"""What all of discovery's parts share: asking contacts, and what answers do to the table.

Only what a contact said itself counts: one that answered enters the table, and contacts in an
answer are names of whom to ask next, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dp2p.coordinator.discovery.actions import Action, Counters, Doubt, Own, Settings
from dp2p.coordinator.discovery.chance import Random
from dp2p.coordinator.discovery.contact import Contact, Place, is_v6
from dp2p.coordinator.discovery.messages import (
    CONTACTS_MAX,
    Answer,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    contact,
)
from dp2p.coordinator.discovery.requests import Make, Requests, Then
from dp2p.coordinator.discovery.scopes import reaches, scope
from dp2p.coordinator.discovery.table import Table
from dp2p.networks import is_local

MUTE_MAX = 4096  # contacts that do not serve, by key and family of addresses

OnPong = Callable[[Contact, Pong, float], list[Action]]


class Asking:
    """Requests, table, and the judgement of what comes back."""

    def __init__(
        self, own: Own, settings: Settings, counters: Counters, random: Random, on_pong: OnPong
    ) -> None:
        self.own = Contact(own.key, own.places[0])
        self.settings = settings
        self.counters = counters
        self.random = random
        self.requests = Requests(counters, random)
        self.table = Table(self.own.id, limits=settings.limits, random=random)
        self.seq = 0
        "Of this node's record; 0 while it has none."
        self.own_places: frozenset[Place] = frozenset(own.places)
        self._families = set(map(is_v6, own.places))
        self._on_pong = on_pong
        self._mute: dict[tuple[bytes, bool], None] = {}

    # --- who serves ---

    def introduced(self, who: Contact, *, serves: bool, came: bool, now: float) -> None:
        """A session stands; ``came``: the contact began it, and so has proven its address."""
        self.requests.established(who, now)
        mute = (who.key, is_v6(who.place))
        self._mute.pop(mute, None)
        if not serves:
            self._mute[mute] = None
            if len(self._mute) > MUTE_MAX:
                del self._mute[next(iter(self._mute))]
            self.table.mute(who)
        elif came:
            self.table.seen(who, now)

    def came(self, who: Contact, now: float) -> None:
        """A contact asks something: there may be room for it now that there was not before."""
        if not self.is_mute(who):
            self.table.seen(who, now)

    def is_mute(self, who: Contact) -> bool:
        """Whether a contact has said that it cannot serve by this family of addresses."""
        return (who.key, is_v6(who.place)) in self._mute

    # --- questions ---

    def ask(self, who: Contact, make: Make, then: Then, now: float) -> list[Action]:
        """A request of which the table hears how it went."""

        def heard(who: Contact, answers: list[Answer], now: float) -> list[Action]:
            if not answers:
                self.table.failed(who, now)
            elif not self.is_mute(who):
                self.table.answered(who, now)
            actions = then(who, answers, now)
            for answer in answers:
                if isinstance(answer, Pong):
                    actions += self._on_pong(who, answer, now)
            return actions

        return self.requests.ask(who, make, heard, now)

    def ping(self, number: int) -> Ping:
        """A ping with this number."""
        return Ping(number, self.seq)

    def doubt(self, who: Contact) -> Doubt:
        """Have the next request to a contact shake hands first."""
        self.requests.forget_session(who)
        return Doubt(who)

    def counted(self, who: Contact) -> str | None:
        """By which network a contact is counted; None for one of this site, unless that is
        limited as well.
        """
        exempt = is_local(who.place[0]) and not self.settings.limits.local
        return None if exempt else who.network

    # --- what answers name ---

    def contacts_in(self, teller: Contact, answers: list[Answer]) -> list[Contact]:
        """The contacts in an answer that may be asked, as many as a request may bring."""
        return self._usable(
            teller, [one.contacts for one in answers if isinstance(one, Nodes | Providers)]
        )

    def providers_in(self, teller: Contact, answers: list[Answer]) -> list[Contact]:
        """The providers in an answer, in the same way."""
        return self._usable(
            teller, [one.providers for one in answers if isinstance(one, Providers)]
        )

    def is_own(self, who: Contact) -> bool:
        """Whether this is the node itself, or somebody said to be where it is."""
        return who.key == self.own.key or who.place in self.own_places

    def is_reachable(self, who: Contact) -> bool:
        """Whether this node has a socket of the contact's family of addresses."""
        return is_v6(who.place) in self._families

    def _usable(self, teller: Contact, lists: Iterable[list[Named]]) -> list[Contact]:
        told = [contact(one) for some in lists for one in some]
        reach = scope(teller.place[0])
        usable: dict[bytes, Contact] = {}
        for one in told[:CONTACTS_MAX]:
            if one is None or one.key in usable or one.key == teller.key or self.is_own(one):
                continue
            if self.is_reachable(one) and reaches(one.place[0], reach):
                usable[one.key] = one
        self.counters.refused_contacts += len(told) - len(usable)
        return list(usable.values())
