"""The C extension with types: nodes, links, flows and the engine that owns a shard's sockets.

Only this module and ``transport_codes`` import ``dp2p._transport``. What each call does stands in
``cext/include/dp2p.h``; names are the same. Calls of one ``Node`` belong to one thread.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from dp2p._transport import ffi, lib
from dp2p.transport_codes import (
    KEY_LEN,
    TICKET_LEN,
    EventKind,
    Lift,
    LinkState,
    Mode,
    Priority,
    Refused,
    Status,
    Usage,
    check,
    status_name,
    usage_of,
)
from dp2p.transport_types import (
    Event,
    FlowConfig,
    FlowInfo,
    Known,
    LinkInfo,
    NodeConfig,
    Place,
    Position,
)

__all__ = [
    "CONTROL_MAX",
    "GROUP_COUNT",
    "KEY_LEN",
    "LIFTS_MAX",
    "PRODUCE_MIN",
    "RATE_MAX",
    "TICKET_LEN",
    "Engine",
    "Event",
    "EventKind",
    "FlowConfig",
    "FlowInfo",
    "Known",
    "Lift",
    "LinkInfo",
    "LinkState",
    "Mode",
    "Node",
    "NodeConfig",
    "Place",
    "Position",
    "Priority",
    "Refused",
    "Status",
    "Usage",
    "check",
    "ffi",
    "lib",
    "process_tune",
    "status_name",
]

PRODUCE_MIN: int = lib.DP_PRODUCE_MIN
CONTROL_MAX: int = lib.DP_CONTROL_MAX
HELLO_MAX: int = lib.DP_HELLO_MAX
TICKET_NAME_LEN: int = lib.DP_TICKET_NAME_LEN
GROUP_COUNT: int = lib.DP_GROUP_COUNT
LIFTS_MAX: int = lib.DP_LIFTS_MAX
RATE_MAX: int = lib.DP_RATE_MAX
WOKEN_EVENTS: int = lib.DP_WOKEN_EVENTS
WOKEN_OUTPUT: int = lib.DP_WOKEN_OUTPUT
RELEASES_PER_CALL = 256


def process_tune() -> None:
    """For a process that is one engine: keep freed memory for the next message."""
    lib.dp_process_tune()


def _fill_address(target: Any, place: Place) -> None:
    address = ipaddress.ip_address(place.host)
    target.family = address.version
    ffi.memmove(target.ip, address.packed, len(address.packed))
    target.port = place.port


def _place(address: Any) -> Place | None:
    if address.family == 4:
        packed = bytes(ffi.buffer(address.ip, 4))
    elif address.family == 6:
        packed = bytes(ffi.buffer(address.ip, 16))
    else:
        return None
    return Place(str(ipaddress.ip_address(packed)), address.port)


def _known(known: Known | None) -> tuple[Any, list[Any]]:
    """A ``dp_known``, or NULL, and what must stay alive while C reads it."""
    if known is None:
        return ffi.NULL, []
    struct = ffi.new("struct dp_known *")
    alive = [ffi.from_buffer("uint8_t[]", known.key)]
    struct.key = alive[0]
    struct.pinned = known.pinned
    if known.ticket is not None:
        alive.append(ffi.from_buffer("uint8_t[]", known.ticket))
        struct.ticket = alive[1]
    return struct, alive


class _Config:
    """A ``dp_node_config`` and the strings it points to. Wiped with ``close``."""

    def __init__(self, seed: bytes, config: NodeConfig) -> None:
        if len(seed) != lib.DP_SEED_LEN:
            raise ValueError(f"a seed has {lib.DP_SEED_LEN} bytes, not {len(seed)}")
        self.struct = ffi.new("struct dp_node_config *")
        ffi.memmove(self.struct.seed, seed, len(seed))
        self._network = ffi.new("char[]", config.network.encode())
        self._aead = ffi.NULL if config.aead is None else ffi.new("char[]", config.aead.encode())
        self.struct.network = self._network
        self.struct.aead = self._aead
        for name in NodeConfig.__slots__:
            if name not in ("network", "aead"):
                setattr(self.struct, name, getattr(config, name))

    def close(self) -> None:
        lib.dp_wipe(self.struct.seed, lib.DP_SEED_LEN)


class Node:
    """Links and flows without sockets: bytes and time in, events and bytes out."""

    def __init__(
        self,
        seed: bytes,
        config: NodeConfig | None = None,
        *,
        random: Callable[[int], bytes] | None = None,
    ) -> None:
        """``random`` replaces the operating system's random bytes, for tests."""
        settings = _Config(seed, config or NodeConfig())
        self._random = _random_callback(random) if random else None
        if self._random is not None:
            settings.struct.random = self._random
        out = ffi.new("dp_node **")
        try:
            check(lib.dp_node_new(out, settings.struct), "making a node")
        finally:
            settings.close()
        self._adopt(ffi.gc(out[0], lib.dp_node_free))

    def _adopt(self, pointer: Any) -> None:
        self._node = pointer
        self._events = ffi.new("const struct dp_event **")
        self._output = ffi.new("struct dp_output *")
        self._kept = ffi.new("bool *")
        self._tokens = ffi.new("uint64_t[]", RELEASES_PER_CALL)
        self._size = ffi.new("size_t *")
        self._flow_info = ffi.new("struct dp_flow_info *")

    @property
    def aead(self) -> str:
        """The AEAD provider in use."""
        return str(ffi.string(lib.dp_node_aead(self._node)).decode("ascii"))

    def set_hello(self, hello: bytes) -> None:
        """The JSON part of all handshake payloads from now on."""
        check(lib.dp_node_set_hello(self._node, hello, len(hello)), "setting the hello")

    def events(self) -> list[Event]:
        """What happened since ``events_done``."""
        count = lib.dp_node_events(self._node, self._events)
        if not count:
            return []
        array = self._events[0]
        return [_event(array[i]) for i in range(count)]

    def events_done(self) -> None:
        """All events are handled; links that rested go on."""
        lib.dp_node_events_done(self._node)

    def stats(self) -> dict[str, int]:
        """Counters; see ``struct dp_stats``."""
        out = ffi.new("struct dp_stats *")
        lib.dp_node_stats(self._node, out)
        return {name: getattr(out, name) for name, _ in ffi.typeof("struct dp_stats").fields}

    def tick(self, now_ms: int) -> int:
        """Do what is due; returns when to call next, in ms."""
        return int(lib.dp_node_tick(self._node, now_ms))

    # --- applications ---

    def sink_open(self) -> int:
        """A sink for one application."""
        out = ffi.new("uint32_t *")
        check(lib.dp_sink_open(self._node, out), "opening a sink")
        return int(out[0])

    def sink_close(self, sink: int) -> None:
        """Forget an application, its flows and what it has not fetched."""
        lib.dp_sink_close(self._node, sink)

    def sink_push(self, sink: int, record: bytes) -> None:
        """Append a record to what the application gets."""
        check(lib.dp_sink_push(self._node, sink, record, len(record)), "pushing a record")

    def ingest(self, sink: int, token: int, message: Any) -> bool:
        """Take an application's message; True when it must stay alive until ``released`` names
        ``token``.
        """
        data = ffi.from_buffer(message)
        status = lib.dp_sink_ingest(self._node, sink, token, data, len(data), self._kept)
        if status:
            check(status, "taking data")
        kept: bool = self._kept[0]
        return kept

    def released(self) -> list[int]:
        """Tokens of messages that are no longer read."""
        count = lib.dp_node_released(self._node, self._tokens, RELEASES_PER_CALL)
        return list(self._tokens[0:count]) if count else []

    def collect(self) -> None:
        """Bring what flows received to ``outputs``; the engine's poll does it by itself."""
        check(lib.dp_node_collect(self._node), "collecting")

    def outputs(self) -> Iterator[tuple[int, Any]]:
        """Messages for applications: sink and a buffer that is valid until the next step."""
        while lib.dp_node_output(self._node, self._output):
            yield self._output.sink, ffi.buffer(self._output.data, self._output.len)
            lib.dp_node_output_done(self._node)

    # --- links ---

    def link_new(
        self,
        *,
        initiator: bool,
        now_ms: int,
        known: Known | None = None,
        remote: Place | None = None,
        dial: int = 0,
    ) -> int:
        """A link without a socket; ``known`` is for initiators.

        Raises: TransportError (limit, key).
        """
        out = ffi.new("uint64_t *")
        address = ffi.new("struct dp_address *")
        if remote:
            _fill_address(address, remote)
        struct, _alive = _known(known)
        check(
            lib.dp_link_new(self._node, out, initiator, struct, address, dial, now_ms),
            "making a link",
        )
        return int(out[0])

    def receive(self, link: int, data: bytearray, now_ms: int) -> int:
        """Feed bytes; returns how many were taken. The rest must be offered again.
        Raises: TransportError when they ended the link.
        """
        buffer = ffi.from_buffer(data, require_writable=True)
        status = lib.dp_link_receive(self._node, link, buffer, len(data), self._size, now_ms)
        check(status, "receiving")
        return int(self._size[0])

    def produce(self, link: int, capacity: int, now_ms: int) -> bytes:
        """Up to ``capacity`` bytes (at least PRODUCE_MIN) for the peer."""
        out = ffi.new("uint8_t[]", capacity)
        check(lib.dp_link_produce(self._node, link, out, capacity, self._size, now_ms), "producing")
        return bytes(ffi.buffer(out, self._size[0]))

    def ticket(self, link: int, psk: bytes | None, key: bytes | None) -> None:
        """Answer a TICKET event: the ticket's psk and the key of the peer it was made with, or None
        and None for a ticket that is not known.  Raises: TransportError (state).
        """
        for secret in (psk, key):
            if secret is not None and len(secret) != KEY_LEN:
                raise ValueError(f"a psk or a key has {KEY_LEN} bytes, not {len(secret)}")
        psk_given = ffi.NULL if psk is None else ffi.from_buffer("uint8_t[]", psk)
        key_given = ffi.NULL if key is None else ffi.from_buffer("uint8_t[]", key)
        check(lib.dp_link_ticket(self._node, link, psk_given, key_given), "answering for a ticket")

    def tickets(self, link: int) -> tuple[bytes, bytes]:
        """The tickets of a READY link, once: for this node's next dial to the peer, and for the
        peer's next dial to this node. Secret.  Raises: TransportError (state).
        """
        out = ffi.new("uint8_t[]", 2 * TICKET_LEN)
        status = lib.dp_link_tickets(self._node, link, out, out + TICKET_LEN)
        check(status, "taking a link's tickets")
        both = bytes(out)
        lib.dp_wipe(out, len(out))
        return both[:TICKET_LEN], both[TICKET_LEN:]

    def ping(self, link: int) -> None:
        """Send a PING soon.  Raises: TransportError (state) unless the link is OPEN."""
        check(lib.dp_link_ping(self._node, link), "pinging a link")

    def admit(self, link: int, control: bytes) -> None:
        """Let a READY link open; ``control`` is its first control datagram."""
        check(lib.dp_link_admit(self._node, link, control, len(control)), "admitting a link")

    def control(self, link: int, kind: int, data: bytes) -> None:
        """Send a control datagram."""
        check(lib.dp_link_control(self._node, link, kind, data, len(data)), "sending control")

    def close_link(self, link: int, reason: int) -> None:
        """Say why and close; a DOWN event follows."""
        check(lib.dp_link_close(self._node, link, reason), "closing a link")

    def end_link(self, link: int, status: int = lib.DP_E_EOF) -> None:
        """The stream under the link has ended."""
        check(lib.dp_link_end(self._node, link, status), "ending a link")

    def link(self, link: int) -> LinkInfo:
        """What is known of a link."""
        out = ffi.new("struct dp_link_info *")
        check(lib.dp_link_get(self._node, link, out), "looking at a link")
        return LinkInfo(
            dial=out.dial,
            state=LinkState(out.state),
            initiator=out.initiator,
            mode=Mode(out.mode),
            fell_back=out.fell_back,
            key=bytes(ffi.buffer(out.key)),
            remote=_place(out.remote),
            seen=_place(out.seen),
            bytes_in=out.bytes_in,
            bytes_out=out.bytes_out,
            datagrams_in=out.datagrams_in,
            datagrams_out=out.datagrams_out,
            flows=out.flows,
        )

    # --- flows ---

    def flow_open(self, link: int, config: FlowConfig) -> int:
        """Join a protocol on a link with an application."""
        if len(config.lifts) > LIFTS_MAX:
            raise ValueError(f"a flow has {LIFTS_MAX} lifts at most, not {len(config.lifts)}")
        struct = ffi.new("struct dp_flow_config *")
        for name in FlowConfig.__slots__:
            setattr(struct, name, getattr(config, name))
        struct.lift_count = len(config.lifts)
        out = ffi.new("uint32_t *")
        check(lib.dp_flow_open(self._node, link, struct, out), "opening a flow")
        return int(out[0])

    def flow_close(self, flow: int, *, tombstone: bool) -> None:
        """Forget a flow; with ``tombstone``, drop what still comes for it until ``flow_bury``."""
        check(lib.dp_flow_close(self._node, flow, tombstone), "closing a flow")

    def flow(self, flow: int) -> FlowInfo:
        """What a flow knows of itself; begins a new ``waited_max_ms``.

        Raises: TransportError (argument) when there is no such flow.
        """
        out = self._flow_info
        check(lib.dp_flow_get(self._node, flow, out), "looking at a flow")
        return FlowInfo(
            out.link,
            _position(out.accepted),
            _position(out.sent),
            _position(out.confirmed),
            _position(out.received),
            _position(out.consumed),
            out.send_limit,
            out.receive_limit,
            out.window,
            out.peer_window,
            out.wait_ms,
            out.waited_max_ms,
        )

    def flow_tombstone(self, link: int, number: int) -> None:
        """Drop what comes for ``number`` until ``flow_bury``, whether or not a flow has it."""
        check(lib.dp_flow_tombstone(self._node, link, number), "withdrawing a number")

    def flow_bury(self, link: int, number: int) -> None:
        """Nothing more comes for a closed flow's number."""
        check(lib.dp_flow_bury(self._node, link, number), "burying a flow")

    # --- caps ---

    def limit(self, up: int, down: int) -> None:
        """Cap what all applications' datagrams may cost, in bytes a second; 0 = no cap.

        Raises: TransportError (argument) above ``RATE_MAX``, here and in the other two.
        """
        check(lib.dp_node_limit(self._node, up, down), "limiting the node")

    def group_limit(self, group: int, up: int, down: int) -> None:
        """Cap a group of flows."""
        check(lib.dp_group_limit(self._node, group, up, down), "limiting a group")

    def link_limit(self, link: int, up: int, down: int) -> None:
        """Cap a link, for as long as it lives."""
        check(lib.dp_link_limit(self._node, link, up, down), "limiting a link")

    def usage(self) -> Usage:
        """Of all flows since the node began."""
        out = ffi.new("struct dp_usage *")
        check(lib.dp_node_usage(self._node, out), "looking at the node's usage")
        return usage_of(out)

    def group_usage(self, group: int) -> Usage:
        """Of a group of flows since the node began."""
        out = ffi.new("struct dp_usage *")
        check(lib.dp_group_usage(self._node, group, out), "looking at a group's usage")
        return usage_of(out)


