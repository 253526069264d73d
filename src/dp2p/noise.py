"""Noise handshakes, the AEAD and the identity key's operations, as the C extension does them.

Suite ``25519_ChaChaPoly_BLAKE2b``. Names are those of the Noise specification: ``s`` static,
``e`` ephemeral, ``rs`` the remote static key, ``psk`` pre-shared. Links do their own handshake in
C; this module serves key handling, discovery and the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from dp2p.transport import check, ffi, lib

KEY_BYTES = 32
TAG_BYTES = 16
HASH_BYTES = 64
SIGNATURE_BYTES = 64
MESSAGE_BYTES = 65535  # longest handshake message; Noise section 3


def _fixed(value: bytes, length: int, name: str) -> bytes:
    """``value``, which C reads ``length`` bytes of.  Raises: ValueError, without the value."""
    if len(value) != length:
        raise ValueError(f"{name} has {length} bytes, not {len(value)}")
    return value


check(lib.dp_init(), "starting libsodium")


# --- identity ---


def identity_public(seed: bytes) -> bytes:
    """The Ed25519 public key of ``seed`` (32 secret bytes)."""
    out = ffi.new("uint8_t[]", KEY_BYTES)
    check(lib.dp_identity_public(out, _fixed(seed, KEY_BYTES, "a seed")), "deriving a public key")
    return bytes(out)


def identity_static(seed: bytes) -> bytes:
    """The X25519 private key that belongs to an Ed25519 ``seed``; both are secret.

    Source: RFC 8032, 5.1.5; libsodium's conversion.
    """
    out = ffi.new("uint8_t[]", KEY_BYTES)
    check(lib.dp_identity_static(out, _fixed(seed, KEY_BYTES, "a seed")), "deriving a static key")
    return bytes(out)


def identity_static_public(public_key: bytes) -> bytes:
    """The X25519 public key of an Ed25519 public key.

    Raises: TransportError "key" when it is no point of the main subgroup.
    """
    out = ffi.new("uint8_t[]", KEY_BYTES)
    key = _fixed(public_key, KEY_BYTES, "a public key")
    check(lib.dp_identity_static_public(out, key), "converting a public key")
    return bytes(out)


def identity_matches(public_key: bytes, static_public: bytes) -> bool:
    """Whether an X25519 public key belongs to an Ed25519 one, or to its negative."""
    key = _fixed(public_key, KEY_BYTES, "a public key")
    static = _fixed(static_public, KEY_BYTES, "a static key")
    return bool(lib.dp_identity_matches(key, static))


def node_id(public_key: bytes) -> bytes:
    """BLAKE2b-256 of an Ed25519 public key."""
    out = ffi.new("uint8_t[]", KEY_BYTES)
    key = _fixed(public_key, KEY_BYTES, "a public key")
    check(lib.dp_node_id(out, key), "deriving a node-ID")
    return bytes(out)


def sign(message: bytes, seed: bytes) -> bytes:
    """The Ed25519 signature (64 bytes) of ``message`` by the key of ``seed``."""
    out = ffi.new("uint8_t[]", SIGNATURE_BYTES)
    key = _fixed(seed, KEY_BYTES, "a seed")
    check(lib.dp_sign(out, message, len(message), key), "signing")
    return bytes(out)


def verify(signature: bytes, message: bytes, public_key: bytes) -> None:
    """Accept an Ed25519 signature in silence.  Raises: TransportError "auth" for a wrong one."""
    given = _fixed(signature, SIGNATURE_BYTES, "a signature")
    key = _fixed(public_key, KEY_BYTES, "a public key")
    check(lib.dp_verify(given, message, len(message), key), "verifying a signature")


def blake2b(data: bytes, length: int = KEY_BYTES, key: bytes = b"") -> bytes:
    """BLAKE2b of ``data``, ``length`` bytes (16 to 64), keyed when ``key`` (up to 64) is given.

    Raises: TransportError "size".
    """
    out = ffi.new("uint8_t[]", max(length, 0))
    check(lib.dp_blake2b(out, length, data, len(data), key, len(key)), "hashing")
    return bytes(out)


# --- AEAD ---


def providers() -> list[str]:
    """Names of the AEAD providers that were built in, fastest first: what "auto" takes leads."""
    found: list[str] = []
    while (name := lib.dp_aead_provider(len(found))) != ffi.NULL:
        found.append(ffi.string(name).decode("ascii"))
    return found


def aead_seal(provider: str, key: bytes, nonce: int, ad: bytes, plaintext: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) with the Noise counter ``nonce``.

    Shape: len(plaintext) + 16.  Raises: TransportError "provider".
    """
    out = ffi.new("uint8_t[]", len(plaintext) + TAG_BYTES)
    secret = _fixed(key, KEY_BYTES, "a key")
    status = lib.dp_aead_seal(
        provider.encode(), secret, nonce, ad, len(ad), out, len(out), plaintext, len(plaintext)
    )
    check(status, "sealing")
    return bytes(out)


