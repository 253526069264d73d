"""The table: who is known at which distance, so that any node-ID is reached in few steps.

Source: Maymounkov and Mazieres, Kademlia, section 2.2 to 2.4; docs/spec/discovery.md, "Table".

What keeps it from being filled by somebody else:

* Entries have answered a request of this node, and one that answers is never replaced.
* Who comes by itself becomes a replacement at first, and gets at most half of a bucket: the other
  half is for those whom this node found.
* An IP network gets so many places in a bucket and in all; among replacements as well.
* A replacement that has answered yields only to one that is worth more: never to who has not.

Pure; ``now`` is monotonic (s).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from dp2p.coordinator.discovery.bucket import (
    UNLIMITED,
    Bucket,
    BucketView,
    Counters,
    Crowds,
    Entry,
    NetworkLimits,
    came_count,
    worth,
)
from dp2p.coordinator.discovery.chance import Random, about
from dp2p.coordinator.discovery.contact import ID_BITS, Contact, is_v6, log_distance
from dp2p.coordinator.discovery.schedule import Schedule

__all__ = ["UNLIMITED", "BucketView", "Counters", "Entry", "NetworkLimits", "Table"]

K = 16  # entries of a bucket, and replacements; Kademlia, section 2.2
SOON_S = 10.0  # until a newcomer that may enter is checked
YOUNG_SOON_S = (
    1.0  # the same while there are fewer than k entries: a small network is soon complete
)
CHECK_MIN_S = 30.0  # between checks of what was known as long as that or less
CHECK_MAX_S = 1200.0
SPARE_S = 300.0  # until a newcomer is checked that may not enter anyway
RETRY_S = 10.0  # after a failure; doubles with each
ANSWER_WITHIN_S = 15.0  # after that a check that nobody reported on is asked for again
REQUEST_S = 14.0  # no request is older when it fails
PATIENCE = (1, 2, 3)  # failures that are put up with, by how often it had answered
DEAD_S = 300.0  # so long without an answer, and it goes even when nobody replaces it
LIMITS = NetworkLimits()
REFRESH_S = 3600.0  # Kademlia, section 2.3


class Table:
    """The contacts of the node whose node-ID is ``own``."""

    def __init__(
        self, own: int, *, k: int = K, limits: NetworkLimits = LIMITS, random: Random
    ) -> None:
        self._own = own
        self._k = k
        self._came_max = max(1, k // 2)
        self._random = random
        self._buckets: dict[int, Bucket] = {}
        self._order: list[int] = []
        "Log distances of buckets, ascending."
        self._crowds = Crowds(limits)
        self._spare_crowds = Crowds(limits)
        self._checks = Schedule()
        self._spare_checks = Schedule()
        self._places: dict[bytes, Bucket] = {}
        "Of each key that is entry or replacement."
        self._size = 0
        self._heard = float("-inf")
        "When anybody last answered."
        self._refreshed: dict[int, float] = {}
        self.counters = Counters()

    def __len__(self) -> int:
        """Entries; replacements do not count."""
        return self._size

    def __contains__(self, contact: Contact) -> bool:
        """Whether a contact is an entry, at this place."""
        bucket = self._places.get(contact.key)
        entry = bucket.entries.get(contact.key) if bucket else None
        return entry is not None and entry.contact == contact

    # --- what this node meets with ---

    def seen(self, contact: Contact, now: float) -> None:
        """It came to this node, and so has proven its address. It is kept as a replacement, and
        checked when its turn comes.
        """
        bucket = self._bucket(contact)
        if bucket is None:
            return
        entry = bucket.get(contact.key)
        if entry is None:
            self._spare(bucket, Entry(contact, now, came=True), now)
        elif contact.key in bucket.spares and not entry.checked:
            self._seen_again(bucket, entry, contact, now)
        elif entry.failures or entry.contact.place != contact.place:
            self._hurry(bucket, entry, now)

    def answered(self, contact: Contact, now: float) -> None:
        """It answered a request of this node: it enters, stays, or becomes a replacement.

        One that is known at another place moves when it no longer answers there.
        """
        self._heard = max(self._heard, now)
        bucket = self._bucket(contact)
        if bucket is None:
            return
        entry = bucket.get(contact.key)
        if entry is None:
            entry = Entry(contact, now, came=False)
        elif entry.contact.place != contact.place and not self._settle(bucket, entry, contact, now):
            return
        elif contact.key in bucket.spares and not entry.checking:
            entry.came = False  # others named it
        self._alive(entry, now)
        bucket.changed()
        if contact.key not in bucket.entries:
            self._admit(bucket, entry, now)
        else:
            self._checks.set(contact.key, self._next_check(entry))

    def failed(self, contact: Contact, now: float) -> None:
        """A request to it went unanswered."""
        bucket = self._places.get(contact.key)
        entry = bucket.get(contact.key) if bucket else None
        if bucket is None or entry is None:
            return
        if entry.contact.place != contact.place:
            if entry.elsewhere == contact:
                entry.elsewhere = None
            return
        entry.checking = False
        if not entry.failures:
            entry.failing_since = now - REQUEST_S
            bucket.changed()
        entry.failures += 1
        if entry.elsewhere is not None and self._move(bucket, entry, entry.elsewhere):
            self._hurry(bucket, entry, now)
        elif self._given_up(bucket, entry, now):
            self.counters.dead += 1
            self._drop(bucket, entry)
            self._fill(bucket)
            self._look_for_spare(bucket, now)
        else:
            pause = min(CHECK_MAX_S, RETRY_S * 2.0 ** min(entry.failures - 1, 30))
            self._schedule(bucket, entry, now + about(pause, self._random))
            self._look_for_spare(bucket, now)

    def remove(self, key: bytes) -> None:
        """Forgets a contact."""
        bucket = self._places.get(key)
        entry = bucket.get(key) if bucket else None
        if bucket is not None and entry is not None:
            self._drop(bucket, entry)
            self._fill(bucket)

    def mute(self, contact: Contact) -> None:
        """A contact does not serve by this family of addresses: it is kept by the other alone."""
        bucket = self._places.get(contact.key)
        entry = bucket.get(contact.key) if bucket else None
        if entry is None:
            return
        if entry.elsewhere and is_v6(entry.elsewhere.place) == is_v6(contact.place):
            entry.elsewhere = None
        if is_v6(entry.contact.place) == is_v6(contact.place):
            self.remove(contact.key)

    # --- what it is for ---

    def closest(self, target: int, count: int) -> list[Contact]:
        """The ``count`` entries closest to a node-ID, closest first.

        Those that fail are among them only when there are not enough others. Cost: a sort of one
        bucket or two.
        """
        found: list[Contact] = []
        for bucket in self._outward(target):
            found += sorted(bucket.healthy(), key=lambda one: one.id ^ target)
            if len(found) >= count:
                return found[:count]
        if len(found) < self._size:
            failing = [one.contact for one in self._entries() if one.failures]
            failing.sort(key=lambda one: one.id ^ target)
            found = sorted(found + failing[: count - len(found)], key=lambda one: one.id ^ target)
        return found

    def contacts(self) -> list[Contact]:
        """All entries, the nearest buckets first.

        Who remembers some over a restart draws them from all: nodes that start together with
        their nearest only find each other in parts that never meet.
        """
        return [entry.contact for entry in self._entries()]

    def buckets(self) -> list[BucketView]:
        """All buckets with somebody in them, nearest first."""
        return [
            BucketView(one.log_distance, list(one.entries.values()), len(one.spares))
            for one in map(self._buckets.__getitem__, self._order)
            if one.entries or one.spares
        ]

    # --- what is to be done ---

    def due(self, now: float) -> Contact | None:
        """Who is to be checked now: to be asked something, and reported as answered or failed.

        Entries come before replacements. None: nobody yet.
        """
        for schedule in (self._checks, self._spare_checks):
            key = schedule.due(now)
            entry = self._places[key].get(key) if key else None
            if key and entry:
                schedule.set(key, now + ANSWER_WITHIN_S)
                entry.checking = True
                return entry.contact
        return None

    def next_deadline(self) -> float:
        """When somebody is due; infinity when there is nobody."""
        return min(self._checks.next(), self._spare_checks.next())

    def stale(self, now: float) -> list[int]:
        """Log distances that a lookup of a random node-ID has not refreshed for ``REFRESH_S``,
        farthest first: all but those nearer than the nearest entry.
        """
        nearest = next((one for one in self._order if self._buckets[one].entries), ID_BITS + 1)
        return [
            one
            for one in range(ID_BITS, nearest - 1, -1)
            if now - self._refreshed.get(one, float("-inf")) >= REFRESH_S
        ]

    def refreshed(self, log_distance: int, now: float) -> None:
        """Such a lookup was made."""
        self._refreshed[log_distance] = now

    # --- buckets ---

    def _bucket(self, contact: Contact) -> Bucket | None:
        """Where a contact belongs; None for this node itself."""
        distance = log_distance(self._own, contact.id)
        bucket = self._buckets.get(distance)
        if bucket is None and distance:
            bucket = self._buckets[distance] = Bucket(distance)
            insort(self._order, distance)
        return bucket

    def _outward(self, target: int) -> Iterator[Bucket]:
        """Buckets so that all in one are closer to ``target`` than all in the next.

        With d the distance of this node to the target: the bucket of d's highest bit shares that
        bit with the target; a nearer one is closer to it than this node is where d has its bit,
        and farther where it has not.
        """
        distance = self._own ^ target
        order, buckets = self._order, self._buckets
        below = bisect_left(order, distance.bit_length())
        here = order[below : below + 1] == [distance.bit_length()]
        if here:
            yield buckets[order[below]]
        for one in reversed(order[:below]):
            if distance >> (one - 1) & 1:
                yield buckets[one]
        for one in order[:below]:
            if not distance >> (one - 1) & 1:
                yield buckets[one]
        for one in order[below + here :]:
            yield buckets[one]

    def _entries(self) -> Iterator[Entry]:
        for one in self._order:
            yield from self._buckets[one].entries.values()

    # --- entering and leaving ---

    def _admit(self, bucket: Bucket, entry: Entry, now: float) -> None:
        """Somebody who answered and is no entry becomes one, or a replacement."""
        was_spare = entry.contact.key in bucket.spares
        if self._may_enter(bucket, entry):
            if was_spare:
                self._drop(bucket, entry)
            self._enter(bucket, entry)
        elif was_spare:
            bucket.spares[entry.contact.key] = bucket.spares.pop(entry.contact.key)
            self._spare_checks.set(entry.contact.key, self._next_check(entry, 2.0))
        else:
            self._spare(bucket, entry, now)

    def _may_enter(self, bucket: Bucket, entry: Entry, leaving: Entry | None = None) -> bool:
        entries = bucket.entries.values()
        gone = leaving is not None
        if len(entries) - gone >= self._k:
            return False
        came = came_count(entries) - (leaving is not None and leaving.came)
        if entry.came and came >= self._came_max:
            return False
        return self._crowds.admits(entries, entry.contact, leaving)

    def _enter(self, bucket: Bucket, entry: Entry) -> None:
        key = entry.contact.key
        bucket.entries[key] = entry
        bucket.changed()
        self._places[key] = bucket
        self._crowds.add(entry.contact)
        self._checks.set(key, self._next_check(entry))
        self._size += 1
        self.counters.entered += 1

    def _spare(self, bucket: Bucket, entry: Entry, now: float) -> None:
        """Makes an entry a replacement, unless who is one already is worth more."""
        rivals = bucket.rivals(entry, self._k, self._came_max)
        worst = min(rivals, key=worth, default=None)
        if not self._spare_crowds.admits(bucket.spares.values(), entry.contact, worst):
            self.counters.crowded += 1
            return
        if worst is not None:
            self.counters.refused += 1
            if worst.checked and worth(worst) >= worth(entry):
                return
            self._drop(bucket, worst)
        key = entry.contact.key
        bucket.spares[key] = entry
        self._places[key] = bucket
        self._spare_crowds.add(entry.contact)
        soon = SOON_S if self._size >= self._k else YOUNG_SOON_S
        wait = soon if self._may_enter(bucket, entry) else SPARE_S
        self._spare_checks.set(
            key,
            self._next_check(entry, 2.0) if entry.checked else now + about(wait, self._random, 0.5),
        )

    def _seen_again(self, bucket: Bucket, entry: Entry, contact: Contact, now: float) -> None:
        """A replacement that has never answered came again: the last place is the one it has."""
        if entry.contact.place == contact.place:
            bucket.spares[contact.key] = bucket.spares.pop(contact.key)
            return
        self._drop(bucket, entry)
        self._spare(bucket, Entry(contact, now, came=entry.came), now)

    def _drop(self, bucket: Bucket, entry: Entry) -> None:
        key = entry.contact.key
        del self._places[key]
        if bucket.entries.pop(key, None):
            bucket.changed()
            self._crowds.remove(entry.contact)
            self._checks.remove(key)
            self._size -= 1
        else:
            del bucket.spares[key]
            self._spare_crowds.remove(entry.contact)
            self._spare_checks.remove(key)

    def _fill(self, bucket: Bucket) -> None:
        """Somebody has left: replacements that have answered enter."""
        for spare in bucket.best_spares():
            if self._may_enter(bucket, spare):
                self._drop(bucket, spare)
                self._enter(bucket, spare)

    # --- life and death ---

    def _alive(self, entry: Entry, now: float) -> None:
        entry.alive = now
        entry.checks += 1
        entry.failures = 0
        entry.checking = False

    def _next_check(self, entry: Entry, factor: float = 1.0) -> float:
        """What has lasted longer will last longer: the pause is how long it has been there."""
        lasted = entry.alive - entry.since
        pause = min(CHECK_MAX_S, max(CHECK_MIN_S, lasted))
        return entry.alive + factor * about(pause, self._random)

    def _given_up(self, bucket: Bucket, entry: Entry, now: float) -> bool:
        """Whether an entry or replacement that has just failed is to go.

        Not while everybody fails: then it is this node that is cut off.
        """
        if entry.failures < PATIENCE[min(entry.checks, len(PATIENCE) - 1)]:
            return False
        if self._heard < entry.failing_since:
            return False
        if entry.contact.key in bucket.spares or now - entry.failing_since >= DEAD_S:
            return True
        return any(self._may_enter(bucket, one, leaving=entry) for one in bucket.best_spares())

    def _settle(self, bucket: Bucket, entry: Entry, contact: Contact, now: float) -> bool:
        """Whether a contact that answered from another place than its entry's has now moved."""
        if entry.checked and not entry.failures:
            entry.elsewhere = contact
            self._hurry(bucket, entry, now)
            return False
        return self._move(bucket, entry, contact)

    def _move(self, bucket: Bucket, entry: Entry, contact: Contact) -> bool:
        """Its place from now on is that of ``contact``, if that network has room."""
        group, crowds = bucket.spares, self._spare_crowds
        if contact.key in bucket.entries:
            group, crowds = bucket.entries, self._crowds
        if not crowds.admits(group.values(), contact, leaving=entry):
            self.counters.crowded += 1
            return False
        crowds.remove(entry.contact)
        crowds.add(contact)
        entry.contact, entry.elsewhere, entry.failures = contact, None, 0
        bucket.changed()
        self.counters.moved += 1
        return True

    def _schedule(self, bucket: Bucket, entry: Entry, at: float) -> None:
        key = entry.contact.key
        (self._checks if key in bucket.entries else self._spare_checks).set(key, at)

    def _hurry(self, bucket: Bucket, entry: Entry, now: float) -> None:
        """Has it checked soon, if it has not just answered."""
        key = entry.contact.key
        schedule = self._checks if key in bucket.entries else self._spare_checks
        schedule.set(key, min(schedule.at(key), max(now, entry.alive + SOON_S)))

    def _look_for_spare(self, bucket: Bucket, now: float) -> None:
        """When a place is or becomes free, and nobody is known to be able to take it, has the
        replacement checked that was seen last.
        """
        failing = any(one.failures for one in bucket.entries.values())
        if bucket.best_spares() or (len(bucket.entries) >= self._k and not failing):
            return
        fresh = [one for one in bucket.spares.values() if not one.checked and not one.checking]
        if fresh:
            self._hurry(bucket, fresh[-1], now)
