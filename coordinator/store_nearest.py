"""The members of a sorted set that are closest by XOR. Pure: the set is reached through a function.

All IDs that share a prefix of the target are closer than all that do not. So a subtree, which is a
range of the sorted set, is read and sorted when it holds few, and otherwise split: its half nearer
to the target comes first. Nothing outside the ranges that are needed is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

BITS = 256
FEW = 6  # times the limit: to read and sort so many is quicker than to ask for the halves

Members = Callable[[bytes, bytes, int], list[bytes]]
"""``members(low, high, most)``: any of the members from low to high, both included; at most so
many, and fewer only when there are no more."""


def nearest(target: bytes, limit: int, depth: int, members: Members) -> list[bytes]:
    """Up to ``limit`` members closest to ``target``, closest first.

    ``depth`` is a guess, in bits, of a prefix that some more than ``limit`` members share with the
    target; a wrong one costs time, about one call of ``members`` for each bit.
    """
    if limit < 1:
        return []
    goal = int.from_bytes(target, "big")
    depth = max(0, min(depth, BITS))
    found = _subtree(goal, _prefix(goal, depth), depth, limit, members)
    while len(found) < limit and depth > 0:
        sibling = _prefix(goal, depth) ^ (1 << (BITS - depth))
        found += _subtree(goal, sibling, depth, limit - len(found), members)
        depth -= 1
    return found


def guess_depth(count: int, limit: int) -> int:
    """The depth at which two to four times ``limit`` of ``count`` evenly spread members share a
    prefix: most likely not fewer than ``limit``, nor more than ``FEW`` times as many.
    """
    return max(0, (count // max(1, 2 * limit)).bit_length() - 1)


def _prefix(value: int, depth: int) -> int:
    """The first ``depth`` bits of ``value``, the rest zero."""
    return value >> (BITS - depth) << (BITS - depth)


def _subtree(goal: int, prefix: int, depth: int, limit: int, members: Members) -> list[bytes]:
    """The ``limit`` closest of those that begin with the first ``depth`` bits of ``prefix``."""
    last = prefix | ((1 << (BITS - depth)) - 1)
    few = FEW * limit
    here = members(prefix.to_bytes(32, "big"), last.to_bytes(32, "big"), few + 1)
    if len(here) <= few:
        return sorted(here, key=lambda one: goal ^ int.from_bytes(one, "big"))[:limit]
    bit = 1 << (BITS - 1 - depth)
    nearer = prefix | (goal & bit)
    found = _subtree(goal, nearer, depth + 1, limit, members)
    if len(found) < limit:
        found += _subtree(goal, nearer ^ bit, depth + 1, limit - len(found), members)
    return found
