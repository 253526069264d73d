"""Dials under way: how many there may be, in all and for each IP network.

A dial is under way until its link is open or it has failed, whether or not somebody still waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.places import Place, endpoint_text
from dp2p.coordinator.targets import Knowledge, Tried
from dp2p.networks import is_local, network_of

NETWORK_MAX = 4
LOCAL_MAX = 32
"For each network of this machine or site, where many nodes may run on one address."


@dataclass(slots=True)
class Attempt:
    """One dial."""

    dial: int
    target: int
    shard: int
    place: Place
    known: Knowledge
    "What it relies on."
    pinned: bool
    until: float
    link: LinkId | None = None
    "Once its handshake is done."

    @property
    def endpoint(self) -> str:
        return endpoint_text(self.place)

    def tried(self, *, reason: str | None = None, answered: str | None = None) -> Tried:
        """What has come of it; without a reason it went well."""
        return Tried(
            dial=self.dial,
            endpoint=self.endpoint,
            key=self.known.key,
            pinned=self.pinned,
            mode=self.known.mode,
            ok=reason is None,
            reason=reason,
            answered=answered,
        )


class Pending:
    """All dials under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._attempts: dict[int, Attempt] = {}
        self._by_network: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    @property
    def full(self) -> bool:
        """Whether no dial may begin, wherever to."""
        return len(self._attempts) >= self._most

    def room(self, place: Place) -> bool:
        """Whether a dial to the place may begin. Its host is numeric."""
        if self.full:
            return False
        return self._by_network.get(network_of(place[0]), 0) < _network_max(place[0])

    def begin(self, attempt: Attempt) -> None:
        """A dial begins."""
        network = network_of(attempt.place[0])
        self._attempts[attempt.dial] = attempt
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def opening(self, dial: int, link: LinkId, until: float) -> Attempt | None:
        """Its handshake is done, and admission begins; None when that was said, or it is over."""
        attempt = self._attempts.get(dial)
        if attempt is None or attempt.link is not None:
            return None
        attempt.link, attempt.until = link, until
        return attempt

    def failed(self, dial: int) -> Attempt | None:
        """It is over without a handshake; None when it had one, or is over."""
        attempt = self._attempts.get(dial)
        if attempt is None or attempt.link is not None:
            return None
        self._end(attempt)
        return attempt

    def end_link(self, link: LinkId) -> list[Attempt]:
        """Its link is open or gone."""
        return self._end_all(lambda attempt: attempt.link == link)

    def end_shard(self, shard: int) -> list[Attempt]:
        """All that were under way in a shard are over."""
        return self._end_all(lambda attempt: attempt.shard == shard)

    def overdue(self, now: float) -> list[Attempt]:
        """Those whose time is up, which are over with that."""
        return self._end_all(lambda attempt: attempt.until <= now)

    def next_deadline(self) -> float:
        """When the first one's time is up; infinite when there is none."""
        return min((attempt.until for attempt in self._attempts.values()), default=float("inf"))

    def _end_all(self, is_over: Callable[[Attempt], bool]) -> list[Attempt]:
        over = [attempt for attempt in self._attempts.values() if is_over(attempt)]
        for attempt in over:
            self._end(attempt)
        return over

    def _end(self, attempt: Attempt) -> None:
        del self._attempts[attempt.dial]
        network = network_of(attempt.place[0])
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


def _network_max(host: str) -> int:
    return LOCAL_MAX if is_local(host) else NETWORK_MAX
