"""The handshake of docs/spec/wire.md, both sides and all modes: the second implementation.

Sans-IO: whole messages in and out, with all that is random given beforehand. Like ``wire_noise`` it
is written from the text and imports nothing of dp2p.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from wire_noise import (
    Cipherstate,
    Frames,
    Noise,
    Silence,
    Unreadable,
    blake2b,
    ed25519_of,
    matches,
    static_of,
    to_x25519,
    xor,
)

HEADER = 3
NAME = 16  # of a ticket; its psk follows
FIXED = 53  # bytes of a payload in front of the hello
HELLO_MOST = 32000
REST_MOST = {1: 768, 2: 32420, 3: 32420}


class WrongKey(Silence):
    """Another key answered than the only one that will do."""

    def __init__(self, key: bytes) -> None:
        super().__init__("another key")
        self.key = key


class Mode(IntEnum):
    XX = 0
    IK = 1
    RESUME = 2
    FALLBACK = 3


PATTERN_OF = {Mode.XX: "XX", Mode.IK: "IK", Mode.RESUME: "NNpsk0", Mode.FALLBACK: "XXfallback"}
LEAST = {Mode.XX: 0, Mode.IK: 64, Mode.RESUME: 32}  # bytes behind the first header


def header_mask(network_key: bytes, number: int, ephemerals: bytes) -> bytes:
    return blake2b(bytes([number]) + ephemerals, 16, network_key)[:HEADER]


def ticket(r: bytes, direction: int) -> bytes:
    """Name (16) and psk (32)."""
    return blake2b(b"dp2p ticket" + bytes([direction]), 48, r)


def address(host: bytes, port: int) -> bytes:
    """An IPv4 address as payloads have it."""
    return b"\x04" + host.ljust(16, b"\0") + struct.pack("<H", port)


@dataclass(frozen=True)
class Draws:
    """All that one side draws at random."""

    e: bytes
    top: bool
    "The highest bit of its ephemeral key on the wire."
    extra: int = 0
    "Bytes of padding in message 2 or 3 beyond what makes the modes equally long."
    rest: int = 96
    "Bytes behind the header of message 1."
    padding: Callable[[int], bytes] = bytes
    "That of message 1. What is padded under encryption is padded with zeros."


@dataclass(frozen=True)
class Known:
    """What an initiator relies on."""

    key: bytes
    ticket: bytes | None = None
    pinned: bool = False


@dataclass(frozen=True)
class Setting:
    """One side: who it is, in which network, and what it says of itself and of the other."""

    seed: bytes
    draws: Draws
    seen: bytes = bytes(19)
    hello: bytes = b"{}"
    network: bytes = b"dp2p"


@dataclass(frozen=True)
class Said:
    """The payload of message 2 or 3."""

    key: bytes
    seen: bytes
    hello: bytes


@dataclass(frozen=True)
class Link:
    """What a handshake leaves."""

    mode: Mode
    "As the last two messages had it."
    peer: Said
    tx: Frames
    rx: Frames
    r: bytes
    dial_ticket: bytes
    accept_ticket: bytes


class Side:
    """What both sides have in common."""

    initiator: bool
    noise: Noise
    mode: Mode
    relied: bytes | None = None
    "The only Ed25519 key that will do."

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.key, self.static = ed25519_of(setting.seed), static_of(setting.seed)
        self.prologue = b"dp2p/1\0" + setting.network
        self.network_key = blake2b(setting.network, 32, b"dp2p network")
        self.ephemerals = b""

    def begin(self, mode: Mode, psk: bytes = b"", **peer: bytes) -> None:
        """A Noise handshake, of which the peer's public keys in ``peer`` are known."""
        self.mode = mode
        own = {"e": self.setting.draws.e, "s": self.static}
        self.noise = Noise(
            PATTERN_OF[mode], self.prologue, initiator=self.initiator, own=own, peer=peer, psk=psk
        )

    # --- messages ---

    def wrap(self, number: int, noise: bytes) -> bytes:
        """A Noise message as it goes on the wire; messages 1 and 2 begin with a key."""
        lead = b""
        if number < 3:
            top = 0x80 if self.setting.draws.top else 0
            lead, noise = noise[:31] + bytes([noise[31] | top]), noise[32:]
            self.ephemerals += lead
        header = struct.pack("<BH", self.mode, len(noise))
        return lead + xor(header, header_mask(self.network_key, number, self.ephemerals)) + noise

    def length(self, number: int, begin: bytes) -> int:
        """How long a message is on the wire, by its first 35 bytes, or 3 of message 3."""
        lead = 32 if number < 3 else 0
        mask = header_mask(self.network_key, number, self.ephemerals + begin[:lead])
        _, size = struct.unpack("<BH", xor(begin[lead : lead + HEADER], mask))
        return lead + HEADER + int(size)

    def unwrap(self, number: int, message: bytes) -> tuple[int, bytes, bytes]:
        """Mode, the key as Noise has it, and the rest."""
        lead, rest = (message[:32], message[32:]) if number < 3 else (b"", message)
        if len(rest) < HEADER:
            raise Silence("short")
        self.ephemerals += lead
        mask = header_mask(self.network_key, number, self.ephemerals)
        mode, size = struct.unpack("<BH", xor(rest[:HEADER], mask))
        rest = rest[HEADER:]
        if size > REST_MOST[number] or size != len(rest):
            raise Silence("length")
        return mode, lead[:31] + bytes(byte & 0x7F for byte in lead[31:]), rest

    # --- payloads of messages 2 and 3 ---

    def payload(self) -> bytes:
        hello = self.setting.hello
        level = 48 if self.mode in (Mode.IK, Mode.RESUME) else 0
        said = self.key + self.setting.seen + struct.pack("<H", len(hello)) + hello
        return said + bytes(level + self.setting.draws.extra)

    def judge(self, payload: bytes) -> Said:
        """Who speaks, if it may. Raises Silence, WrongKey."""
        size = int.from_bytes(payload[51:53], "little")
        if len(payload) < FIXED or size > min(HELLO_MOST, len(payload) - FIXED):
            raise Silence("payload")
        key, static = payload[:32], self.noise.peer.get("s")
        if static is not None and not matches(key, static):
            raise Silence("identity")
        if self.relied not in (None, key):
            raise WrongKey(key)
        return Said(key, payload[32:51], payload[FIXED : FIXED + size])

    def link(self, peer: Said, tx: Cipherstate, rx: Cipherstate) -> Link:
        """``tx`` and ``rx`` may have been used for message 3."""
        _, _, r = self.noise.split()
        own, other = (1, 2) if self.initiator else (2, 1)
        frames = Frames(tx.key, tx.n), Frames(rx.key, rx.n)
        return Link(self.mode, peer, *frames, r, ticket(r, own), ticket(r, other))

    def ciphers(self) -> tuple[Cipherstate, Cipherstate]:
        """For sending, for receiving."""
        tx, rx, _ = self.noise.split()
        return Cipherstate(tx), Cipherstate(rx)


