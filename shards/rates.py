"""A shard's part of the node's rate caps: what the coordinator allots is put into the engine, and
what was made of it is said back.

Pure but for the calls into the engine; ``now`` is monotonic (s). Caps outlive the coordinator here.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from dp2p import bus
from dp2p.bus import Caps, Share, Used
from dp2p.errors import TransportError

SAY_S = 0.25  # how often to say what was used while caps are divided
GROUPS_MAX = 256  # DP_GROUP_COUNT
NODE = ""
"The node's own meter among those of protocols, whose names are never empty."


class Usage(Protocol):
    """See ``struct dp_usage``."""

    @property
    def up_bytes(self) -> int: ...
    @property
    def down_bytes(self) -> int: ...
    @property
    def up_short(self) -> bool: ...
    @property
    def down_short(self) -> bool: ...


class Meters(Protocol):
    """What is needed of the engine."""

    def limit(self, up: int, down: int) -> None: ...
    def group_limit(self, group: int, up: int, down: int) -> None: ...
    def link_limit(self, link: int, up: int, down: int) -> None: ...
    def usage(self) -> Usage: ...
    def group_usage(self, group: int) -> Usage: ...


class Groups:
    """Numbers by which the engine knows protocol names, for as long as they are on the air. The
    last number is for flows that come up while their protocol is being withdrawn.
    """

    def __init__(self, count: int = GROUPS_MAX) -> None:
        self._free = list(range(count - 2, -1, -1))
        self._last = count - 1
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """For a new flow."""
        return self._numbers.get(name, self._last)

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    @property
    def names(self) -> Iterable[str]:
        """Protocols that have a number."""
        return self._numbers.keys()

    def keep(self, names: Iterable[str]) -> tuple[list[str], list[int]]:
        """These are on the air: which of them are new, and the numbers that are free again."""
        wanted = set(names)
        over = [self._numbers.pop(name) for name in list(self._numbers) if name not in wanted]
        self._free += over
        new = sorted(wanted - self._numbers.keys())
        for name in new:
            self._numbers[name] = self._free.pop()
        return new, over


@dataclass(slots=True)
class _Tally:
    """How far a meter was when it was last asked for a reason."""

    said_at: float
    said_up: int
    said_down: int
    seen_at: float
    seen_up: int
    seen_down: int
    up_short: bool = False
    "Since the shard last said what it used: the engine forgets this when it is asked."
    down_short: bool = False


class Rates:
    """The caps that hold on a shard."""

    def __init__(self, node: Meters, groups: Groups, now: float) -> None:
        self._node = node
        self._groups = groups
        self.caps = Caps()
        self._shares: dict[str, Share] = {}
        "Of the node and of protocols, on the air or not."
        self._peers: dict[str, Share] = {}
        self._links: dict[int, str] = {}
        self._tallies = {NODE: self._tally(NODE, now)}
        self.due = float("inf")
        "When to call ``said`` next."

    # --- what the coordinator says ---

    def set_caps(self, caps: Caps, now: float) -> bool:
        """All caps of the node; False when they are older than those in force."""
        if caps.generation < self.caps.generation:
            return False
        self.caps = caps
        before = self._peers
        self._peers = {
            cap.name: Share(cap.up or 0, cap.down or 0) for cap in caps.caps if cap.scope == "peer"
        }
        for link, peer in self._links.items():
            if before.get(peer) != self._peers.get(peer):
                self._limit_link(link, peer)
        divided = any(cap.scope != "peer" for cap in caps.caps)
        self.due = min(self.due, now + SAY_S) if divided else float("inf")
        return True

    def set_shares(self, rates: bus.Rates) -> None:
        """This shard's shares of the caps in force."""
        if rates.generation != self.caps.generation:
            return
        before, self._shares = self._shares, {NODE: rates.node, **rates.protocols}
        for name in before.keys() | self._shares.keys():
            if before.get(name, Share()) != self._shares.get(name, Share()):
                self._limit(name)

    def set_protocols(self, names: Iterable[str], now: float) -> None:
        """These are on the air now: each has a group, with its share of a cap that may have been
        there before.
        """
        new, over = self._groups.keep(names)
        for group in over:
            self._node.group_limit(group, 0, 0)
        self._tallies = {
            name: tally
            for name, tally in self._tallies.items()
            if name == NODE or name in self._groups
        }
        for name in new:
            self._tallies[name] = self._tally(name, now)
            self._limit(name)

    def _limit(self, name: str) -> None:
        share = self._shares.get(name, Share())
        if name == NODE:
            self._node.limit(share.up, share.down)
        elif name in self._groups:
            self._node.group_limit(self._groups[name], share.up, share.down)

    # --- links ---

    def link_up(self, link: int, peer: str) -> None:
        """A link to a peer, by its node-ID, whose cap may be known already."""
        self._links[link] = peer
        if peer in self._peers:
            self._limit_link(link, peer)

    def link_down(self, link: int) -> None:
        """The link is gone."""
        self._links.pop(link, None)

    def _limit_link(self, link: int, peer: str) -> None:
        share = self._peers.get(peer, Share())
        with suppress(TransportError):  # it has ended, and its DOWN event is waiting
            self._node.link_limit(link, share.up, share.down)

    # --- what was used ---

    def said(self, now: float) -> bus.Usage:
        """What was used since this was last called, of all that is divided."""
        self.due = now + SAY_S
        capped = {cap.name for cap in self.caps.caps if cap.scope != "peer"}
        protocols = {
            name: self._used(name, now) for name in capped if name != NODE and name in self._groups
        }
        node = self._used(NODE, now) if NODE in capped else None
        return bus.Usage(generation=self.caps.generation, node=node, protocols=protocols)

    def _used(self, name: str, now: float) -> Used:
        tally, usage = self._tallies[name], self._read(name)
        span = max(now - tally.said_at, 1e-3)
        used = Used(
            up=(usage.up_bytes - tally.said_up) / span,
            down=(usage.down_bytes - tally.said_down) / span,
            up_short=tally.up_short,
            down_short=tally.down_short,
        )
        tally.said_at, tally.said_up, tally.said_down = now, usage.up_bytes, usage.down_bytes
        tally.up_short = tally.down_short = False
        return used

    def speed(self, name: str, now: float) -> tuple[int, int]:
        """Bytes a second, up and down, since this was last called for a protocol on the air."""
        tally, usage = self._tallies[name], self._read(name)
        span = max(now - tally.seen_at, 1e-3)
        up, down = usage.up_bytes - tally.seen_up, usage.down_bytes - tally.seen_down
        tally.seen_at, tally.seen_up, tally.seen_down = now, usage.up_bytes, usage.down_bytes
        return round(up / span), round(down / span)

    def _read(self, name: str) -> Usage:
        usage = self._meter(name)
        tally = self._tallies[name]
        tally.up_short |= usage.up_short
        tally.down_short |= usage.down_short
        return usage

    def _tally(self, name: str, now: float) -> _Tally:
        """From here on. A group may have been another protocol's before."""
        usage = self._meter(name)
        up, down = usage.up_bytes, usage.down_bytes
        return _Tally(now, up, down, now, up, down)

    def _meter(self, name: str) -> Usage:
        if name == NODE:
            return self._node.usage()
        return self._node.group_usage(self._groups[name])
