"""The two messages of a handshake, and the session that they leave. Pure but for the keys' making.

Source: docs/spec/discovery.md, "Handshake". Nothing here remembers anything: who may shake hands,
how often and for how long is for ``sessions`` to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from dp2p import noise, packets
from dp2p.coordinator.discovery import session_types as types
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import MessageError, at
from dp2p.coordinator.discovery.session_types import Hello
from dp2p.errors import TransportError
from dp2p.keys import Identity
from dp2p.packets import First, Second, SessionKeys

RandomBytes = Callable[[int], bytes]
T = TypeVar("T")


STATICS_MAX = 1024
_static_public = lru_cache(STATICS_MAX)(noise.identity_static_public)
"Converting a key costs more than a DH, and the same contacts are spoken to again and again."


class Refusal(Exception):
    """A handshake message is dropped; ``reason`` is the counter of ``Counters`` that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Session:
    """Keys that both sides have."""

    contact: Contact
    keys: SessionKeys
    born: float
    used: float


@dataclass(slots=True)
class Half:
    """The responder's session before the initiator has shown that it received message 2."""

    session: Session
    hello: Hello
    ephemeral: bytes
    index: int
    "The initiator's number, which message 2 names."
    message: bytes
    "The Noise message 2."
    answers_left: int


@dataclass(slots=True, eq=False)
class Pending:
    """The initiator's side between message 1 and message 2."""

    contact: Contact
    number: int
    handshake: noise.Handshake
    keys: bytes
    "Packets to the contact are masked with these."
    message: bytes
    "The Noise message 1: the same each time, so that it is answered once."
    next_at: float
    retries_left: int
    cookie: bytes = packets.NO_COOKIE
    sends: int = 0
    waiting: list[bytes] = field(default_factory=list)

    @property
    def ephemeral(self) -> bytes:
        return self.message[: noise.KEY_BYTES]


class Shaker:
    """Reads and writes handshake messages as one node of one network."""

    def __init__(
        self,
        identity: Identity,
        network: str,
        random_bytes: RandomBytes,
        ephemeral: Callable[[], bytes] | None,
    ) -> None:
        """``ephemeral`` fixes the private ephemeral keys, for vectors and repeatable tests only."""
        self.public = identity.public
        self._static = noise.identity_static(identity.seed)
        self._static_public = noise.identity_static_public(identity.public)
        self._prologue = packets.prologue(network)
        self._network_key = packets.network_key(network)
        self._random_bytes = random_bytes
        self._ephemeral = ephemeral
        self._sealer = packets.Sealer()
        self.own_keys = self.keys_of(identity.public)

    def keys_of(self, public: bytes) -> bytes:
        """What packets to the owner of ``public`` are masked with."""
        return packets.packet_keys(self._network_key, public)

    def draw(self, least: int, most: int) -> int:
        """A number from ``least`` to ``most``, each with about the same chance."""
        return least + int.from_bytes(self._random_bytes(2), "little") % (most - least + 1)

    def nonce(self) -> bytes:
        """What a packet begins with."""
        return self._random_bytes(packets.NONCE_BYTES)

    def _noise(self, initiator: bool, rs: bytes | None = None) -> noise.Handshake:
        e = None if self._ephemeral is None else self._ephemeral()
        return noise.Handshake(
            "IK",
            initiator=initiator,
            prologue=self._prologue,
            s=self._static,
            spk=self._static_public,
            rs=rs,
            e=e,
        )

    def open(self, contact: Contact, number: int, hello: Hello, retries: int) -> Pending:
        """A handshake with ``contact``, to be sent.  Raises: TransportError "key" for a bad key."""
        handshake = self._noise(True, _static_public(contact.key))
        payload = types.pack(
            types.Opening(number, hello), types.FIRST_OVERHEAD, self.draw(*types.FIRST_LENGTHS)
        )
        return Pending(
            contact,
            number,
            handshake,
            self.keys_of(contact.key),
            handshake.write(payload),
            next_at=0.0,
            retries_left=retries,
        )

    def first(self, pending: Pending) -> bytes:
        """The packet of message 1, under a new mask each time."""
        return packets.first(pending.keys, self.nonce(), pending.cookie, pending.message)

    def answer(
        self, packet: First, source: Place, number: int, hello: Hello, *, answers: int, now: float
    ) -> Half:
        """Take message 1, and make message 2.  Raises: Refusal."""
        handshake = self._noise(False)
        opening = _read(handshake, packet.noise, types.opening)
        if opening.hello.key == self.public:
            raise Refusal("itself")
        if not noise.identity_matches(opening.hello.key, handshake.remote_static):
            raise Refusal("identity")
        payload = types.pack(
            types.Answer(number, hello, at(source)),
            types.SECOND_OVERHEAD,
            self.draw(*types.SECOND_LENGTHS),
        )
        message = handshake.write(payload)
        session = self._session(
            handshake, Contact(opening.hello.key, source), opening.index, now=now
        )
        return Half(session, opening.hello, packet.ephemeral, opening.index, message, answers)

    def check_key(self, half: Half) -> None:
        """Whoever is kept must be one with whom others can shake hands.

        Costs a DH, so it is for those alone who have shown where they are. Raises: Refusal.
        """
        try:
            _static_public(half.hello.key)
        except TransportError:
            raise Refusal("identity") from None

    def second(self, half: Half) -> bytes:
        """The packet of message 2."""
        keys = self.keys_of(half.session.contact.key)
        return packets.second(keys, self.nonce(), half.index, half.message)

    def finish(self, pending: Pending, packet: Second, now: float) -> tuple[Session, types.Answer]:
        """Take message 2.  Raises: Refusal, and the handshake goes on waiting."""
        answer = _read(pending.handshake, packet.noise, types.answer)
        if answer.hello.key != pending.contact.key:
            raise Refusal("identity")
        return self._session(pending.handshake, pending.contact, answer.index, now=now), answer

    def _session(
        self, handshake: noise.Handshake, contact: Contact, index: int, *, now: float
    ) -> Session:
        handshake.split()
        keys = SessionKeys(self._sealer, handshake, self.keys_of(contact.key), index)
        return Session(contact, keys, born=now, used=now)

    def seal(self, session: Session, body: bytes) -> bytes:
        """The next packet of a session, of a length that says little of the body's.

        Raises: TransportError "nonce" when the session is used up.
        """
        most = min(types.SEALED_PADDING, packets.SEALED_BODY_MAX - len(body))
        return session.keys.seal(body, self.nonce(), self.draw(0, most))

    def retry(self, packet: First, cookie: bytes) -> bytes:
        """The packet with a cookie for who sent ``packet``."""
        padding = self.draw(*types.RETRY_LENGTHS) - packets.RETRY_OVERHEAD
        return packets.retry(self.own_keys, packet.ephemeral, self.nonce(), cookie, padding)


def _read(handshake: noise.Handshake, message: bytes, decode: Callable[[bytes], T]) -> T:
    """The payload of a Noise message.  Raises: Refusal."""
    try:
        return decode(handshake.read(message))
    except TransportError:
        raise Refusal("refused") from None
    except MessageError:
        raise Refusal("malformed") from None
