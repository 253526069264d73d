"""Whether this node says that it serves: that others may keep it in their tables.

Source: docs/spec/discovery.md, "Who serves". A node behind a NAT is of no use to who has not heard
from it: its answers would never come. Its own address and who comes to it by itself tell.
"""

from __future__ import annotations

from dp2p.coordinator.discovery.contact import Contact, Place

TRIAL_S = 600.0
CONTACTS_ENOUGH = 8  # to expect that somebody would have come
LOOK_EVERY_S = 30.0
HOSTS_MAX = 8192  # addresses that this node has sent to


class Reachability:
    """The rule of ``serve = auto``, or what the operator says."""

    def __init__(self, serve: str, own: tuple[Place, ...]) -> None:
        self._auto = serve == "auto"
        self.serves = serve != "never"
        self._own_hosts = {host for host, _ in own}
        self._agreed: dict[bool, str] = {}
        "The addresses that contacts agree on; by whether it is one of IPv6."
        self._sent_to: dict[str, None] = {}
        "Those used last come last."
        self._trial_since: float | None = None
        self._look_at = 0.0

    @property
    def _direct(self) -> bool:
        """Packets of one family at least leave with an address of this node's own: no NAT."""
        return not self._own_hosts.isdisjoint(self._agreed.values())

    def sent(self, contact: Contact) -> None:
        """Something goes to a contact: what comes from its address is no wonder any more."""
        if not self._auto or self._direct:
            return
        host = contact.place[0]
        self._sent_to.pop(host, None)
        self._sent_to[host] = None
        if len(self._sent_to) > HOSTS_MAX:
            del self._sent_to[next(iter(self._sent_to))]

    def came(self, contact: Contact) -> bool:
        """A contact has come by itself and proven its address. Whether that changes ``serves``."""
        if not self._auto or contact.place[0] in self._sent_to:
            return False
        self._trial_since = None
        return self._now_serves(True)

    def agreed(self, place: Place) -> bool:
        """Contacts agree where this node is. Whether that changes ``serves``.

        A new place is a new trial.
        """
        self._agreed[":" in place[0]] = place[0]
        self._trial_since = None
        return self._auto and self._now_serves(True)

    def look(self, contacts: int, now: float) -> bool:
        """Whether the trial is over, given how many contacts there are, and ``serves`` changes."""
        self._look_at = now + LOOK_EVERY_S
        if not self._auto or self._direct or not self.serves:
            return False
        if contacts < CONTACTS_ENOUGH:
            self._trial_since = None
        elif self._trial_since is None:
            self._trial_since = now
        elif now >= self._trial_since + TRIAL_S:
            return self._now_serves(False)
        return False

    def next_deadline(self) -> float:
        """When to ``look`` again."""
        trying = self._auto and self.serves and not self._direct
        return self._look_at if trying else float("inf")

    def _now_serves(self, serves: bool) -> bool:
        changed, self.serves = serves != self.serves, serves
        return changed
