"""Home routers that let others in when they are asked: UPnP and NAT-PMP, through libraries.

Source: docs/adr/0020. Everything here waits for a router, and is called in a thread. The libraries
are optional (``dp2p[nat]``, ``dp2p[nat-pmp]``); one that is missing is one that found no router.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal, Protocol

from dp2p.errors import Dp2pError

Transport = Literal["tcp", "udp"]
DISCOVER_MS = 2000  # for routers to answer
PORTS_TRIED = 8  # from the wanted one on
NAT_PMP_TRIES = 4  # with pauses that double from a quarter of a second
DESCRIPTION = "dp2p"


class RouterError(Dp2pError):
    """No router does what was asked."""


class Router(Protocol):
    """One that answered."""

    name: str

    def address(self) -> str:
        """Its outer address.  Raises: RouterError."""

    def open(self, transport: Transport, port: int, lease_s: int) -> int:
        """Let in what comes to a port, for this machine's port of the same number; the outer port.

        Raises: RouterError.
        """

    def close(self, transport: Transport, port: int, outer: int) -> None:
        """Let nothing in any more.  Raises: RouterError."""


class Upnp:
    """A router that speaks UPnP (Internet Gateway Device), by ``miniupnpc``."""

    name = "UPnP"

    def __init__(self, library: Any) -> None:
        """Find it.  Raises: RouterError."""
        self._device = library.UPnP()
        self._device.discoverdelay = DISCOVER_MS
        _asked(self._device.discover)
        _asked(self._device.selectigd)

    def address(self) -> str:
        return str(_asked(self._device.externalipaddress))

    def open(self, transport: Transport, port: int, lease_s: int) -> int:
        error = RouterError("no port was tried")
        for outer in range(port, min(port + PORTS_TRIED, 65536)):
            try:
                self._map(transport, port, outer, lease_s)
            except RouterError as refused:  # most likely somebody else's mapping
                error = refused
            else:
                return outer
        raise error

    def _map(self, transport: Transport, port: int, outer: int, lease_s: int) -> None:
        device, kind = self._device, transport.upper()
        wanted = (outer, kind, device.lanaddr, port, DESCRIPTION, "", lease_s)
        if not _asked(lambda: device.addportmapping(*wanted)):
            raise RouterError(f"port {outer} was refused")

    def close(self, transport: Transport, port: int, outer: int) -> None:
        _asked(lambda: self._device.deleteportmapping(outer, transport.upper()))


class NatPmp:
    """A router that speaks NAT-PMP (RFC 6886), by ``natpmp``."""

    name = "NAT-PMP"

    def __init__(self, library: Any) -> None:
        """Find it.  Raises: RouterError."""
        self._library = library
        self._kinds = {"tcp": library.NATPMP_PROTOCOL_TCP, "udp": library.NATPMP_PROTOCOL_UDP}
        self._gateway = _asked(library.get_gateway_addr)
        self.address()

    def address(self) -> str:
        return str(
            _asked(lambda: self._library.get_public_address(self._gateway, retry=NAT_PMP_TRIES))
        )

    def open(self, transport: Transport, port: int, lease_s: int) -> int:
        return int(self._map(transport, port, port, lease_s).public_port)

    def close(self, transport: Transport, port: int, outer: int) -> None:
        self._map(transport, port, 0, 0)  # RFC 6886, section 3.4

    def _map(self, transport: Transport, port: int, outer: int, lease_s: int) -> Any:
        return _asked(
            lambda: self._library.map_port(
                self._kinds[transport],
                outer,
                port,
                lease_s,
                gateway_ip=self._gateway,
                retry=NAT_PMP_TRIES,
            )
        )


KINDS: tuple[tuple[str, Callable[[Any], Router]], ...] = (("miniupnpc", Upnp), ("natpmp", NatPmp))
"Libraries, and what finds a router with each; in the order in which they are tried."


def find_router(load: Callable[[str], Any] = importlib.import_module) -> Router:
    """The first router that answers.  Raises: RouterError saying what was tried."""
    tried: list[str] = []
    for library, kind in KINDS:
        try:
            return kind(load(library))
        except ImportError:
            tried.append(f"{library} is not installed")
        except RouterError as error:
            tried.append(f"{library}: {error}")
    raise RouterError(f"no router lets others in ({'; '.join(tried)})")


def _asked(question: Callable[[], Any]) -> Any:
    """The answer.  Raises: RouterError, whatever the library raises."""
    try:
        return question()
    except Exception as error:
        raise RouterError(str(error) or type(error).__name__) from error
