"""What nodes say to each other in discovery's packets.

Source: docs/spec/discovery.md, "Messages". MessagePack arrays, all of them from others: each field
has bounds, elements beyond those that are known are ignored, and a message that breaks the bounds
is dropped and counted. A request's number comes back in its answer.
"""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.errors import Dp2pError

BODY_MAX = 1100  # bytes of a message: a signed record of 1024 fits, and a packet of 1280 holds it
CONTACTS_MAX = 16  # in one message; as many IPv6 contacts fit
PARTS_MAX = 4  # messages that answer one request
PROTOCOLS_MAX = 8  # adverts in one message
REMEMBERED = 8192  # conversions that are kept: the same contacts are told again and again
MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)

Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Id = Annotated[bytes, Meta(min_length=32, max_length=32)]
"A public key, a node-ID, or the identifier of a protocol."
Port = Annotated[int, Meta(ge=1, le=65535)]
Address = Annotated[bytes, Meta(min_length=4, max_length=16)]
"4 bytes of IPv4 or 16 of IPv6."


class MessageError(Dp2pError):
    """A message of discovery is malformed."""


class At(msgspec.Struct, frozen=True, array_like=True):
    """A place, on the wire."""

    address: Address
    port: Port


class Named(msgspec.Struct, frozen=True, array_like=True):
    """A contact, on the wire."""

    key: Id
    address: Address
    port: Port


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Are you there? ``seq``: of the sender's record; 0 while it has none."""

    id: Number
    seq: Number


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Answers Ping: ``seen`` is the place that the Ping came from."""

    id: Number
    seq: Number
    seen: At


class Find(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Whom do you know close to a node-ID?"""

    id: Number
    target: Id


class Nodes(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Answers Find, closest first, in ``parts`` messages of which this is number ``part``."""

    id: Number
    part: Annotated[int, Meta(ge=0, lt=PARTS_MAX)]
    parts: Annotated[int, Meta(ge=1, le=PARTS_MAX)]
    contacts: Annotated[list[Named], Meta(max_length=CONTACTS_MAX)]


class AskRecord(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What is your node record?"""

    id: Number


class RecordIs(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answers AskRecord with the sender's signed record; empty while it has none."""

    id: Number
    record: Annotated[bytes, Meta(max_length=1024)]


class FindProtocol(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Who serves a protocol? ``topic`` is its identifier."""

    id: Number
    topic: Id


class Providers(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Answers FindProtocol: those who advertise it, and then whom the sender knows close to it.

    In parts, as Nodes.
    """

    id: Number
    part: Annotated[int, Meta(ge=0, lt=PARTS_MAX)]
    parts: Annotated[int, Meta(ge=1, le=PARTS_MAX)]
    providers: Annotated[list[Named], Meta(max_length=CONTACTS_MAX)]
    contacts: Annotated[list[Named], Meta(max_length=CONTACTS_MAX)]


class Advertise(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The sender serves these protocols; remember it for a while."""

    id: Number
    topics: Annotated[list[Id], Meta(min_length=1, max_length=PROTOCOLS_MAX)]


class Advertised(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Answers Advertise: for how many seconds each is remembered; 0 is not at all."""

    id: Number
    seconds: Annotated[
        list[Annotated[int, Meta(ge=0, le=86400)]], Meta(min_length=1, max_length=PROTOCOLS_MAX)
    ]


Request = Ping | Find | AskRecord | FindProtocol | Advertise
Answer = Pong | Nodes | RecordIs | Providers | Advertised
Message = Request | Answer

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The bytes of a message, at most ``BODY_MAX``."""
    return _encoder.encode(message)


def decode(body: bytes) -> Message:
    """What a node said.  Raises: MessageError."""
    if len(body) > BODY_MAX:
        raise MessageError(f"discovery message: {len(body)} bytes, more than {BODY_MAX}")
    try:
        return _decoder.decode(body)
    except MALFORMED as error:
        raise MessageError(f"discovery message: {error}") from None


def topic(name: str) -> bytes:
    """The identifier of a protocol: where in the space of node-IDs its adverts are kept."""
    return hashlib.blake2b(name.encode(), digest_size=32, key=b"dp2p topic").digest()


def at(place: Place) -> At:
    """The wire's form of a place."""
    return At(ipaddress.ip_address(place[0]).packed, place[1])


@lru_cache(maxsize=REMEMBERED)
def place(said: At | Named) -> Place | None:
    """The place that is meant; None when its address has neither 4 nor 16 bytes."""
    if len(said.address) not in (4, 16):
        return None
    return str(ipaddress.ip_address(said.address)), said.port


@lru_cache(maxsize=REMEMBERED)
def named(contact: Contact) -> Named:
    """The wire's form of a contact."""
    return Named(contact.key, ipaddress.ip_address(contact.place[0]).packed, contact.place[1])


@lru_cache(maxsize=REMEMBERED)
def contact(said: Named) -> Contact | None:
    """The contact that is meant; None when it has no place."""
    where = place(said)
    return None if where is None else Contact(said.key, where)
