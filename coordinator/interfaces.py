"""The addresses of this machine's interfaces, as Linux lists them."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7)
_IFREQ_BYTES, _ADDRESS = 40, slice(20, 24)
_IPV6 = Path("/proc/net/if_inet6")


def interface_addresses() -> list[str]:
    """One IPv4 address of each interface, and all IPv6 addresses that need no zone."""
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> list[str]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = name.encode().ljust(_IFREQ_BYTES, b"\0")
            with contextlib.suppress(OSError):  # an interface without IPv4
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[_ADDRESS]))
    return found


def _ipv6() -> list[str]:
    try:
        lines = _IPV6.read_text().splitlines()
    except OSError:  # a kernel without IPv6
        return []
    found = [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in lines]
    return [str(address) for address in found if not address.is_link_local]
