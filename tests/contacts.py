"""Contacts for tests of discovery: node-IDs where a test wants them, places in many networks."""

from __future__ import annotations

from itertools import count

from dp2p.coordinator.discovery.contact import Contact, Place, log_distance
from dp2p.ids import node_id

OWN = Contact(bytes(32), ("192.0.2.1", 4617)).id


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def place(number: int) -> Place:
    """A place in a public network of its own."""
    return f"{11 + (number >> 16) % 80}.{number >> 8 & 255}.{number & 255}.7", 4617


def contact(number: int, where: Place | None = None) -> Contact:
    return Contact(key(number), where or place(number))


def at_distance(
    log: int, amount: int, *, first: int = 1, own: int = OWN, host: str | None = None
) -> list[Contact]:
    """So many contacts at a log distance, each in a network of its own, or all at one host."""
    found: list[Contact] = []
    for number in count(first):
        if log_distance(own, int.from_bytes(node_id(key(number)), "big")) == log:
            found.append(contact(number, (host, 1024 + number % 60000) if host else None))
            if len(found) == amount:
                break
    return found
