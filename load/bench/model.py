"""What is measured: cases, units, measurements. No input, no output, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Group(StrEnum):
    """A family of cases; ``--only`` takes these names."""

    BULK = "bulk"
    SMALL = "small"
    RTT = "rtt"
    CONNECTIONS = "connections"
    HANDSHAKES = "handshakes"
    MEMORY = "memory"
    SHARES = "shares"
    DISCOVERY = "discovery"


# Units. MB = 10^6 bytes, GB = 10^9 bytes of payload; KiB = 1024 bytes; CPU = user + system, all
# processes of the contender together.
MB_PER_S = "MB/s"
CPU_S_PER_GB = "CPU s/GB"
DATAGRAMS_PER_S = "datagrams/s"
CPU_S_PER_MILLION = "CPU s/million"
P50_US = "p50 µs"
P99_US = "p99 µs"
CONNECTIONS_PER_S = "connections/s"
CPU_MS_PER_CONNECTION = "CPU ms/connection"
HANDSHAKES_PER_S = "handshakes/s"
CPU_US_PER_HANDSHAKE = "CPU µs"
PACKETS_PER_S = "packets/s"
CPU_US_PER_PACKET = "CPU µs/packet"
OF_X25519 = "of X25519"
OF_XX = "of XX"
KIB_PER_CONNECTION = "KiB/connection"
OFF_SHARE = "off its share"
OF_UNDISTURBED = "off undisturbed"
OFF_CAP = "off the cap"
MS_ABOVE = "ms above unloaded"
P99_MS = "p99 ms"
OF_RATE = "of the rate"

KIB = 1024
SMALL_BYTES = 100
CONNECTIONS_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to every contender."""

    name: str
    group: Group
    title: str
    rate: str
    "The unit the contenders are compared by."
    cost: str
    "The unit printed beside it."
    more_is_better: bool = True
    size: int = SMALL_BYTES
    "Payload bytes of one datagram."
    count: int = 1
    "Connections: at a time, or idle."