def _position(position: Any) -> Position:
    return Position(position.datagrams, position.bytes)


def _event(event: Any) -> Event:
    data = bytes(ffi.buffer(event.data, event.len)) if event.data else b""
    return Event(
        event.kind,
        event.status,
        event.link,
        event.dial,
        event.sink,
        event.flow,
        event.type,
        event.reason,
        event.unsent,
        data,
    )


def _random_callback(random: Callable[[int], bytes]) -> Any:
    def fill(_context: Any, out: Any, length: int) -> None:
        ffi.memmove(out, random(length), length)

    return ffi.callback("void(void *, uint8_t *, size_t)", fill)


class Engine(Node):
    """A node with sockets: one shard's."""

    def __init__(self, seed: bytes, config: NodeConfig | None = None) -> None:
        settings = _Config(seed, config or NodeConfig())
        out = ffi.new("dp_engine **")
        try:
            check(lib.dp_engine_new(out, settings.struct), "making an engine")
        finally:
            settings.close()
        self._engine = ffi.gc(out[0], lib.dp_engine_free)
        self._poll = lib.dp_engine_poll
        self._woken = ffi.new("uint64_t *")
        self._link = ffi.new("uint64_t *")
        self._adopt(lib.dp_engine_node(self._engine))

    def close(self) -> None:
        """Close all sockets and free everything; nothing may be called afterwards."""
        ffi.release(self._engine)

    def listen(self, place: Place) -> int:
        """Listen with SO_REUSEPORT; returns the port.  Raises: Refused."""
        address = ffi.new("struct dp_address *")
        _fill_address(address, place)
        port = ffi.new("uint16_t *")
        check(
            lib.dp_engine_listen(self._engine, address, port),
            f"listening on {place.host} port {place.port}",
        )
        return int(port[0])

    def stop_listening(self) -> None:
        """Close the listeners."""
        lib.dp_engine_stop_listening(self._engine)

    def dial(self, place: Place, *, dial: int, known: Known | None = None) -> int:
        """Begin to connect; returns the link.  Raises: Refused, TransportError (limit, key)."""
        address = ffi.new("struct dp_address *")
        _fill_address(address, place)
        struct, _alive = _known(known)
        check(
            lib.dp_engine_dial(self._engine, address, struct, dial, self._link),
            f"dialling {place.host} port {place.port}",
        )
        return int(self._link[0])

    def watch(self, descriptor: int, tag: int) -> None:
        """Wake ``poll`` when ``descriptor`` is readable, with bit ``tag``."""
        check(lib.dp_engine_watch(self._engine, descriptor, tag), "watching a descriptor")

    def unwatch(self, descriptor: int) -> None:
        """Stop watching."""
        lib.dp_engine_unwatch(self._engine, descriptor)

    def poll(self, timeout_ms: int) -> int:
        """Write, wait, read; returns the bits of what there is to do: watched descriptors,
        WOKEN_EVENTS and WOKEN_OUTPUT.
        """
        status = self._poll(self._engine, timeout_ms, self._woken)
        if status:
            check(status, "polling")
        woken: int = self._woken[0]
        return woken

    def flush(self) -> None:
        """Write what is due now."""
        lib.dp_engine_flush(self._engine)
