"""What the transport's calls take and give: configurations, events, reports.

Each stands for the struct of the same name in ``cext/include/dp2p.h``. Import them from
``dp2p.transport``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dp2p.transport_codes import KEY_LEN, TICKET_LEN, Lift, LinkState, Mode, Priority


class Event(NamedTuple):
    """What happened on a link, or to a record of an application; see ``struct dp_event``."""

    kind: int
    status: int
    link: int
    dial: int
    sink: int
    flow: int
    type: int
    reason: int
    unsent: bool
    data: bytes


class Place(NamedTuple):
    """A numeric address and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a dial relies on; see ``struct dp_known``.  Raises: ValueError for a wrong length."""

    key: bytes
    "The peer's Ed25519 public key."
    ticket: bytes | None = field(default=None, repr=False)
    "Of an earlier session with that key: name and psk. Secret."
    pinned: bool = False
    "No other key may answer."

    def __post_init__(self) -> None:
        if len(self.key) != KEY_LEN:
            raise ValueError(f"a key has {KEY_LEN} bytes, not {len(self.key)}")
        if self.ticket is not None and len(self.ticket) != TICKET_LEN:
            raise ValueError(f"a ticket has {TICKET_LEN} bytes, not {len(self.ticket)}")


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """See ``struct dp_link_info``."""

    dial: int
    state: LinkState
    initiator: bool
    mode: Mode
    fell_back: bool
    key: bytes
    remote: Place | None
    seen: Place | None
    bytes_in: int
    bytes_out: int
    datagrams_in: int
    datagrams_out: int
    flows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """See ``struct dp_node_config``. The seed is secret and not shown."""

    network: str = "dp2p"
    aead: str | None = None
    max_links: int = 16384
    max_handshakes: int = 1024
    max_handshakes_per_address: int = 64
    max_handshakes_per_network: int = 256
    handshake_ms: int = 10_000
    keepalive_ms: int = 20_000
    idle_ms: int = 60_000
    rekey_bytes: int = 1 << 30
    rekey_ms: int = 120_000
    send_low_water: int = 1 << 17
    window_max: int = 64 << 20
    window_bytes_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """See ``struct dp_flow_config``."""

    sink: int
    number: int
    peer_number: int
    max_datagram: int
    types: int = 65536
    window: int
    peer_window: int
    priority: Priority = Priority.NORMAL
    weight: int = 16
    group: int = 0
    "All flows of one protocol have the same."
    lifts: tuple[Lift, ...] = ()
    "At most ``LIFTS_MAX``."


class Position(NamedTuple):
    """See ``struct dp_position``."""

    datagrams: int
    bytes: int


class FlowInfo(NamedTuple):
    """See ``struct dp_flow_info``."""

    link: int
    accepted: Position
    sent: Position
    confirmed: Position
    received: Position
    consumed: Position
    send_limit: int
    receive_limit: int
    window: int
    peer_window: int
    wait_ms: int
    waited_max_ms: int
