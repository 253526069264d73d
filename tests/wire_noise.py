"""What docs/spec/wire.md builds on, and its frames: half of the second implementation.

Keys, Noise and frames, written from the text with hashlib and the package ``cryptography``. Nothing
of dp2p is imported. ``wire_handshake`` goes on from here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

P = 2**255 - 19  # the field of Curve25519
TAG = 16


class Silence(Exception):
    """The text wants the connection closed without a byte."""


class Unreadable(Exception):
    """A Noise message that does not verify."""


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def blake2b(data: bytes, size: int = 64, key: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=size, key=key).digest()


# --- identity ---


def ed25519_of(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def static_of(seed: bytes) -> bytes:
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def y_of(key: bytes) -> int:
    """The y of an Ed25519 key; its highest bit, the sign of x, is no part of it."""
    return int.from_bytes(key, "little") & (2**255 - 1)


def to_x25519(key: bytes) -> bytes:
    """(1 + y) / (1 - y)"""
    y = y_of(key)
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def matches(key: bytes, static: bytes) -> bool:
    """Whether an Ed25519 key is the static key that a handshake proved."""
    y, u = y_of(key), int.from_bytes(static, "little")
    return y < P and u < P and (y * (u + 1) - (u - 1)) % P == 0


# --- Noise (revision 34) ---


class Cipherstate:
    """Noise section 5.1."""

    def __init__(self, key: bytes, n: int = 0) -> None:
        self.key, self.n = key, n

    def nonce(self) -> bytes:
        self.n += 1
        return bytes(4) + struct.pack("<Q", self.n - 1)

    def seal(self, text: bytes, ad: bytes = b"") -> bytes:
        return ChaCha20Poly1305(self.key).encrypt(self.nonce(), text, ad)

    def open(self, text: bytes, ad: bytes = b"") -> bytes:
        try:
            return ChaCha20Poly1305(self.key).decrypt(self.nonce(), text, ad)
        except InvalidTag:
            raise Unreadable from None

    def rekey(self) -> None:
        nonce = bytes(4) + b"\xff" * 8
        self.key = ChaCha20Poly1305(self.key).encrypt(nonce, bytes(32), b"")[:32]


def hkdf(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """All three outputs; Noise section 4.3."""

    def mac(with_key: bytes, text: bytes) -> bytes:
        return hmac.new(with_key, text, hashlib.blake2b).digest()

    first = mac(mac(key, data), b"\x01")
    second = mac(mac(key, data), first + b"\x02")
    return first, second, mac(mac(key, data), second + b"\x03")


@dataclass(frozen=True)
class Pattern:
    """One row of Noise's table of patterns."""

    messages: tuple[str, ...]
    before: str = ""
    "What both know beforehand: ``s`` of the responder, or ``e`` of the initiator."
    responder_first: bool = False


PATTERNS = {
    "XX": Pattern(("e", "e ee s es", "s se")),
    "IK": Pattern(("e es s ss", "e ee se"), before="s"),
    "NNpsk0": Pattern(("psk e", "e ee")),
    "XXfallback": Pattern(("e ee s es", "s se"), before="e", responder_first=True),
}


class Noise:
    """One side. *Initiator* is who opened the connection, in XXfallback as well."""

    def __init__(
        self,
        name: str,
        prologue: bytes,
        *,
        initiator: bool,
        own: dict[str, bytes],
        peer: dict[str, bytes] | None = None,
        psk: bytes = b"",
    ) -> None:
        """``own``: private keys ``e`` and ``s``; ``peer``: what is known of the public ones."""
        self.pattern, self.initiator, self.psk = PATTERNS[name], initiator, psk
        self.own, self.peer = own, peer or {}
        protocol = f"Noise_{name}_25519_ChaChaPoly_BLAKE2b".encode()
        self.h = self.ck = protocol.ljust(64, b"\0")
        self.cipher: Cipherstate | None = None
        self.step = 0
        self.mix_hash(prologue)
        if self.pattern.before:
            mine = initiator == (self.pattern.before == "e")
            key = self.pattern.before
            self.mix_hash(public_of(own[key]) if mine else self.peer[key])

    def mix_hash(self, data: bytes) -> None:
        self.h = blake2b(self.h + data)

    def mix_key(self, data: bytes) -> None:
        self.ck, key, _ = hkdf(self.ck, data)
        self.cipher = Cipherstate(key[:32])

    def mix_psk(self) -> None:
        self.ck, hashed, key = hkdf(self.ck, self.psk)
        self.mix_hash(hashed)
        self.cipher = Cipherstate(key[:32])

    def mix_dh(self, token: str) -> None:
        """Of ``es`` and the like the first letter is the initiator's key."""
        first, second = token[0], token[1]
        mine, theirs = (first, second) if self.initiator else (second, first)
        private = X25519PrivateKey.from_private_bytes(self.own[mine])
        try:
            self.mix_key(private.exchange(X25519PublicKey.from_public_bytes(self.peer[theirs])))
        except ValueError:  # the result is zero
            raise Silence("a key of low order") from None

    def seal(self, text: bytes) -> bytes:
        sealed = self.cipher.seal(text, self.h) if self.cipher else text
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        text = self.cipher.open(sealed, self.h) if self.cipher else sealed
        self.mix_hash(sealed)
        return text

    def mix_e(self, key: bytes) -> None:
        self.mix_hash(key)
        if self.psk:
            self.mix_key(key)

    def tokens(self) -> list[str]:
        self.step += 1
        return self.pattern.messages[self.step - 1].split()

    def write(self, payload: bytes) -> bytes:
        out = b""
        for token in self.tokens():
            if token == "e":
                out += public_of(self.own["e"])
                self.mix_e(out)
            elif token == "s":
                out += self.seal(public_of(self.own["s"]))
            elif token == "psk":
                self.mix_psk()
            else:
                self.mix_dh(token)
        return out + self.seal(payload)

    def read(self, message: bytes) -> bytes:
        for token in self.tokens():
            if token == "e":
                self.peer["e"], message = message[:32], message[32:]
                self.mix_e(self.peer["e"])
            elif token == "s":
                size = 32 + (TAG if self.cipher else 0)
                self.peer["s"], message = self.open(message[:size]), message[size:]
            elif token == "psk":
                self.mix_psk()
            else:
                self.mix_dh(token)
        return self.open(message)

    def split(self) -> tuple[bytes, bytes, bytes]:
        """What this side sends with, what it receives with, and r."""
        first, second, r = (key[:32] for key in hkdf(self.ck, b""))
        if self.initiator != self.pattern.responder_first:
            return first, second, r
        return second, first, r


# --- frames ---


class Frames(Cipherstate):
    """One direction of a link."""

    def mask(self) -> bytes:
        key = blake2b(b"dp2p length mask", 32, self.key)
        nonce = bytes(4) + bytes(4) + struct.pack("<Q", self.n // 32)  # counter 0, then 12 bytes
        stream = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))
        return stream[2 * (self.n % 32) :][:2]

    def frame(self, plain: bytes) -> bytes:
        header = xor(struct.pack("<H", len(plain) + TAG), self.mask())
        return header + self.seal(plain)

    def plain(self, wire: bytes) -> tuple[bytes, bytes]:
        """The first frame's plaintext, and what follows it."""
        (size,) = struct.unpack("<H", xor(wire[:2], self.mask()))
        return self.open(wire[2 : 2 + size]), wire[2 + size :]
