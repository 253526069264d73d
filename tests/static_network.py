"""A network at rest for lookups: honest tables, drawn once, and who answers what."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from random import Random

from contacts import contact
from dp2p.coordinator.discovery.contact import ID_BITS, Contact
from dp2p.coordinator.discovery.lookup import Lookup

K = 16
Answers = Callable[[Contact, int], Iterable[Contact] | None]
"What a contact says of a target; None when it does not answer."


class StaticNetwork:
    """So many nodes, each with up to ``k`` random others at each log distance."""

    def __init__(self, size: int, seed: int, k: int = K) -> None:
        self.contacts = sorted((contact(number) for number in range(1, size + 1)), key=_id)
        self._ids = [one.id for one in self.contacts]
        random = Random(seed)
        self.tables = {one.key: self._table(one, k, random) for one in self.contacts}

    def _table(self, one: Contact, k: int, random: Random) -> list[Contact]:
        table: list[Contact] = []
        for bit in range(ID_BITS):
            low = (one.id >> bit ^ 1) << bit
            first = bisect_left(self._ids, low)
            last = bisect_left(self._ids, low + (1 << bit))
            table += random.sample(self.contacts[first:last], min(k, last - first))
        return table

    def answer(self, asked: Contact, target: int) -> list[Contact]:
        """What an honest node says: the ``K`` closest that it knows."""
        return nearest(self.tables[asked.key], target, K)


def _id(one: Contact) -> int:
    return one.id


def nearest(contacts: Iterable[Contact], target: int, count: int) -> list[Contact]:
    return sorted(contacts, key=lambda one: one.id ^ target)[:count]


def run(lookup: Lookup, answers: Answers, random: Random, most: int = 10_000) -> list[Contact]:
    """Carries a lookup through, what is under way coming back in any order; whom it asked."""
    under_way: list[Contact] = []
    asked: list[Contact] = []
    while True:
        new = lookup.ask()
        asked += new
        under_way += new
        if not under_way:
            assert lookup.done or not new
            return asked
        assert len(asked) <= most
        one = under_way.pop(random.randrange(len(under_way)))
        said = answers(one, lookup.target)
        if said is None:
            lookup.failed(one)
        else:
            lookup.answered(one, said)
