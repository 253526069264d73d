"""The coordinator: sockets, timers and names on one side, the node's logic on the other.

Registry, peers and dialer decide; this carries out. Everything here runs in one event loop, and
nothing in it waits while it holds half a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

from dp2p import bus, config, control, introduction, keys
from dp2p.addresses import Address
from dp2p.allowance import Shares
from dp2p.coordinator import acquaintance, applications, desk, dialer, fabric, peers, targets
from dp2p.coordinator.backlog import Backlogs
from dp2p.coordinator.conversations import Misbehaved, Tell
from dp2p.coordinator.discoverer import Discoverer
from dp2p.coordinator.discovery.actions import DiscoveryBusy
from dp2p.coordinator.finding import Finding
from dp2p.coordinator.hearing import Hearing
from dp2p.coordinator.inquiries import Inquiries
from dp2p.coordinator.metering import Metering
from dp2p.coordinator.notices import Notice
from dp2p.coordinator.own_endpoints import OwnEndpoints
from dp2p.coordinator.own_record import OwnRecord
from dp2p.coordinator.registry import Registry
from dp2p.coordinator.router import Router, new_context
from dp2p.coordinator.searches import Answered, Wanted
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.upkeep import Upkeep
from dp2p.coordinator.view import View
from dp2p.errors import RequestError
from dp2p.logs import Log

SETTLE_S = 3.0  # for shards to find a coordinator that begins: reconnect, heartbeat, hello
TICK_S = 1.0  # sessions, deadlines and shards are looked at this often at least
CENSUS_S = 3600.0  # peers that stay connected are remembered as such this often
LOGGED = (32, 1.0), (160, 0.2)
"Lines of a kind in the log that peers can cause, and of all five: at once, and one more each (s)."

NOT_THE_PLACE = ("identity", "shard_down", "limit")
"Why a dial failed without a fault of the place that was dialled."

log = Log("coordinator")


class Node:
    """One coordinator."""

    def __init__(
        self,
        settings: config.Config,
        identity: keys.Identity,
        *,
        store: PeerStore,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        token: Callable[[], str],
        first_dial: int,
        discoverer: Discoverer | None = None,
    ) -> None:
        """``clock`` is monotonic (s), ``wall`` says seconds since 1970, ``random`` is uniform in
        [0, 1), ``token`` makes secrets. The store is closed with the node.
        """
        self._settings = settings
        self._identity = identity
        self._store = store
        self._clock = clock
        self._wall = wall
        self._began = clock()
        self.settled = False
        self._published = 0
        self._upkeep = Upkeep(store, wall)
        self._next_census = self._began + CENSUS_S
        self._lines = Shares(*LOGGED)
        self._answers = desk.Answers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.registry = Registry(settings.apps.heartbeat_expiry_s, token)
        self.peers = peers.Peers(identity.node, settings.limits.max_peers)
        self._context = new_context()
        run_dir = settings.node.run_dir
        self._bus = Router(self._context, config.bus_endpoint(run_dir), fabric.MESSAGE_MAX)
        self._control = Router(
            self._context,
            config.control_endpoint(run_dir),
            applications.MESSAGE_MAX,
            Backlogs(),
        )
        self.fabric = fabric.Fabric(self._bus, self, token(), clock)
        self.acquaintance = acquaintance.Acquaintance(
            store, identity.public, settings.store.ticket_lifetime_s
        )
        self._own = OwnRecord(identity, store)
        self._discoverer = discoverer
        self._endpoints = discoverer.endpoints if discoverer else OwnEndpoints(settings)
        self._finding = Finding()
        view = View(self.peers, self.fabric, store, self.acquaintance, wall)
        handshake_s = settings.limits.handshake_deadline_s
        self.dialer = dialer.Dialer(
            view, random, handshake_s, first_dial, settings.limits.max_dials
        )
        self.metering = Metering(settings, self.fabric, self.registry, self._tell, wall)
        self._join_parts()

    def _join_parts(self) -> None:
        """Who answers applications, and who hears shards: both use all that is there."""
        parts = desk.Parts(
            settings=self._settings,
            identity=self._identity,
            registry=self.registry,
            peers=self.peers,
            fabric=self.fabric,
            store=self._store,
            acquaintance=self.acquaintance,
            metering=self.metering,
            own=self._own,
            inquiries=Inquiries(self._discoverer, self._clock),
            bus=self._bus,
            control=self._control,
        )
        at_desk = desk.Desk(parts, self, self._answers, self._clock)
        self.applications = applications.Applications(
            self._control, self.registry, at_desk, self._clock
        )
        self._hearing = Hearing(
            parts,
            self,
            metering=self.metering,
            dialer_=self.dialer,
            applications=self.applications,
            clock=self._clock,
            wall=self._wall,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set or something breaks."""
        log.info("coordinator runs", node=self._identity.node)
        parts = [
            self.fabric.run(),
            self.applications.run(),
            self._tick(),
            self._upkeep.checkpoint(),
        ]
        if self._discoverer is not None:
            self._discoverer.attach(self)
            parts.append(self._discoverer.run())
        work = [asyncio.create_task(part) for part in parts]
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
        if self._discoverer is not None:
            await self._discoverer.close()
        self._bus.close()
        self._control.close()
        self._context.term()
        self._store.close()
        log.info("coordinator ends")

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            self._run_due()
            delay = max(0.0, min(TICK_S, self._next_due() - self._clock()))
            with contextlib.suppress(TimeoutError):  # wait_for of 3.11 can lose a cancellation
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    def _next_due(self) -> float:
        own = self._own.next_deadline()
        times = [self.acquaintance.next_deadline(), self._upkeep.next_deadline()]
        times += [self.metering.next_deadline(), self._finding.next_deadline()]
        times += [self.dialer.next_deadline(), own] if self.settled else [self._began + SETTLE_S]
        return min((time for time in times if time is not None), default=float("inf"))

    def _run_due(self) -> None:
        now = self._clock()
        if not self.settled and now - self._began >= SETTLE_S:
            self.settle()
        self.fabric.probe()
        self._hearing.bury()
        if self.settled:
            self.applications.expire(now)
            self.dialled(self.dialer.run(now))
            self._renew(now)
        if now >= self._next_census:
            self._next_census = now + CENSUS_S
            self.acquaintance.census([link for link in self.peers if link.up], self._wall())
        self.do(self.acquaintance.run(now))
        self._found(self._finding.run(now))
        self.metering.run(now)
        self._upkeep.run(now)

    def _renew(self, now: float) -> None:
        """Say of this node what is so now: to shards for new links, to peers on open ones."""
        self._own.say(self._endpoints.listed(), self.registry.names, now)
        record = self._own.renew(now, self._wall())
        if record is not None:
            self.fabric.broadcast(bus.NodeRecord(record=record.signed))
            if self._discoverer is not None:
                self._discoverer.say(record)
            links = [link.id for link in self.peers if link.up]
            self.do(self.acquaintance.renewed(record, links, now))

    def settle(self) -> None:
        """Enough shards have spoken: from now on the coordinator's word holds."""
        self.settled = True
        log.info("coordinator settled", shards=len(self.fabric), peers=len(self.peers))
        self.registry.outgrow(self.registry.generation)
        self.dialer.keep(config.static_peers(self._settings), self._clock())
        self.metering.settled()
        self._hearing.settled()
        self.applications.settled()
        self.registry_changed()
        if self._discoverer is not None:
            self._discoverer.settled()
        self._wake.set()

    # --- what shards say (fabric.Owner) ---

    def shard_hello(self, shard: fabric.Shard, before: fabric.Shard | None) -> None:
        self._hearing.shard_hello(shard, before)

    def shard_lost(self, shard: fabric.Shard) -> None:
        self._hearing.shard_lost(shard)

    def shard_said(self, index: int, message: bus.FromShard) -> None:
        self._hearing.shard_said(index, message)

    # --- carrying out decisions (hearing.Carrier) ---

    def wake(self) -> None:
        self._wake.set()

    def admitted(self, actions: Iterable[peers.Action]) -> None:
        for action in actions:
            match action:
                case peers.Admit(link, wait):
                    self._admit(link, wait)
                case peers.Probe(link):
                    self.fabric.send(link.shard, bus.Probe(link=link.link))
                case peers.Close(link, reason):
                    self._hearing.closes(link)
                    self.fabric.send(link.shard, bus.Close(link=link.link, reason=reason))
                    self.dialled(self.dialer.link_down(link, reason, self._clock()))

    def _admit(self, link_id: peers.LinkId, wait: bool) -> None:
        link = self.peers.get(link_id)
        assert link is not None, "admitted a link that is not known"
        message = bus.Admit(
            link=link_id.link,
            trust=link.report.trust,
            introducers=link.report.introducers,
            wait=wait,
        )
        self.fabric.send(link_id.shard, message)

    def do(self, actions: Iterable[acquaintance.Action]) -> None:
        for action in actions:
            match action:
                case Tell(link, message):
                    kind, body = introduction.encode(message)
                    tell = bus.TellPeer(link=link.link, type=kind, body=body)
                    self.fabric.send(link.shard, tell)
                case Misbehaved(link, why):
                    self._warn("peer broke the rules", link=link.link, shard=link.shard, why=why)
                    self.admitted([peers.Close(link, "protocol")])
                case Answered():
                    self._found(self._finding.answered(action))
                case Notice(kind, fields):
                    self._warn(kind.value.replace("_", " "), **fields)
                    event = control.Notice(kind=kind.value, at=self._wall(), fields=dict(fields))
                    self.applications.tell_subscribed(event)

    def _warn(self, event: str, **fields: Any) -> None:
        """Into the log, unless peers fill it; counters and events have it all the same."""
        if self._lines.take(event, self._clock()):
            log.warning(event, **fields)

    def dialled(self, actions: Iterable[targets.Action]) -> None:
        for action in actions:
            match action:
                case targets.Connect(shard, message):
                    self.acquaintance.dialling(message)
                    self.fabric.send(shard, message)
                case targets.Tried():
                    self._tried(action)
                case targets.Resolve():
                    self._spawn(self._resolve(action))
                case targets.Connected(token, link):
                    self._answers.give(token, desk.connected(link))
                case targets.Failed(token, code, text):
                    self._answers.give(token, RequestError(code, text))

    def _tried(self, tried: targets.Tried) -> None:
        """An attempt that reached nobody counts against the place."""
        self.acquaintance.dial_over(tried.dial)
        if not tried.ok and tried.reason not in NOT_THE_PLACE:
            self._store.dial_failed(tried.endpoint, self._wall())

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
            self.dialled(self.dialer.resolve_failed(wanted.target, why, self._clock()))
        else:
            places = [(str(address[4][0]), int(address[4][1])) for address in found]
            self.dialled(self.dialer.resolved(wanted.target, places, self._clock()))
        self._wake.set()

    # --- what the desk asks for (desk.Carrier) ---

    def request_dial(self, token: int, target: targets.Wanted, timeout_s: float) -> None:
        self.dialled(self.dialer.request(token, target, timeout_s, self._clock()))
        self._wake.set()

    def _tell(self, session: str, event: control.TrafficSeen) -> None:
        self.applications.tell(session, event)

    def request_find(self, token: int, wanted: Wanted, timeout_s: float) -> None:
        now = self._clock()
        links = [link for link in self.peers if link.up]
        actions = self.acquaintance.find(token, wanted, links, now + timeout_s, now)
        if self._discoverer is not None and wanted.protocol and not wanted.near:
            self._search(self._discoverer, token, wanted.protocol, wanted.limit, now + timeout_s)
        self.do(actions)
        self._wake.set()

    def _search(
        self, discoverer: Discoverer, token: int, protocol: str, limit: int, deadline: float
    ) -> None:
        """Ask discovery too; when it has too much to do, peers alone are asked."""
        self._finding.begin(token, limit, deadline)
        try:
            discoverer.search(
                protocol,
                limit,
                lambda record: self._finding.discovered(token, record),
                lambda: self._found(self._finding.discovery_done(token)),
            )
        except DiscoveryBusy:
            self._finding.discovery_done(token)

    def _found(self, answered: Iterable[Answered]) -> None:
        for one in answered:
            self._answers.give(one.token, desk.found(one))

    # --- what discovery asks for (discoverer.Carrier) ---

    def dial(self, address: Address, timeout_s: float, done: Callable[[Any], None]) -> None:
        self.request_dial(self._answers.expect(done), address, timeout_s)

    def endpoints_changed(self) -> None:
        self._wake.set()

    def link_up(self, link: peers.Link) -> None:
        if self._discoverer is not None:
            self._discoverer.link_up(link)

    def registry_changed(self) -> None:
        if self.settled and self.registry.generation != self._published:
            self._published = self.registry.generation
            if self._discoverer is not None:
                self._discoverer.serve(self.registry.names)
            self.fabric.broadcast(self.registry.snapshot())
            self._wake.set()
