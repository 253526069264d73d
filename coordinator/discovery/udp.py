"""The edge of discovery: UDP sockets in an asyncio loop. It carries bytes and understands none."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.session_types import Datagram
from dp2p.packets import PACKET_MAX

TURN_MAX = 64  # datagrams of one socket until the loop's other work has its turn
HEARD_MAX = 8192  # places whose socket is remembered
BUFFER_BYTES = 1 << 20

OnDatagram = Callable[[bytes, Place], None]

IP_PKTINFO = 8  # Linux, ip(7); Python names it from 3.12 on
INFO4 = struct.Struct(
    "=i4s4s"
)  # interface, the address to answer from, the one that was written to
INFO6 = struct.Struct("=16sI")  # address, interface; RFC 3542, section 6
INFO_SPACE = socket.CMSG_SPACE(INFO6.size)

Ancillary = list[tuple[int, int, bytes]]


class Way(NamedTuple):
    """How a place is reached: as it was heard."""

    out: socket.socket
    source: Ancillary
    "Says from which of this machine's addresses; empty leaves it to the operating system."


def _open(place: Place) -> socket.socket:
    """A socket bound to ``place``.  Raises: OSError, also for what is no address."""
    host, port = place
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        if ipaddress.ip_address(host).is_unspecified:
            _learn_own_address(made)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def _learn_own_address(made: socket.socket) -> None:
    """Have a socket of all addresses say to which one each datagram came."""
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _answer_from(ancillary: Ancillary) -> Ancillary:
    """What has an answer leave from the address that was written to: a contact passes over
    packets from any other.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) == INFO4.size:
            _, source, _ = INFO4.unpack(data)
            return [(level, kind, INFO4.pack(0, source, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == INFO6.size:
            source, _ = INFO6.unpack(data)
            return [(level, kind, INFO6.pack(source, 0))]
    return []


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
        self._heard: dict[Place, Way] = {}
        "How a place was heard last; those heard lately come last."
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
        """Send it as its place was heard last, or through a socket of its family."""
        data, place = datagram
        way = self._heard.get(place) or self._of_family(place)
        if way is None:
            self.errors[errno.errorcode[errno.EAFNOSUPPORT]] += 1
            return
        try:
            way.out.sendmsg([data], way.source, 0, place)
        except OSError as error:
            self._count(error)
            if way.source:
                del self._heard[place]  # this machine may have lost that address

    def close(self) -> None:
        """Stop, once; what is not read yet is lost."""
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets = []
        self._heard = {}

    def _of_family(self, place: Place) -> Way | None:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        return next((Way(one, []) for one in self._sockets if one.family == family), None)

    def _read(self, one: socket.socket) -> None:
        """Take what is there, up to a bound; the loop comes back for the rest."""
        for _ in range(TURN_MAX):
            try:
                data, ancillary, _, address = one.recvmsg(PACKET_MAX + 1, INFO_SPACE)
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
            self._remember(place, Way(one, _answer_from(ancillary)))
            self._on_datagram(data, place)
            if one.fileno() < 0:
                return  # closed by whom we told

    def _remember(self, place: Place, way: Way) -> None:
        self._heard.pop(place, None)
        self._heard[place] = way
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]

    def _count(self, error: OSError) -> None:
        self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1


def _canonical(host: str) -> str:
    """The operating system writes IPv6 addresses that hold one of IPv4 in another way."""
    return str(ipaddress.ip_address(host)) if "." in host else host
