"""Adversaries: stations that answer as nodes do, and name only one another."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from heapq import nsmallest

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import (
    CONTACTS_MAX,
    Advertise,
    Advertised,
    AskRecord,
    Find,
    FindProtocol,
    Message,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
    at,
    named,
)
from dp2p.sim.network import Hello, Line, Network

LOOK_AROUND = 64  # members on either side, of whom those closest to a target are named


class Coalition:
    """Adversaries that work together: each names those of all that are closest to a target."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        self._contacts = sorted(contacts, key=lambda one: one.id)
        self._ids = [one.id for one in self._contacts]
        self.keys = {one.key for one in self._contacts}

    def __contains__(self, contact: Contact) -> bool:
        return contact.key in self.keys

    def closest(self, target: int) -> list[Contact]:
        """About the closest: those next to it in order, by their distance."""
        middle = bisect_left(self._ids, target)
        around = self._contacts[max(0, middle - LOOK_AROUND) : middle + LOOK_AROUND]
        return nsmallest(CONTACTS_MAX, around, key=lambda one: one.id ^ target)

    def share(self, contacts: Iterable[Contact]) -> float:
        """Of some contacts, how many are its own; 0 of none."""
        members = [one in self for one in contacts]
        return sum(members) / len(members) if members else 0.0


class Adversary:
    """One identity of a coalition. It is always there and answers at once."""

    def __init__(self, network: Network, line: Line, coalition: Coalition) -> None:
        self.line = line
        self._network = network
        self._coalition = coalition
        self._pings = 0

    def ping(self, victim: Contact) -> None:
        """Come to a node unasked, to be remembered."""
        self._pings += 1
        self._network.send(self, victim, Ping(self._pings, 0))

    # --- what the network says ---

    def hello(self) -> Hello:
        return Hello()

    def established(
        self, contact: Contact, hello: Hello, initiated: bool, seen: Place | None
    ) -> None:
        """Nothing that it needs to know."""

    def unreachable(self, contact: Contact) -> None:
        """It tries again when it pings again."""

    def received(self, contact: Contact, message: Message) -> None:
        """Answer what is asked; take adverts and forget them."""
        match message:
            case Ping(id=number):
                self._send(contact, Pong(number, 0, at(contact.place)))
            case Find(id=number, target=target):
                self._send(contact, Nodes(number, 0, 1, self._named(target)))
            case FindProtocol(id=number, topic=topic):
                self._send(contact, Providers(number, 0, 1, [], self._named(topic)))
            case AskRecord(id=number):
                self._send(contact, RecordIs(number, b""))
            case Advertise(id=number, topics=topics):
                self._send(contact, Advertised(number, [1800] * len(topics)))
            case _:
                pass  # answers to its own pings

    def _named(self, target: bytes) -> list[Named]:
        return [named(one) for one in self._coalition.closest(int.from_bytes(target, "big"))]

    def _send(self, contact: Contact, message: Message) -> None:
        self._network.send(self, contact, message)
