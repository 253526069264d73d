"""Which endpoints this node's record lists: what was configured, else what others agree to see.

Source: docs/guides/joining-a-network.md, "Your own address". A record is handed to anybody. So
addresses of this machine or site are listed only where nothing else is listened on, which makes it
a private network; and what a single peer says of this node's address is worth nothing.

Pure: ``now`` is monotonic (s).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dp2p import addresses, bus, config, ids
from dp2p.addresses import Endpoint, datagram_endpoint_of, is_numeric
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.own_place import OwnPlace
from dp2p.errors import AddressError
from dp2p.networks import is_local

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104
LISTED_MAX = 16


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a router lets in for this node."""

    host: str
    "Its outer address."
    ports: dict[Endpoint, int] = field(default_factory=dict)
    "Listened on here -> port there."


class OwnEndpoints:
    """Of one node."""

    def __init__(self, settings: config.Config) -> None:
        self._streams = config.listen_endpoints(settings)
        self._datagrams = config.discovery_endpoints(settings)
        self._given = [addresses.parse_endpoint(text) for text in settings.listen.advertise]
        self._given_datagrams = config.discovery_advertised(settings)
        self._by_links = OwnPlace()
        self._agreed: dict[int, Place] = {}
        "What discovery's contacts agree on, by the version of IP."
        self._mapped: Mapped | None = None

    # --- what others say ---

    def link_up(self, report: bus.LinkReport, now: float) -> None:
        """A peer's hello says where it sees this node. Of a connection from here, that says nothing
        of the port, which is taken from what is listened on.
        """
        seen, remote = _read(report.seen), _read(report.endpoint)
        if seen is None or remote is None:
            return
        port = seen.port
        if report.direction == "out":
            mine = [one.port for one in self._streams if one.scheme == seen.scheme]
            if not mine:
                return
            port = mine[0]
        voter = Contact(ids.from_text(report.key), (remote.host, remote.port))
        self._by_links.vote(voter, (seen.host, port), now)

    def agreed(self, place: Place) -> None:
        """Discovery's contacts agree on where this node's packets come from."""
        self._agreed[addresses.version_of(place[0])] = place

    def mapped(self, mapped: Mapped | None) -> None:
        """What the router lets in; None: nothing any more."""
        self._mapped = mapped

    # --- what the record lists ---

    @property
    def private(self) -> bool:
        """Whether all that is listened on is of this machine or site, and no router lets others
        in.
        """
        if self._mapped is not None:
            return False
        hosts = [one.host for one in (*self._streams, *self._datagrams)]
        return all(is_numeric(host) and host not in WILDCARDS and is_local(host) for host in hosts)

    def listed(self) -> list[str]:
        """Endpoints for the record, best first, each once."""
        streams = self._given or [*self._by_router(self._streams), *self._here(self._streams)]
        found = [*streams, *self._listed_datagrams()]
        return list(dict.fromkeys(str(one) for one in found))[:LISTED_MAX]

    def _listed_datagrams(self) -> list[Endpoint]:
        if not self._datagrams or self._given_datagrams:
            return self._given_datagrams
        if self._given:
            return [datagram_endpoint_of(one) for one in self._given if is_numeric(one.host)]
        return [*self._by_router(self._datagrams), *self._here(self._datagrams)]

    def _by_router(self, listening: Iterable[Endpoint]) -> list[Endpoint]:
        if self._mapped is None:
            return []
        ports = self._mapped.ports
        return [
            Endpoint(one.scheme, self._mapped.host, ports[one]) for one in listening if one in ports
        ]

    def _here(self, listening: Iterable[Endpoint]) -> list[Endpoint]:
        """What is listened on, as others can reach it."""
        found: list[Endpoint] = []
        mapped = self._mapped.ports if self._mapped else {}
        for one in listening:
            if one in mapped:
                continue
            if self._reachable(one.host):
                found.append(one)
            elif (place := self._seen(one)) is not None:
                found.append(Endpoint(one.scheme, *place))
        return found

    def _reachable(self, host: str) -> bool:
        """Whether others can use it as it stands."""
        if not is_numeric(host):
            return True
        return host not in WILDCARDS and (self.private or not is_local(host))

    def _seen(self, listening: Endpoint) -> Place | None:
        """Where others see a wildcard, or an address behind a router; None while they do not agree,
        and for what is of this site only.
        """
        version = addresses.family_of(listening.scheme)
        by_links = self._by_links.agreed4 if version == 4 else self._by_links.agreed6
        by_packets = self._agreed.get(version)
        order = (by_packets, by_links)
        if listening.scheme in addresses.STREAMS:
            by_packets = (by_packets[0], listening.port) if by_packets else None
            order = (by_links, by_packets)
        return next((one for one in order if one and not is_local(one[0])), None)


def _read(text: str | None) -> Endpoint | None:
    """A numeric endpoint."""
    try:
        endpoint = addresses.parse_endpoint(text or "")
    except AddressError:
        return None
    return endpoint if is_numeric(endpoint.host) else None
