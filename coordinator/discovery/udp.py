"""The edge of discovery: UDP sockets in an asyncio loop. It carries bytes and understands none."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Sequence

from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.session_types import Datagram
from dp2p.packets import PACKET_MAX

TURN_MAX = 64  # datagrams of one socket until the loop's other work has its turn
HEARD_MAX = 8192  # places whose socket is remembered
BUFFER_BYTES = 1 << 20

OnDatagram = Callable[[bytes, Place], None]


def _open(place: Place) -> socket.socket:
    """A socket bound to ``place``.  Raises: OSError, also for what is no address."""
    host, port = place
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


class Sockets:
    """UDP sockets on several places; what comes in on any goes to ``on_datagram``.

    Belongs to the loop that runs when it is made. Neither sending nor receiving ever fails: what
    the operating system says is counted in ``errors`` by its name.
    """

    def __init__(self, places: Sequence[Place], on_datagram: OnDatagram) -> None:
        """Raises: OSError when a place cannot be had; none is then held."""
        self.errors: Counter[str] = Counter()
        self.ignored = 0
        "Datagrams from where no answer can go: port 0, or an address with a zone."
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._heard: dict[Place, socket.socket] = {}
        "Through which socket a place was heard last; those heard lately come last."
        try:
            for place in places:
                self._sockets.append(_open(place))
        except BaseException:
            self.close()
            raise
        for one in self._sockets:
            self._loop.add_reader(one, self._read, one)

    @property
    def places(self) -> list[Place]:
        """Where it listens, with the ports that the operating system chose for port 0."""
        return [one.getsockname()[:2] for one in self._sockets]

    def send(self, datagram: Datagram) -> None:
        """Send it, through the socket that its place was heard on last, or one of its family."""
        data, place = datagram
        out = self._heard.get(place) or self._of_family(place)
        if out is None:
            self.errors[errno.errorcode[errno.EAFNOSUPPORT]] += 1
            return
        try:
            out.sendto(data, place)
        except OSError as error:
            self._count(error)

    def close(self) -> None:
        """Stop, once; what is not read yet is lost."""
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets = []
        self._heard = {}

    def _of_family(self, place: Place) -> socket.socket | None:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        return next((one for one in self._sockets if one.family == family), None)

    def _read(self, one: socket.socket) -> None:
        """Take what is there, up to a bound; the loop comes back for the rest."""
        for _ in range(TURN_MAX):
            try:
                data, address = one.recvfrom(PACKET_MAX + 1)
            except BlockingIOError:
                return
            except OSError as error:
                self._count(error)
                continue
            host, port = address[:2]
            if port == 0 or "%" in host:
                self.ignored += 1
                continue
            place = (host if one.family == socket.AF_INET else _canonical(host), port)
            self._remember(place, one)
            self._on_datagram(data, place)
            if one.fileno() < 0:
                return  # closed by whom we told

    def _remember(self, place: Place, one: socket.socket) -> None:
        self._heard.pop(place, None)
        self._heard[place] = one
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]

    def _count(self, error: OSError) -> None:
        self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1


def _canonical(host: str) -> str:
    """The operating system writes some IPv6 addresses in another way."""
    return str(ipaddress.ip_address(host))
