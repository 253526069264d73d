"""The table in any order of events: its bounds hold, and it hands out what brute force would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contacts import OWN, at_distance
from dp2p.coordinator.discovery.contact import Contact, Place, log_distance
from dp2p.coordinator.discovery.table import Entry, NetworkLimits, Table
from dp2p.networks import is_local

K = 4
LIMITS = NetworkLimits(bucket=2, table=5)
KEYS = [
    one.key
    for log, amount in ((256, 14), (255, 10), (254, 6), (250, 2))
    for one in at_distance(log, amount)
]
PLACES: list[Place] = [
    *((f"11.0.{network}.{host}", 4617) for network in range(5) for host in (1, 2)),
    *((f"192.168.1.{host}", 4617) for host in range(1, 5)),
]
CONTACTS = st.builds(Contact, st.sampled_from(KEYS), st.sampled_from(PLACES))
SEVERAL = st.lists(CONTACTS, min_size=1, max_size=12)
TARGETS = st.integers(0, (1 << 256) - 1)


def crowds(entries: Iterable[Entry]) -> Counter[str]:
    """How many of each network, but for this site."""
    contacts = (entry.contact for entry in entries)
    return Counter(one.network for one in contacts if not is_local(one.place[0]))


class Living(RuleBasedStateMachine):
    """Contacts come, answer, fail, move and are checked; in between nothing may be out of order."""

    @initialize(seed=st.integers(0, 100))
    def begin(self, seed: int) -> None:
        self.table = Table(OWN, k=K, limits=LIMITS, random=Random(seed))
        self.now = 1000.0
        self.answers: set[Contact] = set()
        self.heard = 0.0
        self.steady: set[bytes] = set()
        "Keys of entries that answered when they were last asked, before the last rule."

    def entries(self) -> list[Entry]:
        return [entry for bucket in self.table.buckets() for entry in bucket.entries]

    def remember(self) -> None:
        self.steady = {one.contact.key for one in self.entries() if not one.failures}

    def report(self, contact: Contact, answers: bool) -> None:
        if answers:
            self.answers.add(contact)
            self.heard = self.now
            self.table.answered(contact, self.now)
        else:
            self.steady.discard(contact.key)
            self.table.failed(contact, self.now)

    @rule(contacts=SEVERAL)
    def see(self, contacts: list[Contact]) -> None:
        self.remember()
        known = set(self.table.contacts())
        for contact in contacts:
            self.table.seen(contact, self.now)
        assert set(self.table.contacts()) == known

    @rule(contacts=SEVERAL)
    def answer(self, contacts: list[Contact]) -> None:
        self.remember()
        for contact in contacts:
            self.report(contact, answers=True)

    @rule(contact=CONTACTS)
    def fail(self, contact: Contact) -> None:
        self.remember()
        self.report(contact, answers=False)

    @rule(data=st.data(), times=st.integers(1, 4))
    def fail_known(self, data: st.DataObject, times: int) -> None:
        if contacts := self.table.contacts():
            self.remember()
            contact = data.draw(st.sampled_from(contacts))
            for _ in range(times):
                self.report(contact, answers=False)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: bytes) -> None:
        self.remember()
        self.table.remove(key)
        self.steady.discard(key)
        assert all(one.key != key for one in self.table.contacts())

    @rule(pause=st.sampled_from([1.0, 20.0, 400.0, 4000.0]), data=st.data())
    def check(self, pause: float, data: st.DataObject) -> None:
        """Time passes, and the checks that are due are made."""
        self.now += pause
        self.remember()
        for _ in range(50):
            nobody = self.table.next_deadline() > self.now
            due = self.table.due(self.now)
            assert (due is None) == nobody
            if due is None:
                break
            self.report(due, data.draw(st.booleans()))

    @rule()
    def be_cut_off(self) -> None:
        """Nothing answers for hours."""
        self.remember()
        self.now += 3600.0
        known = {one.key for one in self.table.contacts()}
        failing = {one.contact.key for one in self.entries() if one.failures}
        for hour in range(5):
            for contact in self.table.contacts():
                self.table.failed(contact, self.now + 3600.0 * hour)
        self.now += 5 * 3600.0
        left = {one.key for one in self.table.contacts()}
        # Those that had begun to fail while others answered may go.
        assert known - failing <= left
        self.steady.clear()

    # --- what always holds ---

    @invariant()
    def who_answers_stays(self) -> None:
        assert self.steady <= {one.key for one in self.table.contacts()}

    @invariant()
    def only_who_answered_is_handed_out(self) -> None:
        assert set(self.table.contacts()) <= self.answers
        assert all(entry.checked for entry in self.entries())

    @invariant()
    def a_key_appears_once(self) -> None:
        buckets = self.table._buckets.values()
        keys = [key for one in buckets for key in (*one.entries, *one.spares)]
        assert len(keys) == len(set(keys))
        assert set(self.table._places) == set(keys)
        assert len(self.table) == len(self.table.contacts())

    @invariant()
    def buckets_are_bounded(self) -> None:
        for bucket in self.table._buckets.values():
            for group in (bucket.entries, bucket.spares):
                assert len(group) <= K
                assert all(key == entry.contact.key for key, entry in group.items())
                ids = (entry.contact.id for entry in group.values())
                assert all(log_distance(OWN, one) == bucket.log_distance for one in ids)
            assert sum(entry.came for entry in bucket.entries.values()) <= K // 2

    @invariant()
    def networks_are_bounded(self) -> None:
        buckets = self.table._buckets.values()
        for groups in ([one.entries for one in buckets], [one.spares for one in buckets]):
            for group in groups:
                assert max(crowds(group.values()).values(), default=0) <= LIMITS.bucket
            everybody = [entry for group in groups for entry in group.values()]
            assert max(crowds(everybody).values(), default=0) <= LIMITS.table

    @invariant()
    def everybody_has_a_next_check(self) -> None:
        buckets = self.table._buckets.values()
        assert len(self.table._checks) == sum(len(one.entries) for one in buckets)
        assert len(self.table._spare_checks) == sum(len(one.spares) for one in buckets)

    @rule(goal=TARGETS, count=st.integers(0, 20))
    def closest(self, goal: int, count: int) -> None:
        self.remember()
        ranked = sorted(
            ((bool(one.failures), one.contact.id ^ goal, one.contact) for one in self.entries()),
            key=lambda one: one[:2],
        )[:count]
        expected = sorted((one[2] for one in ranked), key=lambda one: one.id ^ goal)
        assert self.table.closest(goal, count) == expected


TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