BULK_64K = Case(
    "bulk-64k", Group.BULK, "bulk, 64 KiB datagrams", MB_PER_S, CPU_S_PER_GB, size=64 * KIB
)
BULK_1M = Case(
    "bulk-1m", Group.BULK, "bulk, 1 MiB datagrams", MB_PER_S, CPU_S_PER_GB, size=1024 * KIB
)
SMALL_100 = Case(
    "small-100", Group.SMALL, "small, 100 B datagrams", DATAGRAMS_PER_S, CPU_S_PER_MILLION
)
RTT_100 = Case("rtt-100", Group.RTT, "round trip, 100 B", P50_US, P99_US, more_is_better=False)
CONNECT_16 = Case(
    "connect-16",
    Group.CONNECTIONS,
    "new connections, 16 at a time",
    CONNECTIONS_PER_S,
    CPU_MS_PER_CONNECTION,
    count=CONNECTIONS_AT_A_TIME,
)
HANDSHAKES = Case(
    "handshakes",
    Group.HANDSHAKES,
    "handshakes in memory, both sides",
    HANDSHAKES_PER_S,
    CPU_US_PER_HANDSHAKE,
)
HANDSHAKE_SHARES = Case(
    "handshake-shares",
    Group.HANDSHAKES,
    "handshakes beside their X25519",
    OF_X25519,
    "",
)
HANDSHAKE_GAINS = Case("handshake-gains", Group.HANDSHAKES, "handshakes beside XX", OF_XX, "")
IDLE_1K = Case(
    "idle-1000",
    Group.MEMORY,
    "memory, 1,000 idle connections",
    KIB_PER_CONNECTION,
    "",
    more_is_better=False,
    count=1_000,
)
IDLE_10K = Case(
    "idle-10000",
    Group.MEMORY,
    "memory, 10,000 idle connections",
    KIB_PER_CONNECTION,
    "",
    more_is_better=False,
    count=10_000,
)
SHARES_100, SHARES_10K, SHARES_1M, SHARES_MIXED = (
    Case(
        f"shares-{name}",
        Group.SHARES,
        f"weights 1:2:4, {title}",
        OFF_SHARE,
        MB_PER_S,
        more_is_better=False,
        size=size,
    )
    for name, title, size in (
        ("100", "100 B datagrams", SMALL_BYTES),
        ("10k", "10 kB datagrams", 10_000),
        ("1m", "1 MiB datagrams", 1024 * KIB),
        ("mixed", "1 MiB : 10 kB : 100 B", 0),
    )
)
STALLED = Case(
    "stalled",
    Group.SHARES,
    "rates beside one that does not read",
    OF_UNDISTURBED,
    MB_PER_S,
    more_is_better=False,
)
URGENT = Case(
    "urgent",
    Group.SHARES,
    "urgent beside bulk, 8 Mbit/s, 20 ms",
    MS_ABOVE,
    P99_MS,
    more_is_better=False,
)
LONG_FAT = Case(
    "long-fat", Group.SHARES, "goodput, 1 Gbit/s, 60 ms one way", OF_RATE, MB_PER_S, size=1024 * KIB
)
LONG_FAT_RTT = Case(
    "long-fat-rtt",
    Group.SHARES,
    "goodput, 1 Gbit/s, 60 ms there and back",
    OF_RATE,
    MB_PER_S,
    size=1024 * KIB,
)
BUSY_PROTOCOLS = Case(
    "busy-protocols",
    Group.SHARES,
    "busy protocols, 100 B datagrams",
    CPU_S_PER_MILLION,
    DATAGRAMS_PER_S,
    more_is_better=False,
    count=250,
)
CAP_PROTOCOL_UP, CAP_PROTOCOL_DOWN, CAP_NODE_UP, CAP_NODE_DOWN = (
    Case(
        f"cap-{scope}-{way}",
        Group.SHARES,
        f"cap of a {scope}, {way}, two shards",
        OFF_CAP,
        MB_PER_S,
        more_is_better=False,
        size=10_000,
    )
    for scope in ("protocol", "node")
    for way in ("up", "down")
)
DISCOVERY_HANDSHAKES = Case(
    "discovery-handshakes",
    Group.DISCOVERY,
    "discovery, handshakes in memory",
    CPU_US_PER_HANDSHAKE,
    HANDSHAKES_PER_S,
    more_is_better=False,
)
DISCOVERY_PACKETS = Case(
    "discovery-packets",
    Group.DISCOVERY,
    "discovery, sealed packets in memory",
    CPU_US_PER_PACKET,
    PACKETS_PER_S,
    more_is_better=False,
)
CASES = (
    BULK_64K,
    BULK_1M,
    SMALL_100,
    RTT_100,
    CONNECT_16,
    HANDSHAKES,
    HANDSHAKE_SHARES,
    HANDSHAKE_GAINS,
    IDLE_1K,
    IDLE_10K,
    SHARES_100,
    SHARES_10K,
    SHARES_1M,
    SHARES_MIXED,
    STALLED,
    URGENT,
    LONG_FAT,
    LONG_FAT_RTT,
    BUSY_PROTOCOLS,
    CAP_PROTOCOL_UP,
    CAP_PROTOCOL_DOWN,
    CAP_NODE_UP,
    CAP_NODE_DOWN,
    DISCOVERY_HANDSHAKES,
    DISCOVERY_PACKETS,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often; the same for every contender."""

    seconds: float = 1.0
    "Length of one measured phase."
    rounds: int = 3
    "Each contender of a case is measured this often, in turn with the others."
    deadline_s: float = 20.0
    "For one phase with starting and stopping; what exceeds it is ended and reported."
    build_dir: Path = Path("build/bench")
    "Where compiled helpers go."
    quick: bool = False
    "Smoke run: figures are rough; contenders may shrink what takes long."


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender's answer to one case, from one round or as the median of several."""

    case: Case
    contender: str
    values: Mapping[str, float]
    "Unit -> value."
    by_process: Mapping[str, float] = field(default_factory=dict)
    "Role -> its part of the CPU cost, in the case's CPU unit."
    note: str = ""
    "What a reader must know to compare fairly."

    @property
    def name(self) -> str:
        """``case/contender``: how bars refer to it."""
        return f"{self.case.name}/{self.contender}"


Measure = Callable[[Settings], list[Measurement]]


@dataclass(frozen=True, slots=True)
class Source:
    """Something to call once per round: measures one case for one contender."""

    case: Case
    contender: str
    measure: Measure
    also: tuple[str, ...] = ()
    "Names of further measurements that the same call makes."
    once: bool = False
    "One round of it is long enough."

    @property
    def name(self) -> str:
        """For progress and failures; equals the measurement's name when there is one of them."""
        return f"{self.case.name}/{self.contender}"


class Unavailable(Exception):
    """The contender cannot run on this machine; the text says what is missing."""


class PhaseError(Exception):
    """A phase failed or missed its deadline; the text says which role and why."""
