"""What can be configured, with defaults and bounds, and where a node keeps its sockets.

``dp2p.config_load`` fills this from a file, the environment and flags. The supervisor writes the
result, with nothing left open (a number of shards, a port), as ``node.json``; coordinator and
shards read that and nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dp2p import addresses, bus, control, places, sizes
from dp2p.errors import AddressError, ConfigError
from dp2p.logs import Format, Level

UNIX_PATH_MAX = 107  # bytes of a socket's path that Linux accepts, without the closing NUL
SOCKET_NAME_MAX = 32  # room for "shard-<index>-<incarnation>.sock"
NODE_FILE = "node.json"

EVERYWHERE = (
    f"tcp4://0.0.0.0:{addresses.DEFAULT_PORT}",
    f"tcp6://[::]:{addresses.DEFAULT_PORT}",
)

PathText = Annotated[str, Meta(min_length=1, max_length=4096, description="a path")]
Seconds = Annotated[float, Meta(gt=0, le=86400)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


class NodeSection(Section, frozen=True, kw_only=True):
    """Who this node is and where it keeps its files."""

    key_file: PathText = ""
    "Empty: $XDG_CONFIG_HOME/dp2p/key or ~/.config/dp2p/key."
    network: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]*\Z")] = "dp2p"
    "Nodes of different networks do not understand each other."
    run_dir: PathText = ""
    "Sockets and node.json. Empty: /run/dp2p for root, $XDG_RUNTIME_DIR/dp2p or ~/.dp2p/run."
    log_level: Level = "info"
    log_format: Format = "console"
    instance: Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")] = ""
    "This life of the node, drawn by `dp2p up`. Peers learn from it that older links are dead."


class ListenSection(Section, frozen=True, kw_only=True):
    """Where peers reach this node."""

    addresses: Annotated[list[str], Meta(max_length=16)] = msgspec.field(
        default_factory=lambda: list(EVERYWHERE)
    )
    "All shards listen on each. Port 0 takes a free one. Empty: no listener."
    advertise: Annotated[list[str], Meta(max_length=16)] = []
    "Endpoints told to peers when they differ from what is listened on."


class ShardsSection(Section, frozen=True, kw_only=True):
    """The processes that own connections."""

    count: Annotated[int, Meta(ge=0, le=256)] = 0
    "0: one for each core."
    aead: Literal["auto", "libsodium", "openssl"] = "auto"


class LimitsSection(Section, frozen=True, kw_only=True):
    """Caps and deadlines."""

    max_peers: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    max_links_per_shard: Annotated[int, Meta(ge=1, le=1_000_000)] = 16384
    "Open links and handshakes together."
    max_handshakes: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    "Unfinished handshakes in a shard."
    max_handshakes_per_address: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    "From one IPv4 address or IPv6 /64."
    max_handshakes_per_network: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    "From one IPv4 /24 or IPv6 /48."
    max_dials: Annotated[int, Meta(ge=1, le=10_000)] = 64
    "Connections that this node is opening at a time; at most 4 of them to one IP network."
    handshake_deadline_s: Seconds = 10.0
    "From the first byte to an open link, however slowly bytes come."
    keepalive_s: Seconds = 20.0
    idle_close_s: Seconds = 60.0
    "A link from which nothing came for so long is closed."
    rekey_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 34)] = 1 << 30
    rekey_s: Seconds = 120.0
    send_low_water: Annotated[int, Meta(ge=1 << 12, le=1 << 24)] = 1 << 17
    "Bytes that may wait unsent in the kernel, for each link, on a path fast enough for them."
    window_max: Annotated[int, Meta(ge=(16 << 20) + 16, le=1 << 30)] = 64 << 20
    "Bytes up to which the window of a flow opens; it holds a largest datagram."
    buffer_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 1 << 30
    "Bytes that the windows of all flows, both directions, may come to by growing, in all shards."


class PeersSection(Section, frozen=True, kw_only=True):
    """Peers that are known beforehand."""

    static: Annotated[list[str], Meta(max_length=1024)] = []
    "Addresses that are kept connected."


class StoreSection(Section, frozen=True, kw_only=True):
    """What the node remembers of peers."""

    file: PathText = ""
    "An SQLite database. Empty: beside the key file, with `.peers.db` behind its name."
    max_peers: Annotated[int, Meta(ge=16, le=10_000_000)] = 100_000
    "Beyond it the least valuable are forgotten."
    ticket_lifetime_s: Annotated[float, Meta(ge=60, le=365 * 86400)] = 30 * 86400.0
    "How long a session may be resumed. A ticket that is stolen is good for as long."


class DiscoverySection(Section, frozen=True, kw_only=True):
    """How the node finds others, over UDP."""

    enabled: bool = True
    listen: Annotated[list[str], Meta(max_length=16)] = []
    "As udp4://0.0.0.0:4617. Empty: the hosts and port numbers of listen.addresses."
    advertise: Annotated[list[str], Meta(max_length=16)] = []
    "Endpoints told to peers when they differ from what is listened on. Empty: as listen.advertise."
    bootstrap: Annotated[list[str], Meta(max_length=64)] = []
    "Where to go while no other node is known: dp2p://KEY@HOST:PORT, or an endpoint without a key."
    serve: Literal["auto", "always", "never"] = "auto"
    "Whether others may ask this node; one that cannot be reached from outside should not say so."
    paths: Annotated[int, Meta(ge=1, le=16)] = 8
    "Disjoint paths of a search."
    limit_local: bool = False
    "Count addresses of this machine and site by their networks too."
    nat: Literal["none", "auto"] = "none"
    "auto: ask the router to let others in, with UPnP or NAT-PMP. Needs dp2p[nat]."


class RateSection(Section, frozen=True, kw_only=True):
    """How fast something may be: ``none``, or bytes a second, as 1500000, 10MB or 512KiB."""

    up: int | str = sizes.NONE
    down: int | str = sizes.NONE


class RatesSection(Section, frozen=True, kw_only=True):
    """Caps that hold until others are set while the node runs. All shards together."""

    node_up: int | str = sizes.NONE
    node_down: int | str = sizes.NONE
    protocols: Annotated[dict[control.Name, RateSection], Meta(max_length=250)] = {}
    "By name."


class AppsSection(Section, frozen=True, kw_only=True):
    """Applications on this machine."""

    heartbeat_expiry_s: Annotated[float, Meta(ge=0.5, le=3600)] = 5.0
    "A session without heartbeat for so long is over."


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration; each field is one table of ``dp2p.toml``."""

    node: NodeSection = NodeSection()
    listen: ListenSection = ListenSection()
    shards: ShardsSection = ShardsSection()
    limits: LimitsSection = LimitsSection()
    peers: PeersSection = PeersSection()
    store: StoreSection = StoreSection()
    discovery: DiscoverySection = DiscoverySection()
    apps: AppsSection = AppsSection()
    rates: RatesSection = RatesSection()


