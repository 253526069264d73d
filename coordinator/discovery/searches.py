"""Searches by protocol: who serves it, as those near its identifier were told.

A provider in an answer is a claim. Each is asked for its record before it counts. Those that
different networks named are taken in turn, so that nobody crowds out the others by naming many, nor
by having many names himself; and of one network so many count as may advertise at one contact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from dp2p.coordinator.discovery.actions import (
    Action,
    DiscoveryBusy,
    Found,
    RecordSeen,
    Result,
    Token,
)
from dp2p.coordinator.discovery.adverts import LIMITS
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import Answer, AskRecord, RecordIs
from dp2p.coordinator.discovery.walks import Walk, Walks, Wish

SEARCHES_MAX = 64
CHECKS_AT_ONCE = 4
CHECKS_EACH = 4  # for each provider that is wanted: as many may turn out to be gone, or lies
TELLERS_MAX = 64  # networks whose claims are kept
CLAIMS_MAX = 64  # of each
FOUND_OF_NETWORK = LIMITS.network_topic


@dataclass(slots=True, eq=False)
class _Search:
    token: Token
    wanted: int
    walk: Walk | None = None
    "None until it begins."
    claims: dict[str, deque[Contact]] = field(default_factory=dict)
    "By the network, or key, of who named them; whose turn it is stands first."
    named: set[Contact] = field(default_factory=set)
    "A key may be named at a false place before it is at the true one."
    found: list[Contact] = field(default_factory=list)
    checking: int = 0
    checked: int = 0
    ended: bool = False

    @property
    def full(self) -> bool:
        return len(self.found) >= self.wanted or self.checked >= self.wanted * CHECKS_EACH


class Searches:
    """All of them."""

    def __init__(self, asking: Asking, walks: Walks) -> None:
        self._asking = asking
        self._walks = walks
        self._running: set[_Search] = set()

    def __len__(self) -> int:
        return len(self._running)

    def begin(
        self, token: Token, topic: bytes, wanted: int, known: Iterable[Contact], now: float
    ) -> list[Action]:
        """Search; ``known`` have advertised it to this node itself.  Raises: DiscoveryBusy."""
        if len(self._running) >= SEARCHES_MAX:
            self._asking.counters.busy += 1
            raise DiscoveryBusy(f"search: {SEARCHES_MAX} are under way, which is the most")
        self._asking.counters.searches += 1
        search = _Search(token, wanted)
        self._running.add(search)
        actions = self._claimed(search, self._asking.own, known, now)
        wish = Wish(
            int.from_bytes(topic, "big"),
            self._asking.settings.paths,
            ended=lambda result, now: self._walked(search, result, now),
            protocol=True,
            heard=lambda *heard: self._heard(search, *heard),
        )
        search.walk, more = self._walks.begin(wish, now)
        return actions + more + self._settle(search, now)

    def _heard(
        self, search: _Search, teller: Contact, answers: list[Answer], now: float
    ) -> list[Action]:
        return self._claimed(search, teller, self._asking.providers_in(teller, answers), now)

    def _claimed(
        self, search: _Search, teller: Contact, providers: Iterable[Contact], now: float
    ) -> list[Action]:
        name = self._asking.counted(teller) or teller.key.hex()
        claims = search.claims.get(name, deque())
        if name in search.claims or len(search.claims) < TELLERS_MAX:
            new = [one for one in providers if one not in search.named]
            claims += new[: CLAIMS_MAX - len(claims)]
            search.named.update(claims)
        if claims:
            search.claims[name] = claims
        return self._check(search, now)

    def _check(self, search: _Search, now: float) -> list[Action]:
        """Ask the next providers whether they are there."""
        actions: list[Action] = []
        while search.claims and search.checking < CHECKS_AT_ONCE and not search.full:
            teller = next(iter(search.claims))
            claims = search.claims.pop(teller)
            provider = claims.popleft()
            if claims:
                search.claims[teller] = claims
            if not self._counts(search, provider):
                continue
            search.checking += 1
            search.checked += 1
            actions += self._asking.ask(
                provider, AskRecord, lambda *heard: self._checked(search, *heard), now
            )
        return actions

    def _checked(
        self, search: _Search, provider: Contact, answers: list[Answer], now: float
    ) -> list[Action]:
        actions: list[Action] = []
        search.checking -= 1
        if search.ended:
            return actions
        for answer in answers if self._counts(search, provider) else []:
            search.found.append(provider)
            if isinstance(answer, RecordIs) and answer.record:
                actions.append(RecordSeen(provider, answer.record))
        return actions + self._check(search, now) + self._settle(search, now)

    def _counts(self, search: _Search, provider: Contact) -> bool:
        """Whether it would be found if it answered: it is not yet, and its network has room."""
        network = self._asking.counted(provider)
        beside = sum(network is not None and one.network == network for one in search.found)
        return beside < FOUND_OF_NETWORK and all(one.key != provider.key for one in search.found)

    def _walked(self, search: _Search, _result: Result, now: float) -> list[Action]:
        return self._settle(search, now)

    def _settle(self, search: _Search, now: float) -> list[Action]:
        """End the search when there is enough, or nothing more to come."""
        if search.ended or search.walk is None:
            return []
        over = not search.checking and (search.walk.stopped or search.full)
        if len(search.found) < search.wanted and not over:
            return []
        search.ended = True
        self._running.discard(search)
        found = tuple(search.found[: search.wanted])
        return [*self._walks.stop(search.walk, now), Found(search.token, found)]
