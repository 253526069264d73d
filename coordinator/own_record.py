"""This node's own record: made anew when what it says has changed, but not at every whim.

Pure; ``now`` is monotonic (s), ``wall`` seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable

from dp2p import node_record
from dp2p.coordinator.known import Store
from dp2p.errors import NodeRecordError
from dp2p.keys import Identity
from dp2p.logs import Log
from dp2p.node_record import NodeRecord

SETTLE_S = 0.2  # for several protocols that an application registers in a row
RENEW_S = 10.0  # between two records: each is told to all peers, and checked by them

Content = tuple[tuple[str, ...], tuple[str, ...]]
"Endpoints and protocols."

log = Log("coordinator.record")


class OwnRecord:
    """The node's record."""

    def __init__(self, identity: Identity, store: Store) -> None:
        self._identity = identity
        self._store = store
        self._wanted: Content | None = None
        self._said: Content | None = None
        "What the record says."
        self._refused: Content | None = None
        "What no record can say."
        self._due: float | None = None
        self._next = float("-inf")
        self._made = float("-inf")
        self.record: NodeRecord | None = None
        "None until it was made first."

    def say(self, endpoints: Iterable[str], protocols: Iterable[str], now: float) -> None:
        """What the record is to say from now on."""
        wanted = (tuple(endpoints), tuple(sorted(protocols)))
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted in (self._said, self._refused):
            self._due = None
        elif self._due is None:
            self._due = max(now + SETTLE_S, self._next)

    def next_deadline(self) -> float | None:
        """When to call ``renew``."""
        return self._due

    def renew(self, now: float, wall: float) -> NodeRecord | None:
        """A new record, when one is due."""
        if self._due is None or self._wanted is None or now < self._due:
            return None
        self._due, self._next = None, now + RENEW_S
        endpoints, protocols = self._wanted
        try:
            self.record = node_record.sign(
                self._identity.seed,
                seq=self._store.next_sequence(wall),
                endpoints=endpoints,
                protocols=protocols,
            )
        except NodeRecordError as error:  # endpoints of the configuration that fill the record
            log.error("no record of this node can be made", why=str(error))
            self._refused = self._wanted
            return None
        self._said, self._made = self._wanted, now
        return self.record

    def made_after(self, then: float) -> NodeRecord | None:
        """The record, if what was written at ``then`` or before cannot have it."""
        return self.record if self._made > then else None