def listen_endpoints(config: Config) -> list[addresses.Endpoint]:
    """The endpoints to listen on.  Raises: ConfigError."""
    return [_endpoint("listen.addresses", text, lowest_port=0) for text in config.listen.addresses]


def discovery_endpoints(config: Config) -> list[addresses.Endpoint]:
    """The endpoints at which to take discovery's packets, of ``listen.addresses`` when none are
    given.  Raises: ConfigError.
    """
    if not config.discovery.enabled:
        return []
    if not config.discovery.listen:
        return [addresses.datagram_endpoint_of(endpoint) for endpoint in listen_endpoints(config)]
    return [
        _endpoint("discovery.listen", text, lowest_port=0, schemes=addresses.DATAGRAMS)
        for text in config.discovery.listen
    ]


def discovery_advertised(config: Config) -> list[addresses.Endpoint]:
    """Endpoints of ``discovery.advertise``.  Raises: ConfigError."""
    return [
        _endpoint("discovery.advertise", text, lowest_port=1, schemes=addresses.DATAGRAMS)
        for text in config.discovery.advertise
    ]


def bootstrap(config: Config) -> list[addresses.Address]:
    """The addresses of ``discovery.bootstrap``.  Raises: ConfigError."""
    try:
        return [addresses.parse(text) for text in config.discovery.bootstrap]
    except AddressError as error:
        raise ConfigError(f"discovery.bootstrap: {error}") from None


