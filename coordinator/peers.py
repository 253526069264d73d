"""Which links there are, which may open, and which of several links to one peer stays.

Pure. Two nodes that dial each other, or one that dials twice, must keep the same link and lose no
datagram. So one of them decides: of two nodes the one with the smaller node-ID is the *chooser*.

* The chooser admits one link of a peer at a time. While that link is up, another one that becomes
  ready contends with it: the older is probed, and gives way only when it is dead.
* The other side admits every link, to wait: its shard completes the admission of the one that the
  chooser admits. It closes an older link that was up, for the chooser has found that one dead.

A link is up on both sides or on its way there, and only then carries datagrams; so none is on a
link that the chooser closes, but for those on a link that it found dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dp2p import bus, ids

WAITING_MAX = 4
"Links of one peer that wait for the chooser at a time."


@dataclass(frozen=True, slots=True)
class LinkId:
    """A link's handle; unique in the node at any time."""

    shard: int
    link: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the link open."""

    link: LinkId
    wait: bool
    "Only once the peer has admitted it: the peer is the chooser."


@dataclass(frozen=True, slots=True)
class Close:
    """Close the link."""

    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out whether the link lives; answer with ``probed``, unless it goes down meanwhile."""

    link: LinkId


Action = Admit | Close | Probe


@dataclass(slots=True)
class Link:
    """One link whose handshake is done and that is not refused."""

    id: LinkId
    peer: str
    "Node-ID, base32."
    report: bus.LinkReport
    since: float
    "When it was ready (s, monotonic)."
    waits: bool = False
    "The peer is the chooser."
    admitted: bool = False
    "False only for one that contends with the link that is up."
    up: bool = False
    "The peer has admitted it too."


