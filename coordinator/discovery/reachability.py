"""Whether this node says that it serves: that others may keep it in their tables.

Source: docs/spec/discovery.md, "Who serves". A node behind a NAT is of no use to who has not heard
from it: its answers would never come. Its own address and who comes to it by itself tell, for each
family of addresses: where IPv4 has a NAT, IPv6 often has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dp2p.coordinator.discovery.contact import Contact, Place, Serving, is_v6
from dp2p.networks import is_local

TRIAL_S = 600.0
CONTACTS_ENOUGH = 8  # to expect that somebody would have come
LOOK_EVERY_S = 30.0
HOSTS_MAX = 8192  # addresses that this node has sent to


@dataclass(slots=True)
class Family:
    """What is known of one family of addresses."""

    serves: bool
    seen: str | None = None
    "The address of this node that contacts agree on."
    direct: bool = False
    "It is one of this node's own: there is no NAT."
    trial_since: float | None = None


class Reachability:
    """The rule of ``serve = auto``, or what the operator says."""

    def __init__(self, serve: str, own: tuple[Place, ...]) -> None:
        self._auto = serve == "auto"
        self._own_hosts = {host for host, _ in own}
        self._families = {v6: Family(serve != "never") for v6 in map(is_v6, own)}
        "Those that this node has; by whether it is IPv6."
        self._sent_to: dict[str, None] = {}
        "Those used last come last."
        self._look_at = 0.0

    @property
    def serves(self) -> Serving:
        """What this node says of itself."""
        v4, v6 = (self._families.get(one) for one in (False, True))
        return Serving(v4 is not None and v4.serves, v6 is not None and v6.serves)

    def _judged(self, place: Place) -> Family | None:
        """The family of a place, if this node has it and judges by itself."""
        return self._families.get(is_v6(place)) if self._auto else None

    def sent(self, contact: Contact) -> None:
        """Something goes to a contact: what comes from its address is no wonder any more."""
        family = self._judged(contact.place)
        if family is None or family.direct:
            return
        host = contact.place[0]
        self._sent_to.pop(host, None)
        self._sent_to[host] = None
        if len(self._sent_to) > HOSTS_MAX:
            del self._sent_to[next(iter(self._sent_to))]

    def came(self, contact: Contact) -> bool:
        """A contact has come by itself and proven its address. Whether that changes ``serves``."""
        family = self._judged(contact.place)
        if family is None or contact.place[0] in self._sent_to or _is_inside(contact, family):
            return False
        return _begin_again(family)

    def agreed(self, place: Place) -> bool:
        """Contacts agree where this node is. Whether that changes ``serves``.

        A new place is a new trial.
        """
        family = self._judged(place)
        if family is None:
            return False
        family.seen = place[0]
        family.direct = place[0] in self._own_hosts
        return _begin_again(family)

    def look(self, contacts: Iterable[Contact], now: float) -> bool:
        """Whether a trial is over, given the contacts that there are, and ``serves`` changes."""
        self._look_at = now + LOOK_EVERY_S
        count = Counter(is_v6(one.place) for one in contacts)
        before = self.serves
        for v6, family in self._families.items():
            if self._tries(family):
                _try(family, count[v6], now)
        return self.serves != before

    def next_deadline(self) -> float:
        """When to ``look`` again."""
        trying = any(map(self._tries, self._families.values()))
        return self._look_at if trying else float("inf")

    def _tries(self, family: Family) -> bool:
        return self._auto and family.serves and not family.direct


def _is_inside(contact: Contact, family: Family) -> bool:
    """Whether a contact is on this side of the NAT: that it came says nothing of others."""
    return is_local(contact.place[0]) and family.seen is not None and not is_local(family.seen)


def _begin_again(family: Family) -> bool:
    """Serve, until another trial is over. Whether that is something new."""
    family.trial_since = None
    changed, family.serves = not family.serves, True
    return changed


def _try(family: Family, contacts: int, now: float) -> None:
    """It serves no more when nobody came for so long, of as many as there are."""
    if contacts < CONTACTS_ENOUGH:
        family.trial_since = None
    elif family.trial_since is None:
        family.trial_since = now
    elif now >= family.trial_since + TRIAL_S:
        family.serves = False
