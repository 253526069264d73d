"""One ``Discovery``, and everything that others say to it, by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

from discovery_world import Hello, contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import Action, Own, Send, Settings
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import Message, Ping, Pong
from dp2p.coordinator.discovery.service import Discovery

HOST = "192.0.2.1"
T = TypeVar("T")


class Lone:
    """A node that is told what it hears."""

    def __init__(
        self,
        settings: Settings | None = None,
        host: str = HOST,
        seed: int = 1,
        places: tuple[Place, ...] = (),
    ) -> None:
        """``places``: where it is, if not at ``host`` alone."""
        self.contact = contact_of(0, host)
        own = Own(self.contact.key, places or (self.contact.place,))
        self.discovery = Discovery(own, settings or Settings(), random=random.Random(seed))
        self.now = 1000.0

    def meet(
        self,
        contact: Contact,
        *,
        came: bool = True,
        serves: bool = True,
        seq: int = 0,
        seen: Place | None = None,
    ) -> list[Action]:
        """There is a session with a contact; ``came``: the contact began it."""
        hello = Hello(serves, seq)
        return self.discovery.established(contact, hello, not came, seen, self.now)

    def hear(self, contact: Contact, message: Message) -> list[Action]:
        """A contact says something."""
        return self.discovery.received(contact, message, self.now)

    def asked(self, contact: Contact, request: Message) -> list[Message]:
        """The answers that a contact gets."""
        actions = self.hear(contact, request)
        return [one.message for one in sends(actions) if one.contact == contact]

    def befriend(self, contacts: Iterable[Contact]) -> None:
        """Contacts are in the table: each was a candidate, and has answered."""
        friends = list(contacts)
        for contact in friends:
            actions = self.discovery.candidates([contact], self.now)
            self.meet(contact, came=False)
            for one in sends(actions):
                if one.contact == contact and isinstance(one.message, Ping):
                    self.hear(contact, pong(one.message))
        assert {one.key for one in friends} <= {one.key for one in self.known()}

    def known(self) -> list[Contact]:
        """The table."""
        return self.discovery.table.contacts()

    def wait(self, seconds: float) -> list[Action]:
        """Time passes, and the node runs whenever it wants to."""
        end, actions = self.now + seconds, []
        while (at := self.discovery.next_deadline()) <= end:
            self.now = max(self.now, at)
            actions += self.discovery.run(self.now)
        self.now = end
        return actions


def pong(ping: Ping, seq: int = 0, seen: Place = (HOST, 4617)) -> Pong:
    """The answer to a ping."""
    return Pong(ping.id, seq, messages.at(seen))


def sends(actions: Iterable[Action]) -> list[Send]:
    """What is sent."""
    return [one for one in actions if isinstance(one, Send)]


def only(actions: list[Action], kind: type[T]) -> T:
    """The one action, or message that is sent, of a kind."""
    things: list[object] = [*actions, *(one.message for one in sends(actions))]
    found = [one for one in things if isinstance(one, kind)]
    assert len(found) == 1, found
    return found[0]
