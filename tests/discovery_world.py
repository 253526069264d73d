"""A network of ``Discovery`` in memory and in virtual time: latency, loss, NAT, restarts.

Sessions are emulated as their contract says: the first message to a contact costs a round trip
more, a contact that is not there is found unreachable, and a session that one side has lost goes
unanswered until it is doubted. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count

from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import (
    Action,
    Answered,
    Doubt,
    Found,
    LookedUp,
    Own,
    Result,
    Send,
    Settings,
)
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import Message
from dp2p.coordinator.discovery.service import Discovery

HANDSHAKE_TRIES_S = (0.0, 1.0, 2.5)
HANDSHAKE_OVER_S = 4.5
DONE = (LookedUp, Found, Answered)


def key_of(name: object) -> bytes:
    """A public key, as far as discovery can tell."""
    return hashlib.blake2b(str(name).encode(), digest_size=32).digest()


def contact_of(number: int, host: str | None = None, port: int = 4617) -> Contact:
    """The contact with this number, in a /24 of its own unless told otherwise."""
    return Contact(
        key_of(number), (host or f"{20 + number // 65536}.{number // 256}.{number % 256}.7", port)
    )


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says when a session is made."""

    serves: bool = True
    seq: int = 0


class Node:
    """One node: what runs on it, and its sessions."""

    def __init__(self, world: World, contact: Contact, settings: Settings, nat: str | None) -> None:
        self.world, self.contact, self.settings = world, contact, settings
        self.inside = (nat, 4617) if nat else None
        "Its own address, when that is not where others see it."
        self.up = True
        self.sent_to: set[Place] = set()
        self.results: dict[Hashable, LookedUp | Found | Answered] = {}
        self.seen: list[Action] = []
        "All other actions."
        self.sent = 0
        self.discovery: Discovery
        self.restart()

    def restart(self) -> None:
        """It knows nothing and has no session, as after its start."""
        self.sessions: set[Contact] = set()
        self.waiting: dict[Contact, list[Message]] = {}
        self.unproven: set[Contact] = set()
        own = Own(self.contact.key, (self.inside or self.contact.place,))
        seed = self.world.random.getrandbits(64)
        self.discovery = Discovery(own, self.settings, random=random.Random(seed))

    @property
    def hello(self) -> Hello:
        """Of this moment."""
        return Hello(self.discovery.serves.at(self.contact.place), self.discovery.seq)

    def do(self, actions: list[Action]) -> None:
        """Carry out what discovery wants."""
        for action in actions:
            match action:
                case Send():
                    self.send(action.contact, action.message)
                case Doubt():
                    self.sessions.discard(action.contact)
                case LookedUp() | Found() | Answered():
                    self.results[action.token] = action
                case _:
                    self.seen.append(action)
        self.world.wake(self)

    def send(self, to: Contact, message: Message) -> None:
        """In the session, or in the one that is made now."""
        self.sent += 1
        assert len(messages.encode(message)) <= messages.BODY_MAX
        if to in self.sessions:
            self.world.carry(self, to, lambda other: other.hear(self.contact, message))
        elif to in self.waiting:
            self.waiting[to].append(message)
        else:
            self.waiting[to] = [message]
            for pause in HANDSHAKE_TRIES_S:
                self.world.after(pause, lambda: self.knock(to))
            self.world.after(HANDSHAKE_OVER_S, lambda: self.give_up(to))

    def knock(self, to: Contact) -> None:
        """Send message 1."""
        if to in self.waiting:
            self.world.carry(self, to, lambda other: other.knocked(self))

    def knocked(self, by: Node) -> None:
        """Answer message 1."""
        self.unproven.add(by.contact)
        hello, seen = self.hello, by.contact.place
        self.world.carry(self, by.contact, lambda _: by.opened(self.contact, hello, seen))

    def opened(self, to: Contact, hello: Hello, seen: Place) -> None:
        """Message 2 is here."""
        waiting = self.waiting.pop(to, None)
        if waiting is None:
            return
        self.sessions.add(to)
        mine = self.hello
        self.do(self.discovery.established(to, hello, True, seen, self.world.now))
        for message in waiting:
            self.carry_first(to, message, mine)

    def carry_first(self, to: Contact, message: Message, hello: Hello) -> None:
        """What is said with the first packets of a session, by which it stands for the other."""
        self.world.carry(self, to, lambda other: other.hear(self.contact, message, hello))

    def give_up(self, to: Contact) -> None:
        """Nobody has answered."""
        if self.up and self.waiting.pop(to, None) is not None:
            self.do(self.discovery.unreachable(to, self.world.now))

    def hear(self, by: Contact, message: Message, hello: Hello | None = None) -> None:
        """A sealed packet."""
        if by in self.unproven and hello is not None:
            self.unproven.discard(by)
            self.sessions.add(by)
            self.do(self.discovery.established(by, hello, False, None, self.world.now))
        if by in self.sessions:
            self.do(self.discovery.received(by, message, self.world.now))

    def admits(self, place: Place) -> bool:
        """Whether a NAT lets packets from there in."""
        return self.inside is None or place in self.sent_to


