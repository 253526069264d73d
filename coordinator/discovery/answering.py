"""What this node answers to others, and how much of it.

Source: docs/spec/discovery.md, "Answers" and "Caps". A request comes inside a session, from an
address that is proven. What is beyond a cap is answered with silence, as is what cannot be read.
"""

from __future__ import annotations

from dp2p.allowance import Allowance, Shares
from dp2p.coordinator.discovery.actions import Action, Send
from dp2p.coordinator.discovery.adverts import Adverts
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    BODY_MAX,
    CONTACTS_MAX,
    Advertise,
    Advertised,
    Answer,
    AskRecord,
    Find,
    FindProtocol,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
    Request,
    at,
    named,
)
from dp2p.coordinator.discovery.scopes import reaches, scope

EACH = 64, 0.1
"Requests of one contact: at once, and one more each (s)."
NETWORK = 256, 0.02
"Of one IP network, unless it is of this site."
ALL = 2048, 0.001
"Of all together, but for contacts in the table."
KNOWN = 2048, 0.001
"Of these together: a flood from many networks must not make this node seem dead to those it knows."
NO_BOUND = 1, 0.0
SPARE = 64  # contacts looked at when some of the closest may not be told
NAMED_BYTES = 56  # of the largest contact on the wire
HEAD_BYTES = 32  # of the largest message around them


class Answering:
    """Answers requests out of the table and the adverts."""

    def __init__(self, asking: Asking, adverts: Adverts) -> None:
        self._asking = asking
        self._adverts = adverts
        self._by_contact = Shares(EACH, NO_BOUND)
        self._by_network = Shares(NETWORK, NO_BOUND)
        self._all = Allowance(*ALL)
        self._known = Allowance(*KNOWN)
        self.record = b""
        "This node's signed record; empty while it has none."

    def request(self, asker: Contact, request: Request, now: float) -> list[Action]:
        """The answer, in its parts; nothing for who asks too much."""
        if not self._allowed(asker, now):
            return []
        self._asking.counters.served += 1
        return [Send(asker, part) for part in self._answer(asker, request, now)]

    def _allowed(self, asker: Contact, now: float) -> bool:
        counters = self._asking.counters
        together = self._known if asker in self._asking.table else self._all
        if together.next_at() > now:
            counters.limited_all += 1
            return False
        if not self._by_contact.take(asker.key.hex(), now):
            counters.limited_contact += 1
            return False
        if not self._by_network.take(self._asking.counted(asker), now):
            counters.limited_network += 1
            return False
        return together.take(now)

    def _answer(self, asker: Contact, request: Request, now: float) -> list[Answer]:
        number = request.id
        match request:
            case Ping():
                return [Pong(number, self._asking.seq, at(asker.place))]
            case AskRecord():
                return [RecordIs(number, self.record)]
            case Find():
                return _nodes(number, self._closest(asker, request.target))
            case FindProtocol():
                return _providers(
                    number,
                    self._providers(asker, request.topic, now),
                    self._closest(asker, request.topic),
                )
            case Advertise():
                return [
                    Advertised(
                        number, [self._advertise(asker, topic, now) for topic in request.topics]
                    )
                ]

    def _closest(self, asker: Contact, target: bytes) -> list[Named]:
        """The closest that may be told to the asker, who knows itself."""
        number = int.from_bytes(target, "big")
        told = _told(asker, self._asking.table.closest(number, CONTACTS_MAX + 1))
        if len(told) < CONTACTS_MAX:
            told = _told(asker, self._asking.table.closest(number, SPARE))
        return told

    def _providers(self, asker: Contact, topic: bytes, now: float) -> list[Named]:
        found = self._adverts.find(topic, CONTACTS_MAX + 1, now, self._asking.random)
        return _told(asker, found)

    def _advertise(self, asker: Contact, topic: bytes, now: float) -> int:
        """For how long it is remembered (s). Who cannot be reached need not be found."""
        counters = self._asking.counters
        granted = 0 if self._asking.is_mute(asker) else self._adverts.put(topic, asker, now)
        counters.adverts_taken += granted > 0
        counters.adverts_refused += granted == 0
        return granted


def _told(asker: Contact, contacts: list[Contact]) -> list[Named]:
    reach = scope(asker.place[0])
    return [
        named(one) for one in contacts if one.key != asker.key and reaches(one.place[0], reach)
    ][:CONTACTS_MAX]


def _nodes(number: int, contacts: list[Named]) -> list[Answer]:
    """Sixteen contacts fit in one message, whatever their addresses."""
    return [Nodes(number, 0, 1, contacts)]


def _providers(number: int, providers: list[Named], contacts: list[Named]) -> list[Answer]:
    """Providers and contacts in one message if they fit, else in one each."""
    if (len(providers) + len(contacts)) * NAMED_BYTES + HEAD_BYTES <= BODY_MAX:
        return [Providers(number, 0, 1, providers, contacts)]
    return [Providers(number, 0, 2, providers, []), Providers(number, 1, 2, [], contacts)]
