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

import msgspec

from dp2p import addresses, bus, config, control, ids, introduction, keys
from dp2p.allowance import Shares
from dp2p.coordinator import acquaintance, applications, desk, dialer, fabric, peers, targets
from dp2p.coordinator.conversations import Misbehaved, Tell
from dp2p.coordinator.notices import Notice
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
HELLO_S = 1.0  # for a new record to be in the hellos of all shards
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
        self._early: list[tuple[int, bus.LinkReady]] = []
        "Links that were ready before the coordinator was settled."
        self._closing: set[peers.LinkId] = set()
        "Links that this coordinator has told shards to close and that are not down yet."
        self._lost: list[fabric.Shard] = []
        "Shards that are dead and still in the books."
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
            self._context, config.control_endpoint(run_dir), applications.MESSAGE_MAX
        )
        self.fabric = fabric.Fabric(self._bus, self, token(), clock)
        self.acquaintance = acquaintance.Acquaintance(
            store, identity.public, settings.store.ticket_lifetime_s
        )
        self._own = OwnRecord(identity, store)
        view = View(self.peers, self.fabric, store, self.acquaintance, wall)
        handshake_s = settings.limits.handshake_deadline_s
        self.dialer = dialer.Dialer(
            view, random, handshake_s, first_dial, settings.limits.max_dials
        )
        parts = desk.Parts(
            settings=settings,
            identity=identity,
            registry=self.registry,
            peers=self.peers,
            fabric=self.fabric,
            store=store,
            acquaintance=self.acquaintance,
            own=self._own,
            bus=self._bus,
            control=self._control,
        )
        at_desk = desk.Desk(parts, self, self._answers, clock)
        self.applications = applications.Applications(self._control, self.registry, at_desk, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set or something breaks."""
        log.info("coordinator runs", node=self._identity.node)
        work = [
            asyncio.create_task(part)
            for part in (
                self.fabric.run(),
                self.applications.run(),
                self._tick(),
                self._upkeep.checkpoint(),
            )
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
        times += [self.dialer.next_deadline(), own] if self.settled else [self._began + SETTLE_S]
        return min((time for time in times if time is not None), default=float("inf"))

    def _run_due(self) -> None:
        now = self._clock()
        if not self.settled and now - self._began >= SETTLE_S:
            self._settle()
        self.fabric.probe()
        self._bury()
        if self.settled:
            self.applications.expire(now)
            self._dialled(self.dialer.run(now))
            self._renew(now)
        if now >= self._next_census:
            self._next_census = now + CENSUS_S
            self.acquaintance.census([link for link in self.peers if link.up], self._wall())
        self._do(self.acquaintance.run(now))
        self._upkeep.run(now)

    def _renew(self, now: float) -> None:
        """Say of this node what is so now: to shards for new links, to peers on open ones."""
        self._own.say(config.advertised(self._settings), self.registry.names, now)
        record = self._own.renew(now, self._wall())
        if record is not None:
            self.fabric.broadcast(bus.NodeRecord(record=record.signed))
            links = [link.id for link in self.peers if link.up]
            self._do(self.acquaintance.renewed(record, links, now))

    def _settle(self) -> None:
        """Enough shards have spoken: from now on the coordinator's word holds."""
        self.settled = True
        log.info("coordinator settled", shards=len(self.fabric), peers=len(self.peers))
        self.registry.outgrow(self.registry.generation)
        self.dialer.keep(config.static_peers(self._settings), self._clock())
        early, self._early = self._early, []
        for index, ready in early:
            self._link_ready(index, ready, self._clock())
        self.applications.settled()
        self.registry_changed()
        self._wake.set()

    # --- what shards say (fabric.Owner) ---

    def shard_hello(self, shard: fabric.Shard, before: fabric.Shard | None) -> None:
        self._bury()
        hello, now = shard.hello, self._clock()
        fresh = before is None or before.hello.incarnation != hello.incarnation
        if before is not None and fresh:
            self._lose(before)
        if fresh:
            log.info("shard up", shard=shard.index, pid=hello.pid, aead=hello.aead)
            self.applications.tell_all(desk.shard_up(shard))
        self._take_over(hello)
        if self._own.record is not None:
            self.fabric.send(shard.index, bus.NodeRecord(record=self._own.record.signed))
        before_up = {link.id for link in self.peers if link.up}
        there = [one for one in hello.links if not self._is_closing(shard.index, one.link)]
        actions, gone = self.peers.shard_hello(shard.index, there, now)
        self._admitted(actions)
        for link in gone:
            self._do(self.acquaintance.down(link.id, remote=False, wall=self._wall()))
            self._link_gone(link, "not in the shard's hello", now)
        for report in there:
            link_id = peers.LinkId(shard.index, report.link)
            if link_id not in before_up and self.peers.get(link_id) is not None:
                self._link_up(link_id)
        if not self.settled and len(self.fabric) >= self._settings.shards.count:
            self._settle()
        elif self.settled:
            self.fabric.send(shard.index, self.registry.snapshot())
        self._wake.set()

    def _take_over(self, hello: bus.ShardHello) -> None:
        """What a shard knows of applications, when it is newer than what is known here."""
        if hello.generation <= self.registry.generation:
            return
        if self.settled:
            self.registry.outgrow(hello.generation)
            self.registry_changed()
            return
        known = bus.Registry(
            generation=hello.generation, apps=hello.apps, protocols=hello.protocols
        )
        self.registry.restore(known, self._clock())

    def shard_lost(self, shard: fabric.Shard) -> None:
        """A send has found this out, amid half a decision: it is dealt with when that is whole."""
        self._lost.append(shard)
        self._wake.set()

    def _bury(self) -> None:
        while self._lost:
            self._lose(self._lost.pop(0))

    def _lose(self, shard: fabric.Shard) -> None:
        now = self._clock()
        log.warning("shard down", shard=shard.index, pid=shard.hello.pid)
        self._early = [(index, ready) for index, ready in self._early if index != shard.index]
        self._closing = {link for link in self._closing if link.shard != shard.index}
        actions, links = self.peers.shard_down(shard.index)
        self._admitted(actions)
        self._do(self.acquaintance.shard_down(shard.index, self._wall()))
        event = control.ShardDown(index=shard.index, endpoint=shard.hello.data_endpoint)
        self.applications.tell_all(event)
        self.dialer.lost([link for link in links if link.up], now)
        for link in links:
            if not link.up and self.peers.link_of(link.peer) is None:
                self.dialer.peer_down(link.peer, now)
        self._dialled(self.dialer.shard_down(shard.index, now))
        self._wake.set()

    def shard_said(self, index: int, message: bus.FromShard) -> None:
        self._bury()
        now = self._clock()
        match message:
            case bus.TicketAsked():
                answer = self.acquaintance.tickets.asked(message, self._wall())
                self.fabric.send(index, answer)
            case bus.LinkReady() if self._is_closing(index, message.report.link):
                pass  # said again, before its shard knew
            case bus.LinkReady() if not self.settled:
                self._early.append((index, message))  # another shard may have a link to that peer
            case bus.LinkReady():
                self._link_ready(index, message, now)
            case bus.LinkUp():
                self._link_up(peers.LinkId(index, message.link))
            case bus.LinkDown():
                self._link_down(index, message, now)
            case bus.DialFailed():
                self._dial_failed(message, now)
            case bus.PeerSaid():
                self._peer_said(index, message, now)
            case bus.Probed():
                probed = peers.LinkId(index, message.link)
                self._admitted(self.peers.probed(probed, alive=message.alive))
            case bus.AppGone():
                self.registry.suspect(message.session, now)
        self._wake.set()

    def _link_ready(self, index: int, ready: bus.LinkReady, now: float) -> None:
        report, wall = ready.report, self._wall()
        link = peers.LinkId(index, report.link)
        if self.peers.get(link) is None:
            judgement, told = self.acquaintance.ready(link, ready, wall)
            self._do(told)
            report = msgspec.structs.replace(
                report, trust=judgement.trust, introducers=judgement.introducers
            )
        self._dialled(self.dialer.ready(link, report, now))
        if self._store.banned(ids.from_text(report.key), _host(report.endpoint), wall):
            self._admitted([peers.Close(link, "banned")])
        else:
            self._admitted(self.peers.ready(index, report, now))

    def _is_closing(self, index: int, link: int) -> bool:
        return peers.LinkId(index, link) in self._closing

    def _link_up(self, link_id: peers.LinkId) -> None:
        if link_id in self._closing:
            return
        actions, link = self.peers.up(link_id)
        if link is None:  # admitted by an earlier coordinator, and in no hello since
            self.fabric.send(link_id.shard, bus.WhoAreYou(coordinator=self.fabric.life))
            return
        self._admitted(actions)
        report = link.report
        log.info(
            "peer connected",
            peer=link.peer,
            endpoint=report.endpoint,
            mode=report.mode,
            trust=report.trust,
        )
        others = [other for other in self.peers if other.up and other.peer != link.peer]
        now, wall = self._clock(), self._wall()
        self._do(self.acquaintance.up(link, others, self.registry.names, now, wall))
        self._tell_record(link, now)
        link.report = msgspec.structs.replace(report, record=None)  # the store has it
        self._dialled(self.dialer.link_up(link, now))

    def _tell_record(self, link: peers.Link, now: float) -> None:
        """To a peer that read this node's hello before the record was in it, and was not up yet
        when the record was told to all.
        """
        began = now - self._settings.limits.handshake_deadline_s - HELLO_S
        if record := self._own.made_after(began):
            self._do(self.acquaintance.renewed(record, [link.id], now))

    def _link_down(self, index: int, down: bus.LinkDown, now: float) -> None:
        link_id = peers.LinkId(index, down.link)
        self._closing.discard(link_id)
        self._early = [
            (shard, ready)
            for shard, ready in self._early
            if (shard, ready.report.link) != (index, down.link)
        ]
        actions, link = self.peers.down(link_id)
        self._admitted(actions)
        self._do(self.acquaintance.down(link_id, down.remote, self._wall()))
        if link is not None:
            self._link_gone(link, down.reason, now)
        self._dialled(self.dialer.link_down(link_id, down.reason, now))

    def _link_gone(self, link: peers.Link, reason: str, now: float) -> None:
        if link.up:
            log.info("peer gone", peer=link.peer, reason=reason)
            self.acquaintance.census([link], self._wall())
        if self.peers.link_of(link.peer) is not None:
            return
        if link.up and link.report.direction == "out" and reason not in dialer.SAID:
            self.dialer.lost([link], now)  # it broke, and who opened it opens it again
        else:
            self.dialer.peer_down(link.peer, now)

    def _dial_failed(self, failure: bus.DialFailed, now: float) -> None:
        self._do(self.acquaintance.dial_failed(failure, self._wall()))
        self._dialled(
            self.dialer.dial_failed(failure.dial, failure.reason, now, answered=failure.answered)
        )

    def _peer_said(self, index: int, said: bus.PeerSaid, now: float) -> None:
        link = self.peers.get(peers.LinkId(index, said.link))
        if link is not None and link.up and link.id not in self._closing:
            self._do(self.acquaintance.said(link, said, now, self._wall()))

    # --- carrying out decisions ---

    def _admitted(self, actions: Iterable[peers.Action]) -> None:
        for action in actions:
            match action:
                case peers.Admit(link, wait):
                    self._admit(link, wait)
                case peers.Probe(link):
                    self.fabric.send(link.shard, bus.Probe(link=link.link))
                case peers.Close(link, reason):
                    self._closing.add(link)
                    self.fabric.send(link.shard, bus.Close(link=link.link, reason=reason))
                    self._dialled(self.dialer.link_down(link, reason, self._clock()))

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

    def _do(self, actions: Iterable[acquaintance.Action]) -> None:
        for action in actions:
            match action:
                case Tell(link, message):
                    kind, body = introduction.encode(message)
                    tell = bus.TellPeer(link=link.link, type=kind, body=body)
                    self.fabric.send(link.shard, tell)
                case Misbehaved(link, why):
                    self._warn("peer broke the rules", link=link.link, shard=link.shard, why=why)
                    self._admitted([peers.Close(link, "protocol")])
                case Answered():
                    self._answers.give(action.token, desk.found(action))
                case Notice(kind, fields):
                    self._warn(kind.value.replace("_", " "), **fields)
                    event = control.Notice(kind=kind.value, at=self._wall(), fields=dict(fields))
                    self.applications.tell_subscribed(event)

    def _warn(self, event: str, **fields: Any) -> None:
        """Into the log, unless peers fill it; counters and events have it all the same."""
        if self._lines.take(event, self._clock()):
            log.warning(event, **fields)

    def _dialled(self, actions: Iterable[targets.Action]) -> None:
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
            self._dialled(self.dialer.resolve_failed(wanted.target, why, self._clock()))
        else:
            places = [(str(address[4][0]), int(address[4][1])) for address in found]
            self._dialled(self.dialer.resolved(wanted.target, places, self._clock()))
        self._wake.set()

    # --- what the desk asks for (desk.Carrier) ---

    def request_dial(self, token: int, target: targets.Wanted, timeout_s: float) -> None:
        self._dialled(self.dialer.request(token, target, timeout_s, self._clock()))
        self._wake.set()

    def request_find(self, token: int, wanted: Wanted, timeout_s: float) -> None:
        now = self._clock()
        links = [link for link in self.peers if link.up]
        self._do(self.acquaintance.find(token, wanted, links, now + timeout_s, now))
        self._wake.set()

    def registry_changed(self) -> None:
        if self.settled and self.registry.generation != self._published:
            self._published = self.registry.generation
            self.fabric.broadcast(self.registry.snapshot())
            self._wake.set()


def _host(endpoint: str) -> str | None:
    """Where a connection comes from; None when its socket could not say."""
    return addresses.parse_endpoint(endpoint).host if endpoint else None
