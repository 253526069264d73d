"""Packets of discovery, as the C extension reads and makes them, and the sessions that seal them.

Source: docs/spec/discovery.md, "Packets". Names are those of ``cext/include/dp2p_packet.h``. Random
bytes are the caller's; what a nonce is used for twice is no secret any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from dp2p import noise
from dp2p.errors import TransportError
from dp2p.transport import check, ffi, lib

PACKET_MAX: int = lib.DP_PACKET_MAX
NONCE_BYTES: int = lib.DP_PACKET_NONCE_LEN
COOKIE_BYTES: int = lib.DP_COOKIE_LEN
FIRST_MIN: int = lib.DP_PACKET_FIRST_MIN
ANSWER_MAX: int = lib.DP_PACKET_ANSWER_MAX
FIRST_OVERHEAD: int = lib.DP_PACKET_FIRST_OVERHEAD
SECOND_OVERHEAD: int = lib.DP_PACKET_SECOND_OVERHEAD
SEALED_OVERHEAD: int = lib.DP_PACKET_SEALED_OVERHEAD
RETRY_OVERHEAD: int = lib.DP_PACKET_RETRY_OVERHEAD
SEALED_BODY_MAX: int = lib.DP_PACKET_BODY_MAX
KEYS_BYTES: int = lib.DP_PACKET_KEYS_LEN
REPLAY_WINDOW: int = lib.DP_REPLAY_WINDOW
NO_COOKIE = bytes(COOKIE_BYTES)

_NETWORK_LABEL = b"dp2p network"
_PROLOGUE = b"dp2p-udp/1"


@dataclass(frozen=True, slots=True)
class First:
    """Message 1 of a handshake; it was made by somebody who knows whom it is for."""

    cookie: bytes
    noise: bytes

    @property
    def ephemeral(self) -> bytes:
        """The sender's ephemeral key."""
        return self.noise[: noise.KEY_BYTES]


@dataclass(frozen=True, slots=True)
class Second:
    """Message 2."""

    index: int
    "The receiver's number of the handshake."
    noise: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A packet of a session, not yet opened."""

    index: int
    "The receiver's number of the session."
    counter: int
    unmasked: bytes


def network_key(network: str) -> bytes:
    """What every node of a network has."""
    return noise.blake2b(network.encode(), 32, _NETWORK_LABEL)


def prologue(network: str) -> bytes:
    """What every handshake of a network begins with."""
    return _PROLOGUE + b"\0" + network.encode()


def packet_keys(key_of_network: bytes, public_key: bytes) -> bytes:
    """What packets to the owner of ``public_key`` are masked and checked with: 64 bytes."""
    out = ffi.new("uint8_t[]", KEYS_BYTES)
    _lengths((key_of_network, noise.KEY_BYTES), (public_key, noise.KEY_BYTES))
    check(lib.dp_packet_keys(out, key_of_network, public_key), "deriving packet keys")
    return bytes(out)


def _lengths(*rows: tuple[bytes, int]) -> None:
    """Each value has the length that C reads.  Raises: ValueError, without the value."""
    for value, length in rows:
        if len(value) != length:
            raise ValueError(f"a value has {len(value)} bytes, not {length}")


class Parser:
    """Reads what arrives, by the receiver's own keys."""

    def __init__(self, keys: bytes) -> None:
        _lengths((keys, KEYS_BYTES))
        self._keys = keys
        self._header = ffi.new("struct dp_packet *")
        self._room = ffi.new("uint8_t[]", PACKET_MAX)
        self._view = ffi.buffer(self._room)

    def parse(self, data: bytes) -> First | Second | Sealed | None:
        """What ``data`` is; None when it is nothing that somebody sent to the owner of the keys."""
        if len(data) > PACKET_MAX:
            return None
        ffi.memmove(self._room, data, len(data))
        if lib.dp_packet_parse(self._header, self._keys, self._room, len(data)) < 0:
            return None
        header = self._header
        if header.kind == lib.DP_PACKET_SEALED:
            return Sealed(header.index, header.counter, self._view[: len(data)])
        payload = self._view[header.payload : len(data)]
        if header.kind == lib.DP_PACKET_SECOND:
            return Second(header.index, payload)
        return First(bytes(header.cookie), payload)


def first(keys: bytes, nonce: bytes, cookie: bytes, message: bytes) -> bytes:
    """The packet of message 1.  Raises: TransportError "size" outside of the bounds."""
    _lengths((keys, KEYS_BYTES), (nonce, NONCE_BYTES), (cookie, COOKIE_BYTES))
    out = ffi.new("uint8_t[]", FIRST_OVERHEAD + len(message))
    status = lib.dp_packet_first(out, len(out), keys, nonce, cookie, message, len(message))
    check(status, "making a message 1")
    return bytes(out)