@dataclass
class World:
    """All nodes, by where they are seen, and what is on its way."""

    seed: int = 1
    latency_s: float = 0.04
    loss: float = 0.0
    now: float = 1000.0
    nodes: dict[Place, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._order = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._wakes: dict[Node, float] = {}

    def add(
        self, contact: Contact, settings: Settings | None = None, *, nat: str | None = None
    ) -> Node:
        """A node; ``nat``: the address that it has behind a NAT which only lets answers in."""
        node = Node(self, contact, settings or Settings(), nat)
        self.nodes[contact.place] = node
        return node

    def network(self, size: int, *, settle_s: float = 120.0) -> list[Node]:
        """So many nodes that joined through the first, one after another."""
        nodes = [self.add(contact_of(number)) for number in range(size)]
        for node in nodes[1:]:
            node.do(node.discovery.candidates([nodes[0].contact], self.now))
            self.run(0.5)
        self.run(settle_s)
        return nodes

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Do it then."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), call))

    def carry(self, source: Node, to: Contact, arrive: Callable[[Node], None]) -> None:
        """Take a packet there, unless it is lost, or nobody with that key is there."""
        source.sent_to.add(to.place)
        if self.random.random() >= self.loss:
            pause = self.latency_s * (0.5 + self.random.random())
            self.after(pause, lambda: self._arrive(source, to, arrive))

    def _arrive(self, source: Node, to: Contact, arrive: Callable[[Node], None]) -> None:
        node = self.nodes.get(to.place)
        if node and node.up and node.contact == to and node.admits(source.contact.place):
            arrive(node)

    def wake(self, node: Node) -> None:
        """Have a node run when it wants to."""
        at = max(self.now, node.discovery.next_deadline())
        if at < self._wakes.get(node, float("inf")) and at != float("inf"):
            self._wakes[node] = at
            self.after(at - self.now, lambda: self._run(node, at))

    def _run(self, node: Node, at: float) -> None:
        if self._wakes.get(node) == at:
            del self._wakes[node]
            if node.up:
                node.do(node.discovery.run(self.now))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call = heapq.heappop(self._queue)
            call()
        self.now = end

    def result(self, node: Node, token: Hashable) -> LookedUp | Found | Answered:
        """What comes of a question; time passes until then."""
        end = self.now + 120.0
        while token not in node.results and self.now < end:
            self.run(0.2)
        return node.results.pop(token)

    def lookup(self, node: Node, target: int, paths: int | None = None) -> Result:
        """Look up, and wait for it."""
        node.do(node.discovery.lookup("lookup", target, self.now, paths))
        done = self.result(node, "lookup")
        assert isinstance(done, LookedUp)
        return done.result

    def closest(self, target: int, wanted: int) -> list[Contact]:
        """Who is closest of those that are up, as nobody in the network knows."""
        up = [node.contact for node in self.nodes.values() if node.up]
        return sorted(up, key=lambda one: one.id ^ target)[:wanted]
