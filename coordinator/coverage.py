"""How well a set of peers covers the distances, so that greedy forwarding over them is short.

Greedy forwarding gives a message to the connected peer that is closest to its target, and needs
nothing else when each node has a peer at every log distance at which there is anybody: then each
step shares at least one bit more with the target. Beyond that a step gains what the peers at the
target's distance are spread over: with j-bit prefixes of that half evenly held, j bits more.

So a peer is worth, in this order:

1. ``GAP`` at a distance where there is none yet: without it some targets are not reached at all;
2. ``NEIGHBOUR`` as one of the closest to this node, where others find it and it finds them;
3. else two to the power of minus the bits that it shares with the peer next to it, counted from
   where their distance begins: the part of that distance's node-IDs to which it is the first way.

Source: Kademlia, section 3, for the bits that a step gains. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import TypeVar

T = TypeVar("T")

GAP = 2.0
NEIGHBOUR = 1.5
NEIGHBOURS = 4


def value(own: int, connected: Iterable[int], candidate: int) -> float:
    """How much a peer with the node-ID ``candidate`` improves what ``connected`` covers.

    Between 0, for this node itself and who is connected, and ``GAP``.
    """
    distance = own ^ candidate
    peers = list(connected)
    if not distance or candidate in peers:
        return 0.0
    log = distance.bit_length()
    beside = [peer ^ candidate for peer in peers if (peer ^ own).bit_length() == log]
    if not beside:
        return GAP
    if sum(peer ^ own < distance for peer in peers) < NEIGHBOURS:
        return NEIGHBOUR
    return _part(log, min(beside))


def choose(own: int, known: Iterable[tuple[int, T]], count: int) -> list[T]:
    """The ``count`` peers out of ``known`` (node-ID and whatever goes with it) that together cover
    most, best first: at each step the one of the greatest ``value``. Of equals at one distance the
    first that was given is taken, and of those at several the farthest, which leads to most nodes.

    When there are fewer places than distances, the farthest distances are covered.
    """
    peers = {one ^ own: what for one, what in known if one != own}
    distances = _Distances(peers)
    chosen = distances.one_of_each()[:count]
    if len(chosen) < count:
        near = [one for one in nsmallest(NEIGHBOURS, peers) if one not in chosen]
        chosen += near[: count - len(chosen)]
    distances.take(chosen)
    while len(chosen) < count and (one := distances.best()):
        distances.take([one])
        chosen.append(one)
    return [peers[one] for one in chosen]


class _Distances:
    """XOR distances of candidates, and what each would add to those taken."""

    def __init__(self, candidates: Iterable[int]) -> None:
        self._by_log: dict[int, dict[int, float]] = {}
        "Those not taken, by log distance, with their value."
        for one in candidates:
            self._by_log.setdefault(one.bit_length(), {})[one] = GAP
        self._best: dict[int, tuple[float, int]] = {}
        "Of each log distance the greatest value, and whose it is; what is missing has changed."

    def one_of_each(self) -> list[int]:
        """The first candidate at each log distance, farthest first."""
        return [next(iter(self._by_log[log])) for log in sorted(self._by_log, reverse=True)]

    def take(self, taken: Iterable[int]) -> None:
        """These are peers now; others beside them are worth less."""
        for peer in taken:
            log = peer.bit_length()
            left = self._by_log[log]
            del left[peer]
            self._best.pop(log, None)
            for one, worth in left.items():
                left[one] = min(worth, _part(log, one ^ peer))

    def best(self) -> int | None:
        """The candidate of the greatest value; None when none is left."""
        for log, left in self._by_log.items():
            if left and log not in self._best:
                one = max(left, key=left.__getitem__)
                self._best[log] = left[one], one
        if not self._best:
            return None
        return max(self._best.values(), key=_worth_then_far)[1]


def _part(log: int, apart: int) -> float:
    """Of the node-IDs at a log distance, the part that one of them is the first of two to share a
    prefix with, when ``apart`` is their XOR: they have the upper bits of the distance in common.
    """
    return 2.0 ** -(log - 1 - apart.bit_length())


def _worth_then_far(one: tuple[float, int]) -> tuple[float, int]:
    return one[0], one[1].bit_length()
