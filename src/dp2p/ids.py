"""Text forms of public keys and node-IDs, and the distance between nodes.

Source: docs/spec/wire.md, "Identity". 32 bytes are written as 52 characters of RFC 4648 base32
in lower case without padding. Each value has exactly one such form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

KEY_BYTES = 32
TEXT_CHARACTERS = 52

# 52 characters carry 260 bits: the last 4 must be zero, so the last character is one of two.
_TEXT = re.compile(r"[a-z2-7]{51}[aq]\Z")


def to_text(value: bytes) -> str:
    """The text form of 32 bytes: a public key or a node-ID."""
    if len(value) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(value)}")
    return base64.b32encode(value).decode("ascii").rstrip("=").lower()


def from_text(text: str) -> bytes:
    """The 32 bytes that ``text`` stands for.  Raises: ValueError, which never repeats the text."""
    if not _TEXT.match(text):
        raise ValueError(
            f"a key is {TEXT_CHARACTERS} characters of lower-case base32 (a-z, 2-7), "
            "of which the last is a or q"
        )
    try:
        return base64.b32decode(text.upper() + "====")
    except binascii.Error as error:  # pragma: no cover - the pattern leaves no such text
        raise ValueError("not base32") from error


def node_id(public_key: bytes) -> bytes:
    """BLAKE2b-256 of a public key."""
    return hashlib.blake2b(public_key, digest_size=KEY_BYTES).digest()


def node_id_text(key: str) -> str:
    """The node-ID, as text, of a public key given as text."""
    return to_text(node_id(from_text(key)))


def distance(one: bytes, other: bytes) -> int:
    """XOR distance between two node-IDs."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
