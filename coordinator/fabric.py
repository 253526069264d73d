"""The coordinator's end of the fabric: which shards there are, and messages to and from them.

A shard is known from its hello on. One that this life of the coordinator has not met is asked who
it is; its answer carries all that it owns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dp2p import bus
from dp2p.coordinator.router import Router
from dp2p.logs import Log

MESSAGE_MAX = 64 << 20  # a hello with all links of a full shard has some 10 MB
SILENT_S = 10.0  # a shard that says nothing for so long is shown as silent
PROBE_S = 2.5  # after so long it is probed, which finds a dead one

log = Log("coordinator.fabric")


@dataclass(slots=True)
class Shard:
    """One life of a shard."""

    identity: bytes
    hello: bus.ShardHello
    heard: float
    stats: dict[str, Any] = field(default_factory=dict)
    load: list[bus.ProtocolLoad] = field(default_factory=list)
    "Protocols in short, as of its last heartbeat."

    @property
    def index(self) -> int:
        return self.hello.shard


class Owner(Protocol):
    """Who is told what shards say."""

    def shard_hello(self, shard: Shard, before: Shard | None) -> None:
        """A shard said hello; ``before`` is what was known under its index."""

    def shard_lost(self, shard: Shard) -> None:
        """A shard is dead."""

    def shard_said(self, index: int, message: bus.FromShard) -> None:
        """Anything else but a heartbeat."""


class Fabric:
    """All shards by index."""

    def __init__(self, router: Router, owner: Owner, life: str, clock: Callable[[], float]) -> None:
        """``life`` names this life of the coordinator."""
        self._router = router
        self._owner = owner
        self.life = life
        self._clock = clock
        self._shards: dict[int, Shard] = {}
        self._by_identity: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def shards(self) -> Iterable[Shard]:
        """The shards that have said hello and are not known to be dead, by index."""
        return [self._shards[index] for index in sorted(self._shards)]

    async def run(self) -> None:
        """Read messages of shards, for ever."""
        await self._router.serve(self.received)

    def received(self, identity: bytes, frame: bytes) -> None:
        """One message of a shard."""
        try:
            message = bus.decode_from_shard(frame)
        except bus.BusError as error:
            self._router.counters.malformed += 1
            log.warning("message on the fabric refused", why=str(error))
            return
        if isinstance(message, bus.ShardHello):
            self._hello(identity, message)
            return
        index = self._by_identity.get(identity)
        if index is None:
            self._router.send(identity, bus.encode(bus.WhoAreYou(coordinator=self.life)))
            return
        shard = self._shards[index]
        shard.heard = self._clock()
        if isinstance(message, bus.ShardHeartbeat):
            shard.stats, shard.load = message.stats, message.load
        else:
            self._owner.shard_said(index, message)

    def _hello(self, identity: bytes, hello: bus.ShardHello) -> None:
        before = self._shards.get(hello.shard)
        if before:
            self._by_identity.pop(before.identity, None)
        shard = Shard(identity, hello, self._clock())
        self._shards[hello.shard] = shard
        self._by_identity[identity] = hello.shard
        self._router.send(identity, bus.encode(bus.Welcome(coordinator=self.life)))
        self._owner.shard_hello(shard, before)

    def send(self, index: int, message: bus.ToShard) -> bool:
        """Send to a shard; one that cannot be reached is dead, and its owner is told."""
        shard = self._shards.get(index)
        if shard is None:
            return False
        if self._router.send(shard.identity, bus.encode(message)):
            return True
        self._forget(shard)
        self._owner.shard_lost(shard)
        return False

    def broadcast(self, message: bus.ToShard) -> None:
        """Send to all shards."""
        for index in list(self._shards):
            self.send(index, message)

    def probe(self) -> None:
        """Send something to shards that were silent, because only a send finds a dead one."""
        now = self._clock()
        for shard in self.shards:
            if now - shard.heard > PROBE_S:
                self.send(shard.index, bus.Welcome(coordinator=self.life))

    def _forget(self, shard: Shard) -> None:
        if self._shards.get(shard.index) is shard:
            del self._shards[shard.index]
            self._by_identity.pop(shard.identity, None)

    def describe(self, links: dict[int, int]) -> list[dict[str, Any]]:
        """For ``status``; ``links`` counts them by shard."""
        now = self._clock()
        return [
            {
                "index": shard.index,
                "pid": shard.hello.pid,
                "incarnation": shard.hello.incarnation,
                "aead": shard.hello.aead,
                "listening": shard.hello.listening,
                "links": links.get(shard.index, 0),
                "heartbeat_age_s": round(now - shard.heard, 3),
                "silent": now - shard.heard > SILENT_S,
                "stats": shard.stats,
            }
            for shard in self.shards
        ]