class Initiator(Side):
    """Who opened the connection."""

    initiator = True

    def message_1(self, known: Known | None = None) -> bytes:
        """Nothing known: XX. A key: IK. A ticket too: NNpsk0."""
        draws, name = self.setting.draws, b""
        self.known = known
        self.relied = known.key if known else None
        if not known:
            self.begin(Mode.XX)
        elif known.ticket is None:
            self.begin(Mode.IK, s=to_x25519(known.key))
        else:
            name = known.ticket[:NAME]
            self.begin(Mode.RESUME, psk=known.ticket[NAME:])
        noise = self.noise.write(draws.padding(draws.rest - LEAST[self.mode]))
        return self.wrap(1, noise[:32] + name + noise[32:])

    def message_3(self, message_2: bytes) -> tuple[bytes, Link]:
        """Message 3, and the link. Raises Silence, WrongKey."""
        mode, e, rest = self.unwrap(2, message_2)
        if mode == Mode.FALLBACK and self.known:
            self.relied = self.known.key if self.known.pinned else None
            self.begin(Mode.FALLBACK)
        elif mode != self.mode:
            raise Silence("mode")
        try:
            peer = self.judge(self.noise.read(e + rest))
        except Unreadable:
            raise Silence("message 2") from None
        if self.mode in (Mode.XX, Mode.FALLBACK):
            message = self.wrap(3, self.noise.write(self.payload()))
            return message, self.link(peer, *self.ciphers())
        tx, rx = self.ciphers()
        return self.wrap(3, tx.seal(self.payload())), self.link(peer, tx, rx)


Tickets = dict[bytes, tuple[bytes, bytes]]
"Psk and the peer's key, by name."


class Responder(Side):
    """Who was dialled."""

    initiator = False

    def message_2(self, message_1: bytes, tickets: Tickets | None = None) -> bytes:
        """A ticket that is named is taken out of ``tickets``. Raises Silence."""
        mode, e, rest = self.unwrap(1, message_1)
        if mode not in LEAST or len(rest) < LEAST[Mode(mode)]:
            raise Silence("mode")
        try:
            self._read_first(Mode(mode), e, rest, {} if tickets is None else tickets)
        except Unreadable:
            self.relied = None
            self.begin(Mode.FALLBACK, e=e)
        return self.wrap(2, self.noise.write(self.payload()))

    def _read_first(self, mode: Mode, e: bytes, rest: bytes, tickets: Tickets) -> None:
        psk = b""
        if mode == Mode.RESUME:
            name, rest = rest[:NAME], rest[NAME:]
            if name not in tickets:
                raise Unreadable
            psk, self.relied = tickets.pop(name)
        self.begin(mode, psk=psk)
        self.noise.read(e + rest)

    def finish(self, message_3: bytes) -> Link:
        """The link; before this there is none. Raises Silence."""
        mode, _, rest = self.unwrap(3, message_3)
        if mode != self.mode:
            raise Silence("mode")
        try:
            if self.mode in (Mode.XX, Mode.FALLBACK):
                peer = self.judge(self.noise.read(rest))
                return self.link(peer, *self.ciphers())
            tx, rx = self.ciphers()
            return self.link(self.judge(rx.open(rest)), tx, rx)
        except Unreadable:
            raise Silence("message 3") from None
