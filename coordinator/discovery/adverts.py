"""What others advertise here: who serves which protocol, for a while.

Source: docs/spec/discovery.md, "Search by protocol". Nobody is pushed out by who comes later: when
room gets scarce adverts live shorter, and when it is out new ones are refused. So a flood of them
costs others nothing that they have. A contact, and a network, has so many in all, and a network so
many of a topic. A network's share shrinks with the room that is left, so that a few with as many as
they may have leave room for others.

Pure; ``now`` is monotonic (s).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TypeVar

from dp2p.coordinator.discovery.chance import Random
from dp2p.coordinator.discovery.contact import Contact
from dp2p.networks import is_local

_Name = TypeVar("_Name", bytes, str)

SHARE = 0.25  # of the room that is left, for one network; Choudhury and Hahne, dynamic thresholds
_SLACK = 64  # outdated places in the queue that are put up with


@dataclass(frozen=True, slots=True)
class AdvertLimits:
    """How much is remembered."""

    all: int = 4096
    topic: int = 100
    contact: int = 256
    "Topics of one contact; a node has up to 250 protocols."
    network: int = 512
    "Adverts from one IP network (a /24 or a /48), of whatever topic, while there is room."
    network_topic: int = 3
    "Of one topic."
    local: bool = False
    "Whether addresses of this machine and site are limited by network as well."
    lifetime_s: float = 1800.0
    lifetime_min_s: float = 300.0
    "What is granted last, when hardly any room is left."


LIMITS = AdvertLimits()


@dataclass(slots=True, eq=False)
class _Advert:
    contact: Contact
    until: float


class Adverts:
    """Who serves what, by topic."""

    def __init__(self, limits: AdvertLimits = LIMITS) -> None:
        self._limits = limits
        self._topics: dict[bytes, dict[bytes, _Advert]] = {}
        "By topic and key."
        self._of_contact: dict[bytes, int] = {}
        self._of_network: dict[str, int] = {}
        self._queue: list[tuple[float, bytes, bytes]] = []
        "A heap of when which advert ends, unless it was renewed."
        self._size = 0
        self.refused = 0

    def __len__(self) -> int:
        return self._size

    def put(self, topic: bytes, contact: Contact, now: float) -> int:
        """Remembers that a contact serves a topic; for so many seconds, 0 when it is refused."""
        self.expire(now)
        before = self._topics.get(topic, {}).get(contact.key)
        if before:
            self._remove(topic, contact.key)
        renews = before is not None and before.contact.network == contact.network
        seconds = self._granted(topic, contact, renews=renews)
        if not seconds:
            self.refused += 1
            return 0
        until = now + seconds
        if before and before.contact.place == contact.place:
            until = max(until, before.until)
        self._add(topic, _Advert(contact, until))
        return int(until - now)

    def find(self, topic: bytes, count: int, now: float, random: Random) -> list[Contact]:
        """Up to ``count`` who serve a topic, at random, from as many networks as there are."""
        adverts = self._topics.get(topic, {}).values()
        contacts = [one.contact for one in adverts if one.until > now]
        random.shuffle(contacts)
        if len(contacts) <= count:
            return contacts
        rank: dict[str, int] = {}
        ranked: list[tuple[int, int, Contact]] = []
        for number, one in enumerate(contacts):
            rank[one.network] = rank.get(one.network, 0) + 1
            ranked.append((rank[one.network], number, one))
        return [one for _, _, one in heapq.nsmallest(count, ranked)]

    def expire(self, now: float) -> None:
        """Forgets what has ended."""
        while self._queue and self._queue[0][0] <= now:
            until, topic, key = heapq.heappop(self._queue)
            advert = self._topics.get(topic, {}).get(key)
            if advert and advert.until == until:
                self._remove(topic, key)

    def next_deadline(self) -> float:
        """When ``expire`` may have something to do; infinity when there is nothing."""
        return self._queue[0][0] if self._queue else float("inf")

    def _granted(self, topic: bytes, contact: Contact, *, renews: bool) -> float:
        """How long one more advert may live (s): less, the less room there is; 0 without room."""
        limits = self._limits
        adverts = self._topics.get(topic, {})
        if self._of_contact.get(contact.key, 0) >= limits.contact:
            return 0.0
        if limits.local or not is_local(contact.place[0]):
            taken = self._of_network.get(contact.network, 0)
            if self._crowded(adverts, contact, taken):
                return 0.0
            if not renews and taken > SHARE * (limits.all - self._size):
                return 0.0
        used = max(self._size / limits.all, len(adverts) / limits.topic)
        if used >= 1.0:
            return 0.0
        scarcity = max(0.0, 2.0 * used - 1.0)  # of the second half
        return limits.lifetime_s - scarcity * (limits.lifetime_s - limits.lifetime_min_s)

    def _crowded(self, adverts: dict[bytes, _Advert], contact: Contact, taken: int) -> bool:
        if taken >= self._limits.network:
            return True
        beside = sum(one.contact.network == contact.network for one in adverts.values())
        return beside >= self._limits.network_topic

    def _add(self, topic: bytes, advert: _Advert) -> None:
        contact = advert.contact
        self._topics.setdefault(topic, {})[contact.key] = advert
        self._of_contact[contact.key] = self._of_contact.get(contact.key, 0) + 1
        self._of_network[contact.network] = self._of_network.get(contact.network, 0) + 1
        self._size += 1
        heapq.heappush(self._queue, (advert.until, topic, contact.key))
        if len(self._queue) > 2 * self._size + _SLACK:
            self._queue = [
                (one.until, topic, key)
                for topic, adverts in self._topics.items()
                for key, one in adverts.items()
            ]
            heapq.heapify(self._queue)

    def _remove(self, topic: bytes, key: bytes) -> None:
        adverts = self._topics[topic]
        contact = adverts.pop(key).contact
        if not adverts:
            del self._topics[topic]
        _one_less(self._of_contact, key)
        _one_less(self._of_network, contact.network)
        self._size -= 1


def _one_less(counts: dict[_Name, int], name: _Name) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
