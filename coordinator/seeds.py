"""Where discovery begins after a start: contacts out of what the node remembers, and back.

Whoever is taken from here is only believed to be there: discovery checks each before it counts.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

from dp2p import addresses, ids
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.table import BucketView
from dp2p.coordinator.known import Store
from dp2p.errors import AddressError
from dp2p.networks import is_local
from dp2p.node_record import NodeRecord

NEAR = 48  # remembered nodes around this node's own ID that a start tries
FAR = 12  # IDs elsewhere around which some more are taken
FAR_EACH = 4
PLACES_MAX = 2  # of one node
ANCHORS_MAX = 32
ANCHORS_OF_NETWORK = 2
ANCHOR_S = 60.0  # a contact is an anchor when it has been in the table for so long


def contacts_of(record: NodeRecord, *, local: bool) -> list[Contact]:
    """Where a record says that its owner takes discovery's packets.

    ``local``: whether addresses of this machine or site are meant: they name somebody else when the
    record was written elsewhere.
    """
    found: list[Contact] = []
    for text in record.datagrams:
        try:
            endpoint = addresses.parse_listed(text)
        except AddressError:
            continue
        if addresses.is_numeric(endpoint.host) and (local or not is_local(endpoint.host)):
            found.append(Contact(record.key, (endpoint.host, endpoint.port)))
    return found[:PLACES_MAX]


def remembered(
    store: Store, own_key: bytes, elsewhere: Iterable[bytes], *, private: bool
) -> list[Contact]:
    """Whom to try first: anchors, then nodes close to this one, then some around each of the
    node-IDs ``elsewhere``.

    ``private``: this node is part of a network within its machine or site. If not, addresses of
    the site are those of anchors and of nodes that have answered there.
    """
    found: dict[Contact, None] = {}
    for key in store.anchors():
        known = store.peer(key)
        if known is not None and known.record is not None:
            found |= dict.fromkeys(contacts_of(known.record, local=True))
    for record in _around(store, own_key, elsewhere):
        if record.key != own_key:
            local = private or _met_here(store, record.key)
            found |= dict.fromkeys(contacts_of(record, local=local))
    return list(found)


def _around(store: Store, own_key: bytes, elsewhere: Iterable[bytes]) -> Iterator[NodeRecord]:
    yield from store.nearest(ids.node_id(own_key), NEAR)
    for node_id in elsewhere:
        yield from store.nearest(node_id, FAR_EACH)


def _met_here(store: Store, key: bytes) -> bool:
    """Whether a node has answered this one at an address of this machine or site."""
    known = store.peer(key)
    places = known.endpoints if known is not None else ()
    return any(one.last_success is not None and _is_local(one.endpoint) for one in places)


def _is_local(endpoint: str) -> bool:
    try:
        return is_local(addresses.parse_endpoint(endpoint).host)
    except (AddressError, ValueError):  # a host name
        return False


def anchors(buckets: Iterable[BucketView], now: float) -> list[bytes]:
    """Keys of the contacts to go to first after a restart: alive, of several networks, and of all
    distances in turn, the one known for longest first. Of the nearest alone, a network whose nodes
    all start again would fall apart.
    """
    lasting = [
        sorted(
            (one for one in bucket.entries if one.checked and now - one.since >= ANCHOR_S),
            key=lambda one: one.since,
        )
        for bucket in sorted(buckets, key=lambda one: -one.log_distance)
    ]
    counts: dict[str, int] = {}
    found: list[bytes] = []
    for entry in filter(None, chain.from_iterable(zip_longest(*lasting))):
        network, local = entry.contact.network, is_local(entry.contact.place[0])
        counts[network] = counts.get(network, 0) + 1
        if local or counts[network] <= ANCHORS_OF_NETWORK:
            found.append(entry.contact.key)
    return found[:ANCHORS_MAX]
