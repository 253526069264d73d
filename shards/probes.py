"""Whether links live: ping, and see whether anything comes."""

from __future__ import annotations

from collections.abc import Iterator

from dp2p.errors import TransportError
from dp2p.transport import Node

PROBE_S = 2.0  # within which a living peer has said something, over any path that is of use


class Probes:
    """Links that are being probed. ``now`` is monotonic (s)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._probed: dict[int, tuple[int, float]] = {}
        "Link -> bytes that had come when it was pinged, and when its time is up."

    def __len__(self) -> int:
        return len(self._probed)

    @property
    def due(self) -> float:
        """When the first one's time is up; infinite when there is none."""
        return min((due for _, due in self._probed.values()), default=float("inf"))

    def begin(self, link: int, now: float) -> None:
        """Ping a link. One that cannot be pinged is on its end, of which its DOWN event tells."""
        try:
            self._node.ping(link)
            before = self._node.link(link).bytes_in
        except TransportError:
            return
        self._probed.setdefault(link, (before, now + PROBE_S))

    def forget(self, link: int) -> None:
        """The link is gone."""
        self._probed.pop(link, None)

    def answers(self, now: float) -> Iterator[tuple[int, bool]]:
        """Links of which it is known now, and whether they live."""
        for link, (before, due) in list(self._probed.items()):
            try:
                alive = self._node.link(link).bytes_in > before
            except TransportError:
                self.forget(link)
                continue
            if alive or now >= due:
                self.forget(link)
                yield link, alive
