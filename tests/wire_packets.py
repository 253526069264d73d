"""Discovery's packets as docs/spec/discovery.md describes them: a second implementation.

Written from the text, over the primitives of ``wire_noise``. Nothing of dp2p is imported.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from wire_noise import Noise, Silence, Unreadable, blake2b, ed25519_of, matches, static_of
from wire_noise import to_x25519 as to_static

NONCE, TAG, COOKIE = 12, 16, 16
FIRST, SECOND, SEALED = 1, 2, 3
FIRST_LEAST, ANSWER_MOST, PACKET_MOST = 300, 299, 1280
WINDOW, PACKETS_MOST = 2048, 1 << 32

MsgPack = int | bool | bytes | list["MsgPack"]


def msgpack(value: MsgPack) -> bytes:
    """The few types that handshakes need, each in its shortest form."""
    match value:
        case bool():
            return b"\xc3" if value else b"\xc2"
        case bytes():
            return b"\xc4" + bytes([len(value)]) + value
        case list():
            return bytes([0x90 | len(value)]) + b"".join(map(msgpack, value))
    for least, mark, form in ((1 << 32, 0xCF, ">Q"), (1 << 16, 0xCE, ">I"), (256, 0xCD, ">H")):
        if value >= least:
            return bytes([mark]) + struct.pack(form, value)
    return bytes([value]) if value < 128 else bytes([0xCC, value])


# --- section 1 ---


def network_key(network: bytes) -> bytes:
    return blake2b(network, 32, b"dp2p network")


def keys_of(network: bytes, public: bytes) -> bytes:
    return blake2b(b"dp2p packet" + public, 64, network_key(network))


def mask(keys: bytes, nonce: bytes, data: bytes) -> bytes:
    stream = Cipher(algorithms.ChaCha20(keys[:32], bytes(4) + nonce), None).encryptor()
    return stream.update(data)


def first_packet(keys: bytes, nonce: bytes, cookie: bytes, message: bytes) -> bytes:
    check = blake2b(cookie + message, 16, keys[32:])
    return nonce + mask(keys, nonce, bytes([FIRST]) + check + cookie + message)


def second_packet(keys: bytes, nonce: bytes, index: int, message: bytes) -> bytes:
    return nonce + mask(keys, nonce, bytes([SECOND]) + struct.pack("<I", index) + message)


@dataclass
class First:
    cookie: bytes
    message: bytes


@dataclass
class Second:
    index: int
    message: bytes


@dataclass
class Sealed:
    index: int
    counter: int
    header: bytes
    "With the nonce: the associated data."
    sealed: bytes


def read(keys: bytes, packet: bytes) -> First | Second | Sealed:
    """Raises: Silence."""
    if not 43 <= len(packet) <= PACKET_MOST:
        raise Silence("size")
    nonce, masked = packet[:NONCE], packet[NONCE:]
    plain = mask(keys, nonce, masked)
    if plain[0] == FIRST and len(packet) >= FIRST_LEAST:
        check, cookie, message = plain[1:17], plain[17:33], plain[33:]
        if not hmac.compare_digest(check, blake2b(cookie + message, 16, keys[32:])):
            raise Silence("check")
        return First(cookie, message)
    if plain[0] == SECOND and 65 <= len(packet) <= ANSWER_MOST:
        return Second(struct.unpack("<I", plain[1:5])[0], plain[5:])
    if plain[0] == SEALED:
        index, counter = struct.unpack("<IQ", plain[1:13])
        return Sealed(index, counter, nonce + plain[:13], masked[13:])
    raise Silence("kind")


# --- section 2 ---


def padded(body: bytes, size: int) -> bytes:
    return (struct.pack("<H", len(body)) + body).ljust(size, b"\0")


def unpadded(payload: bytes) -> bytes:
    (size,) = struct.unpack("<H", payload[:2])
    if size > len(payload) - 2:
        raise Silence("payload")
    return payload[2 : 2 + size]


def noise(network: bytes, initiator: bool, seed: bytes, e: bytes, peer: bytes | None) -> Noise:
    return Noise(
        "IK",
        b"dp2p-udp/1\0" + network,
        initiator=initiator,
        own={"s": static_of(seed), "e": e},
        peer={} if peer is None else {"s": to_static(peer)},
    )


def hello(seed: bytes, serves: bool, seq: int) -> MsgPack:
    return [ed25519_of(seed), serves, seq]


def place(host: str, port: int) -> MsgPack:
    return [ipaddress.ip_address(host).packed, port]


def proves(key: bytes, side: Noise) -> bool:
    return matches(key, side.peer["s"])


def retry_key(keys: bytes, e: bytes, nonce: bytes) -> bytes:
    return blake2b(b"dp2p retry" + e + nonce, 32, keys[32:])


def retry_packet(keys: bytes, e: bytes, nonce: bytes, cookie: bytes, padding: int) -> bytes:
    aead = ChaCha20Poly1305(retry_key(keys, e, nonce))
    return nonce + aead.encrypt(bytes(12), cookie + bytes(padding), b"")


def retry_cookie(keys: bytes, e: bytes, packet: bytes) -> bytes:
    aead = ChaCha20Poly1305(retry_key(keys, e, packet[:NONCE]))
    try:
        return aead.decrypt(bytes(12), packet[NONCE:], b"")[:COOKIE]
    except InvalidTag:
        raise Silence("cookie") from None


# --- section 3 ---


class Session:
    """One side of a session, after the split."""

    def __init__(self, tx: bytes, rx: bytes, keys: bytes, index: int) -> None:
        """``keys`` and ``index``: what the other side is sent with, and its number."""
        self.tx, self.rx, self.keys, self.index = tx, rx, keys, index
        self.sent = 0
        self.taken: set[int] = set()

    def seal(self, nonce: bytes, body: bytes, padding: int) -> bytes:
        header = bytes([SEALED]) + struct.pack("<IQ", self.index, self.sent)
        plain = struct.pack("<H", len(body)) + body + bytes(padding)
        counter = bytes(4) + struct.pack("<Q", self.sent)
        sealed = ChaCha20Poly1305(self.tx).encrypt(counter, plain, nonce + header)
        self.sent += 1
        return nonce + mask(self.keys, nonce, header) + sealed

    def open(self, packet: Sealed) -> bytes:
        newest = max(self.taken, default=-1)
        if packet.counter in self.taken or packet.counter <= newest - WINDOW:
            raise Silence("repeated")
        if packet.counter >= PACKETS_MOST:
            raise Silence("beyond the last")
        counter = bytes(4) + struct.pack("<Q", packet.counter)
        try:
            plain = ChaCha20Poly1305(self.rx).decrypt(counter, packet.sealed, packet.header)
        except InvalidTag:
            raise Unreadable from None
        self.taken.add(packet.counter)
        return unpadded(plain)
