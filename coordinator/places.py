"""Places where a peer may be dialled."""

from __future__ import annotations

from dp2p.addresses import is_numeric, numeric_endpoint, parse_endpoint
from dp2p.coordinator.peers import Link
from dp2p.errors import AddressError

Place = tuple[str, int]
"Host and port. The host is a numeric address, or a name that is looked up when its turn comes."

PLACES_OF_LINK_MAX = 4


def endpoint_text(place: Place) -> str:
    """``tcp4://host:port``; of a host name the same, since nothing tells its family."""
    return str(numeric_endpoint(*place))


def places_of(link: Link) -> list[Place]:
    """Where a peer that was connected can be found: where it was dialled, or what it said."""
    report = link.report
    texts = [report.endpoint] if report.direction == "out" else report.listen
    found: list[Place] = []
    for text in texts[:PLACES_OF_LINK_MAX]:
        try:
            endpoint = parse_endpoint(text)
        except AddressError:
            continue
        if is_numeric(endpoint.host):
            found.append((endpoint.host, endpoint.port))
    return found
