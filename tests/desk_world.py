"""A desk, and the node around it, for tests of what applications ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from dp2p import bus, config, control, ids, keys, noise
from dp2p.coordinator import desk, fabric
from dp2p.coordinator.acquaintance import Acquaintance
from dp2p.coordinator.desk import Answers, Desk
from dp2p.coordinator.discovering import Located
from dp2p.coordinator.discovery.actions import DiscoveryBusy
from dp2p.coordinator.inquiries import Inquiries
from dp2p.coordinator.metering import Metering
from dp2p.coordinator.own_record import OwnRecord
from dp2p.coordinator.peers import Link, LinkId, Peers
from dp2p.coordinator.registry import Registry
from dp2p.coordinator.router import Counters, Router
from dp2p.coordinator.searches import Wanted as Sought
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.targets import Wanted
from dp2p.errors import RequestError

SPEC = Path(__file__).resolve().parents[1] / "docs" / "spec" / "app-api.md"
NOW = 50.0
WALL = 1_700_000_000.0
OWN = keys.identity(bytes(32))
SEEDS = [bytes([n]) * 32 for n in range(1, 4)]
ANNA, BOB, CARL = (noise.identity_public(seed) for seed in SEEDS)
PLACE = "tcp4://192.0.2.7:4617"


def key_text(key: bytes) -> str:
    return ids.to_text(key)


def node_text(key: bytes) -> str:
    return ids.to_text(ids.node_id(key))


class FakeRouter:
    """Keeps what goes to shards."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.sent: list[bus.ToShard] = []

    def send(self, _identity: bytes, frame: bytes) -> bool:
        self.sent.append(bus.decode_to_shard(frame))
        return True


@dataclass
class Carrier:
    """What the desk had carried out."""

    settled: bool = True
    dials: list[tuple[int, Wanted, float]] = field(default_factory=list)
    finds: list[tuple[int, Sought, float]] = field(default_factory=list)
    busy: bool = False
    changes: int = 0

    def request_dial(self, token: int, target: Wanted, timeout_s: float) -> None:
        self.dials.append((token, target, timeout_s))

    def request_find(self, token: int, wanted: Sought, timeout_s: float) -> None:
        if self.busy:
            raise RequestError("busy", "too many searches")
        self.finds.append((token, wanted, timeout_s))

    def registry_changed(self) -> None:
        self.changes += 1

    def wake(self) -> None:
        """Nobody sleeps."""


@dataclass
class FakeDiscoverer:
    """Knows what the test wants it to know."""

    located: list[tuple[bytes, float, Callable[[Located], None]]] = field(default_factory=list)
    busy: bool = False

    @property
    def discovering(self) -> Any:
        return SimpleNamespace(contacts=3)

    def locate(self, node_id: bytes, timeout_s: float, done: Callable[[Located], None]) -> None:
        if self.busy:
            raise DiscoveryBusy("too many lookups")
        self.located.append((node_id, timeout_s, done))


class World:
    """A desk, and the node around it: two shards, a store in memory."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.run_dir = directory
        self.store = PeerStore(None, max_peers=16)
        self.peers = Peers(OWN.node, max_peers=8)
        self.acquaintance = Acquaintance(self.store, OWN.public, 3600.0)
        self.registry = Registry(5.0, lambda: "0" * 32)
        self.own = OwnRecord(OWN, self.store)
        self.discoverer: FakeDiscoverer | None = None
        self.router = FakeRouter()
        owner = SimpleNamespace(shard_hello=lambda _new, _old: None)
        self.fabric = fabric.Fabric(
            cast(Router, self.router), cast(fabric.Owner, owner), "life", lambda: self.now
        )
        for index in (0, 1):
            self.fabric.received(b"%d" % index, bus.encode(hello(index)))
        self.router.sent.clear()
        self.carrier, self.answers = Carrier(), Answers()
        self.desk = Desk(self._parts(), self.carrier, self.answers, lambda: self.now)
        self.answered: list[Any] = []

    def _parts(self) -> desk.Parts:
        node = {"key_file": "/k", "run_dir": str(self.run_dir), "network": "test"}
        body = {"node": node, "listen": {"addresses": [PLACE]}, "shards": {"count": 2}}
        settings = msgspec.convert(body, config.Config)
        self.told: list[tuple[str, control.TrafficSeen]] = []
        metering = Metering(
            settings,
            self.fabric,
            self.registry,
            lambda session, event: self.told.append((session, event)),
            lambda: self.now,
        )
        return desk.Parts(
            settings=settings,
            metering=metering,
            identity=OWN,
            registry=self.registry,
            peers=self.peers,
            fabric=self.fabric,
            store=self.store,
            acquaintance=self.acquaintance,
            own=self.own,
            inquiries=Inquiries(cast(Any, self.discoverer), lambda: self.now),
            bus=cast(Router, self.router),
            control=cast(Router, self.router),
        )

    def connect(self, key: bytes, number: int = 1, **changes: Any) -> Link:
        """A link that is up; the store has not been told."""
        made = report(key, number, **changes)
        self.peers.ready(0, made, self.now)
        _, link = self.peers.up(LinkId(0, number))
        assert link is not None
        return link

    def discover(self) -> FakeDiscoverer:
        """From now on there is discovery."""
        self.discoverer = FakeDiscoverer()
        self.desk = Desk(self._parts(), self.carrier, self.answers, lambda: self.now)
        return self.discoverer

    def dial(self, address: str) -> Wanted:
        """What the node is to connect to."""
        self.desk.dial(address, 3.0, self.answered.append)
        _, target, timeout_s = self.carrier.dials[-1]
        assert timeout_s == 3.0
        return target


def hello(shard: int) -> bus.ShardHello:
    return bus.ShardHello(
        shard=shard,
        incarnation="one",
        pid=100 + shard,
        aead="libsodium",
        data_endpoint=f"ipc:///run/shard-{shard}.sock",
        listening=[PLACE],
        links=[],
        generation=0,
        apps=[],
        protocols=[],
    )


def report(key: bytes, link: int = 1, **changes: Any) -> bus.LinkReport:
    fields: dict[str, Any] = {
        "link": link,
        "key": key_text(key),
        "direction": "out",
        "endpoint": PLACE,
        "instance": "0" * 16,
        "listen": [PLACE],
        "mode": "resume",
        "trust": "resumed",
        "introducers": 2,
    }
    return bus.LinkReport(**{**fields, **changes})


def refusal(call: Any, *arguments: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value
