"""What nodes tell each other of other nodes, on a link's own channel.

Source: docs/spec/wire.md, "Introductions". JSON in control datagrams, all of it from peers: each
field has bounds, and a message that breaks them ends the link. A record that does not verify is
left out, not the message it came in.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dp2p.control import Name
from dp2p.hello import MALFORMED, ControlType, EndpointText, HelloError, KeyText, why

FOUND_MAX = 32  # records in one answer
KEYS_MAX = 8  # keys in one answer
RECORD_MAX = 1024  # bytes of a signed record

Number = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
SignedRecord = Annotated[bytes, Meta(max_length=RECORD_MAX)]
"Base64 in JSON; the bound is on what it stands for."


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """RECORD: the sender's own node record has changed."""

    record: SignedRecord


class Find(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """FIND: introduce me to peers. With both fields set, near ones that speak the protocol."""

    id: Number
    "Repeated in the answer."
    protocol: Name | None = None
    "Peers that say they speak it."
    near: KeyText | None = None
    "A node-ID: peers close to it."
    limit: Annotated[int, Meta(ge=1, le=FOUND_MAX)] = 16


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """FOUND: the answer to FIND, best first; may be empty."""

    id: Number
    records: Annotated[list[SignedRecord], Meta(max_length=FOUND_MAX)]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """CHECK: which keys do you know for this endpoint?"""

    id: Number
    endpoint: EndpointText


class KeyClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A key that the sender knows for an endpoint."""

    key: KeyText
    evidence: Literal["dialled", "record"]
    "``dialled``: it answered there when the sender dialled; ``record``: its record lists it."


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """KEYS: the answer to CHECK, best evidence first; may be empty."""

    id: Number
    keys: Annotated[list[KeyClaim], Meta(max_length=KEYS_MAX)]


Said = Record | Find | Found | Check | Keys

_KINDS: dict[int, msgspec.json.Decoder[Said]] = {
    kind: msgspec.json.Decoder(form)
    for kind, form in {
        ControlType.RECORD: Record,
        ControlType.FIND: Find,
        ControlType.FOUND: Found,
        ControlType.CHECK: Check,
        ControlType.KEYS: Keys,
    }.items()
}
_TYPES = {decoder.type: kind for kind, decoder in _KINDS.items()}


def encode(said: Said) -> tuple[int, bytes]:
    """The type and the body of a control datagram."""
    return _TYPES[type(said)], msgspec.json.encode(said)


def decode(kind: int, body: bytes) -> Said | None:
    """What a peer said; None for a type that is not known.  Raises: HelloError."""
    decoder = _KINDS.get(kind)
    if decoder is None:
        return None
    try:
        return decoder.decode(body)
    except MALFORMED as error:
        raise HelloError(f"control datagram of type {kind}: {why(error)}") from None