class Peers:
    """The node's links: at most one for each peer is up."""

    def __init__(self, own: str, max_peers: int) -> None:
        """``own`` is this node's node-ID."""
        self._own = own
        self._own_id = ids.from_text(own)
        self._max_peers = max_peers
        self._links: dict[LinkId, Link] = {}
        self._by_peer: dict[str, list[Link]] = {}
        "No list is empty. A chooser's: the admitted link, then its contender."

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Link]:
        """One link of each peer, as ``link_of`` has it."""
        return map(_foremost, self._by_peer.values())

    # --- what happens ---

    def ready(self, shard: int, report: bus.LinkReport, now: float) -> list[Action]:
        """A handshake is done: what becomes of the link, and of those it stands against."""
        if known := self._links.get(LinkId(shard, report.link)):  # said again
            return [Admit(known.id, known.waits)] if known.admitted else []
        link = self._new(shard, report, now)
        if refusal := self._refusal(link.peer):
            return [Close(link.id, refusal)]
        others = self._by_peer.get(link.peer, [])
        if link.waits:
            waiting = sum(not other.up for other in others)
            return self._admit(link) if waiting < WAITING_MAX else [Close(link.id, "duplicate")]
        return self._choose(link, others) if others else self._admit(link)

    def _refusal(self, peer: str) -> str | None:
        """Why a link to the peer cannot be had, whichever it is."""
        if peer == self._own:
            return "self"
        if peer not in self._by_peer and len(self._by_peer) >= self._max_peers:
            return "full"
        return None

    def _choose(self, link: Link, others: list[Link]) -> list[Action]:
        """This node is the chooser, and has admitted ``others[0]`` already."""
        older = others[0]
        if older.report.instance != link.report.instance:  # it leads to a process that is gone
            return [*self._close(others), *self._admit(link)]
        if not older.up or len(others) > 1:
            return [Close(link.id, "duplicate")]
        self._add(link)
        return [Probe(older.id)]

    def probed(self, link: LinkId, *, alive: bool) -> list[Action]:
        """A probed link lives, or nothing came from it in time."""
        older = self._links.get(link)
        if older is None or not older.admitted:
            return []
        contenders = [one for one in self._by_peer[older.peer] if not one.admitted]
        if not contenders:
            return []
        if alive:
            return self._close(contenders)
        return [*self._close([older]), *self._promote(older.peer)]

    def up(self, link: LinkId) -> tuple[list[Action], Link | None]:
        """The link is open on both sides; None when it is not known here.

        It is the one that the chooser took, so that no other may be up. Those that wait are the
        chooser's to close.
        """
        found = self._links.get(link)
        if found is None:
            return [], None
        found.up = found.admitted = True
        others = [one for one in self._by_peer[found.peer] if one is not found]
        if found.waits:
            return self._close([one for one in others if one.up]), found
        return self._close([one for one in others if one.admitted]), found

    def down(self, link: LinkId) -> tuple[list[Action], Link | None]:
        """The link is gone: what follows, and what it was, or None when it was not known."""
        found = self._links.get(link)
        if found is None:
            return [], None
        self._remove(found)
        return self._promote(found.peer), found

    def shard_down(self, shard: int) -> tuple[list[Action], list[Link]]:
        """All links of a shard are gone: what follows, and which they were."""
        return self._lose([link for link in self._links.values() if link.id.shard == shard])

    def shard_hello(
        self, shard: int, reports: Iterable[bus.LinkReport], now: float
    ) -> tuple[list[Action], list[Link]]:
        """A shard says all its links that are up: what to do about them, and what is gone.

        Others that it has are said to be ready after this.
        """
        reported = {LinkId(shard, report.link): report for report in reports}
        actions, gone = self._lose(
            [
                link
                for link in self._links.values()
                if link.id.shard == shard and link.id not in reported
            ]
        )
        for link_id, report in reported.items():
            if link_id in self._links:
                actions += self.up(link_id)[0]
            else:
                actions += self._take_over(self._new(shard, report, now))
        return actions, gone

    def _take_over(self, link: Link) -> list[Action]:
        """A link that an earlier coordinator admitted. Of two the first that is met here stays."""
        if refusal := self._refusal(link.peer):
            return [Close(link.id, refusal)]
        others = self._by_peer.get(link.peer, [])
        if any(other.up or not link.waits for other in others):
            return [Close(link.id, "duplicate")]
        link.admitted = link.up = True
        self._add(link)
        return []

    # --- what there is ---

    def get(self, link: LinkId) -> Link | None:
        """The link with that handle."""
        return self._links.get(link)

    def connected(self, peer: str) -> Link | None:
        """The peer's link that is up."""
        link = self.link_of(peer)
        return link if link and link.up else None

    def link_of(self, peer: str) -> Link | None:
        """The peer's link that is up, else one that is about to be."""
        links = self._by_peer.get(peer)
        return _foremost(links) if links else None

    def links_of(self, peer: str) -> list[Link]:
        """All links of the peer: to disconnect it, all must be closed."""
        return list(self._by_peer.get(peer, []))

    def open_to(self, endpoint: str) -> Link | None:
        """The link that is up and that this node made to ``endpoint``."""
        for link in self._links.values():
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
                "mode": link.report.mode,
                "fell_back": link.report.fell_back,
                "trust": link.report.trust,
                "introducers": link.report.introducers,
                "listen": link.report.listen,
                "open": link.up,
                "age_s": round(now - link.since, 3),
            }
            for link in self
        ]

    # --- the books ---

    def _new(self, shard: int, report: bus.LinkReport, now: float) -> Link:
        node = ids.node_id(ids.from_text(report.key))
        waits = node < self._own_id
        return Link(LinkId(shard, report.link), ids.to_text(node), report, now, waits)

    def _admit(self, link: Link) -> list[Action]:
        link.admitted = True
        if link.id not in self._links:
            self._add(link)
        return [Admit(link.id, link.waits)]

    def _promote(self, peer: str) -> list[Action]:
        """The admitted link of the peer is gone: its contender takes its place."""
        links = self._by_peer.get(peer, [])
        if not links or any(link.admitted for link in links):
            return []
        return self._admit(links[0])

    def _close(self, links: Iterable[Link]) -> list[Action]:
        closed = list(links)
        for link in closed:
            self._remove(link)
        return [Close(link.id, "duplicate") for link in closed]

    def _lose(self, links: list[Link]) -> tuple[list[Action], list[Link]]:
        for link in links:
            self._remove(link)
        peers = dict.fromkeys(link.peer for link in links)
        return [action for peer in peers for action in self._promote(peer)], links

    def _add(self, link: Link) -> None:
        self._links[link.id] = link
        self._by_peer.setdefault(link.peer, []).append(link)

    def _remove(self, link: Link) -> None:
        del self._links[link.id]
        links = self._by_peer[link.peer]
        links.remove(link)
        if not links:
            del self._by_peer[link.peer]


def _foremost(links: list[Link]) -> Link:
    """The one that is up, else the first that is admitted."""
    return max(links, key=lambda link: (link.up, link.admitted))
