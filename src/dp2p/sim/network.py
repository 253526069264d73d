"""Packets in virtual time: latency, loss, NAT, and sessions without their cryptography.

Messages are passed as they are, unencoded. What sessions cost and when they fail is kept: a first
message waits for a handshake, which is a round trip; a handshake that nobody answers is repeated
and given up; a node that was restarted cannot read what comes in an old session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Protocol

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import Message
from dp2p.sim.engine import Engine

HANDSHAKE_WAITS_S = (1.0, 2.0, 4.0)  # for message 2, each time that message 1 was sent
WAITING_MAX = 16  # messages that wait for one session
MAPPED_S = 120.0  # a NAT lets answers in so long after the last packet out

Arrived = Callable[..., None]
"Called with the station at the place, the sender, and what the packet says."


@dataclass(frozen=True, slots=True)
class Weather:
    """What packets meet on their way. The defaults are those of a network over one continent."""

    base_s: float = 0.005
    "One way, however near."
    across_s: float = 0.1
    "One way from edge to edge of the plane in which nodes have their places."
    jitter_s: float = 0.01
    "At most, on top."
    loss: float = 0.01
    "The share of packets that get lost."


@dataclass(frozen=True, slots=True)
class Hello:
    """What a station says of itself in a handshake."""

    serves: bool = True
    seq: int = 0


class Station(Protocol):
    """Whoever takes part: a node, or an adversary."""

    line: Line

    def hello(self) -> Hello:
        """What it says of itself in a handshake."""

    def established(
        self, contact: Contact, hello: Hello, initiated: bool, seen: Place | None
    ) -> None:
        """A session stands."""

    def received(self, contact: Contact, message: Message) -> None:
        """A message has come in a session."""

    def unreachable(self, contact: Contact) -> None:
        """Nobody answered a handshake."""


@dataclass(slots=True, eq=False)
class _Handshake:
    contact: Contact
    waiting: list[Message]
    tries: int = 0


@dataclass(slots=True, eq=False)
class _Session:
    """As the side has it that did not begin it."""

    contact: Contact
    hello: Hello
    proven: bool = False


@dataclass(slots=True, eq=False)
class Line:
    """A station's place in the network, and the sessions that it has there."""

    contact: Contact
    spot: tuple[float, float] = (0.5, 0.5)
    "Where it is on a plane of side 1."
    nat: bool = False
    "Only those get through to whom it has sent."
    up: bool = True
    sent: int = 0
    "Packets, handshakes with them."
    sessions: dict[Place, tuple[bytes, int]] = field(default_factory=dict)
    "Key of whom, and the session's number, to send in."
    numbers: dict[int, _Session | None] = field(default_factory=dict)
    "Sessions that it can read; None for those that it began."
    handshakes: dict[Place, _Handshake] = field(default_factory=dict)
    mapped: dict[Place, float] = field(default_factory=dict)
    "When a NAT last passed a packet to a place."

    def restart(self) -> None:
        """The process has died: no session is known any more."""
        self.sessions, self.numbers, self.handshakes, self.mapped = {}, {}, {}, {}


