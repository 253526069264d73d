"""Where this node is, as others see it: believed when enough of them say the same.

Source: docs/spec/discovery.md, "The own endpoint". Each network has one vote, its last. A place is
agreed on when more than half of all votes are for it, and at least three; so whoever has fewer than
half of the networks that this node asks cannot move it, and behind a NAT that gives each contact
another port there is no agreement. What was agreed on stays until something else is.

Contacts of this site see this node at a place of the site, and others at a public one: the two have
votes of their own, and a vote across is none. Within a site each place has a vote, since many nodes
may run on one address.

Pure; ``now`` is monotonic (s).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.networks import is_local

AGREEMENT_MIN = 3  # votes
WINDOW_S = 1800.0  # that a vote counts
VOTERS_MAX = 256  # of one kind; the oldest votes are forgotten


@dataclass(frozen=True, slots=True)
class _Vote:
    place: Place
    at: float


class _Ballot:
    """The votes of one kind of voter for one kind of place."""

    def __init__(self) -> None:
        self.agreed: Place | None = None
        self._votes: dict[str | Place, _Vote] = {}
        "By who has a vote, the oldest first."

    def vote(self, voter: str | Place, seen: Place, now: float) -> bool:
        """Whether another place is agreed on than before."""
        self._votes.pop(voter, None)
        self._votes[voter] = _Vote(seen, now)
        self._forget(now)
        place, votes = Counter(vote.place for vote in self._votes.values()).most_common(1)[0]
        if place == self.agreed or votes < AGREEMENT_MIN or 2 * votes <= len(self._votes):
            return False
        self.agreed = place
        return True

    def _forget(self, now: float) -> None:
        while self._votes:
            oldest = next(iter(self._votes))
            if len(self._votes) <= VOTERS_MAX and now - self._votes[oldest].at < WINDOW_S:
                break
            del self._votes[oldest]


class OwnPlace:
    """What is agreed on, for IPv4 and for IPv6."""

    def __init__(self) -> None:
        self._ballots = {
            (version, local): _Ballot() for version in (4, 6) for local in (False, True)
        }

    def vote(self, voter: Contact, seen: Place, now: float) -> bool:
        """A contact that this node asked says where it sees this node.

        True when ``agreed4`` or ``agreed6`` is another place than before.
        """
        version, local = ipaddress.ip_address(seen[0]).version, is_local(seen[0])
        by = ipaddress.ip_address(voter.place[0])
        if by.version != version or is_local(voter.place[0]) != local:
            return False
        before = self._agreed(version)
        name = voter.place if local else voter.network
        self._ballots[version, local].vote(name, seen, now)
        return self._agreed(version) != before

    @property
    def agreed4(self) -> Place | None:
        """The place over IPv4: a public one if there is agreement on any, else one of the site."""
        return self._agreed(4)

    @property
    def agreed6(self) -> Place | None:
        """The place over IPv6, likewise."""
        return self._agreed(6)

    def _agreed(self, version: int) -> Place | None:
        return self._ballots[version, False].agreed or self._ballots[version, True].agreed
