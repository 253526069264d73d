"""What sessions say to whoever uses them, what nodes tell each other in a handshake, and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from dp2p import noise, packets
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import MALFORMED, At, Id, MessageError, Number

Datagram = tuple[bytes, Place]
"Bytes, and where they are to go."
Rate = tuple[int, float]
"So many at once, and one more each so many seconds; as ``allowance.Allowance`` has it."
Index = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
"A node's number of a session or a handshake of its own."
LENGTH_BYTES = 2  # in front of a payload, which padding follows

FIRST_LENGTHS = (packets.FIRST_MIN, 2 * packets.FIRST_MIN)
"Of the packet of message 1, the least and the most: 300 to 600."
SECOND_LENGTHS = (200, packets.ANSWER_MAX)
RETRY_LENGTHS = (packets.RETRY_OVERHEAD, 120)
SEALED_PADDING = 127
FIRST_OVERHEAD = packets.FIRST_OVERHEAD + 2 * noise.KEY_BYTES + 2 * noise.TAG_BYTES
SECOND_OVERHEAD = packets.SECOND_OVERHEAD + noise.KEY_BYTES + noise.TAG_BYTES


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of itself."""

    key: Id
    serves: bool
    "Whether others can reach it where this one sees it; if not, that place is for no table."
    seq: Number
    "Of its node record; 0 while it has none."


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """The payload of message 1."""

    index: Index
    "The sender's number of the session, which packets to it name."
    hello: Hello


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The payload of message 2."""

    index: Index
    hello: Hello
    seen: At
    "Where message 1 came from."


@dataclass(frozen=True, slots=True)
class Established:
    """A session is there, and the other side has proven its key and its place."""

    contact: Contact
    hello: Hello
    initiated: bool
    seen: Place | None
    "Our own place as the other side sees it; only when this side initiated."


@dataclass(frozen=True, slots=True)
class Delivered:
    """Something that the contact said."""

    contact: Contact
    body: bytes


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No handshake could be made; what waited for it is dropped."""

    contact: Contact


Event = Established | Delivered | Unreachable


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is held and done at most. Seconds are of monotonic time."""

    sessions: int = 4096
    sessions_of_network: int = 512
    sessions_of_contact: int = 3
    "All are read, the newest is sent on: two that shake hands at once have two of them."
    halves: int = 1024
    "Handshakes answered, whose initiator has proven nothing yet."
    halves_of_network: int = 128
    halves_of_address: int = 16
    pending: int = 1024
    "Handshakes of this side that wait for their answer."
    waiting: int = 8
    "Bodies that wait for one handshake."
    resend_s: tuple[float, ...] = (0.8, 1.2, 2.0)
    "After each message 1, how long until the next; after the last, until it is given up."
    retries: int = 3
    "Cookies that one handshake takes."
    answers: int = 4
    "Times that one message 1 is answered."
    half_s: float = 10.0
    lifetime_s: float = 3600.0
    "From then on a session is not sent on."
    grace_s: float = 60.0
    "For so long after that it is still read."
    idle_s: float = 900.0
    ephemerals: int = 8192
    "Message 1's that are remembered."
    calm_network: Rate = (16, 0.5)
    "Handshakes for which nobody has to bring a cookie."
    calm: Rate = (64, 0.02)
    proven_address: Rate = (8, 1.0)
    "Handshakes of those who brought one."
    proven_network: Rate = (32, 0.25)
    proven: Rate = (256, 0.004)
    cookies: Rate = (1024, 0.0002)
    "Cookies that are given out; more would be more work than a flood is worth."
    cookie_s: float = 120.0
    "After so long the secret behind cookies changes; the one before still counts."
    local: bool = False
    "Whether addresses of this site are limited by address and network as well."


@dataclass(slots=True)
class Counters:
    """What happened since the start, and why what was dropped was dropped."""

    received: int = 0
    "Datagrams."
    sent: int = 0
    delivered: int = 0
    initiated: int = 0
    "Handshakes begun."
    established_out: int = 0
    answered: int = 0
    "Message 1's that were answered with a message 2 of their own."
    established_in: int = 0
    resent: int = 0
    unanswered: int = 0
    "Handshakes given up."
    cookies_sent: int = 0
    cookies_taken: int = 0
    garbage: int = 0
    "Nothing that was made for this node in this network, or changed on the way."
    repeated_first: int = 0
    reanswered: int = 0
    "Message 1's that came again from where they had come from, and were answered once more."
    limited: int = 0
    "Message 1's beyond what their address, their network or all may have."
    refused: int = 0
    "Handshake messages that do not verify, or with a key of low order."
    malformed: int = 0
    "Genuine, but not to be read."
    identity: int = 0
    "The key in a hello is not the one that was proven or asked for, or is none that nodes have."
    itself: int = 0
    "Handshakes of this node with its own key."
    unasked: int = 0
    "Message 2's without a handshake."
    moved: int = 0
    "Packets of a session, or answers, from another place."
    unknown: int = 0
    "Packets of no session."
    repeated: int = 0
    "Sealed packets that came before, or too late to tell."
    forged: int = 0
    "Sealed packets that do not verify."
    outlived: int = 0
    "Sealed packets of a session whose time is over."
    waiting_dropped: int = 0
    "Bodies that no handshake was made for, or that were too many for one."
    halves_evicted: int = 0
    sessions_evicted: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is held."""

    sessions: int
    halves: int
    pending: int
    ephemerals: int


_openings = msgspec.msgpack.Decoder(Opening)
_answers = msgspec.msgpack.Decoder(Answer)
_encoder = msgspec.msgpack.Encoder()


def pack(payload: Opening | Answer, overhead: int, size: int) -> bytes:
    """A payload padded so that its packet, with ``overhead`` beside it, has ``size`` bytes."""
    body = _encoder.encode(payload)
    packed = len(body).to_bytes(LENGTH_BYTES, "little") + body
    return packed.ljust(size - overhead, b"\0")


def _body(payload: bytes) -> bytes:
    end = LENGTH_BYTES + int.from_bytes(payload[:LENGTH_BYTES], "little")
    if len(payload) < LENGTH_BYTES or end > len(payload):
        raise MessageError("handshake payload: shorter than it says")
    return payload[LENGTH_BYTES:end]


def opening(payload: bytes) -> Opening:
    """What message 1 carried.  Raises: MessageError."""
    try:
        return _openings.decode(_body(payload))
    except MALFORMED as error:
        raise MessageError(f"handshake payload: {error}") from None


def answer(payload: bytes) -> Answer:
    """What message 2 carried.  Raises: MessageError."""
    try:
        return _answers.decode(_body(payload))
    except MALFORMED as error:
        raise MessageError(f"handshake payload: {error}") from None
