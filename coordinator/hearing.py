"""What shards say, and what the node makes of it: links that come and go, shards that live and die.

Decides nothing by itself: it asks those who do, and has their answers carried out. A message is
dealt with whole before the death of a shard that was found out meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from dp2p import addresses, bus, control, ids
from dp2p.coordinator import acquaintance, desk, dialer, fabric, peers, targets
from dp2p.coordinator.applications import Applications
from dp2p.coordinator.metering import Metering
from dp2p.logs import Log

HELLO_S = 1.0  # for a new record to be in the hellos of all shards

log = Log("coordinator")


class Carrier(Protocol):
    """Who carries out what is decided here."""

    settled: bool
    "Enough shards have spoken since the coordinator began."

    def settle(self) -> None:
        """Enough of them have."""

    def admitted(self, actions: Iterable[peers.Action]) -> None:
        """Open, probe or close links."""

    def do(self, actions: Iterable[acquaintance.Action]) -> None:
        """Say something to peers, or to whom it concerns."""

    def dialled(self, actions: Iterable[targets.Action]) -> None:
        """Go on with dials."""

    def registry_changed(self) -> None:
        """Sessions or protocols are not what they were."""

    def link_up(self, link: peers.Link) -> None:
        """A peer is connected, and what it says of itself is in the store."""

    def wake(self) -> None:
        """Something may be due earlier than it was."""


class Hearing:
    """Implements ``dp2p.coordinator.fabric.Owner``."""

    def __init__(
        self,
        parts: desk.Parts,
        carrier: Carrier,
        *,
        metering: Metering,
        dialer_: dialer.Dialer,
        applications: Applications,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._registry = parts.registry
        self._peers = parts.peers
        self._fabric = parts.fabric
        self._store = parts.store
        self._acquaintance = parts.acquaintance
        self._own = parts.own
        self._metering = metering
        self._dialer = dialer_
        self._applications = applications
        self._carrier = carrier
        self._clock = clock
        self._wall = wall
        self._early: list[tuple[int, bus.LinkReady]] = []
        "Links that were ready before the coordinator was settled."
        self._closing: set[peers.LinkId] = set()
        "Links that this coordinator has told shards to close and that are not down yet."
        self._lost: list[fabric.Shard] = []
        "Shards that are dead and still in the books."

    def settled(self) -> None:
        """The coordinator's word holds now: admit or refuse the links that waited for that."""
        early, self._early = self._early, []
        for index, ready in early:
            self._link_ready(index, ready, self._clock())

    def closes(self, link: peers.LinkId) -> None:
        """Its shard is about to be told to close this link."""
        self._closing.add(link)

    def shard_hello(self, shard: fabric.Shard, before: fabric.Shard | None) -> None:
        self.bury()
        hello, now = shard.hello, self._clock()
        fresh = before is None or before.hello.incarnation != hello.incarnation
        if before is not None and fresh:
            self._lose(before)
        if fresh:
            log.info("shard up", shard=shard.index, pid=hello.pid, aead=hello.aead)
            self._applications.tell_all(desk.shard_up(shard))
        self._take_over(hello)
        self._metering.hello(hello, fresh=fresh)
        if self._own.record is not None:
            self._fabric.send(shard.index, bus.NodeRecord(record=self._own.record.signed))
        before_up = {link.id for link in self._peers if link.up}
        there = [one for one in hello.links if not self._is_closing(shard.index, one.link)]
        actions, gone = self._peers.shard_hello(shard.index, there, now)
        self._carrier.admitted(actions)
        for link in gone:
            self._carrier.do(self._acquaintance.down(link.id, remote=False, wall=self._wall()))
            self._link_gone(link, "not in the shard's hello", now)
        for report in there:
            link_id = peers.LinkId(shard.index, report.link)
            if link_id not in before_up and self._peers.get(link_id) is not None:
                self._link_up(link_id)
        if not self._carrier.settled and len(self._fabric) >= self._settings.shards.count:
            self._carrier.settle()
        elif self._carrier.settled:
            self._fabric.send(shard.index, self._registry.snapshot())
        self._carrier.wake()

    def _take_over(self, hello: bus.ShardHello) -> None:
        """What a shard knows of applications, when it is newer than what is known here."""
        if hello.generation <= self._registry.generation:
            return
        if self._carrier.settled:
            self._registry.outgrow(hello.generation)
            self._carrier.registry_changed()
            return
        known = bus.Registry(
            generation=hello.generation, apps=hello.apps, protocols=hello.protocols
        )
        self._registry.restore(known, self._clock())

    def shard_lost(self, shard: fabric.Shard) -> None:
        """A send has found this out, amid half a decision: it is dealt with when that is whole."""
        self._lost.append(shard)
        self._carrier.wake()

    def bury(self) -> None:
        """Deal with the deaths that sends have found out."""
        while self._lost:
            self._lose(self._lost.pop(0))

    def _lose(self, shard: fabric.Shard) -> None:
        now = self._clock()
        log.warning("shard down", shard=shard.index, pid=shard.hello.pid)
        self._metering.shard_down(shard.index)
        self._early = [(index, ready) for index, ready in self._early if index != shard.index]
        self._closing = {link for link in self._closing if link.shard != shard.index}
        actions, links = self._peers.shard_down(shard.index)
        self._carrier.admitted(actions)
        self._carrier.do(self._acquaintance.shard_down(shard.index, self._wall()))
        event = control.ShardDown(index=shard.index, endpoint=shard.hello.data_endpoint)
        self._applications.tell_all(event)
        self._dialer.lost([link for link in links if link.up], now)
        for link in links:
            if not link.up and self._peers.link_of(link.peer) is None:
                self._dialer.peer_down(link.peer, now)
        self._carrier.dialled(self._dialer.shard_down(shard.index, now))
        self._carrier.wake()

    def shard_said(self, index: int, message: bus.FromShard) -> None:
        self.bury()
        now = self._clock()
        match message:
            case bus.TicketAsked():
                answer = self._acquaintance.tickets.asked(message, self._wall())
                self._fabric.send(index, answer)
            case bus.LinkReady() if self._is_closing(index, message.report.link):
                pass  # said again, before its shard knew
            case bus.LinkReady() if not self._carrier.settled:
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
                self._carrier.admitted(self._peers.probed(probed, alive=message.alive))
            case bus.Totals() | bus.Usage() | bus.TrafficTold():
                self._metering.said(index, message, now)
            case bus.AppGone():
                self._registry.suspect(message.session, now)
        self._carrier.wake()

    def _link_ready(self, index: int, ready: bus.LinkReady, now: float) -> None:
        report, wall = ready.report, self._wall()
        link = peers.LinkId(index, report.link)
        if self._peers.get(link) is None:
            judgement, told = self._acquaintance.ready(link, ready, wall)
            self._carrier.do(told)
            report = msgspec.structs.replace(
                report, trust=judgement.trust, introducers=judgement.introducers
            )
        self._carrier.dialled(self._dialer.ready(link, report, now))
        if self._store.banned(ids.from_text(report.key), _host(report.endpoint), wall):
            self._carrier.admitted([peers.Close(link, "banned")])
        else:
            self._carrier.admitted(self._peers.ready(index, report, now))

    def _is_closing(self, index: int, link: int) -> bool:
        return peers.LinkId(index, link) in self._closing

    def _link_up(self, link_id: peers.LinkId) -> None:
        if link_id in self._closing:
            return
        actions, link = self._peers.up(link_id)
        if link is None:  # admitted by an earlier coordinator, and in no hello since
            self._fabric.send(link_id.shard, bus.WhoAreYou(coordinator=self._fabric.life))
            return
        self._carrier.admitted(actions)
        report = link.report
        log.info(
            "peer connected",
            peer=link.peer,
            endpoint=report.endpoint,
            mode=report.mode,
            trust=report.trust,
        )
        others = [other for other in self._peers if other.up and other.peer != link.peer]
        now, wall = self._clock(), self._wall()
        self._carrier.do(self._acquaintance.up(link, others, self._registry.names, now, wall))
        self._carrier.link_up(link)
        self._tell_record(link, now)
        link.report = msgspec.structs.replace(report, record=None)  # the store has it
        self._carrier.dialled(self._dialer.link_up(link, now))

    def _tell_record(self, link: peers.Link, now: float) -> None:
        """To a peer that read this node's hello before the record was in it, and was not up yet
        when the record was told to all.
        """
        began = now - self._settings.limits.handshake_deadline_s - HELLO_S
        if record := self._own.made_after(began):
            self._carrier.do(self._acquaintance.renewed(record, [link.id], now))

    def _link_down(self, index: int, down: bus.LinkDown, now: float) -> None:
        link_id = peers.LinkId(index, down.link)
        self._closing.discard(link_id)
        self._early = [
            (shard, ready)
            for shard, ready in self._early
            if (shard, ready.report.link) != (index, down.link)
        ]
        actions, link = self._peers.down(link_id)
        self._carrier.admitted(actions)
        self._carrier.do(self._acquaintance.down(link_id, down.remote, self._wall()))
        if link is not None:
            self._link_gone(link, down.reason, now)
        self._carrier.dialled(self._dialer.link_down(link_id, down.reason, now))

    def _link_gone(self, link: peers.Link, reason: str, now: float) -> None:
        if link.up:
            log.info("peer gone", peer=link.peer, reason=reason)
            self._acquaintance.census([link], self._wall())
        if self._peers.link_of(link.peer) is not None:
            return
        if link.up and link.report.direction == "out" and reason not in dialer.SAID:
            self._dialer.lost([link], now)  # it broke, and who opened it opens it again
        else:
            self._dialer.peer_down(link.peer, now)

    def _dial_failed(self, failure: bus.DialFailed, now: float) -> None:
        self._carrier.do(self._acquaintance.dial_failed(failure, self._wall()))
        self._carrier.dialled(
            self._dialer.dial_failed(failure.dial, failure.reason, now, answered=failure.answered)
        )

    def _peer_said(self, index: int, said: bus.PeerSaid, now: float) -> None:
        link = self._peers.get(peers.LinkId(index, said.link))
        if link is not None and link.up and link.id not in self._closing:
            self._carrier.do(self._acquaintance.said(link, said, now, self._wall()))


def _host(endpoint: str) -> str | None:
    """Where a connection comes from; None when its socket could not say."""
    return addresses.parse_endpoint(endpoint).host if endpoint else None
