"""Two nodes dial each other, messages take any time: one link stays and nothing is lost.

A model of two nodes, each a real ``Peers`` with shards that do what docs/spec/wire.md, section 12,
says of them. Every link is on a shard of its own, so that nothing but its own order binds it: bytes
of a link, what its shard says to the coordinator, and what the coordinator says to its shard each
come in order, and otherwise anything may come first.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp2p import bus, ids
from dp2p.coordinator.peers import WAITING_MAX, Action, Admit, Close, LinkId, Peers, Probe

KEYS = sorted(
    (ids.to_text(bytes([number]) * 32) for number in (1, 2)),
    key=lambda key: ids.node_id(ids.from_text(key)),
)
"The chooser's, then the other's."
NODES = [ids.node_id_text(key) for key in KEYS]
LIVE_MAX = WAITING_MAX
"Links at a time: beyond this the other side refuses without asking the chooser."


@dataclass
class End:
    """One end of a link: what its shard knows, and what is on the way."""

    number: int
    "Of the link, and of its shard."
    side: int
    opener: bool
    other: End = field(init=False, repr=False)
    state: str = "shaking"
    "shaking, ready, up, down"
    admitted: bool = False
    waits: bool = False
    heard_first: bool = False
    inbox: deque[str] = field(default_factory=deque)
    "first (the first control datagram), datagram, ping, pong, close"
    events: deque[str] = field(default_factory=deque)
    "From the shard to the coordinator."
    commands: deque[Action] = field(default_factory=deque)
    probed: bool = False
    sent: int = 0
    received: int = 0


Step = tuple[Callable[[End], None], End]


class World:
    """Two nodes and all links between them."""

    def __init__(self) -> None:
        self.peers = [Peers(node, 4) for node in NODES]
        self.links: list[tuple[End, End]] = []
        self.live: list[End] = []
        "Ends with which something can still happen."
        self.broken: set[int] = set()

    # --- what may happen next ---

    def steps(self) -> list[Step]:
        """Everything that can happen now by itself."""
        self.live = [end for end in self.live if end.state != "down" or end.events]
        return [step for end in self.live for step in self._steps_of(end)]

    def _steps_of(self, end: End) -> Iterator[Step]:
        if end.events:
            yield self._tell, end
        if end.commands and end.state != "down":
            yield self._obey, end
        if end.state == "shaking":
            yield self._shaken, end
        elif end.state != "down" and end.number in self.broken:
            yield self._down, end
            if end.probed:
                yield self._silent, end
        elif end.inbox:
            yield self._read, end

    def dial(self, side: int) -> None:
        """A node opens a connection, while not too many are there."""
        if sum(not all(self._over(end) for end in ends) for ends in self.links) < LIVE_MAX:
            number = len(self.links)
            one, other = End(number, 0, side == 0), End(number, 1, side == 1)
            one.other, other.other = other, one
            self.links.append((one, other))
            self.live += one, other

    def send(self, number: int, side: int) -> None:
        """An application sends on a link that is up."""
        end = self.links[number][side]
        if end.state == "up":
            end.sent += 1
            self._put(end, "datagram")

    def cut(self, number: int) -> None:
        """The connection breaks; the ends find out at any time, each for itself."""
        self.broken.add(number)
        for end in self.links[number]:
            end.inbox.clear()

    def time_out(self) -> bool:
        """Handshake deadlines pass; False when no end was waiting."""
        waiting = [end for ends in self.links for end in ends if end.state == "ready"]
        for end in waiting:
            self._end(end)
        return bool(waiting)

    # --- a shard ---

    def _shaken(self, end: End) -> None:
        end.state = "ready"
        end.events.append("ready")

    def _read(self, end: End) -> None:
        match end.inbox.popleft():
            case _ if end.state == "down":
                pass
            case "first":
                end.heard_first = True
                self._open_if_agreed(end)
            case "datagram":
                assert end.state == "up", "a datagram before the link is up"
                end.received += 1
            case "ping":
                self._put(end, "pong")
            case "pong":
                self._answer(end, "alive")
            case "close":
                self._down(end)

    def _open_if_agreed(self, end: End) -> None:
        if not (end.admitted and end.heard_first and end.state == "ready"):
            return
        if end.waits:
            self._put(end, "first")
        end.state = "up"
        end.events.append("up")
        self.send(end.number, end.side)

    def _obey(self, end: End) -> None:
        match end.commands.popleft():
            case Admit(_, wait) if not end.admitted:
                end.admitted, end.waits = True, wait
                if not wait:
                    self._put(end, "first")
                self._open_if_agreed(end)
            case Close():
                self._end(end)
            case Probe():
                end.probed = True
                self._put(end, "ping")

    def _silent(self, end: End) -> None:
        self._answer(end, "dead")

    def _answer(self, end: End, answer: str) -> None:
        if end.probed:
            end.probed = False
            end.events.append(answer)

    def _end(self, end: End) -> None:
        self._put(end, "close")
        self._down(end)

    def _down(self, end: End) -> None:
        end.state = "down"
        end.events.append("down")

    def _put(self, end: End, what: str) -> None:
        """Send to the other end."""
        if end.number not in self.broken:
            end.other.inbox.append(what)

    def _over(self, end: End) -> bool:
        return end.state == "down" and not end.events

    # --- a coordinator ---

    def _tell(self, end: End) -> None:
        peers, link = self.peers[end.side], LinkId(end.number, 0)
        match end.events.popleft():
            case "ready":
                actions = peers.ready(end.number, self._report(end), 0.0)
            case "up":
                actions = peers.up(link)[0]
            case "down":
                actions = peers.down(link)[0]
            case answer:
                actions = peers.probed(link, alive=answer == "alive")
        for action in actions:
            self.links[action.link.shard][end.side].commands.append(action)

    def _report(self, end: End) -> bus.LinkReport:
        return bus.LinkReport(
            link=0,
            key=KEYS[1 - end.side],
            direction="out" if end.opener else "in",
            endpoint="tcp4://192.0.2.1:1",
            instance="i",
            listen=[],
            mode="xx",
        )

    # --- what must hold ---

    def settle(self, rng: random.Random) -> None:
        """Let everything happen that still can."""
        while True:
            while steps := self.steps():
                take(rng, steps)
            if not self.time_out():
                return

    def check(self) -> None:
        """At the end of all."""
        up = [
            [i for i, ends in enumerate(self.links) if ends[side].state == "up"] for side in (0, 1)
        ]
        known = [
            [link.id.shard for link in (self.peers[side].connected(NODES[1 - side]),) if link]
            for side in (0, 1)
        ]
        assert up[0] == up[1] == known[0] == known[1]
        assert len(up[0]) <= 1
        assert all(len(peers) == len(up[0]) for peers in self.peers)
        if self.broken:
            return
        assert len(up[0]) == (1 if self.links else 0)
        for one, other in self.links:
            assert one.sent == other.received
            assert other.sent == one.received
            assert not one.sent or one.state == "up", "it carried datagrams and was closed"


def take(rng: random.Random, steps: list[Step]) -> None:
    step, end = rng.choice(steps)
    step(end)


def run(rng: random.Random, dials: int, *, breaks: bool) -> World:
    """One random schedule, to its end."""
    world = World()
    left = dials
    for _ in range(rng.randrange(10, 120)):
        steps = world.steps()
        kind = rng.random()
        if left and (kind < 0.1 or not world.links):
            left -= 1
            world.dial(rng.randrange(2))
        elif kind < 0.15:
            world.send(rng.randrange(len(world.links)), rng.randrange(2))
        elif breaks and kind < 0.18:
            world.cut(rng.randrange(len(world.links)))
        elif steps:
            take(rng, steps)
    world.settle(rng)
    world.check()
    world.dial(rng.randrange(2))  # whatever was before, the next dial finds the nodes connected
    world.settle(rng)
    world.check()
    assert any(end.state == "up" for ends in world.links for end in ends)
    return world


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_any_schedule(rng: random.Random, dials: int, breaks: bool) -> None:
    run(rng, dials, breaks=breaks)


@pytest.mark.parametrize("breaks", [False, True])
def test_many_schedules(breaks: bool) -> None:
    contended = 0
    for seed in range(10_000):
        world = run(random.Random(seed), 1 + seed % 6, breaks=breaks)
        contended += any(end.waits for ends in world.links[1:] for end in ends)
    assert contended > 1_000
