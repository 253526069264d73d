"""JSON that nodes exchange with each other: the hello and the node's own channel.

Source: docs/spec/wire.md, "Hello" and "Protocol lists". All of it comes from peers, so each field
has bounds, and a message that breaks them ends the link.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from dp2p.addresses import canonical_endpoint
from dp2p.control import Instance, Name, ProtocolSpec, Version
from dp2p.errors import Dp2pError

PROTOCOLS_MAX = 250
LISTEN_KEPT = 8  # endpoints of a peer's hello
Number = Annotated[int, Meta(ge=0, le=PROTOCOLS_MAX - 1)]
Generation = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
EndpointText = Annotated[str, Meta(max_length=272)]
KeyText = Annotated[str, Meta(pattern=r"^[a-z2-7]{51}[aq]\Z")]
"A public key or a node-ID."


class HelloError(Dp2pError):
    """A peer's hello or control datagram is malformed."""


class ControlType(IntEnum):
    """Types of the node's own channel."""

    PROTOCOLS = 1
    ACK = 2
    RECORD = 3
    FIND = 4
    FOUND = 5
    CHECK = 6
    KEYS = 7


class CloseReason(IntEnum):
    """Why a link was closed, as said on the wire."""

    NONE = 0
    BYE = 1
    DUPLICATE = 2
    SELF = 3
    FULL = 4
    REFUSED = 5
    PROTOCOL = 6
    CREDIT = 7
    BANNED = 8
    TIMEOUT = 9
    SHUTDOWN = 10


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself in its handshake; unknown fields are ignored."""

    instance: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    "This life of the node, so that a peer knows an old link for dead."
    listen: Annotated[list[EndpointText], Meta(max_length=16)] = []
    protocols: Annotated[list[Name], Meta(max_length=PROTOCOLS_MAX)] = []
    "Names on the air when the handshake began."
    record: Annotated[bytes, Meta(max_length=1024)] | None = None
    "The node's signed record, once it has one."


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol that a node receives."""

    number: Number
    name: Name
    versions: Annotated[list[Version], Meta(min_length=1, max_length=16)]
    max_datagram: Annotated[int, Meta(ge=1, le=16 << 20)]
    types: Annotated[int, Meta(ge=1, le=65536)]
    window: Annotated[int, Meta(ge=1, le=256 << 20)]
    application: Instance | None = None
    "The life of the application that serves it; None: not said."


class Protocols(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node receives on this link; replaces the list before."""

    generation: Generation
    protocols: Annotated[list[Offer], Meta(max_length=PROTOCOLS_MAX)]


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The list of that generation is in force here."""

    generation: Generation


# Deep nesting, even in a field that is ignored, ends in a RecursionError.
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

WHY_MAX = 160  # characters of an error's text, which may repeat what the peer sent


def why(error: Exception) -> str:
    """What is wrong with a peer's message, in printable characters and not many."""
    text = ascii(str(error))[1:-1]
    return text if len(text) <= WHY_MAX else f"{text[:WHY_MAX]}..."


_hello = msgspec.json.Decoder(Hello)
_protocols = msgspec.json.Decoder(Protocols)
_ack = msgspec.json.Decoder(Ack)


def offer(number: int, spec: ProtocolSpec, application: str | None = None) -> Offer:
    """What peers are told of a protocol of this node, and of the ``application`` that serves it."""
    return Offer(
        number=number,
        name=spec.name,
        versions=spec.versions,
        max_datagram=spec.max_datagram,
        types=spec.types,
        window=spec.window,
        application=application,
    )


def decode_hello(data: bytes) -> Hello:
    """A peer's hello.  Raises: HelloError."""
    try:
        return _hello.decode(data)
    except MALFORMED as error:
        raise HelloError(f"hello: {why(error)}") from None


def dialable(hello: Hello) -> list[str]:
    """Where a peer says it can be dialled: the first few that can be read, each once.

    They are kept with each link, shown to people, and told to every new coordinator.
    """
    found = dict.fromkeys(map(canonical_endpoint, hello.listen))
    return [text for text in found if text is not None][:LISTEN_KEPT]


def decode_protocols(data: bytes) -> Protocols:
    """A peer's list, whose names and numbers are each there once.  Raises: HelloError."""
    try:
        found = _protocols.decode(data)
    except MALFORMED as error:
        raise HelloError(f"protocol list: {why(error)}") from None
    for what in ({each.name for each in found.protocols}, {e.number for e in found.protocols}):
        if len(what) != len(found.protocols):
            raise HelloError("protocol list: a name or a number is there twice")
    return found


def decode_ack(data: bytes) -> int:
    """The generation a peer has in force.  Raises: HelloError."""
    try:
        return _ack.decode(data).generation
    except MALFORMED as error:
        raise HelloError(f"acknowledgement: {why(error)}") from None
