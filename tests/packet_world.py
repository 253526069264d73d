"""Nodes that exchange discovery's packets in memory and in virtual time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.sessions import (
    Datagram,
    Delivered,
    Established,
    Event,
    Limits,
    Sessions,
)
from dp2p.keys import Identity, identity

PORT = 4617


def identity_of(name: str) -> Identity:
    return identity(hashlib.blake2b(name.encode(), digest_size=32).digest())


@dataclass
class End:
    """One node, what it wants to send, and what happened to it."""

    sessions: Sessions
    contact: Contact
    out: list[Datagram] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return self.contact.place

    def send(self, to: End | Contact, body: bytes, now: float = 0.0) -> None:
        contact = to if isinstance(to, Contact) else to.contact
        self.out += self.sessions.send(contact, body, now)

    def take(self, data: bytes, source: Place, now: float = 0.0) -> list[Datagram]:
        """What it sends for a datagram; that is not in ``out``."""
        datagrams, events = self.sessions.received(data, source, now)
        self.events += events
        return datagrams

    def run(self, now: float) -> None:
        datagrams, events = self.sessions.run(now)
        self.out += datagrams
        self.events += events

    def only(self) -> Datagram:
        """The one datagram that it wants to send."""
        (datagram,) = self.out
        self.out = []
        return datagram

    @property
    def bodies(self) -> list[bytes]:
        return [event.body for event in self.events if isinstance(event, Delivered)]

    @property
    def established(self) -> list[Established]:
        return [event for event in self.events if isinstance(event, Established)]


class World:
    """Nodes by their places, and an observer who has seen every datagram."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.ends: dict[Place, End] = {}
        self.seen: list[tuple[Place, Datagram]] = []
        "Source and datagram."

    def node(
        self,
        name: str,
        host: str,
        *,
        port: int = PORT,
        network: str = "dp2p",
        limits: Limits | None = None,
    ) -> End:
        who = identity_of(name)
        sessions = Sessions(
            who,
            network,
            random_bytes=self.random.randbytes,
            limits=limits,
            ephemeral=lambda: self.random.randbytes(32),
        )
        end = End(sessions, Contact(who.public, (host, port)))
        self.ends[end.place] = end
        return end

    def settle(
        self, now: float = 0.0, lost: Callable[[Place, Datagram], bool] = lambda *_: False
    ) -> None:
        """Deliver until nobody has anything to send."""
        while moving := [(end, datagram) for end in self.ends.values() for datagram in end.out]:
            for end in self.ends.values():
                end.out = []
            for end, datagram in moving:
                self.seen.append((end.place, datagram))
                data, to = datagram
                if to in self.ends and not lost(end.place, datagram):
                    other = self.ends[to]
                    other.out += other.take(data, end.place, now)

    def run(self, now: float) -> None:
        for end in self.ends.values():
            end.run(now)
        self.settle(now)


def pair(**limits: Limits) -> tuple[World, End, End]:
    """Two nodes that have not met; ``a`` and ``b`` say whose limits are others."""
    world = World()
    a = world.node("a", "192.0.2.1", limits=limits.get("a"))
    b = world.node("b", "198.51.100.2", limits=limits.get("b"))
    return world, a, b


def met(**limits: Limits) -> tuple[World, End, End]:
    """Two nodes with a session that ``a`` began."""
    world, a, b = pair(**limits)
    a.send(b, b"first")
    world.settle()
    assert b.bodies == [b"first"]
    return world, a, b
