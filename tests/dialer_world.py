"""A dialer in virtual time, and what it sees of its node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dp2p import bus, ids
from dp2p.addresses import PeerOnly, parse
from dp2p.coordinator.dialer import MAX_DIALS, Dialer
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.places import Place
from dp2p.coordinator.targets import Action, Connect, Failed, Knowledge, Tried

KEY = ids.to_text(bytes([7]) * 32)
PEER = ids.node_id_text(KEY)
OTHER_KEY = ids.to_text(bytes([8]) * 32)
KEYED = parse(f"dp2p://{KEY}@192.0.2.1:4617")
BARE = parse("tcp4://192.0.2.1:4617")
NAMED = parse("tcp4://node.example:4617")
PLACELESS = PeerOnly(KEY)
HANDSHAKE_S = 10.0


def report(number: int = 1, direction: str = "out", **more: Any) -> bus.LinkReport:
    fields = {"key": KEY, "endpoint": "tcp4://192.0.2.1:4617", "listen": [], **more}
    return bus.LinkReport(link=number, direction=direction, instance="i", mode="xx", **fields)


def link(number: int = 1, shard: int = 0, direction: str = "out", **more: Any) -> Link:
    made = report(number, direction, **more)
    return Link(LinkId(shard, number), ids.node_id_text(made.key), made, 0.0, up=True)


@dataclass
class World:
    """What the dialer sees of the node, and a driver for it."""

    open: dict[str, Link] = field(default_factory=dict)
    shards: list[int] = field(default_factory=lambda: [0])
    jitter: float = 0.5
    max_dials: int = MAX_DIALS
    known_places: dict[str, list[Place]] = field(default_factory=dict)
    thought_at: dict[str, str] = field(default_factory=dict)
    tickets: dict[str, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dialer = Dialer(
            self, lambda: self.jitter, HANDSHAKE_S, first_dial=100, max_dials=self.max_dials
        )

    def connected(self, peer: str) -> Link | None:
        return self.open.get(peer)

    def open_to(self, endpoint: str) -> Link | None:
        links = (one for one in self.open.values() if one.report.endpoint == endpoint)
        return next(links, None)

    def least_loaded(self) -> int | None:
        return self.shards[0] if self.shards else None

    def places(self, key: str) -> list[Place]:
        return self.known_places.get(key, [])

    def knowledge(self, key: str | None, endpoint: str) -> Knowledge:
        key = key or self.thought_at.get(endpoint)
        tickets = self.tickets.get(key or "", [])
        return Knowledge(key, tickets.pop() if tickets else None)

    def ready(self, dial: int, now: float, number: int = 1, key: str = KEY) -> list[Action]:
        made = report(number, key=key, dial=dial)
        return self.dialer.ready(LinkId(0, number), made, now)

    def up(self, made: Link, now: float = 0.0) -> list[Action]:
        self.open[made.peer] = made
        return self.dialer.link_up(made, now)

    def lose(self, now: float) -> None:
        del self.open[PEER]
        self.dialer.peer_down(PEER, now)


def told(actions: list[Action]) -> list[Action]:
    """Without what is said of single attempts."""
    return [action for action in actions if not isinstance(action, Tried)]


def tried(actions: list[Action]) -> list[Tried]:
    return [action for action in actions if isinstance(action, Tried)]


def all_dialled(actions: list[Action]) -> list[bus.DialLink]:
    return [action.message for action in actions if isinstance(action, Connect)]


def dialled(actions: list[Action]) -> bus.DialLink:
    (action,) = told(actions)
    assert isinstance(action, Connect)
    return action.message


def failure(actions: list[Action]) -> tuple[int, str]:
    (action,) = told(actions)
    assert isinstance(action, Failed)
    return action.token, action.code


def pause_after(world: World, reason: str, now: float) -> float:
    """Fail all that is due; how long the next round is away."""
    for message in all_dialled(world.dialer.run(now)):
        world.dialer.dial_failed(message.dial, reason, now, OTHER_KEY)
    due = world.dialer.next_deadline()
    assert due is not None
    return due - now
