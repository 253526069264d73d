"""Which links there are, which may open, and which of two links to one peer stays.

Pure. Both sides of a pair of links come to the same choice, because the rule uses only what both
know: who opened each link, which life of the peer it leads to, and the order of one side's dials.

| two links to one peer | which stays |
|---|---|
| peer's lives differ | the newer: the other leads to a process that is gone |
| opened from different sides | the one opened by the node with the smaller node-ID |
| opened from the same side | the newer: who dialled again had lost the older |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dp2p import bus, ids


@dataclass(frozen=True, slots=True)
class LinkId:
    """A link's handle; unique in the node at any time."""

    shard: int
    link: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the link open."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class Close:
    """Close the link."""

    link: LinkId
    reason: str


Action = Admit | Close


@dataclass(slots=True)
class Link:
    """One link that is admitted."""

    id: LinkId
    peer: str
    "Node-ID, base32."
    report: bus.LinkReport
    since: float
    "When it was ready (s, monotonic)."
    up: bool = False
    "True when the peer has admitted it too."


class Peers:
    """The node's links: at most one for each peer."""

    def __init__(self, own: str, max_peers: int) -> None:
        """``own`` is this node's node-ID."""
        self._own = own
        self._max_peers = max_peers
        self._links: dict[LinkId, Link] = {}
        self._by_peer: dict[str, Link] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_peer.values())

    def ready(self, shard: int, report: bus.LinkReport, now: float) -> list[Action]:
        """A handshake is done: what becomes of the link, and of one it stands against."""
        link = Link(LinkId(shard, report.link), ids.node_id_text(report.key), report, now)
        if link.id in self._links:
            return [Admit(link.id)]  # said again, to a coordinator that admitted it already
        if link.peer == self._own:
            return [Close(link.id, "self")]
        older = self._by_peer.get(link.peer)
        if older is None:
            return self._admit_new(link)
        if not self._newer_stays(older.report, report, link.peer):
            return [Close(link.id, "duplicate")]
        self._remove(older)
        self._add(link)
        return [Close(older.id, "duplicate"), Admit(link.id)]

    def _admit_new(self, link: Link) -> list[Action]:
        if len(self._by_peer) >= self._max_peers:
            return [Close(link.id, "full")]
        self._add(link)
        return [Admit(link.id)]

    def _newer_stays(self, older: bus.LinkReport, newer: bus.LinkReport, peer: str) -> bool:
        if older.instance != newer.instance or older.direction == newer.direction:
            return True
        own_is_smaller = ids.from_text(self._own) < ids.from_text(peer)
        return (newer.direction == "out") == own_is_smaller

    def up(self, link: LinkId) -> Link | None:
        """Both sides have admitted the link; None when it is not known here."""
        if found := self._links.get(link):
            found.up = True
        return found

    def down(self, link: LinkId) -> Link | None:
        """The link is gone; returns what it was, or None when it was not known."""
        found = self._links.get(link)
        if found:
            self._remove(found)
        return found

    def shard_down(self, shard: int) -> list[Link]:
        """All links of a shard are gone."""
        lost = [link for link in self._links.values() if link.id.shard == shard]
        for link in lost:
            self._remove(link)
        return lost

    def shard_hello(
        self, shard: int, reports: Iterable[bus.LinkReport], now: float
    ) -> tuple[list[Action], list[Link]]:
        """A shard says all its open links: what to do about them, and what is gone.

        Links that stand against one another after a restart of the coordinator are resolved here.
        """
        reported = {report.link: report for report in reports}
        gone = [
            link
            for link in self._links.values()
            if link.id.shard == shard and link.id.link not in reported
        ]
        for link in gone:
            self._remove(link)
        actions: list[Action] = []
        for report in reported.values():
            actions += self.ready(shard, report, now)
            self.up(LinkId(shard, report.link))
        return actions, gone

    def connected(self, peer: str) -> Link | None:
        """The peer's link when it is open on both sides."""
        link = self._by_peer.get(peer)
        return link if link and link.up else None

    def link_of(self, peer: str) -> Link | None:
        """The peer's link, open or about to be."""
        return self._by_peer.get(peer)

    def open_to(self, endpoint: str) -> Link | None:
        """The open link that this node made to ``endpoint``."""
        for link in self._by_peer.values():
            if link.up and link.report.direction == "out" and link.report.endpoint == endpoint:
                return link
        return None

    def count_by_shard(self) -> dict[int, int]:
        """How many links each shard has."""
        counts: dict[int, int] = {}
        for link in self._links:
            counts[link.shard] = counts.get(link.shard, 0) + 1
        return counts

    def describe(self, now: float) -> list[dict[str, object]]:
        """For ``peers``."""
        return [
            {
                "peer": link.peer,
                "key": link.report.key,
                "shard": link.id.shard,
                "direction": link.report.direction,
                "endpoint": link.report.endpoint,
                "trust": link.report.trust,
                "listen": link.report.listen,
                "open": link.up,
                "age_s": round(now - link.since, 3),
            }
            for link in self._by_peer.values()
        ]

    def _add(self, link: Link) -> None:
        self._links[link.id] = link
        self._by_peer[link.peer] = link

    def _remove(self, link: Link) -> None:
        del self._links[link.id]
        if self._by_peer.get(link.peer) is link:
            del self._by_peer[link.peer]
