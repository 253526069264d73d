"""The logic of a crawl: which node to ask what, and what the answers make of the network.

A node is asked for whom it knows at one distance after another, from the farthest on. Its answer
holds the contacts closest to a target: first those at the target's distance, then those that are
closer to the node itself, the closest first, and at last those that are farther. So an answer also
says down to which distance it is worth asking.
Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dp2p import control, ids
from dp2p.errors import RequestError

ID_BITS = 256
FULL = 16  # contacts in a full answer
AGAIN = "busy"
TRIES_MAX = 100  # of one question that this node was too busy to ask


@dataclass(slots=True)
class Seen:
    """One node, as far as it is known."""

    node: str
    key: str
    endpoint: str
    distance: int = ID_BITS
    "The next one at which it is asked; 0 when all has been asked."
    told: int = 0
    "All that are at this distance or closer have been named."
    contacts: set[str] = field(default_factory=set)
    "Node-IDs."
    answers: int = 0
    rtt_s: float | None = None
    "Of its last answer."
    error: str | None = None
    record: dict[str, Any] | None = None
    record_asked: bool = False
    tries: int = 0

    @property
    def target(self) -> str:
        """A node-ID at the distance that comes next."""
        number = int.from_bytes(ids.from_text(self.node), "big") ^ (1 << (self.distance - 1))
        return ids.to_text(number.to_bytes(ids.KEY_BYTES, "big"))


class Crawl:
    """One walk over the network."""

    def __init__(self, *, records: bool, limit: int) -> None:
        """``records``: ask each node for its record too. ``limit``: of nodes."""
        self._records = records
        self._limit = limit
        self.nodes: dict[str, Seen] = {}
        "By node-ID, in the order in which they were heard of."
        self.left_out = 0
        "Nodes beyond the limit."
        self._ready: deque[Seen] = deque()
        self._asked: dict[int, Seen] = {}
        self._last = 0

    def add(self, contact: dict[str, Any]) -> None:
        """A contact by hearsay. Of several places of a node, the first counts."""
        if contact["node"] in self.nodes:
            return
        if len(self.nodes) >= self._limit:
            self.left_out += 1
            return
        seen = Seen(contact["node"], contact["key"], contact["endpoint"])
        self.nodes[seen.node] = seen
        self._ready.append(seen)

    def begin(self, table: dict[str, Any]) -> None:
        """From the table of the node that asks, which none of the others will name to it."""
        own = Seen(table["node"], table["key"], "", distance=0, answers=1)
        self.nodes[own.node] = own
        for bucket in table["buckets"]:
            for one in bucket["entries"]:
                own.contacts.add(one["node"])
                self.add(one)

    @property
    def under_way(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    @property
    def over(self) -> bool:
        """Nobody is left to be asked."""
        return not self._ready and not self._asked

    @property
    def done(self) -> int:
        """Nodes of which all is known."""
        return len(self.nodes) - len(self._ready) - len(self._asked)

    def ask(self) -> control.AskContact | None:
        """The next question: one at a time to each node."""
        if not self._ready:
            return None
        seen = self._ready.popleft()
        self._last += 1
        self._asked[self._last] = seen
        near = seen.target if seen.distance else None
        return control.AskContact(id=self._last, key=seen.key, endpoint=seen.endpoint, near=near)

    def answered(self, number: int, answer: dict[str, Any] | RequestError) -> None:
        """What came of a question; of one that this crawl did not ask, nothing."""
        seen = self._asked.pop(number, None)
        if seen is None:
            return
        if isinstance(answer, RequestError):
            self._failed(seen, answer)
            return
        seen.answers, seen.rtt_s, seen.tries = seen.answers + 1, answer["seconds"], 0
        if "record" in answer:
            seen.record = answer["record"]
        else:
            self._told(seen, answer["contacts"])
        self._go_on(seen)

    def _failed(self, seen: Seen, error: RequestError) -> None:
        seen.tries += 1
        if error.code == AGAIN and seen.tries < TRIES_MAX:
            self._ready.append(seen)
        else:
            seen.error = str(error)

    def _told(self, seen: Seen, contacts: list[dict[str, Any]]) -> None:
        own = ids.from_text(seen.node)
        distances = [ids.distance(own, ids.from_text(one["node"])).bit_length() for one in contacts]
        seen.contacts.update(one["node"] for one in contacts)
        closer = [distance for distance in distances if distance < seen.distance]
        farther = any(distance > seen.distance for distance in distances)
        seen.told = max([seen.told, *(distance - 1 for distance in closer)])
        seen.distance -= 1
        if len(contacts) < FULL or farther or seen.distance <= seen.told:
            seen.distance = 0
        for one in contacts:
            self.add(one)

    def _go_on(self, seen: Seen) -> None:
        if seen.distance:
            self._ready.append(seen)
        elif self._records and not seen.record_asked:
            seen.record_asked = True
            self._ready.append(seen)

    def report(self) -> dict[str, Any]:
        """Nodes, and edges as pairs of their places in that list."""
        number = {node: at for at, node in enumerate(self.nodes)}
        return {
            "complete": self.over and not self.left_out,
            "left_out": self.left_out,
            "nodes": [_node(seen) for seen in self.nodes.values()],
            "edges": [
                [number[seen.node], number[other]]
                for seen in self.nodes.values()
                for other in sorted(seen.contacts)
                if other in number
            ],
        }


def _node(seen: Seen) -> dict[str, Any]:
    return {
        "node": seen.node,
        "key": seen.key,
        "endpoint": seen.endpoint or None,
        "answered": seen.answers > 0,
        "rtt_s": seen.rtt_s,
        "contacts": len(seen.contacts),
        "error": seen.error,
        "record": seen.record,
    }
