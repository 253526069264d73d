"""What applications search for: connected peers are asked, and their answers put together.

Pure; ``now`` is monotonic (s).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dp2p import ids
from dp2p.coordinator.conversations import Conversations, Tell
from dp2p.coordinator.peers import Link, LinkId
from dp2p.errors import RequestError
from dp2p.introduction import FOUND_MAX, Find
from dp2p.node_record import NodeRecord

ASKED_MAX = 8  # peers, by one search
SEARCHES_MAX = 64  # at a time

TRUST_RANK = {"none": 0, "introduced": 1, "resumed": 2}
"Who is asked first: higher is better."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for. With both fields set, near ones that speak the protocol."""

    protocol: str | None = None
    near: str | None = None
    "A node-ID."
    limit: int = 16


@dataclass(frozen=True, slots=True)
class Sought:
    """What a FIND was about."""

    limit: int
    search: int | None = None
    "Token of the search; None when this node asked on its own account."


@dataclass(frozen=True, slots=True)
class Answered:
    """A search is over."""

    token: int
    records: tuple[NodeRecord, ...]
    "One of each key; the closest first when something near was wanted, else by turns from all."
    asked: int
    "Peers."


@dataclass(slots=True)
class _Search:
    token: int
    wanted: Wanted
    deadline: float
    asked: int
    waits_for: set[LinkId]
    found: dict[bytes, NodeRecord] = field(default_factory=dict)
    rank: dict[bytes, int] = field(default_factory=dict)
    "How near the beginning of an answer each came: who answers first does not crowd out others."


class Searches:
    """All that are under way."""

    def __init__(self, talk: Conversations) -> None:
        self._talk = talk
        self._searches: dict[int, _Search] = {}

    def __len__(self) -> int:
        return len(self._searches)

    def find(
        self, token: int, wanted: Wanted, links: Iterable[Link], deadline: float, now: float
    ) -> list[Tell | Answered]:
        """Ask some of the connected peers: those that are trusted most, among them those closest to
        what is wanted. ``Answered`` comes when all of them have answered, or at the deadline.

        Raises: RequestError ``busy``.
        """
        if len(self._searches) >= SEARCHES_MAX:
            raise RequestError("busy", f"{SEARCHES_MAX} searches are under way")
        able = [link for link in links if link.up and self._talk.may_find(link.id)]
        asked = sorted(able, key=lambda link: _rank(link, wanted.near))[:ASKED_MAX]
        search = _Search(token, wanted, deadline, len(asked), {link.id for link in asked})
        self._searches[token] = search
        limit = max(1, min(wanted.limit, FOUND_MAX))
        find = Find(id=0, protocol=wanted.protocol, near=wanted.near, limit=limit)
        told: list[Tell | Answered] = []
        for link in asked:
            told += self._talk.ask(link.id, find, Sought(limit, token), now)
        return [*told, *self._finished(search)]

    def answer(self, token: int, link: LinkId, records: Iterable[NodeRecord]) -> list[Answered]:
        """What one peer has answered, verified."""
        search = self._searches.get(token)
        if search is None or link not in search.waits_for:
            return []
        search.waits_for.discard(link)
        speaking = (one for one in records if _speaks(one, search.wanted.protocol))
        for rank, record in enumerate(speaking):
            before = search.found.get(record.key)
            if before is None or before.seq < record.seq:
                search.found[record.key] = record
            search.rank[record.key] = min(rank, search.rank.get(record.key, rank))
        return self._finished(search)

    def down(self, link: LinkId) -> list[Answered]:
        """The link is gone: nothing waits for it."""
        over: list[Answered] = []
        for search in list(self._searches.values()):
            search.waits_for.discard(link)
            over += self._finished(search)
        return over

    def run(self, now: float) -> list[Answered]:
        """End those whose time is over."""
        return [self._end(one) for one in list(self._searches.values()) if one.deadline <= now]

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        return min((one.deadline for one in self._searches.values()), default=None)

    def _finished(self, search: _Search) -> list[Answered]:
        return [] if search.waits_for else [self._end(search)]

    def _end(self, search: _Search) -> Answered:
        del self._searches[search.token]
        records = sorted(search.found.values(), key=lambda record: search.rank[record.key])
        if search.wanted.near is not None:
            near = ids.from_text(search.wanted.near)
            records.sort(key=lambda record: ids.distance(ids.node_id(record.key), near))
        return Answered(search.token, tuple(records[: search.wanted.limit]), search.asked)


def _rank(link: Link, near: str | None) -> tuple[int, int]:
    closeness = ids.distance(ids.from_text(link.peer), ids.from_text(near)) if near else 0
    return -TRUST_RANK[link.report.trust], closeness


def _speaks(record: NodeRecord, protocol: str | None) -> bool:
    return protocol is None or record.more or protocol in record.protocols
