"""Searches for peers that speak a protocol, asked in two ways at once: connected peers whom they
know, and discovery who advertises it.

An answer is complete when both ways have come to an end, or at the deadline with what is there.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dp2p.coordinator.searches import Answered
from dp2p.node_record import NodeRecord


@dataclass(slots=True)
class _Search:
    limit: int
    deadline: float
    by_peers: Answered | None = None
    by_discovery: bool = False
    "It has come to an end."
    found: dict[bytes, NodeRecord] = field(default_factory=dict)


class Finding:
    """All searches that use discovery, by the token of the one that asks peers."""

    def __init__(self) -> None:
        self._searches: dict[int, _Search] = {}

    def begin(self, token: int, limit: int, deadline: float) -> None:
        """Both ways have been taken."""
        self._searches[token] = _Search(limit, deadline)

    def discovered(self, token: int, record: NodeRecord) -> None:
        """Discovery has found one who serves the protocol."""
        if search := self._searches.get(token):
            search.found[record.key] = record

    def discovery_done(self, token: int) -> list[Answered]:
        """Discovery finds no more."""
        search = self._searches.get(token)
        if search is None:
            return []
        search.by_discovery = True
        return self._finished(token, search)

    def answered(self, by_peers: Answered) -> list[Answered]:
        """Peers have answered; a search that never used discovery is over with that."""
        search = self._searches.get(by_peers.token)
        if search is None:
            return [by_peers]
        search.by_peers = by_peers
        return self._finished(by_peers.token, search)

    def run(self, now: float) -> list[Answered]:
        """End those whose time is over; peers have been answered for by then."""
        over = [
            token
            for token, search in self._searches.items()
            if search.deadline <= now and search.by_peers is not None
        ]
        return [self._end(token) for token in over]

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        return min((search.deadline for search in self._searches.values()), default=None)

    def _finished(self, token: int, search: _Search) -> list[Answered]:
        done = search.by_peers is not None and search.by_discovery
        return [self._end(token)] if done else []

    def _end(self, token: int) -> Answered:
        """Those that discovery found come first: they have answered just now."""
        search = self._searches.pop(token)
        assert search.by_peers is not None, "only a search that peers have answered ends"
        records = dict(search.found)
        for record in search.by_peers.records:
            if record.key not in records or record.seq > records[record.key].seq:
                records[record.key] = record
        return Answered(token, tuple(records.values())[: search.limit], search.by_peers.asked)
