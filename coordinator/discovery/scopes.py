"""How far an address means something, and so to whom it may be told.

Source: docs/spec/discovery.md, "Which places are told". An address of a machine or a site means
something else elsewhere: told there, it leads packets to strangers, and it tells strangers how a
site is built.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache

REMEMBERED = 8192

_LINK = [ipaddress.ip_network(text) for text in ("169.254.0.0/16", "fe80::/10")]
_SITE = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]
_BROADCAST = ipaddress.ip_address("255.255.255.255")


class Scope(IntEnum):
    """Within what an address is the same node; the wider, the greater."""

    MACHINE = 0
    LINK = 1
    SITE = 2
    WORLD = 3


@lru_cache(maxsize=REMEMBERED)
def scope(host: str) -> Scope | None:
    """The scope of a numeric address; None for one where no node can be.

    That is: no address of one host (any, multicast, broadcast), or IPv4 in the clothes of IPv6, by
    which one place would count as two.
    """
    address = ipaddress.ip_address(host)
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return None
    if address.is_loopback:
        return Scope.MACHINE
    if any(address in network for network in _LINK):
        return Scope.LINK
    return Scope.SITE if any(address in network for network in _SITE) else Scope.WORLD


def reaches(told: str, other: Scope | None) -> bool:
    """Whether an address is told to, or believed from, a node whose own has the scope ``other``.

    It is when it reaches at least as far.
    """
    own = scope(told)
    return own is not None and other is not None and own >= other