def aead_open(provider: str, key: bytes, nonce: int, ad: bytes, ciphertext: bytes) -> bytes:
    """The plaintext that :func:`aead_seal` was given.

    Raises: TransportError "auth", "size" (shorter than a tag) or "provider".
    """
    out = ffi.new("uint8_t[]", max(len(ciphertext) - TAG_BYTES, 0))
    secret = _fixed(key, KEY_BYTES, "a key")
    status = lib.dp_aead_open(
        provider.encode(), secret, nonce, ad, len(ad), out, len(out), ciphertext, len(ciphertext)
    )
    check(status, "opening")
    return bytes(out)


# --- handshakes ---


@cache
def patterns() -> dict[str, int]:
    """Number by name of every pattern in the table of src/patterns.c."""
    return {
        ffi.string(lib.dp_pattern_name(number)).decode("ascii"): number
        for number in range(lib.DP_PATTERN_COUNT)
    }


class Handshake:
    """One side of a handshake and, after :meth:`split`, of the transport that it keyed.

    Every method raises TransportError: "state" when the call does not fit the turn, "size",
    "auth", "key" (a low-order public key). A refused message leaves the handshake as it was.
    """

    def __init__(
        self,
        pattern: str,
        *,
        initiator: bool,
        prologue: bytes = b"",
        s: bytes | None = None,
        spk: bytes | None = None,
        rs: bytes | None = None,
        psk: bytes | None = None,
        e: bytes | None = None,
        provider: str = "auto",
    ) -> None:
        """``spk`` is the public key of ``s``, which saves deriving it; the caller vouches for it.

        ``e`` fixes the ephemeral private key, for vectors only.

        Raises: ValueError for a key of wrong length or an unknown pattern; TransportError
        "argument" for a key that is missing, "provider" for one that was not built in.
        """
        if pattern not in patterns():
            raise ValueError(f"no pattern {pattern!r}; there are {', '.join(patterns())}")
        self._initiator = initiator
        keys = {"s": s, "spk": spk, "rs": rs, "psk": psk, "e": e}
        config, _alive = _config(pattern, initiator, prologue, provider, keys)
        made = ffi.new("dp_handshake **")
        check(lib.dp_handshake_new(made, config), f"starting {pattern}")
        self.handle = ffi.gc(made[0], lib.dp_handshake_free)
        "The handshake in C, for ``packets``, which takes its keys."

    def fallback(
        self,
        *,
        prologue: bytes = b"",
        s: bytes,
        e: bytes | None = None,
        re: bytes | None = None,
    ) -> None:
        """Go on with XXfallback after the first message of IK or NNpsk0 was refused.

        The responder gives the first 32 bytes of that message as ``re`` and writes next.
        """
        keys = {"s": s, "e": e}
        config, _alive = _config("XXfallback", self._initiator, prologue, "auto", keys)
        key = ffi.NULL if re is None else _fixed(re, KEY_BYTES, "re")
        check(lib.dp_handshake_fallback(self.handle, config, key), "falling back")

    def write(self, payload: bytes = b"") -> bytes:
        """The next message, carrying ``payload``.  Shape: len(payload) + :attr:`overhead`."""
        out = ffi.new("uint8_t[]", len(payload) + self.overhead)
        length = ffi.new("size_t *")
        status = lib.dp_handshake_write(self.handle, out, len(out), length, payload, len(payload))
        check(status, "writing a handshake message")
        return bytes(ffi.buffer(out, length[0]))

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's next message.  Shape: len(message) - :attr:`overhead`."""
        out = ffi.new("uint8_t[]", len(message))
        length = ffi.new("size_t *")
        status = lib.dp_handshake_read(self.handle, out, len(out), length, message, len(message))
        check(status, "reading a handshake message")
        return bytes(ffi.buffer(out, length[0]))

    @property
    def overhead(self) -> int:
        """Bytes that the next message adds to its payload; 0 when there is none."""
        return int(lib.dp_handshake_overhead(self.handle))

    @property
    def finished(self) -> bool:
        """Whether every message has been exchanged."""
        return bool(lib.dp_handshake_finished(self.handle))

    @property
    def our_turn(self) -> bool:
        """Whether this side writes the next message."""
        return bool(lib.dp_handshake_our_turn(self.handle))

    @property
    def remote_static(self) -> bytes:
        """The peer's X25519 public key.  Raises: TransportError "state" while it is unknown."""
        out = ffi.new("uint8_t[]", KEY_BYTES)
        check(lib.dp_handshake_remote_static(self.handle, out), "reading the remote static key")
        return bytes(out)

    def split(self) -> bytes:
        """Key the transport; return the handshake hash (64 bytes), the channel binding."""
        out = ffi.new("uint8_t[]", HASH_BYTES)
        check(lib.dp_handshake_split(self.handle, out), "splitting a handshake")
        return bytes(out)

    def seal(self, plaintext: bytes) -> bytes:
        """The next transport message.  Shape: len(plaintext) + 16."""
        out = ffi.new("uint8_t[]", len(plaintext) + TAG_BYTES)
        status = lib.dp_handshake_seal(self.handle, out, len(out), plaintext, len(plaintext))
        check(status, "sealing a transport message")
        return bytes(out)

    def open(self, ciphertext: bytes) -> bytes:
        """The plaintext of the peer's next transport message; a refused one moves no nonce."""
        out = ffi.new("uint8_t[]", max(len(ciphertext) - TAG_BYTES, 0))
        status = lib.dp_handshake_open(self.handle, out, len(out), ciphertext, len(ciphertext))
        check(status, "opening a transport message")
        return bytes(out)

    def rekey_tx(self) -> None:
        """Replace the sending key.  Source: Noise 4.2 and 11.3."""
        check(lib.dp_handshake_rekey_tx(self.handle), "rekeying")

    def rekey_rx(self) -> None:
        """Replace the receiving key.  Source: Noise 4.2 and 11.3."""
        check(lib.dp_handshake_rekey_rx(self.handle), "rekeying")


def _config(
    pattern: str,
    initiator: bool,
    prologue: bytes,
    provider: str,
    keys: Mapping[str, bytes | None],
) -> tuple[Any, list[Any]]:
    """A ``struct dp_handshake_config`` and what must stay alive while C reads it."""
    alive: list[Any] = [
        ffi.from_buffer("uint8_t[]", prologue),
        ffi.new("char[]", provider.encode()),
    ]
    config = ffi.new("struct dp_handshake_config *")
    config.pattern = patterns()[pattern]
    config.initiator = initiator
    config.prologue, config.provider = alive
    config.prologue_len = len(prologue)
    for name, key in keys.items():
        if key is not None:
            alive.append(ffi.from_buffer("uint8_t[]", _fixed(key, KEY_BYTES, name)))
            setattr(config, name, alive[-1])
    return config, alive
