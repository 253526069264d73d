"""Numbers in the order of their last use, so many in all and so many of each group. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Held:
    """Whoever is added last pushes out who was used longest ago: of its own group, or of all."""

    def __init__(self, total: int, of_group: Sequence[int] = ()) -> None:
        """``of_group``: the bounds of each kind of group, in the order that ``add`` has."""
        self._total = total
        self._of_group = tuple(of_group)
        self._all: dict[int, tuple[str | None, ...]] = {}
        "Number -> its group of each kind. The one used longest ago comes first, here and below."
        self._groups: list[dict[str, dict[int, None]]] = [{} for _ in of_group]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def oldest(self) -> int | None:
        """Who was used longest ago."""
        return next(iter(self._all), None)

    def add(self, number: int, groups: Sequence[str | None] = ()) -> list[int]:
        """Hold a number that is not held yet; returns those that had to go for it.

        A group of None has no bound.
        """
        gone = []
        for kind, name in enumerate(groups):
            members = self._groups[kind].get(name) if name is not None else None
            if members is not None and len(members) >= self._of_group[kind]:
                gone.append(next(iter(members)))
                self.remove(gone[-1])
        if len(self._all) >= self._total:
            gone.append(next(iter(self._all)))
            self.remove(gone[-1])
        self._all[number] = tuple(groups)
        for kind, name in enumerate(groups):
            if name is not None:
                self._groups[kind].setdefault(name, {})[number] = None
        return gone

    def touch(self, number: int) -> None:
        """It is used now."""
        groups = self._all[number] = self._all.pop(number)
        for kind, name in enumerate(groups):
            if name is not None:
                members = self._groups[kind][name]
                del members[number]
                members[number] = None

    def remove(self, number: int) -> None:
        """Forget it, if it is there."""
        for kind, name in enumerate(self._all.pop(number, ())):
            if name is not None:
                members = self._groups[kind][name]
                del members[number]
                if not members:
                    del self._groups[kind][name]
