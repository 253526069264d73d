"""Advertising this node's protocols: at the contacts closest to each protocol's identifier.

Source: docs/spec/discovery.md, "Search by protocol". Each protocol is looked up in its turn, so
that many are spread over time; and a contact that is close to several gets them in one message,
which is how it is in a small network.
"""

from __future__ import annotations

from collections.abc import Iterable

from dp2p.coordinator.discovery.actions import Action, Result
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.chance import about
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import PROTOCOLS_MAX, Advertise, Advertised, Answer
from dp2p.coordinator.discovery.schedule import Schedule
from dp2p.coordinator.discovery.walks import Walks, Wish

TOPICS_MAX = 512
RENEW_S = 900.0  # half of what others usually grant
RETRY_S = 60.0  # when nobody was there
SPACING_S = 1.0  # between lookups
WALKS_AT_ONCE = 2
GATHER_S = 3.0  # that an advert waits for others to the same contact
CONTACTS_MAX = 4096  # of which it is remembered what they hold


class Advertising:
    """Which protocol is advertised where, and when next."""

    def __init__(self, asking: Asking, walks: Walks) -> None:
        self._asking = asking
        self._walks = walks
        self._topics = Schedule()
        "When each is looked up next."
        self._own: frozenset[bytes] = frozenset()
        self._walking = 0
        self._next_walk_at = 0.0
        self._waiting: dict[Contact, tuple[float, list[bytes]]] = {}
        "What is to be said to whom, and when: the earliest first."
        self._held: dict[bytes, dict[bytes, float]] = {}
        "By a contact's key and the topic, when to renew it. Contacts told last come last."

    def serve(self, topics: Iterable[bytes], now: float) -> None:
        """From now on these are advertised, and no others. What others hold of those ends."""
        new = frozenset(list(topics)[:TOPICS_MAX])
        for gone in self._own - new:
            self._topics.remove(gone)
            for held in self._held.values():
                held.pop(gone, None)
        for topic in new - self._own:
            self._topics.set(topic, now)
        self._own = new

    def run(self, now: float, *, serves: bool) -> list[Action]:
        """Look up what is due, and say what has waited. Nothing while this node does not serve."""
        actions = self._say(now)
        while serves and self._may_walk(now) and (topic := self._topics.due(now)) is not None:
            self._topics.set(topic, now + about(RENEW_S, self._asking.random))
            self._next_walk_at = now + SPACING_S
            self._walking += 1
            actions += self._walks.begin(self._wish(topic), now)[1]
        return actions

    def next_deadline(self, *, serves: bool) -> float:
        """When ``run`` has something to do next."""
        soonest = float("inf")
        if serves and self._walking < WALKS_AT_ONCE:
            soonest = max(self._topics.next(), self._next_walk_at)
        for due, _ in self._waiting.values():
            return min(soonest, due)
        return soonest

    def _may_walk(self, now: float) -> bool:
        return self._walking < WALKS_AT_ONCE and now >= self._next_walk_at

    def _wish(self, topic: bytes) -> Wish:
        """Over disjoint paths: whoever misled it would hide this node from all who search."""
        return Wish(
            int.from_bytes(topic, "big"),
            self._asking.settings.paths,
            lambda result, now: self._walked(topic, result, now),
        )

    def _walked(self, topic: bytes, result: Result, now: float) -> list[Action]:
        self._walking -= 1
        if topic not in self._own:
            return []
        if not result.contacts:
            self._topics.set(topic, now + about(RETRY_S, self._asking.random))
        for contact in result.contacts:
            if not self._fresh(contact, topic, now):
                self._waiting.setdefault(contact, (now + GATHER_S, []))[1].append(topic)
        return []

    def _fresh(self, contact: Contact, topic: bytes, now: float) -> bool:
        """Whether a contact holds an advert until the topic's next turn."""
        return self._held.get(contact.key, {}).get(topic, 0.0) > now + RENEW_S / 2

    def _say(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._waiting:
            contact, (due, topics) = next(iter(self._waiting.items()))
            if due > now:
                break
            del self._waiting[contact]
            if len(topics) > PROTOCOLS_MAX:
                self._waiting[contact] = (now + GATHER_S, topics[PROTOCOLS_MAX:])
            actions += self._advertise(contact, topics[:PROTOCOLS_MAX], now)
        return actions

    def _advertise(self, contact: Contact, due: list[bytes], now: float) -> list[Action]:
        """Advertise what is due, and what this contact holds and will have to renew soon."""
        held = self._held.get(contact.key, {})
        soon = [one for one, at in held.items() if at <= now + RENEW_S / 2 and one not in due]
        topics = [one for one in [*due, *soon] if one in self._own][:PROTOCOLS_MAX]
        if not topics:
            return []
        return self._asking.ask(
            contact,
            lambda number: Advertise(number, topics),
            lambda who, answers, now: self._advertised(who, topics, answers, now),
            now,
        )

    def _advertised(
        self, contact: Contact, topics: list[bytes], answers: list[Answer], now: float
    ) -> list[Action]:
        for answer in answers:
            if isinstance(answer, Advertised):
                held = self._held[contact.key] = self._held.pop(contact.key, {})
                for topic, seconds in zip(topics, answer.seconds, strict=False):
                    if seconds and topic in self._own:
                        held[topic] = now + seconds / 2
                        self._asking.counters.adverts_placed += 1
        if len(self._held) > CONTACTS_MAX:
            del self._held[next(iter(self._held))]
        return []
