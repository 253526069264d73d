"""What the dialer sees of the node: who is connected, where to dial from, what is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from dp2p import addresses, ids
from dp2p.coordinator.acquaintance import Acquaintance
from dp2p.coordinator.fabric import Fabric
from dp2p.coordinator.known import Store
from dp2p.coordinator.peers import Link, Peers
from dp2p.coordinator.places import Place
from dp2p.coordinator.targets import Knowledge
from dp2p.errors import AddressError


class View:
    """Implements ``dp2p.coordinator.targets.View``."""

    def __init__(
        self,
        peers: Peers,
        fabric: Fabric,
        store: Store,
        acquaintance: Acquaintance,
        wall: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._fabric = fabric
        self._store = store
        self._acquaintance = acquaintance
        self._wall = wall

    def connected(self, peer: str) -> Link | None:
        return self._peers.connected(peer)

    def open_to(self, endpoint: str) -> Link | None:
        return self._peers.open_to(endpoint)

    def least_loaded(self) -> int | None:
        load = self._peers.count_by_shard()
        indices = [shard.index for shard in self._fabric.shards]
        return min(indices, key=lambda index: (load.get(index, 0), index), default=None)

    def knowledge(self, key: str | None, endpoint: str) -> Knowledge:
        found = ids.from_text(key) if key else self._acquaintance.thought_at(endpoint)
        if found is None:
            return Knowledge()
        ticket = self._acquaintance.tickets.for_dial(found, self._wall())
        return Knowledge(ids.to_text(found), ticket.secret if ticket else None)

    def places(self, key: str) -> list[Place]:
        """Where a peer answered before, then where its record says it is."""
        known = self._store.peer(ids.from_text(key))
        if known is None:
            return []
        texts = [one.endpoint for one in known.endpoints]
        texts += known.record.dialable if known.record else ()
        found: list[Place] = []
        for text in dict.fromkeys(texts):
            with suppress(AddressError):
                endpoint = addresses.parse_endpoint(text)
                found.append((endpoint.host, endpoint.port))
        return found