class Network:
    """All stations, by place."""

    def __init__(self, engine: Engine, random: Random, weather: Weather | None = None) -> None:
        self.engine = engine
        self.weather = weather or Weather()
        self.packets: Counter[str] = Counter()
        "Sent, by kind."
        self._random = random.random
        self._stations: dict[Place, Station] = {}
        self._numbers = count(1)

    def add(self, station: Station) -> None:
        """A station at a place where there is none."""
        place = station.line.contact.place
        assert place not in self._stations, f"{place} is taken"
        self._stations[place] = station

    def replace(self, station: Station) -> Station:
        """Another station takes over a place; who was there."""
        place = station.line.contact.place
        before = self._stations[place]
        self._stations[place] = station
        return before

    def remove(self, station: Station) -> None:
        """It is gone for good."""
        del self._stations[station.line.contact.place]

    # --- what stations do ---

    def send(self, station: Station, to: Contact, message: Message) -> None:
        """A message, in the session with ``to`` or after a handshake."""
        line = station.line
        session = line.sessions.get(to.place)
        if session is not None and session[0] == to.key:
            self._seal(station, to.place, session[1], message)
            return
        handshake = line.handshakes.get(to.place)
        if handshake is not None and handshake.contact.key == to.key:
            if len(handshake.waiting) < WAITING_MAX:
                handshake.waiting.append(message)
            return
        handshake = line.handshakes[to.place] = _Handshake(to, [message])
        self._begin(station, handshake)

    def doubt(self, station: Station, contact: Contact) -> None:
        """The next message to a contact shakes hands anew."""
        station.line.sessions.pop(contact.place, None)

    # --- handshakes ---

    def _begin(self, station: Station, handshake: _Handshake) -> None:
        line, place = station.line, handshake.contact.place
        if line.handshakes.get(place) is not handshake or not line.up:
            return  # it was answered, or died with the process
        if handshake.tries == len(HANDSHAKE_WAITS_S):
            del line.handshakes[place]
            station.unreachable(handshake.contact)
            return
        wait = HANDSHAKE_WAITS_S[handshake.tries]
        handshake.tries += 1
        self._travel(station, place, "handshake", self._greeted, handshake)
        self.engine.after(wait, self._begin, station, handshake)

    def _greeted(self, station: Station, caller: Station, handshake: _Handshake) -> None:
        line = station.line
        if line.contact.key != handshake.contact.key:
            return  # a packet to another key is noise
        number = next(self._numbers)
        line.numbers[number] = _Session(caller.line.contact, caller.hello())
        self._travel(
            station, caller.line.contact.place, "handshake", self._accepted, handshake, number
        )

    def _accepted(
        self, station: Station, callee: Station, handshake: _Handshake, number: int
    ) -> None:
        line, contact = station.line, handshake.contact
        if line.handshakes.get(contact.place) is not handshake:
            return  # answered twice, or the process is another one by now
        del line.handshakes[contact.place]
        line.sessions[contact.place] = contact.key, number
        line.numbers[number] = None
        for message in handshake.waiting:
            self._seal(station, contact.place, number, message)
        station.established(contact, callee.hello(), True, line.contact.place)

    # --- packets ---

    def _seal(self, station: Station, place: Place, number: int, message: Message) -> None:
        self._travel(station, place, type(message).__name__, self._opened, number, message)

    def _opened(self, station: Station, sender: Station, number: int, message: Message) -> None:
        numbers = station.line.numbers
        if number not in numbers:
            return
        session = numbers[number]
        contact = sender.line.contact
        if session is not None and not session.proven:
            session.proven = True
            station.line.sessions[contact.place] = contact.key, number
            station.established(contact, session.hello, False, None)
        station.received(contact, message)

    def _travel(
        self, sender: Station, place: Place, kind: str, arrived: Arrived, *what: Any
    ) -> None:
        """One packet on its way; ``arrived`` hears of the station there, and of the sender."""
        line = sender.line
        line.sent += 1
        self.packets[kind] += 1
        if line.nat:
            line.mapped[place] = self.engine.now
        receiver = self._stations.get(place)
        weather = self.weather
        if receiver is None or self._random() < weather.loss:
            return
        (x, y), (to_x, to_y) = line.spot, receiver.line.spot
        distance = ((x - to_x) ** 2 + (y - to_y) ** 2) ** 0.5
        delay = weather.base_s + weather.across_s * distance + weather.jitter_s * self._random()
        self.engine.after(delay, self._arrive, receiver, sender, arrived, what)

    def _arrive(
        self, station: Station, sender: Station, arrived: Arrived, what: tuple[Any, ...]
    ) -> None:
        line = station.line
        if not line.up:
            return
        if line.nat:
            passed = line.mapped.get(sender.line.contact.place)
            if passed is None or passed + MAPPED_S < self.engine.now:
                return
        arrived(station, sender, *what)
