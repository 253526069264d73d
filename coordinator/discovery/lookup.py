"""A lookup: who is closest to a node-ID, asked step by step, on paths that share nobody.

Source: Kademlia, section 2.3; Baumgart and Mies, S/Kademlia, section 4.4, for disjoint paths. The
start contacts are dealt to the paths, what one path is told stays on it, and nobody is asked on
two: so a liar misleads the path that met it, and no other.

Everything that is said is a claim. A key may be named at several places, and the first that
answers counts. Who names only contacts that do not exist is soon passed over, and memory is
bounded whatever is named. Who has many identities in few IP networks holds few of the places among
the closest, and so keeps no path from going on with others that it knew before.

Pure, and without time: of each contact that ``ask`` gave, the caller reports ``answered`` or
``failed``.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import nsmallest
from itertools import islice

from dp2p.coordinator.discovery.bucket import UNLIMITED, NetworkLimits
from dp2p.coordinator.discovery.chance import Random
from dp2p.coordinator.discovery.contact import Contact
from dp2p.networks import is_local

K = 16
ALPHA = 3  # asked at a time; Kademlia, section 2.3
START_MAX = 8  # times k
NAMED_MAX = 64  # of one answer; as many as all its parts have
NODES_MAX = 8  # times k, known on a path; the farthest are forgotten
ASKED_MAX = 8  # times k on a path; then it ends, whoever is still named
PLACES_MAX = 4  # of one key
NETWORK_ASKED = 4  # of one IP network on a path, beside the target itself
CREDIT = 4  # contacts that do not answer, beyond those that do, and who named them is passed over


class State(Enum):
    """What has become of a node in this lookup."""

    WAITING = auto()
    ASKED = auto()
    ANSWERED = auto()
    FAILED = auto()


@dataclass(slots=True, eq=False)
class _Node:
    """A key that was named, on whichever paths."""

    distance: int
    contact: Contact
    "The place that is asked, or the next to be."
    hop: int
    "1 for a start contact, one more than who named it for others."
    namer: _Node | None
    state: State = State.WAITING
    path: _Path | None = None
    "On which it was asked."
    places: list[Contact] = field(default_factory=list)
    "All that were named; those before ``contact`` did not answer."
    listed: int = 0
    "On how many paths it stands."
    network: str | None = None
    "By which it is counted; None when it is not."
    credit: int = CREDIT
    "One more for each that it named and that answers, one less for each that fails."

    @property
    def doubtful(self) -> bool:
        """Who named it has named too many that do not answer."""
        return self.namer is not None and self.namer.credit <= 0


@dataclass(slots=True, eq=False)
class _Path:
    """What was named on one path."""

    nodes: list[_Node] = field(default_factory=list)
    "Closest first, without those that failed."
    known: set[_Node] = field(default_factory=set)
    "The same."
    asked: int = 0
    under_way: int = 0
    of_network: Counter[str] = field(default_factory=Counter)
    "How many were asked, whatever came of it."

    def add(self, node: _Node) -> None:
        """Puts a node in its place, if it is not there."""
        if node not in self.known:
            self.known.add(node)
            insort(self.nodes, node, key=_distance)
            node.listed += 1

    def discard(self, node: _Node) -> None:
        """Takes a node out, if it is there."""
        if node in self.known:
            self.known.remove(node)
            self.nodes.remove(node)
            node.listed -= 1


class Lookup:
    """The search for the ``k`` nodes closest to ``target``, beginning at ``start``."""

    def __init__(
        self,
        target: int,
        start: Iterable[Contact],
        *,
        own: int,
        k: int = K,
        alpha: int = ALPHA,
        paths: int = 1,
        limits: NetworkLimits = UNLIMITED,
        random: Random,
    ) -> None:
        """``own``: this node's ID, which is never asked. ``alpha`` are asked at a time, and one on
        each path at least. ``limits``: of one IP network, as many as a bucket may have count among
        the ``k`` closest of a path, and of the result.
        """
        self.target = target
        self.enough = False
        "Set by who looks for something and has found it: then the lookup is done."
        self.asked = 0
        self.failures = 0
        self._own = own
        self._k = k
        self._limits = limits
        self._at_a_time = -(-alpha // paths)
        self._nodes: dict[bytes, _Node] = {}
        self._paths = [_Path() for _ in range(paths)]
        self._answered: list[_Node] = []
        self._deal(start, random)

    def _deal(self, start: Iterable[Contact], random: Random) -> None:
        """Each path gets one of the closest ``paths``, one of the next, and so on."""
        contacts = nsmallest(START_MAX * self._k, start, key=lambda one: one.id ^ self.target)
        for first in range(0, len(contacts), len(self._paths)):
            hand = list(self._paths)
            random.shuffle(hand)
            for contact, path in zip(contacts[first : first + len(hand)], hand, strict=False):
                self._name(path, contact, None)

    # --- what is to be done, and what came of it ---

    def ask(self) -> list[Contact]:
        """Whom to ask now; each counts as under way until it has answered or failed."""
        if self.enough:
            return []
        found: list[Contact] = []
        for path in self._paths:
            while path.under_way < self._at_a_time and (node := self._next(path)):
                node.state, node.path = State.ASKED, path
                path.under_way += 1
                path.asked += 1
                if node.network is not None:
                    path.of_network[node.network] += 1
                found.append(node.contact)
        self.asked += len(found)
        return found

    def answered(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """It answered, and named others."""
        node = self._settled(contact)
        if node is None or node.path is None:
            return
        node.state = State.ANSWERED
        self._answered.append(node)
        if node.namer:
            node.namer.credit += 1
        named = nsmallest(
            self._k, islice(contacts, NAMED_MAX), key=lambda one: one.id ^ self.target
        )
        for one in named:
            self._name(node.path, one, node)
        self._trim(node.path)

    def failed(self, contact: Contact) -> None:
        """It did not answer: where else it was said to be comes next, if anywhere."""
        node = self._settled(contact)
        if node is None:
            return
        self.failures += 1
        following = node.places[node.places.index(contact) + 1 :]
        if following:
            node.state, node.contact = State.WAITING, following[0]
            node.network = self._counted(node.contact)
            return
        node.state = State.FAILED
        if node.namer:
            node.namer.credit -= 1
        for path in self._paths:
            path.discard(node)

    # --- how it stands ---

    @property
    def done(self) -> bool:
        """Nobody is left to be asked, nor under way; or ``enough``."""
        return self.enough or not any(map(self._goes_on, self._paths))

    @property
    def hops(self) -> int:
        """How many had to be asked, one after the other, to be answered by the closest of the
        result; 0 without a result.
        """
        return min(self._answered, key=_distance).hop if self._answered else 0

    def result(self) -> list[Contact]:
        """The ``k`` closest that answered, closest first, not too many of one network."""
        crowd: Counter[str] = Counter()
        closest = sorted(self._answered, key=_distance)
        return [one.contact for one in closest if self._has_room(one, crowd)][: self._k]

    # --- nodes and paths ---

    def _settled(self, contact: Contact) -> _Node | None:
        """The node that was asked at this place, no longer under way; None for any other."""
        node = self._nodes.get(contact.key)
        if node is None or node.state is not State.ASKED or node.contact != contact:
            return None
        if node.path is not None:
            node.path.under_way -= 1
        return node

    def _name(self, path: _Path, contact: Contact, namer: _Node | None) -> None:
        """A contact is named on a path."""
        if contact.id == self._own:
            return
        node = self._nodes.get(contact.key)
        if node is None:
            distance = contact.id ^ self.target
            node = _Node(distance, contact, namer.hop + 1 if namer else 1, namer, places=[contact])
            node.network = self._counted(contact)
            self._nodes[contact.key] = node
        elif not self._name_again(node, contact, namer):
            return
        path.add(node)

    def _name_again(self, node: _Node, contact: Contact, namer: _Node | None) -> bool:
        """Whether a node that was named before is still of use."""
        if node.doubtful:
            node.namer = namer
        if node.state is State.ANSWERED or contact in node.places:
            return node.state is not State.FAILED
        if len(node.places) >= PLACES_MAX:
            return False
        node.places.append(contact)
        if node.state is State.FAILED:
            node.state, node.contact, node.namer = State.WAITING, contact, namer
            node.network = self._counted(contact)
        return True

    def _trim(self, path: _Path) -> None:
        """Forgets the farthest of a path that has too many."""
        for node in path.nodes[NODES_MAX * self._k :]:
            path.discard(node)
            if not node.listed and node.state is State.WAITING:
                del self._nodes[node.contact.key]

    def _next(self, path: _Path) -> _Node | None:
        """Whom to ask on a path: the closest that is waiting among the ``k`` closest that it
        knows of, but for those named by liars and for those of networks that have their share of
        these already. None when the path has arrived.
        """
        if path.asked >= ASKED_MAX * self._k:
            return None
        closer = 0
        crowd: Counter[str] = Counter()
        for node in path.nodes:
            waiting = node.state is State.WAITING
            if waiting and (node.doubtful or not _has_turns(path, node)):
                continue
            if not self._has_room(node, crowd):
                continue
            if waiting:
                return node
            closer += 1
            if closer >= self._k:
                break
        return None

    def _counted(self, contact: Contact) -> str | None:
        exempt = not self._limits.local and is_local(contact.place[0])
        return None if exempt else contact.network

    def _has_room(self, node: _Node, crowd: Counter[str]) -> bool:
        """Whether a node's network has room for it among closer ones, where it is counted then."""
        if node.network is None:
            return True
        crowd[node.network] += 1
        return crowd[node.network] <= self._limits.bucket

    def _goes_on(self, path: _Path) -> bool:
        """Whether somebody is under way, or to be asked."""
        return path.under_way > 0 or self._next(path) is not None


def _has_turns(path: _Path, node: _Node) -> bool:
    """Whether one more of a node's network may be asked on a path: many who name places of a
    stranger do not have this node knock there for long.
    """
    return (
        not node.distance or node.network is None or path.of_network[node.network] < NETWORK_ASKED
    )


def _distance(node: _Node) -> int:
    return node.distance
