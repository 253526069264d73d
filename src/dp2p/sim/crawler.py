"""A crawl: every node is asked for each of its buckets, until nobody new is named."""

from __future__ import annotations

from collections import deque

from dp2p.coordinator.discovery.contact import ID_BITS, Contact
from dp2p.coordinator.discovery.messages import Find
from dp2p.sim.nodes import Answer, Node

AT_ONCE = 128  # questions
EMPTY_MAX = 2  # buckets one after the other in which nobody new is, and a node has been read


class Crawler:
    """One crawl, begun by one node from its own table."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._named: set[bytes] = {node.contact.key}
        self._waiting: deque[tuple[Contact, int, int]] = deque()
        "Whom to ask, for what is at which bit from it, and how many such answers had nobody new."
        self._under_way = 0
        self.answered: set[bytes] = set()
        self.asked = 0

    @property
    def done(self) -> bool:
        """Nobody is left to be asked."""
        return not self._under_way and not self._waiting

    def begin(self) -> None:
        """Start with those in the node's table."""
        self._learn(tuple(self._node.discovery.table.contacts()))
        self._go_on()

    def _learn(self, contacts: tuple[Contact, ...]) -> int:
        new = [one for one in contacts if one.key not in self._named]
        self._named.update(one.key for one in new)
        self._waiting.extend((one, 0, 0) for one in new)
        return len(new)

    def _go_on(self) -> None:
        while self._waiting and self._under_way < AT_ONCE:
            contact, bit, empty = self._waiting.popleft()
            target = contact.id ^ (1 << (ID_BITS - 1 - bit))
            self._under_way += 1
            self.asked += 1
            request = Find(0, target.to_bytes(ID_BITS // 8, "big"))
            self._node.ask(
                contact,
                request,
                lambda answer, one=contact, bit=bit, empty=empty: self._heard(  # type: ignore[misc]
                    answer, one, bit, empty
                ),
            )

    def _heard(self, answer: Answer, contact: Contact, bit: int, empty: int) -> None:
        self._under_way -= 1
        if isinstance(answer, tuple):
            self.answered.add(contact.key)
            empty = 0 if self._learn(answer) else empty + 1
            if empty < EMPTY_MAX and bit + 1 < ID_BITS:
                self._waiting.append((contact, bit + 1, empty))
        self._go_on()
