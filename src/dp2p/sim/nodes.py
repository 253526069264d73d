"""Nodes of the simulated network: the coordinator's discovery, and a world full of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from random import Random
from typing import Any

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
from dp2p.coordinator.discovery.contact import ID_BITS, Contact, Place
from dp2p.coordinator.discovery.messages import (
    AskRecord,
    Find,
    FindProtocol,
    Message,
    Ping,
    Request,
)
from dp2p.coordinator.discovery.service import Discovery
from dp2p.sim.engine import Engine
from dp2p.sim.network import Hello, Line, Network, Weather

PORT = 4617
BOOTSTRAPS = 3  # contacts that a newcomer is given
BUCKET = 16
LOOKUP_S = 300.0  # for any lookup

Question = Ping | Find | AskRecord | FindProtocol
Answer = tuple[Contact, ...] | bytes | None
Told = Callable[[Any], None]
"Hears what came of a lookup, a search or a question."


class Node:
    """One node: its discovery, driven by the network and the engine."""

    def __init__(self, network: Network, line: Line, settings: Settings, random: Random) -> None:
        self.line = line
        self.born = network.engine.now
        self._network = network
        self._engine = network.engine
        self._settings = settings
        self._random = random
        self._wake_at = float("inf")
        self._told: dict[int, Told] = {}
        self._tokens = count()
        self.passive = False
        "It answers, and does nothing by itself: no checks of its table, no lookups, no timeouts."
        self.discovery = self._new()

    def _new(self) -> Discovery:
        # Behind a NAT the node sees another address of its own than the world does.
        place = ("192.168.1.2", PORT) if self.line.nat else self.line.contact.place
        own = Own(self.line.contact.key, (place,))
        return Discovery(own, self._settings, random=self._random)

    @property
    def contact(self) -> Contact:
        return self.line.contact

    # --- what is asked of it ---

    def candidates(self, contacts: Iterable[Contact]) -> None:
        """It hears of contacts, as from a bootstrap or a store."""
        self._do(self.discovery.candidates(contacts, self._engine.now))

    def lookup(self, target: int, told: Callable[[Result], None], paths: int | None = None) -> None:
        """Look up whom the network has closest to a target."""
        self.passive = False
        token = self._token(told)
        self._do(self.discovery.lookup(token, target, self._engine.now, paths))

    def search(
        self, protocol: str, wanted: int, told: Callable[[tuple[Contact, ...]], None]
    ) -> None:
        """Look for nodes that serve a protocol."""
        self.passive = False
        token = self._token(told)
        self._do(self.discovery.search(token, protocol, self._engine.now, wanted))

    def ask(self, contact: Contact, request: Question, told: Callable[[Answer], None]) -> None:
        """One question to one contact."""
        self.passive = False
        token = self._token(told)
        self._do(self.discovery.ask(token, contact, request, self._engine.now))

    def serve(self, protocols: Iterable[str]) -> None:
        """Advertise protocols."""
        self.passive = False
        self._do(self.discovery.serve(protocols, self._engine.now))

    def stop(self) -> None:
        """The process dies; what was on its way to it is lost."""
        self.line.up = False
        self.line.restart()
        self._wake_at = float("inf")
        self._told.clear()

    def start(self, known: Iterable[Contact]) -> None:
        """A new process with the same key, which knows these contacts by its store or settings."""
        self.born = self._engine.now
        self.line.up = True
        self.discovery = self._new()
        self.candidates(known)

    # --- what the network says ---

    def hello(self) -> Hello:
        return Hello(self.discovery.serves.at(self.contact.place), self.discovery.seq)

    def established(
        self, contact: Contact, hello: Hello, initiated: bool, seen: Place | None
    ) -> None:
        self._do(self.discovery.established(contact, hello, initiated, seen, self._engine.now))

    def received(self, contact: Contact, message: Message) -> None:
        actions = self.discovery.received(contact, message, self._engine.now)
        if len(actions) == 1 and isinstance(message, Request):
            # An answer and no more: what is due when has not changed, and half of all is this.
            self._act(actions)
        else:
            self._do(actions)

    def unreachable(self, contact: Contact) -> None:
        self._do(self.discovery.unreachable(contact, self._engine.now))

    # --- driving ---

    def _token(self, told: Told) -> int:
        token = next(self._tokens)
        self._told[token] = told
        return token

    def _do(self, actions: list[Action]) -> None:
        self._act(actions)
        self._schedule()

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._network.send(self, action.contact, action.message)
            elif isinstance(action, Doubt):
                self._network.doubt(self, action.contact)
            elif isinstance(action, LookedUp | Found | Answered):
                self._tell(action)

    def _tell(self, action: LookedUp | Found | Answered) -> None:
        assert isinstance(action.token, int)
        told = self._told.pop(action.token, None)
        if told is None:
            return  # asked by the process before
        match action:
            case LookedUp():
                told(action.result)
            case Found():
                told(action.contacts)
            case Answered():
                told(action.answer)

    def _schedule(self) -> None:
        if self.passive:
            return
        deadline = self.discovery.next_deadline()
        if deadline < self._wake_at:
            self._wake_at = max(deadline, self._engine.now)
            self._engine.at(self._wake_at, self._wake, self._wake_at)

    def _wake(self, at: float) -> None:
        if at != self._wake_at or not self.line.up:
            return  # it was woken earlier, or is not there any more
        self._wake_at = float("inf")
        self._do(self.discovery.run(self._engine.now))


class World:
    """A network of nodes that all began from one seed."""

    def __init__(
        self, seed: int, weather: Weather | None = None, settings: Settings | None = None
    ) -> None:
        self.random = Random(seed)
        self.engine = Engine()
        self.network = Network(self.engine, self.random, weather)
        self.settings = settings or Settings()
        self.nodes: list[Node] = []
        self._networks: set[int] = set()

    # --- who is there ---

    def contact(self, network: int | None = None, host: int | None = None) -> Contact:
        """A new key at a new place: of a /24 of its own, unless ``network`` says of which.

        ``host``: the last byte of the address.
        """
        if network is None:
            network = self.free_network()
        place = _address(network, self.random.randrange(1, 255) if host is None else host)
        return Contact(self.random.randbytes(32), (place, PORT))

    def free_network(self) -> int:
        """The number of a /24 in which nobody is."""
        while (number := self.random.randrange(80 << 16)) in self._networks:
            pass
        self._networks.add(number)
        return number

    def line(self, contact: Contact | None = None, *, nat: bool = False) -> Line:
        """A place in the plane, and a contact."""
        spot = self.random.random(), self.random.random()
        return Line(contact or self.contact(), spot, nat)

    def add(self, contact: Contact | None = None, *, nat: bool = False) -> Node:
        """One more node, which knows nobody."""
        line = self.line(contact, nat=nat)
        node = Node(self.network, line, self.settings, Random(self.random.getrandbits(64)))
        self.network.add(node)
        self.nodes.append(node)
        return node

    def forget(self, node: Node) -> None:
        """A node that has stopped does not come back."""
        self.network.remove(node)
        self.nodes.remove(node)

    def join(self, nodes: int, over_s: float, nat_share: float = 0.0) -> None:
        """Nodes that come one after the other, each with a few of those before as bootstraps."""
        begin = self.engine.now
        for number in range(nodes):
            nat = number >= BOOTSTRAPS and self.random.random() < nat_share
            node = self.add(nat=nat)
            self.engine.at(begin + over_s * number / nodes, self._arrives, node, number)

    def _arrives(self, node: Node, number: int) -> None:
        node.candidates(self.bootstraps(self.nodes[: max(number, 1)], node))

    def bootstraps(self, among: Sequence[Node], newcomer: Node) -> list[Contact]:
        """A few that are up and can be reached."""
        picked = self.random.sample(among, min(len(among), 4 * BOOTSTRAPS))
        usable = [one for one in picked if one.line.up and not one.line.nat and one is not newcomer]
        return [one.contact for one in usable[:BOOTSTRAPS]]

    def fill(self, nodes: int) -> None:
        """Passive nodes whose tables are as after a long time in which nobody came or went: every
        bucket holds random members of those it may hold, as many as it has room for.
        """
        for _ in range(nodes):
            self.add().passive = True
        self.know([one.contact for one in self.nodes], self.nodes)

    def know(
        self, contacts: Iterable[Contact], nodes: Iterable[Node], offers: int = BUCKET
    ) -> None:
        """Let the tables of nodes fill themselves from all these contacts, at random.

        ``offers``: of how many each bucket may take its own; more when limits refuse some.
        """
        ordered = sorted(contacts, key=lambda one: one.id)
        ids = [one.id for one in ordered]
        for node in nodes:
            for low, high in bucket_ranges(ids, node.contact.id):
                size = high - low
                for index in self.random.sample(range(low, high), min(size, offers)):
                    node.discovery.table.answered(ordered[index], self.engine.now)

    @property
    def reachable(self) -> list[Node]:
        """Nodes that are up, and not behind a NAT."""
        return [one for one in self.nodes if one.line.up and not one.line.nat]

    def lookup(self, node: Node, target: int, paths: int) -> Result:
        """A lookup by a node that otherwise stays passive: time passes until it has ended."""
        results: list[Result] = []
        node.lookup(target, results.append, paths)
        self.run(LOOKUP_S, lambda: bool(results))
        node.passive = True
        return results[0]

    def run(self, seconds: float, enough: Callable[[], bool] | None = None) -> None:
        """Let time pass."""
        self.engine.run(self.engine.now + seconds, enough)


def bucket_ranges(ids: Sequence[int], own: int) -> list[tuple[int, int]]:
    """Of sorted node-IDs, the first and the last index + 1 of each bucket of ``own`` that is not
    empty, the farthest bucket first.
    """
    ranges = []
    low, high = 0, len(ids)
    for bit in reversed(range(ID_BITS)):
        if low == high or (high - low == 1 and ids[low] == own):
            break
        middle = bisect_left(ids, ((own >> bit) | 1) << bit, low, high)
        near, far = (low, middle), (middle, high)
        if own >> bit & 1:
            near, far = far, near
        if far[0] < far[1]:
            ranges.append(far)
        low, high = near
    return ranges


def _address(network: int, host: int) -> str:
    """An address of one of 5 million /24s, all of them public."""
    return f"{20 + (network >> 16)}.{network >> 8 & 255}.{network & 255}.{host}"