def advertised(config: Config) -> list[str]:
    """Endpoints that peers are told, or none when what is listened on is no use to them."""
    if config.listen.advertise:
        return list(config.listen.advertise)
    found = [(text, addresses.parse_endpoint(text)) for text in config.listen.addresses]
    return [text for text, endpoint in found if endpoint.host not in ("0.0.0.0", "::")]  # noqa: S104


def check_limits(config: Config) -> None:
    """Limits that depend on each other.  Raises: ConfigError."""
    idle, keepalive = config.limits.idle_close_s, config.limits.keepalive_s
    if idle <= 2 * keepalive:
        raise ConfigError(
            f"limits.idle_close_s is {idle:g}; allowed is more than twice limits.keepalive_s, "
            f"which is {keepalive:g}: else a link could be closed before it is pinged"
        )


def caps(config: Config) -> list[bus.Cap]:
    """The rate caps to begin with.  Raises: ConfigError."""
    rates = config.rates
    found = [
        bus.Cap(
            scope="node",
            name="",
            up=_rate("rates.node_up", rates.node_up),
            down=_rate("rates.node_down", rates.node_down),
        )
    ]
    for name, one in rates.protocols.items():
        up = _rate(f"rates.protocols.{name}.up", one.up)
        down = _rate(f"rates.protocols.{name}.down", one.down)
        found.append(bus.Cap(scope="protocol", name=name, up=up, down=down))
    return [cap for cap in found if cap.up is not None or cap.down is not None]


def _rate(key: str, value: int | str) -> int | None:
    try:
        return sizes.parse_rate(str(value))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def static_peers(config: Config) -> list[addresses.Address]:
    """The addresses to keep connected.  Raises: ConfigError."""
    try:
        return [addresses.parse(text) for text in config.peers.static]
    except AddressError as error:
        raise ConfigError(f"peers.static: {error}") from None


def _endpoint(
    key: str,
    text: str,
    *,
    lowest_port: int,
    schemes: tuple[addresses.Scheme, ...] = addresses.STREAMS,
) -> addresses.Endpoint:
    try:
        return addresses.parse_endpoint(
            text, default_port=addresses.DEFAULT_PORT, lowest_port=lowest_port, schemes=schemes
        )
    except AddressError as error:
        raise ConfigError(f"{key}: {error}") from None


def check_run_dir(run_dir: str, origin: str) -> None:
    """Sockets in it must have paths that fit.  Raises: ConfigError."""
    longest = UNIX_PATH_MAX - SOCKET_NAME_MAX - 1
    size = len(os.fsencode(run_dir))
    if size > longest:
        raise ConfigError(
            f"{origin}: node.run_dir {run_dir} is {size} bytes long; sockets have paths of at most "
            f"{UNIX_PATH_MAX} bytes, which leaves {longest} for the directory"
        )


# --- places in the run directory ---


def bus_endpoint(run_dir: str) -> str:
    """Where the coordinator awaits shards."""
    return f"ipc://{run_dir}/bus.sock"


def control_endpoint(run_dir: str) -> str:
    """Where the coordinator awaits applications."""
    return places.control_endpoint(Path(run_dir))


def shard_endpoint(run_dir: str, index: int, incarnation: str) -> str:
    """Where one life of a shard awaits applications."""
    return f"ipc://{run_dir}/shard-{index}-{incarnation}.sock"


# --- node.json ---


def write_resolved(config: Config, path: Path) -> None:
    """Write ``config`` for the node's own processes, readable by their user alone."""
    text = msgspec.json.format(msgspec.json.encode(config), indent=2)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text + b"\n")
    temporary.replace(path)


def read_resolved(path: Path) -> Config:
    """Read what ``write_resolved`` wrote.  Raises: ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}") from None
