"""Addresses of peers and physical endpoints, as people write them.

``dp2p://<public key>@host:port`` names a peer and where it is; ``tcp4://host:port`` and
``tcp6://[host]:port`` name only a place. Each can be dialled. IPv6 addresses stand in brackets and
have no zone, which would mean something on one machine only.

``udp4://host:port`` and ``udp6://[host]:port`` are where a node takes discovery's packets. Records
list them beside the others; nobody can dial them.

``dp2p://<public key>`` and a node-ID name a peer alone: a node that knows where it is can dial it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from dp2p import ids
from dp2p.errors import AddressError

DEFAULT_PORT = 4617
PORT_MAX = 65535

Scheme = Literal["tcp4", "tcp6", "udp4", "udp6"]
STREAMS: tuple[Scheme, ...] = ("tcp4", "tcp6")
"Of endpoints that take connections."
DATAGRAMS: tuple[Scheme, ...] = ("udp4", "udp6")
"Of endpoints that take discovery's packets."

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_LOOKS_IPV4 = re.compile(r"[0-9.]+\Z")
HOST_MAX = 253  # characters of a host name; RFC 1035


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place in the network, with nothing said of who is there."""

    scheme: Scheme
    host: str
    "Host name or numeric address, without brackets."
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{join_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer by its public key, and a place where it can be found."""

    key: str
    "Public key, base32."
    host: str
    port: int

    def __str__(self) -> str:
        return f"dp2p://{self.key}@{join_host_port(self.host, self.port)}"

    @property
    def peer(self) -> str:
        """The node-ID, base32."""
        return ids.node_id_text(self.key)


@dataclass(frozen=True, slots=True)
class PeerOnly:
    """A peer by its public key, wherever it is."""

    key: str
    "Public key, base32."

    def __str__(self) -> str:
        return f"dp2p://{self.key}"

    @property
    def peer(self) -> str:
        """The node-ID, base32."""
        return ids.node_id_text(self.key)


@dataclass(frozen=True, slots=True)
class NodeId:
    """A peer by its node-ID, wherever it is. Nothing in the text tells it from a bare key."""

    node: str
    "Node-ID, base32."

    def __str__(self) -> str:
        return self.node

    @property
    def peer(self) -> str:
        """The node-ID, base32."""
        return self.node


Address = Endpoint | PeerAddress
"Says where to dial."
Target = Address | PeerOnly | NodeId
"What a node can be asked to dial."


def parse(text: str) -> Address:
    """Read either kind.  Raises: AddressError saying what is wrong."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "dp2p":
        return _parse_peer(text, rest)
    if separator and scheme in (*STREAMS, *DATAGRAMS):
        return parse_endpoint(text)
    raise AddressError(
        f"address {text!r}: expected dp2p://KEY@HOST:PORT, tcp4://HOST:PORT or tcp6://[HOST]:PORT"
    )


def parse_target(text: str) -> Target:
    """Read an address, or a peer without a place.  Raises: AddressError saying what is wrong."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "dp2p" and "@" not in rest:
        return PeerOnly(_key(text, rest))
    if not separator and len(text) == ids.TEXT_CHARACTERS:
        return NodeId(_key(text, text))
    if separator and scheme in ("dp2p", *STREAMS, *DATAGRAMS):
        return parse(text)
    raise AddressError(
        f"address {text!r}: expected dp2p://KEY@HOST:PORT, dp2p://KEY, tcp4://HOST:PORT, "
        "tcp6://[HOST]:PORT or a node-ID"
    )


def parse_peer(text: str) -> str:
    """The node-ID of the peer that ``text`` names: a target with a key, or a node-ID.

    Raises: AddressError, also for a bare endpoint.
    """
    target = parse_target(text)
    if isinstance(target, Endpoint):
        raise AddressError(f"address {text!r}: names no peer; expected a node-ID or dp2p://KEY")
    return target.peer


def parse_endpoint(
    text: str,
    *,
    default_port: int | None = None,
    lowest_port: int = 1,
    schemes: tuple[Scheme, ...] = STREAMS,
) -> Endpoint:
    """Read ``tcp4://host:port`` or ``tcp6://[host]:port``, or endpoints of other ``schemes``.

    ``default_port`` is taken when none is written; ``lowest_port`` 0 allows "any free port",
    which only a listener can use.  Raises: AddressError.
    """
    name, separator, rest = text.partition("://")
    scheme = next((one for one in schemes if separator and one == name), None)
    if scheme is None:
        raise AddressError(f"endpoint {text!r}: {_expected(name, schemes)}")
    host, port = _split(text, rest, default_port, lowest_port)
    version = _ip_version(host)
    if version is not None and version != family_of(scheme):
        raise AddressError(f"endpoint {text!r}: {host} is not an IPv{scheme[-1]} address")
    return Endpoint(scheme, host, port)


def parse_listed(text: str) -> Endpoint:
    """Read an endpoint as records list them: of any scheme.  Raises: AddressError."""
    return parse_endpoint(text, schemes=(*STREAMS, *DATAGRAMS))


def _expected(name: str, schemes: tuple[Scheme, ...]) -> str:
    shown = {"4": "{}://HOST:PORT", "6": "{}://[HOST]:PORT"}
    expected = " or ".join(shown[one[-1]].format(one) for one in schemes)
    if name in DATAGRAMS:
        return f"takes discovery's packets and no connections; expected {expected}"
    return f"expected {expected}"


def family_of(scheme: Scheme) -> Literal[4, 6]:
    """The version of IP."""
    return 4 if scheme.endswith("4") else 6


def canonical_endpoint(text: str) -> str | None:
    """The one spelling of an endpoint that can be dialled; None for what is none."""
    try:
        return str(parse_endpoint(text))
    except AddressError:
        return None


def _parse_peer(text: str, rest: str) -> PeerAddress:
    key, separator, place = rest.partition("@")
    if not separator:
        raise AddressError(f"address {text!r}: no @ between a public key and a place")
    _key(text, key)
    host, port = _split(text, place, None, 1)
    return PeerAddress(key, host, port)


def _key(text: str, key: str) -> str:
    """``key``, checked."""
    try:
        ids.from_text(key)
    except ValueError as error:
        raise AddressError(f"address {text!r}: {error}") from None
    return key


def _split(text: str, place: str, default_port: int | None, lowest_port: int) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[host]:port``."""
    if place.startswith("["):
        host, separator, tail = place[1:].partition("]")
        if "%" in host:
            raise AddressError(f"address {text!r}: an IPv6 address has no zone (%) here")
        if not separator or _ip_version(host) != 6:
            raise AddressError(f"address {text!r}: no IPv6 address in brackets")
        if tail and not tail.startswith(":"):
            raise AddressError(f"address {text!r}: only :PORT may follow the bracket")
        digits = tail[1:] if tail else None
    else:
        host, separator, port_text = place.partition(":")
        digits = port_text if separator else None
        _check_host(text, host, place)
    return _canonical(host), _port(text, digits, default_port, lowest_port)


def _check_host(text: str, host: str, place: str) -> None:
    if place.count(":") > 1:
        raise AddressError(f"address {text!r}: an IPv6 address stands in brackets, [::1]:4617")
    if not host:
        raise AddressError(f"address {text!r}: no host")
    if _LOOKS_IPV4.match(host):
        if _ip_version(host) != 4:
            raise AddressError(f"address {text!r}: {host} is no IPv4 address")
    elif len(host) > HOST_MAX or not all(_LABEL.match(label) for label in host.split(".")):
        raise AddressError(f"address {text!r}: {host!r} is no host name")


def _port(text: str, digits: str | None, default: int | None, lowest: int) -> int:
    if digits is None and default is not None:
        return default
    if digits is None:
        raise AddressError(f"address {text!r}: no port")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise AddressError(f"address {text!r}: port {digits!r} is no number")
    port = int(digits)
    if not lowest <= port <= PORT_MAX:
        raise AddressError(f"address {text!r}: port {port} is not within {lowest} to {PORT_MAX}")
    return port


def _ip_version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _canonical(host: str) -> str:
    """One spelling of each host: shortest IPv6 form, names in lower case."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def version_of(host: str) -> Literal[4, 6]:
    """The version of IP of a numeric address."""
    return 6 if ":" in host else 4


def numeric_endpoint(host: str, port: int) -> Endpoint:
    """The endpoint of a numeric address, with the scheme of its family."""
    return Endpoint("tcp6" if ":" in host else "tcp4", host, port)


def datagram_endpoint(host: str, port: int) -> Endpoint:
    """Where discovery's packets go to a numeric address."""
    return Endpoint("udp6" if ":" in host else "udp4", host, port)


def datagram_endpoint_of(endpoint: Endpoint) -> Endpoint:
    """The host and port of a ``tcp`` endpoint, for discovery's packets."""
    scheme = DATAGRAMS[STREAMS.index(endpoint.scheme)]
    return Endpoint(scheme, endpoint.host, endpoint.port)


def is_numeric(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    return _ip_version(host) is not None


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
