"""The coordinator: sockets, timers and names on one side, the node's logic on the other.

Registry, peers and dialer decide; this carries out. Everything here runs in one event loop, and
nothing in it waits while it holds half a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

import dp2p
from dp2p import addresses, bus, config, control, ids, keys
from dp2p.coordinator import applications, dialer, fabric, peers, targets
from dp2p.coordinator.registry import Registry
from dp2p.coordinator.router import Router, new_context
from dp2p.errors import RequestError
from dp2p.logs import Log
from dp2p.places import PROCESSES_FILE

SETTLE_S = 3.0  # for shards to find a coordinator that begins: reconnect, heartbeat, hello
TICK_S = 1.0  # sessions, deadlines and shards are looked at this often at least

log = Log("coordinator")


class Node:
    """One coordinator."""

    def __init__(
        self,
        settings: config.Config,
        identity: keys.Identity,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        token: Callable[[], str],
        first_dial: int,
    ) -> None:
        """``clock`` is monotonic (s), ``random`` uniform in [0, 1), ``token`` makes secrets."""
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._began = clock()
        self._settled = False
        self._published = 0
        self._answers: dict[int, applications.Answer] = {}
        self._next_answer = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.registry = Registry(settings.apps.heartbeat_expiry_s, token)
        self.peers = peers.Peers(identity.node, settings.limits.max_peers)
        handshake_s = settings.limits.handshake_deadline_s
        self.dialer = dialer.Dialer(self, random, handshake_s, first_dial)
        self._context = new_context()
        run_dir = settings.node.run_dir
        self._bus = Router(self._context, config.bus_endpoint(run_dir), fabric.MESSAGE_MAX)
        self._control = Router(
            self._context, config.control_endpoint(run_dir), applications.MESSAGE_MAX
        )
        self.fabric = fabric.Fabric(self._bus, self, token(), clock)
        self.applications = applications.Applications(self._control, self.registry, self, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set or something breaks."""
        log.info("coordinator runs", node=self._identity.node)
        work = [
            asyncio.create_task(part)
            for part in (self.fabric.run(), self.applications.run(), self._tick())
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({*work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._close([*work, stopped])

    async def _close(self, tasks: list[asyncio.Task[Any]]) -> None:
        everything = [*tasks, *self._tasks]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        self._bus.close()
        self._control.close()
        self._context.term()
        log.info("coordinator ends")

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            self._run_due()
            now = self._clock()
            due = self.dialer.next_deadline() if self._settled else self._began + SETTLE_S
            delay = TICK_S if due is None else min(TICK_S, max(0.0, due - now))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)

    def _run_due(self) -> None:
        now = self._clock()
        if not self._settled and now - self._began >= SETTLE_S:
            self._settle()
        self.fabric.probe()
        if self._settled:
            self.applications.expire(now)
            self._dialled(self.dialer.run(now))

    def _settle(self) -> None:
        """Enough shards have spoken: from now on the coordinator's word holds."""
        self._settled = True
        log.info("coordinator settled", shards=len(self.fabric), peers=len(self.peers))
        self.registry.outgrow(self.registry.generation)
        self.dialer.keep(config.static_peers(self._settings), self._clock())
        self.applications.settled()
        self.registry_changed()
        self._wake.set()

    # --- what shards say (fabric.Owner) ---

    def shard_hello(self, shard: fabric.Shard, before: fabric.Shard | None) -> None:
        hello, now = shard.hello, self._clock()
        fresh = before is None or before.hello.incarnation != hello.incarnation
        if before is not None and fresh:
            self.shard_lost(before)
        if fresh:
            log.info("shard up", shard=shard.index, pid=hello.pid, aead=hello.aead)
            self.applications.tell_all(_shard_up(shard))
        self._take_over(hello)
        actions, gone = self.peers.shard_hello(shard.index, hello.links, now)
        self._admitted(actions)
        for link in gone:
            self._link_gone(link, "not in the shard's hello", now)
        for report in hello.links:
            self._link_up(peers.LinkId(shard.index, report.link))
        if not self._settled and len(self.fabric) >= self._settings.shards.count:
            self._settle()
        elif self._settled:
            self.fabric.send(shard.index, self.registry.snapshot())
        self._wake.set()

    def _take_over(self, hello: bus.ShardHello) -> None:
        """What a shard knows of applications, when it is newer than what is known here."""
        if hello.generation <= self.registry.generation:
            return
        if self._settled:
            self.registry.outgrow(hello.generation)
            self.registry_changed()
            return
        known = bus.Registry(
            generation=hello.generation, apps=hello.apps, protocols=hello.protocols
        )
        self.registry.restore(known, self._clock())

    def shard_lost(self, shard: fabric.Shard) -> None:
        now = self._clock()
        log.warning("shard down", shard=shard.index, pid=shard.hello.pid)
        links = self.peers.shard_down(shard.index)
        event = control.ShardDown(index=shard.index, endpoint=shard.hello.data_endpoint)
        self.applications.tell_all(event)
        self.dialer.lost([link for link in links if link.up], now)
        self._dialled(self.dialer.shard_down(shard.index, now))
        self._wake.set()

    def shard_said(self, index: int, message: bus.FromShard) -> None:
        now = self._clock()
        match message:
            case bus.LinkReady():
                self._link_ready(index, message.report, now)
            case bus.LinkUp():
                self._link_up(peers.LinkId(index, message.link))
            case bus.LinkDown():
                self._link_down(peers.LinkId(index, message.link), message.reason, now)
            case bus.DialFailed():
                self._dialled(self.dialer.dial_failed(message.dial, message.reason, now))
            case bus.AppGone():
                self.registry.suspect(message.session, now)
        self._wake.set()

    def _link_ready(self, index: int, report: bus.LinkReport, now: float) -> None:
        link = peers.LinkId(index, report.link)
        actions = self.peers.ready(index, report, now)
        self.dialer.ready(report.dial, link, _node_id(report), now)
        self._admitted(actions)

    def _link_up(self, link_id: peers.LinkId) -> None:
        link = self.peers.up(link_id)
        if link is None:  # admitted by an earlier coordinator, and in no hello since
            self.fabric.send(link_id.shard, bus.WhoAreYou(coordinator=self.fabric.life))
            return
        log.info("peer connected", peer=link.peer, endpoint=link.report.endpoint)
        self._dialled(self.dialer.link_up(link))

    def _link_down(self, link_id: peers.LinkId, reason: str, now: float) -> None:
        link = self.peers.down(link_id)
        if link is not None:
            self._link_gone(link, reason, now)
        self._dialled(self.dialer.link_down(link_id, reason, now))

    def _link_gone(self, link: peers.Link, reason: str, now: float) -> None:
        if link.up:
            log.info("peer gone", peer=link.peer, reason=reason)
        if self.peers.link_of(link.peer) is not None:
            return
        if link.up and link.report.direction == "out" and reason not in dialer.SAID:
            self.dialer.lost([link], now)  # it broke, and who opened it opens it again
        else:
            self.dialer.peer_down(link.peer, now)

    # --- carrying out decisions ---

    def _admitted(self, actions: Iterable[peers.Action]) -> None:
        for action in actions:
            match action:
                case peers.Admit(link):
                    self.fabric.send(link.shard, bus.Admit(link=link.link))
                case peers.Close(link, reason):
                    self.fabric.send(link.shard, bus.Close(link=link.link, reason=reason))
                    self._dialled(self.dialer.link_down(link, reason, self._clock()))

    def _dialled(self, actions: Iterable[targets.Action]) -> None:
        for action in actions:
            match action:
                case targets.Connect(shard, message):
                    self.fabric.send(shard, message)
                case targets.Resolve():
                    self._spawn(self._resolve(action))
                case targets.Connected(token, link):
                    self._answer(token, _described(link))
                case targets.Failed(token, code, text):
                    self._answer(token, RequestError(code, text))

    def _answer(self, token: int, result: Any) -> None:
        self._answers.pop(token)(result)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, wanted: targets.Resolve) -> None:
        families = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                wanted.host, wanted.port, family=families[wanted.family], type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            why = f"{wanted.host} has no address: {getattr(error, 'strerror', None) or error}"
            self._dialled(self.dialer.resolve_failed(wanted.target, why, self._clock()))
        else:
            places = [(str(address[4][0]), int(address[4][1])) for address in found]
            self._dialled(self.dialer.resolved(wanted.target, places, self._clock()))
        self._wake.set()

    # --- what the dialer sees (dialer.View) ---

    def connected(self, peer: str) -> peers.Link | None:
        return self.peers.connected(peer)

    def open_to(self, endpoint: str) -> peers.Link | None:
        return self.peers.open_to(endpoint)

    def least_loaded(self) -> int | None:
        load = self.peers.count_by_shard()
        indices = [shard.index for shard in self.fabric.shards]
        return min(indices, key=lambda index: (load.get(index, 0), index), default=None)

    # --- what applications ask for (applications.Desk) ---

    def identity(self) -> tuple[str, str]:
        return self._identity.node, self._identity.key

    def endpoints(self) -> list[control.ShardEndpoint]:
        return [
            control.ShardEndpoint(shard.index, shard.hello.data_endpoint)
            for shard in self.fabric.shards
        ]

    def dial(self, address: str, timeout_s: float, answer: applications.Answer) -> None:
        target = addresses.parse(address)
        token, self._next_answer = self._next_answer, self._next_answer + 1
        self._answers[token] = answer
        self._dialled(self.dialer.request(token, target, timeout_s, self._clock()))
        self._wake.set()

    def disconnect(self, peer: str) -> None:
        link = self.peers.link_of(peer)
        if link is None:
            raise RequestError("unknown_peer", "not connected", peer=peer)
        self.fabric.send(link.id.shard, bus.Close(link=link.id.link, reason="bye"))

    def registry_changed(self) -> None:
        if self._settled and self.registry.generation != self._published:
            self._published = self.registry.generation
            self.fabric.broadcast(self.registry.snapshot())

    def peer_list(self) -> list[dict[str, object]]:
        return self.peers.describe(self._clock())

    def status(self) -> dict[str, Any]:
        now = self._clock()
        return {
            "node": self._identity.node,
            "key": self._identity.key,
            "network": self._settings.node.network,
            "version": dp2p.__version__,
            "uptime_s": round(now - self._began, 3),
            "settled": self._settled,
            "listen": self._settings.listen.addresses,
            "configured_shards": self._settings.shards.count,
            "shards": self.fabric.describe(self.peers.count_by_shard()),
            "apps": self.registry.describe_apps(now),
            "protocols": self.registry.describe_protocols(),
            "peers": len(self.peers),
            "max_peers": self._settings.limits.max_peers,
            "processes": self._processes(),
            "counters": {"bus": self._bus.counters, "control": self._control.counters},
        }

    def _processes(self) -> list[Any]:
        """What the supervisor says of the processes it runs; empty without one."""
        path = Path(self._settings.node.run_dir) / PROCESSES_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Any])
        except (OSError, msgspec.MsgspecError):
            return []


def _node_id(report: bus.LinkReport) -> str:
    return ids.node_id_text(report.key)


def _shard_up(shard: fabric.Shard) -> control.ShardUp:
    return control.ShardUp(index=shard.index, endpoint=shard.hello.data_endpoint)


def _described(link: peers.Link) -> dict[str, str]:
    return {"peer": link.peer, "key": link.report.key, "endpoint": link.report.endpoint}
