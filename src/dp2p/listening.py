"""Reserving the node's listen addresses before its shards exist.

All shards listen on one port with SO_REUSEPORT, which would also let a second node listen there and
take half of the connections. So a port is first bound without SO_REUSEPORT, which fails when
anybody listens on it, and then bound with it and held, without listening, for as long as the node
runs. The second socket also gives port 0 the one number that all shards use.

Discovery takes its packets at UDP ports, by default of the same numbers. These are only looked at
here: a socket that held one would get its packets. The coordinator binds them itself.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable

from dp2p.addresses import Endpoint, datagram_endpoint_of, family_of
from dp2p.errors import ConfigError

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
Place = tuple[str | int, int | bytes]
TRIES = 32  # for a number that is free for TCP and UDP


class _UdpError(OSError):
    """The number is free for TCP, and UDP cannot have it."""


class Reservation:
    """Sockets that hold the listen addresses of one node."""

    def __init__(self, *, datagrams: bool = False) -> None:
        """``datagrams``: the UDP port of each number must be free as well."""
        self._datagrams = datagrams
        self.endpoints: list[Endpoint] = []
        "Numeric, with no port left open."
        self.skipped: list[Endpoint] = []
        "Left out because this machine has no such family."
        self._sockets: list[socket.socket] = []

    def add(self, endpoint: Endpoint, *, optional: bool = False) -> None:
        """Reserve one more.  Raises: ConfigError naming address and cause."""
        try:
            self._sockets.append(self._bind(endpoint))
        except OSError as error:
            if optional and endpoint.scheme == "tcp6" and error.errno in _NO_IPV6:
                self.skipped.append(endpoint)
                return
            self.close()
            where = f"listen.addresses: {endpoint}"
            if isinstance(error, _UdpError):  # by default it is where TCP is
                where = f"discovery.listen: {datagram_endpoint_of(endpoint)}"
            raise ConfigError(f"{where}: {_explain(error)}") from None
        host, port = self._sockets[-1].getsockname()[:2]
        self.endpoints.append(Endpoint(endpoint.scheme, host, port))

    def _bind(self, endpoint: Endpoint) -> socket.socket:
        family, place = _resolved(endpoint, socket.SOCK_STREAM)
        if endpoint.port:
            return self._reserve(family, place)
        # One number for both families is easier to open in a firewall; any other will do.
        first = [one.port for one in self.endpoints[:1]]
        for port in [*first, *[0] * (TRIES - 1)]:
            with contextlib.suppress(OSError):
                return self._reserve(family, (place[0], port))
        return self._reserve(family, place)

    def _reserve(self, family: int, place: Place) -> socket.socket:
        held = _reserve(family, place)
        if self._datagrams:
            try:
                _bound(family, held.getsockname()[:2], None, socket.SOCK_DGRAM).close()
            except OSError as error:
                held.close()
                raise _UdpError(error.errno, error.strerror) from None
        return held

    def close(self) -> None:
        """Let go of all of them."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()


def reserve(
    endpoints: Iterable[Endpoint], *, optional_ipv6: bool = False, datagrams: bool = False
) -> Reservation:
    """Reserve all ``endpoints``, and see that UDP has the same numbers if ``datagrams`` are taken
    there too.  Raises: ConfigError.
    """
    reservation = Reservation(datagrams=datagrams)
    for endpoint in endpoints:
        reservation.add(endpoint, optional=optional_ipv6)
    return reservation


def free_datagrams(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The UDP endpoints as they can be bound now: numeric, with no port left open.

    Raises: ConfigError naming address and cause.
    """
    found = []
    for endpoint in endpoints:
        try:
            family, place = _resolved(endpoint, socket.SOCK_DGRAM)
            with _bound(family, place, None, socket.SOCK_DGRAM) as there:
                host, port = there.getsockname()[:2]
        except OSError as error:
            raise ConfigError(f"discovery.listen: {endpoint}: {_explain(error)}") from None
        found.append(Endpoint(endpoint.scheme, host, port))
    return found


def _resolved(endpoint: Endpoint, kind: socket.SocketKind) -> tuple[int, Place]:
    family = socket.AF_INET if family_of(endpoint.scheme) == 4 else socket.AF_INET6
    place = socket.getaddrinfo(endpoint.host, endpoint.port, family, kind)[0][4]
    return family, (place[0], place[1])


def _reserve(family: int, place: Place) -> socket.socket:
    if place[1]:
        # SO_REUSEADDR lets connections of an earlier run, still in TIME_WAIT, not count.
        _bound(family, place, socket.SO_REUSEADDR).close()
    return _bound(family, place, socket.SO_REUSEPORT)


def _bound(
    family: int, place: Place, option: int | None, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        if option is not None:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


def _explain(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"no such address: {error.strerror}"
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use by another process; choose another port or stop that process"
        case errno.EACCES:
            return "this user may not listen on that port; ports below 1024 need privileges"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
    return error.strerror or str(error)
