"""Rate caps of the node, and how those for all of it are divided among shards.

Pure. A protocol's cap and the node's are for all shards together. Each shard says what it used of
its share and whether that held it back; who was not held back gets what it used and a little more,
and the others share what is left. A peer's cap needs no division: its link is on one shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dp2p import bus, control
from dp2p.bus import Cap, Caps, Share, Used
from dp2p.errors import RequestError

DIVIDE_S = 0.25  # between divisions while a cap is in force
SPARE = 0.02
"""Of a cap: what shards that were not held back get above their use, together, so that each can
show that it wants more. It is lost to those who want more already.
"""
STEADY = 0.005  # of a cap: a shard's share may be so far from what it should be
STEADY_ALL = 0.01  # of a cap: so much may be in the wrong hands
CAPS_MAX = 1024

NODE = ""
"The node's cap among those of protocols, whose names are never empty."


def divide(cap: int, used: Sequence[float | None]) -> list[int]:
    """Parts of ``cap``, which add up to it; each is at least 1.

    ``used`` has bytes a second for each shard, None for one that wants more than it had. What a
    shard wants it gets, up to an equal share of what the others leave: max-min fairness.
    ``cap`` is at least as large as their number.
    """
    count = len(used)
    content = sum(one is not None for one in used)
    spare = SPARE * cap / max(1, content)
    wants = [float("inf") if one is None else one + spare for one in used]
    parts = _filled(cap, wants)
    over = (cap - sum(parts)) / count  # nobody wants it: all get as much of it
    return _whole(cap, [part + over for part in parts])


def _filled(cap: float, wants: Sequence[float]) -> list[float]:
    """Each want, or the level at which they fill ``cap`` together."""
    left, waiting = cap, len(wants)
    parts = [0.0] * waiting
    for index in sorted(range(len(wants)), key=wants.__getitem__):
        parts[index] = min(wants[index], left / waiting)
        left -= parts[index]
        waiting -= 1
    return parts


def _whole(cap: int, parts: Sequence[float]) -> list[int]:
    """Integers from 1 that add up to ``cap``: the largest takes what rounding leaves."""
    whole = [max(1, int(part)) for part in parts]
    largest = max(range(len(whole)), key=whole.__getitem__)
    whole[largest] += cap - sum(whole)
    return whole


@dataclass(slots=True)
class _Divided:
    """One cap that is for the whole node, and the shares of it by shard."""

    up: int | None
    down: int | None
    used: dict[int, Used] = field(default_factory=dict)
    "What shards said last; none of one that is new."
    shares: dict[int, Share] = field(default_factory=dict)

    def divide(self, shards: Sequence[int]) -> bool:
        """Among these shards; True when that changes something."""
        ups = self._parts(self.up, [_want_up(self.used.get(one)) for one in shards])
        downs = self._parts(self.down, [_want_down(self.used.get(one)) for one in shards])
        new = {one: Share(up, down) for one, up, down in zip(shards, ups, downs, strict=True)}
        if new.keys() == self.shares.keys():
            pairs = [(new[one], self.shares[one]) for one in shards]
            up = _differ(self.up, [(now.up, before.up) for now, before in pairs])
            down = _differ(self.down, [(now.down, before.down) for now, before in pairs])
            if not (up or down):
                return False
        self.shares = new
        return True

    @staticmethod
    def _parts(cap: int | None, used: Sequence[float | None]) -> list[int]:
        return [0] * len(used) if cap is None else divide(cap, used)


def _differ(cap: int | None, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether shares, each as it should be and as it is, are worth a message to all."""
    moved = [abs(new - old) for new, old in pairs]
    if cap is None:
        return any(moved)
    return max(moved) > STEADY * cap or sum(moved) > 2 * STEADY_ALL * cap


def _want_up(used: Used | None) -> float | None:
    return None if used is None or used.up_short else used.up


def _want_down(used: Used | None) -> float | None:
    return None if used is None or used.down_short else used.down


class Rates:
    """All caps of the node, by scope and name."""

    def __init__(self, caps: Iterable[Cap]) -> None:
        """``caps`` hold unless shards know of later ones."""
        self.generation = 0
        self._caps = {(cap.scope, cap.name): cap for cap in caps}
        self._shards: list[int] = []
        self._divided: dict[str, _Divided] = {}
        self._next = float("inf")
        self._renew()

    # --- caps ---

    @property
    def caps(self) -> Caps:
        """All that there are, for shards."""
        return Caps(generation=self.generation, caps=list(self._caps.values()))

    def cap_of(self, scope: control.Scope, name: str = "") -> Cap:
        """The cap of one thing, which may be none."""
        return self._caps.get((scope, name)) or Cap(scope=scope, name=name)

    def set(self, cap: Cap) -> None:
        """Put a cap in the place of what was before.  Raises: RequestError ``too_many_limits``."""
        key = cap.scope, cap.name
        if cap.up is None and cap.down is None:
            self._caps.pop(key, None)
        elif key not in self._caps and len(self._caps) >= CAPS_MAX:
            raise RequestError("too_many_limits", f"{CAPS_MAX} are in force")
        else:
            self._caps[key] = cap
        self.generation += 1
        self._renew()

    def restore(self, caps: Caps) -> None:
        """Take over what a shard knows, in a coordinator that has just begun."""
        self._caps = {(cap.scope, cap.name): cap for cap in caps.caps}
        self.generation = caps.generation
        self._renew()

    def outgrow(self, generation: int) -> None:
        """Make sure that what is told next is newer than ``generation``."""
        self.generation = max(self.generation, generation + 1)

    def _renew(self) -> None:
        """What is divided, by the caps: what shards used of those that stay still holds."""
        before, self._divided = self._divided, {}
        for (scope, name), cap in self._caps.items():
            if scope != "peer":
                used = before[name].used if name in before else {}
                self._divided[name] = _Divided(cap.up, cap.down, used)
        self._divide()

    # --- shards ---

    def shard_up(self, index: int) -> None:
        """A shard is there, or another life of it: it has used nothing, and may want anything."""
        self.shard_down(index)
        self._shards = sorted([*self._shards, index])
        self._divide()

    def shard_down(self, index: int) -> None:
        """A shard is gone: the others have its share."""
        self._shards = [one for one in self._shards if one != index]
        for one in self._divided.values():
            one.used.pop(index, None)
        self._divide()

    def used(self, index: int, usage: bus.Usage, now: float) -> None:
        """What a shard made of its shares."""
        if index not in self._shards:
            return
        for name, one in self._divided.items():
            said = usage.node if name == NODE else usage.protocols.get(name)
            if said is not None:
                one.used[index] = said
        self._next = min(self._next, now + DIVIDE_S)

    def run(self, now: float) -> bool:
        """Divide again if it is time; True when shares have changed."""
        if now < self._next:
            return False
        self._next = float("inf")
        return self._divide()

    def next_deadline(self) -> float:
        """When to call ``run`` next (s); infinite while shards say nothing."""
        return self._next

    def _divide(self) -> bool:
        if not self._shards:
            return False
        changed = [one.divide(self._shards) for one in self._divided.values()]
        return any(changed)

    def shares(self, index: int) -> bus.Rates:
        """What a shard may use."""
        mine = {name: one.shares.get(index, Share()) for name, one in self._divided.items()}
        node = mine.pop(NODE, Share())
        return bus.Rates(generation=self.generation, node=node, protocols=mine)
