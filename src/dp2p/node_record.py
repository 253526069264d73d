"""Node records: what a node says of itself, signed, so that others can hand it on.

Source: docs/spec/node-record.md. A record is made once and verified as it was received; nobody but
its owner encodes it. It comes from anywhere, so each field has bounds.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from dp2p import addresses, ids, noise
from dp2p.control import Name
from dp2p.errors import AddressError, NodeRecordError, TransportError
from dp2p.hello import MALFORMED, EndpointText, KeyText

SIGNED_MAX = 1024  # bytes, signature and body
BODY_MAX = SIGNED_MAX - noise.SIGNATURE_BYTES
SEQ_MAX = (1 << 53) - 1  # what every JSON reader holds exactly
ENDPOINTS_MAX = 16
PROTOCOLS_MAX = 64
TEXT_PREFIX = "dp2p-record:"

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A record whose signature was made here or verified here."""

    key: bytes
    "The owner's public key."
    seq: int
    "Of two records of one key, that with the higher number counts."
    endpoints: tuple[str, ...]
    "Where the owner says it can be reached, best first; in canonical spelling, each once."
    protocols: tuple[str, ...]
    "Names, sorted, each once."
    more: bool
    "The owner speaks further protocols, for which there was no room."
    signed: bytes = field(repr=False)
    "Signature and body, as received."

    @property
    def dialable(self) -> tuple[str, ...]:
        """Those of its endpoints that take connections."""
        return tuple(text for text in self.endpoints if text.startswith(addresses.STREAMS))

    @property
    def datagrams(self) -> tuple[str, ...]:
        """Those of its endpoints that take discovery's packets."""
        return tuple(text for text in self.endpoints if text.startswith(addresses.DATAGRAMS))


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The signed JSON; unknown fields are ignored, and of a field given twice the last counts."""

    seq: Annotated[int, Meta(ge=1, le=SEQ_MAX)]
    key: KeyText
    endpoints: Annotated[list[EndpointText], Meta(max_length=ENDPOINTS_MAX)]
    protocols: Annotated[list[Name], Meta(max_length=PROTOCOLS_MAX)]
    more: bool = False


_body = msgspec.json.Decoder(_Body)


def sign(
    seed: bytes, *, seq: int, endpoints: Iterable[str], protocols: Iterable[str]
) -> NodeRecord:
    """A record by the key of ``seed`` (32 secret bytes).

    Protocols that do not fit are left out, from the end of their sorted list.
    Raises: NodeRecordError when a value is not allowed or the endpoints alone do not fit.
    """
    key = ids.to_text(noise.identity_public(seed))
    body = _fitting(seq, key, _canonical(endpoints), sorted(set(protocols)))
    return _read(noise.sign(body, seed) + body)


def verify(signed: bytes) -> NodeRecord:
    """Read a record and check its signature.

    Raises: NodeRecordError naming what is wrong: size, body, key, endpoint or signature.
    """
    if not noise.SIGNATURE_BYTES < len(signed) <= SIGNED_MAX:
        raise NodeRecordError(
            f"node record: {len(signed)} bytes; allowed is {noise.SIGNATURE_BYTES + 1} "
            f"to {SIGNED_MAX}"
        )
    record = _read(signed)
    try:
        noise.identity_static_public(record.key)
    except TransportError:
        raise NodeRecordError("node record: key: no point of the main subgroup") from None
    signature, body = signed[: noise.SIGNATURE_BYTES], signed[noise.SIGNATURE_BYTES :]
    try:
        noise.verify(signature, body, record.key)
    except TransportError:
        raise NodeRecordError("node record: signature: not made by its key") from None
    return record


def to_text(signed: bytes) -> str:
    """One line for people to pass on."""
    return TEXT_PREFIX + base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=")


def from_text(text: str) -> bytes:
    """The bytes that ``text`` stands for; their meaning is for :func:`verify` to check.

    Raises: NodeRecordError when it is not the one text of some 1 to 1024 bytes.
    """
    if not text.startswith(TEXT_PREFIX):
        raise NodeRecordError(f"node record: text: expected {TEXT_PREFIX} and base64url")
    digits = text[len(TEXT_PREFIX) :]
    if not _BASE64URL.match(digits):
        raise NodeRecordError("node record: text: not base64url without padding")
    try:
        signed = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
    except binascii.Error:
        raise NodeRecordError("node record: text: cut short") from None
    if to_text(signed) != text:
        raise NodeRecordError("node record: text: its last character carries more than the bytes")
    if len(signed) > SIGNED_MAX:
        raise NodeRecordError(f"node record: text: {len(signed)} bytes, more than {SIGNED_MAX}")
    return signed


def _fitting(seq: int, key: str, endpoints: tuple[str, ...], names: list[str]) -> bytes:
    """The body with as many of ``names`` as there is room for."""
    for count in range(min(len(names), PROTOCOLS_MAX), -1, -1):
        body = msgspec.json.encode(
            _Body(
                seq=seq,
                key=key,
                endpoints=list(endpoints),
                protocols=names[:count],
                more=count < len(names),
            )
        )
        if len(body) <= BODY_MAX:
            return body
    raise NodeRecordError(f"node record: no room for its {len(endpoints)} endpoints")


def _read(signed: bytes) -> NodeRecord:
    """What a record says, whoever signed it."""
    try:
        body = _body.decode(signed[noise.SIGNATURE_BYTES :].decode("utf-8"))
    except MALFORMED as error:
        raise NodeRecordError(f"node record: body: {error}") from None
    return NodeRecord(
        key=ids.from_text(body.key),
        seq=body.seq,
        endpoints=_canonical(body.endpoints),
        protocols=tuple(sorted(set(body.protocols))),
        more=body.more,
        signed=signed,
    )


def _canonical(endpoints: Iterable[str]) -> tuple[str, ...]:
    """One spelling of each endpoint, in the order given."""
    try:
        return tuple(dict.fromkeys(str(addresses.parse_listed(text)) for text in endpoints))
    except AddressError as error:
        raise NodeRecordError(f"node record: {error}") from None
