"""Sessions with contacts: encrypted packets over UDP, for whoever has something to say. Sans-IO.

Source: docs/spec/discovery.md, 1 to 3. Bytes and times come in, datagrams and events go out. A
session belongs to a key and a place. What comes from others is dropped without an answer unless it
is right in every respect; each reason has its counter. All that is held is bounded by ``Limits``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dp2p.coordinator.discovery.contact import Contact, Place, Serving, is_v6
from dp2p.coordinator.discovery.door import Door, Verdict
from dp2p.coordinator.discovery.handshakes import (
    Half,
    Pending,
    RandomBytes,
    Refusal,
    Session,
    Shaker,
)
from dp2p.coordinator.discovery.held import Held
from dp2p.coordinator.discovery.messages import place as place_of
from dp2p.coordinator.discovery.session_types import (
    Counters,
    Datagram,
    Delivered,
    Established,
    Event,
    Hello,
    Limits,
    Sizes,
    Unreachable,
)
from dp2p.coordinator.discovery.under_way import UnderWay
from dp2p.errors import TransportError
from dp2p.keys import Identity
from dp2p.packets import (
    ANSWER_MAX,
    SEALED_BODY_MAX,
    First,
    Parser,
    Refused,
    Sealed,
    Second,
    retry_open,
)

__all__ = [
    "Counters",
    "Datagram",
    "Delivered",
    "Established",
    "Event",
    "Hello",
    "Limits",
    "Sessions",
    "Sizes",
    "Unreachable",
]

RETRY_TRIES = 4  # handshakes with one place that a packet from it is tried against
NO_PACKET = {type(None): "garbage", Sealed: "unknown", Second: "unasked"}
"Why what is no cookie either is dropped."
REFUSED = {"nonce": "repeated", "auth": "forged", "frame": "malformed"}


@dataclass(slots=True)
class Pair:
    """This node and a contact."""

    sessions: list[int] = field(default_factory=list)
    "Numbers, oldest first."
    pending: Pending | None = None
    doubted: bool = False
    "A request went unanswered: the newest session is not to be relied on."


class Sessions:
    """All sessions of a node. Belongs to one loop."""

    def __init__(
        self,
        identity: Identity,
        network: str,
        *,
        random_bytes: RandomBytes,
        limits: Limits | None = None,
        ephemeral: Callable[[], bytes] | None = None,
    ) -> None:
        """``ephemeral`` fixes the private ephemeral keys, for vectors and repeatable tests only."""
        self.counters = Counters()
        self._limits = limits = limits or Limits()
        self._random_bytes = random_bytes
        self._shaker = Shaker(identity, network, random_bytes, ephemeral)
        self._parser = Parser(self._shaker.own_keys)
        self._door = Door(limits, random_bytes)
        self._hellos: dict[bool, Hello] = {}
        "By whether they go to an address of IPv6."
        self._numbered: dict[int, Session | Half | Pending] = {}
        "By the numbers that this node gave out, which packets to it name."
        self._pairs: dict[Contact, Pair] = {}
        self._sessions = Held(limits.sessions, [limits.sessions_of_network])
        self._halves = Held(limits.halves, [limits.halves_of_address, limits.halves_of_network])
        self._under_way = UnderWay(limits.resend_s)
        self._ephemerals: dict[bytes, int] = {}
        "Of message 1's that were answered, oldest first, and the half that each made."
        self._owed: list[Event] = []
        self.say(Serving(), 0)

    # --- what the user of sessions does -------------------------------------------------------

    def say(self, serves: Serving, seq: int) -> None:
        """What handshakes from now on say of this node: to each by its family of addresses."""
        key = self._shaker.public
        self._hellos = {False: Hello(key, serves.v4, seq), True: Hello(key, serves.v6, seq)}

    def send(self, contact: Contact, body: bytes, now: float) -> list[Datagram]:
        """Say something to a contact, shaking hands first where that is needed.

        What waits for a handshake that fails is dropped, and ``Unreachable`` says so. Raises:
        ValueError for a body of no bytes or of more than a packet holds.
        """
        if not 0 < len(body) <= SEALED_BODY_MAX:
            raise ValueError(f"a body has 1 to {SEALED_BODY_MAX} bytes, not {len(body)}")
        pair = self._pairs.get(contact)
        if pair is not None and (session := self._usable(pair, now)) is not None:
            if (packet := self._seal(session, body)) is not None:
                return self._sent([(packet, contact.place)])
            self._drop_session(pair.sessions[-1])
        pair = self._pairs.get(contact)
        if pair is None or pair.pending is None:
            return self._shake(contact, body, now)
        if len(pair.pending.waiting) < self._limits.waiting:
            pair.pending.waiting.append(body)
        else:
            self.counters.waiting_dropped += 1
        return []

    def doubt(self, contact: Contact) -> None:
        """A request to the contact went unanswered: shake hands before the next is sent.

        What the contact says in the sessions that there are is still read.
        """
        if (pair := self._pairs.get(contact)) is not None and pair.sessions:
            pair.doubted = True

    def received(
        self, data: bytes, source: Place, now: float
    ) -> tuple[list[Datagram], list[Event]]:
        """Take a datagram from anybody."""
        self.counters.received += 1
        try:
            datagrams, events = self._take(data, source, now)
        except Refusal as refusal:
            self._count(refusal.reason)
            return [], []
        return self._sent(datagrams), events

    def _take(self, data: bytes, source: Place, now: float) -> tuple[list[Datagram], list[Event]]:
        match self._parser.parse(data):
            case Sealed() as packet if packet.index in self._numbered:
                return self._on_sealed(packet, source, now)
            case Second() as packet if packet.index in self._numbered:
                return self._on_second(packet, source, now)
            case First() as packet:
                return self._on_first(packet, source, now), []
            case found:
                return self._on_retry(data, source, NO_PACKET[type(found)]), []

    def run(self, now: float) -> tuple[list[Datagram], list[Event]]:
        """Do what is due."""
        datagrams: list[Datagram] = []
        events, self._owed = self._owed, []
        while (pending := self._under_way.next()) is not None and pending.next_at <= now:
            if self._under_way.is_spent(pending):
                events.append(self._give_up(pending))
            else:
                self.counters.resent += 1
                datagrams.append(self._send_first(pending, now))
        self._expire(now)
        return self._sent(datagrams), events

    def next_deadline(self) -> float | None:
        """When to call ``run`` next; None while nothing is due ever."""
        times = [0.0] if self._owed else []
        if (pending := self._under_way.next()) is not None:
            times.append(pending.next_at)
        if self._halves.oldest is not None:
            times.append(self._half(self._halves.oldest).session.born + self._limits.half_s)
        if self._sessions.oldest is not None:
            times.append(self._session(self._sessions.oldest).used + self._limits.idle_s)
        return min(times, default=None)

    @property
    def sizes(self) -> Sizes:
        """How much is held now."""
        return Sizes(
            len(self._sessions), len(self._halves), len(self._under_way), len(self._ephemerals)
        )

    # --- handshakes that this node begins -----------------------------------------------------

    def _shake(self, contact: Contact, body: bytes, now: float) -> list[Datagram]:
        pending = self._open(contact)
        if pending is None:
            self.counters.waiting_dropped += 1
            self._owed.append(Unreachable(contact))
            return []
        self.counters.initiated += 1
        pending.waiting.append(body)
        self._numbered[pending.number] = pending
        self._pairs.setdefault(contact, Pair()).pending = pending
        self._under_way.add(pending)
        return self._sent([self._send_first(pending, now)])

    def _open(self, contact: Contact) -> Pending | None:
        """None when no handshake with it can be had: a bad key, its own, or too many under way."""
        if contact.key == self._shaker.public:
            self.counters.itself += 1
            return None
        if len(self._under_way) >= self._limits.pending:
            self.counters.limited += 1
            return None
        try:
            hello = self._hellos[is_v6(contact.place)]
            return self._shaker.open(contact, self._number(), hello, self._limits.retries)
        except TransportError:
            self.counters.identity += 1
            return None

    def _send_first(self, pending: Pending, now: float) -> Datagram:
        self._under_way.sent(pending, now)
        return self._shaker.first(pending), pending.contact.place

    def _give_up(self, pending: Pending) -> Unreachable:
        self.counters.unanswered += 1
        self.counters.waiting_dropped += len(pending.waiting)
        self._end(pending)
        self._forget_if_empty(pending.contact)
        return Unreachable(pending.contact)

    def _end(self, pending: Pending) -> None:
        del self._numbered[pending.number]
        self._pairs[pending.contact].pending = None
        self._under_way.remove(pending)

    def _on_retry(self, data: bytes, source: Place, otherwise: str) -> list[Datagram]:
        """What is no packet, or of no session, may be a cookie for a handshake with its place.

        Random bytes look like a packet now and then. Raises: Refusal, for ``otherwise``.
        """
        if len(data) <= ANSWER_MAX:
            for pending in self._under_way.with_place(source)[-RETRY_TRIES:]:
                cookie = retry_open(pending.keys, pending.ephemeral, data)
                if cookie is not None and pending.retries_left > 0:
                    self.counters.cookies_taken += 1
                    pending.retries_left -= 1
                    pending.cookie = cookie
                    return [(self._shaker.first(pending), source)]
        raise Refusal(otherwise)

    def _on_second(
        self, packet: Second, source: Place, now: float
    ) -> tuple[list[Datagram], list[Event]]:
        pending = self._numbered.get(packet.index)
        if not isinstance(pending, Pending):
            raise Refusal("unasked")
        if pending.contact.place != source:
            raise Refusal("moved")
        session, answer = self._shaker.finish(pending, packet, now)
        self._end(pending)
        self.counters.established_out += 1
        self._keep(pending.number, session)
        event = Established(session.contact, answer.hello, True, place_of(answer.seen))
        return self._release(pending, session), [event]

    def _release(self, pending: Pending, session: Session) -> list[Datagram]:
        """What waited for a handshake, in the session that there is now."""
        sealed = [self._seal(session, body) for body in pending.waiting]
        return [(packet, session.contact.place) for packet in sealed if packet is not None]

    # --- handshakes that others begin ---------------------------------------------------------

    def _on_first(self, packet: First, source: Place, now: float) -> list[Datagram]:
        if packet.ephemeral in self._ephemerals:
            return [(self._answer_again(packet, source), source)]
        match self._door.ask(packet.cookie, source, now):
            case Verdict.SILENCE:
                raise Refusal("limited")
            case Verdict.COOKIE:
                self.counters.cookies_sent += 1
                return [(self._shaker.retry(packet, self._door.cookie(source, now)), source)]
        number = self._number()
        hello = self._hellos[is_v6(source)]
        half = self._shaker.answer(
            packet, source, number, hello, answers=self._limits.answers - 1, now=now
        )
        self.counters.answered += 1
        self._numbered[number] = half
        self._remember(packet.ephemeral, number)
        for gone in self._halves.add(number, self._door.groups(source[0])):
            self.counters.halves_evicted += 1
            del self._numbered[gone]
        return [(self._shaker.second(half), source)]

    def _answer_again(self, packet: First, source: Place) -> bytes:
        """The same message 2 for a message 1 that was sent again, to the same place alone."""
        half = self._numbered.get(self._ephemerals[packet.ephemeral])
        if (
            not isinstance(half, Half)
            or half.ephemeral != packet.ephemeral
            or half.session.contact.place != source
            or half.answers_left == 0
        ):
            raise Refusal("repeated_first")
        half.answers_left -= 1
        self.counters.reanswered += 1
        return self._shaker.second(half)

    def _remember(self, ephemeral: bytes, number: int) -> None:
        if len(self._ephemerals) >= self._limits.ephemerals:
            del self._ephemerals[next(iter(self._ephemerals))]
        self._ephemerals[ephemeral] = number

    # --- sessions -----------------------------------------------------------------------------

    def _on_sealed(
        self, packet: Sealed, source: Place, now: float
    ) -> tuple[list[Datagram], list[Event]]:
        found = self._numbered.get(packet.index)
        if found is None or isinstance(found, Pending):
            raise Refusal("unknown")
        session = found.session if isinstance(found, Half) else found
        if session.contact.place != source:
            raise Refusal("moved")
        if now - session.born >= self._limits.lifetime_s + self._limits.grace_s:
            raise Refusal("outlived")
        try:
            body = session.keys.open(packet)
        except Refused as error:
            raise Refusal(REFUSED[error.name]) from None
        datagrams: list[Datagram] = []
        events: list[Event] = []
        if isinstance(found, Half):
            datagrams, events = self._prove(packet.index, found)
        self._heard(packet.index, session, now)
        if body:
            self.counters.delivered += 1
            events.append(Delivered(session.contact, body))
        return datagrams, events

    def _prove(self, number: int, half: Half) -> tuple[list[Datagram], list[Event]]:
        """The initiator has shown that it received message 2 where it says it is.

        What waits for a handshake of this side need not wait any more: that may never be answered,
        when the contact is behind a NAT.
        """
        session = half.session
        self._halves.remove(number)
        del self._numbered[number]
        self._shaker.check_key(half)
        self.counters.established_in += 1
        self._keep(number, session)
        datagrams: list[Datagram] = []
        if (pending := self._pairs[session.contact].pending) is not None:
            self._end(pending)
            datagrams = self._release(pending, session)
        return datagrams, [Established(session.contact, half.hello, False, None)]

    def _heard(self, number: int, session: Session, now: float) -> None:
        session.used = now
        self._sessions.touch(number)
        pair = self._pairs[session.contact]
        if pair.sessions[-1] == number:
            pair.doubted = False

    def _keep(self, number: int, session: Session) -> None:
        """The pair's newest session from now on."""
        _, network = self._door.groups(session.contact.place[0])
        self._numbered[number] = session
        for gone in self._sessions.add(number, [network]):
            self.counters.sessions_evicted += 1
            self._drop_session(gone)
        pair = self._pairs.setdefault(session.contact, Pair())
        pair.sessions.append(number)
        pair.doubted = False
        if len(pair.sessions) > self._limits.sessions_of_contact:
            self._drop_session(pair.sessions[0])

    def _usable(self, pair: Pair, now: float) -> Session | None:
        """The session to send on."""
        if not pair.sessions or pair.doubted:
            return None
        session = self._session(pair.sessions[-1])
        return session if now - session.born < self._limits.lifetime_s else None

    def _seal(self, session: Session, body: bytes) -> bytes | None:
        """None when the session is used up."""
        try:
            return self._shaker.seal(session, body)
        except TransportError:
            return None

    def _drop_session(self, number: int) -> None:
        contact = self._session(number).contact
        self._sessions.remove(number)
        del self._numbered[number]
        self._pairs[contact].sessions.remove(number)
        self._forget_if_empty(contact)

    def _forget_if_empty(self, contact: Contact) -> None:
        pair = self._pairs[contact]
        if not pair.sessions and pair.pending is None:
            del self._pairs[contact]

    def _expire(self, now: float) -> None:
        while (number := self._halves.oldest) is not None:
            if now < self._half(number).session.born + self._limits.half_s:
                break
            self._halves.remove(number)
            del self._numbered[number]
        while (number := self._sessions.oldest) is not None:
            if now < self._session(number).used + self._limits.idle_s:
                break
            self._drop_session(number)

    # --- small things -------------------------------------------------------------------------

    def _half(self, number: int) -> Half:
        found = self._numbered[number]
        assert isinstance(found, Half)
        return found

    def _session(self, number: int) -> Session:
        found = self._numbered[number]
        assert isinstance(found, Session)
        return found

    def _number(self) -> int:
        """One that is free, and says nothing."""
        while (number := int.from_bytes(self._random_bytes(4), "little")) in self._numbered:
            pass
        return number

    def _count(self, reason: str) -> None:
        setattr(self.counters, reason, getattr(self.counters, reason) + 1)

    def _sent(self, datagrams: list[Datagram]) -> list[Datagram]:
        self.counters.sent += len(datagrams)
        return datagrams
