"""The part of an IP address by which nodes are counted as neighbours.

Who has one address of a network often has many, so what is capped or counted by address is capped
and counted by network: a /24 of IPv4, a /48 of IPv6.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from dp2p.addresses import parse_listed
from dp2p.errors import AddressError

PREFIX = {4: 24, 6: 48}
REMEMBERED = 8192  # addresses whose network is not worked out again

_LOCAL = [
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]


@lru_cache(maxsize=REMEMBERED)
def network_of(host: str) -> str:
    """``192.0.2.0/24`` for ``192.0.2.7``.  Raises: ValueError for what is no address."""
    address = ipaddress.ip_address(host)
    return str(ipaddress.ip_network((address, PREFIX[address.version]), strict=False))


def network_of_endpoint(endpoint: str) -> str | None:
    """The network of ``tcp4://192.0.2.7:4617``; None for a host name, and what is no endpoint."""
    try:
        return network_of(parse_listed(endpoint).host)
    except (AddressError, ValueError):
        return None


@lru_cache(maxsize=REMEMBERED)
def is_local(host: str) -> bool:
    """Whether an address is of this machine or site, where many nodes may run on one address.

    Raises: ValueError for what is no address.
    """
    address = ipaddress.ip_address(host)
    return any(address in network for network in _LOCAL)