def second(keys: bytes, nonce: bytes, index: int, message: bytes) -> bytes:
    """The packet of message 2.  Raises: TransportError "size" outside of the bounds."""
    _lengths((keys, KEYS_BYTES), (nonce, NONCE_BYTES))
    out = ffi.new("uint8_t[]", SECOND_OVERHEAD + len(message))
    status = lib.dp_packet_second(out, len(out), keys, nonce, index, message, len(message))
    check(status, "making a message 2")
    return bytes(out)


def retry(keys: bytes, ephemeral: bytes, nonce: bytes, cookie: bytes, padding: int) -> bytes:
    """A cookie for the sender of the message 1 with ``ephemeral``; ``keys`` are the own ones."""
    _lengths((keys, KEYS_BYTES), (ephemeral, noise.KEY_BYTES))
    _lengths((nonce, NONCE_BYTES), (cookie, COOKIE_BYTES))
    out = ffi.new("uint8_t[]", RETRY_OVERHEAD + padding)
    status = lib.dp_packet_retry(out, len(out), keys, ephemeral, nonce, cookie, padding)
    check(status, "making a retry")
    return bytes(out)


def retry_open(keys: bytes, ephemeral: bytes, packet: bytes) -> bytes | None:
    """The cookie by the owner of ``keys`` for the message 1 with ``ephemeral``; None if none."""
    _lengths((keys, KEYS_BYTES), (ephemeral, noise.KEY_BYTES))
    out = ffi.new("uint8_t[]", COOKIE_BYTES)
    if lib.dp_packet_retry_open(out, keys, ephemeral, packet, len(packet)) < 0:
        return None
    return bytes(out)


class Sealer:
    """What the sessions of a node share."""

    def __init__(self, provider: str = "auto") -> None:
        made = ffi.new("dp_sealer **")
        check(lib.dp_sealer_new(made, provider.encode()), "preparing to seal packets")
        self.handle = ffi.gc(made[0], lib.dp_sealer_free)
        self.room = ffi.new("uint8_t[]", PACKET_MAX)
        "Scratch: all sessions of a node belong to one loop."
        self.view = ffi.buffer(self.room)


class Refused(TransportError):
    """A sealed packet was not opened: "nonce" (repeated or too old), "auth" or "frame"."""


class SessionKeys:
    """One session's keys, counters and window, in C."""

    def __init__(self, sealer: Sealer, split: noise.Handshake, keys: bytes, index: int) -> None:
        """Takes the keys out of ``split``. ``keys`` and ``index``: the other side's.

        Raises: TransportError "state" when they were taken already.
        """
        _lengths((keys, KEYS_BYTES))
        made = ffi.new("dp_session **")
        status = lib.dp_session_new(made, sealer.handle, split.handle, keys, index)
        check(status, "making a session")
        self._sealer = sealer
        self._handle = ffi.gc(made[0], lib.dp_session_free)
        self._header = ffi.new("struct dp_packet *", {"kind": lib.DP_PACKET_SEALED})
        self._at = ffi.new("size_t[2]")

    def seal(self, body: bytes, nonce: bytes, padding: int = 0) -> bytes:
        """The next packet.  Raises: TransportError "size"; "nonce" when the session is used up."""
        _lengths((nonce, NONCE_BYTES))
        room = self._sealer.room
        status = lib.dp_session_seal(
            self._handle, room, PACKET_MAX, nonce, body, len(body), padding
        )
        check(status, "sealing a packet")
        return bytes(self._sealer.view[: SEALED_OVERHEAD + len(body) + padding])

    def open(self, packet: Sealed) -> bytes:
        """The body.  Raises: Refused; the session is then as it was, but after "frame"."""
        sealer, at, header, length = self._sealer, self._at, self._header, len(packet.unmasked)
        ffi.memmove(sealer.room, packet.unmasked, length)
        header.index, header.counter = packet.index, packet.counter
        header.payload = lib.DP_PACKET_SEALED_PAYLOAD
        header.payload_len = length - lib.DP_PACKET_SEALED_PAYLOAD
        status = lib.dp_session_open(self._handle, header, sealer.room, length, at, at + 1)
        if status < 0:
            raise Refused(
                status, ffi.string(lib.dp_status_name(status)).decode(), "opening a packet"
            )
        return bytes(sealer.view[at[0] : at[0] + at[1]])
