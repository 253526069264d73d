"""What keeps the table well-formed: joining, checks, refreshes, and random walks that never stop.

Source: docs/spec/discovery.md, "Table". All of it is this node's own doing, at times of
its own: what others send decides nothing here but who is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dp2p.coordinator.discovery.actions import Action, Result
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.contact import ID_BITS, Contact
from dp2p.coordinator.discovery.messages import Answer
from dp2p.coordinator.discovery.walks import Walks, Wish
from dp2p.networks import is_local

CANDIDATES_MAX = 256
CANDIDATES_OF_NETWORK = 16
CHECKS_AT_ONCE = 8  # of candidates
LIVENESS_AT_ONCE = 4  # of contacts in the table
WALKS_AT_ONCE = 2
OWN_FIRST_S, OWN_LAST_S = 10.0, 3600.0  # between lookups of this node itself; doubling
SEED_YOUNG_S, SEED_S = 30.0, 300.0  # between random walks
REFRESH_LOOK_S = 60.0  # between looks for buckets that were left alone too long
YOUNG_S = 600.0  # after joining
NEVER = float("inf")


class Tending:
    """Candidates, liveness, and the lookups that discovery does for itself."""

    def __init__(self, asking: Asking, walks: Walks) -> None:
        self._asking = asking
        self._walks = walks
        self._candidates: deque[Contact] = deque()
        self._waiting: set[Contact] = set()
        "Those that wait or are being asked; whoever names a key at a false place delays no other."
        self._checking = 0
        self._probing = 0
        self._walking = 0
        self._joined_at = NEVER
        "When the first contact answered, since the table was empty last."
        self._own_at = NEVER
        self._own_pause_s = OWN_FIRST_S
        self._seed_at = NEVER
        self._refresh_at = NEVER

    @property
    def joined(self) -> bool:
        """Whether there is anybody to ask."""
        return self._joined_at != NEVER

    def candidates(self, contacts: Iterable[Contact], now: float) -> list[Action]:
        """Contacts by hearsay: each is asked whether it is there."""
        for one in contacts:
            if self._asking.is_own(one) or not self._asking.is_reachable(one):
                continue
            if one in self._waiting:
                continue
            if len(self._waiting) >= CANDIDATES_MAX or self._is_crowded(one):
                self._asking.counters.candidates_dropped += 1
                continue
            self._waiting.add(one)
            self._candidates.append(one)
        return self._check_candidates(now)

    def answered(self, now: float) -> bool:
        """Somebody has answered. Whether the network is joined by that."""
        if self.joined or self._alone():
            return False
        self._joined_at = self._own_at = now
        self._own_pause_s = OWN_FIRST_S
        self._seed_at = now + SEED_YOUNG_S * self._jitter()
        return True

    def run(self, now: float) -> list[Action]:
        """Do what is due."""
        actions = self._check_candidates(now) + self._probe(now)
        return actions + self._walk(now)

    def next_deadline(self) -> float:
        """When ``run`` has something to do next; past when there is something now."""
        soonest = NEVER
        if self._walking < WALKS_AT_ONCE:
            soonest = self._walk_at()
        if self._probing < LIVENESS_AT_ONCE:
            soonest = min(soonest, self._asking.table.next_deadline())
        return soonest

    # --- who is there ---

    def _is_crowded(self, one: Contact) -> bool:
        """Whether the network of a candidate, unless it is of this site, has its share of those
        that wait.
        """
        of_network = sum(other.network == one.network for other in self._waiting)
        return of_network >= CANDIDATES_OF_NETWORK and not is_local(one.place[0])

    def _check_candidates(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._candidates and self._checking < CHECKS_AT_ONCE:
            self._checking += 1
            one = self._candidates.popleft()
            actions += self._asking.ask(one, self._asking.ping, self._checked, now)
        return actions

    def _checked(self, contact: Contact, _answers: list[Answer], now: float) -> list[Action]:
        self._checking -= 1
        self._waiting.discard(contact)
        return self._check_candidates(now)

    def _probe(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._probing < LIVENESS_AT_ONCE:
            contact = self._asking.table.due(now)
            if contact is None:
                break
            self._probing += 1
            actions += self._asking.ask(contact, self._asking.ping, self._probed, now)
        return actions

    def _probed(self, _contact: Contact, _answers: list[Answer], now: float) -> list[Action]:
        self._probing -= 1
        return self._probe(now)

    # --- lookups ---

    def _walk(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._walking < WALKS_AT_ONCE and now >= self._walk_at():
            if self._alone():
                self._joined_at = self._own_at = self._refresh_at = self._seed_at = NEVER
                break
            wish = self._next_wish(now)
            if wish is None:
                break
            self._walking += 1
            actions += self._walks.begin(wish, now)[1]
        return actions

    def _next_wish(self, now: float) -> Wish | None:
        """Oneself first, since that is what joining is; then what has been left alone too long."""
        if now >= self._own_at:
            self._own_at = now + self._own_pause_s * self._jitter()
            self._own_pause_s = min(OWN_LAST_S, 2 * self._own_pause_s)
            return Wish(self._asking.own.id, self._asking.settings.paths, self._found_own)
        if now >= self._seed_at:
            young = now < self._joined_at + YOUNG_S
            self._seed_at = now + (SEED_YOUNG_S if young else SEED_S) * self._jitter()
            return Wish(self._asking.random.getrandbits(ID_BITS), 1, self._walked)
        for distance in self._asking.table.stale(now):
            self._asking.table.refreshed(distance, now)
            return Wish(self._at(distance), 1, self._walked)
        self._refresh_at = now + REFRESH_LOOK_S
        return None

    def _found_own(self, result: Result, now: float) -> list[Action]:
        """The neighbours are known: now the buckets that are farther."""
        self._refresh_at = now
        return self._walked(result, now)

    def _walked(self, _result: Result, now: float) -> list[Action]:
        self._walking -= 1
        return self._walk(now)

    def _walk_at(self) -> float:
        return min(self._own_at, self._seed_at, self._refresh_at)

    def _alone(self) -> bool:
        return not self._asking.table.closest(self._asking.own.id, 1)

    def _at(self, distance: int) -> int:
        """A random node-ID at this logarithmic distance (1 to 256) from this node."""
        below = self._asking.random.getrandbits(distance - 1) if distance > 1 else 0
        return self._asking.own.id ^ (1 << (distance - 1)) ^ below

    def _jitter(self) -> float:
        """Half to one and a half, so that nodes that start together do not stay in step."""
        return 0.5 + self._asking.random.random()
