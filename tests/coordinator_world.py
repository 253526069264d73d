"""A coordinator among shards, peers and applications that do anything they can, in any order.

The coordinator is the real one but for its sockets. A shard here does what docs/spec/wire.md,
section 12, and ``dp2p.bus`` say of shards: what it says and what it is told each come in order.
Peers say what they like. Everything is drawn from one seed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from unittest.mock import patch

import msgspec

from dp2p import bus, config, control, ids, introduction, keys, node_record, noise
from dp2p.coordinator import node as node_module
from dp2p.coordinator.node import Node
from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.router import Counters
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.targets import Phase
from dp2p.introduction import Check, Find, Found, KeyClaim, Keys, Record

OWN = keys.identity(bytes(32))
SEEDS = [bytes([number]) * 32 for number in range(1, 7)]
PEERS = [noise.identity_public(seed) for seed in SEEDS]
KEYS = [ids.to_text(key) for key in PEERS]
PLACES = [f"tcp4://198.51.{number}.1:4617" for number in range(4)]
RECORDS = [
    node_record.sign(
        seed, seq=seq, endpoints=[PLACES[at % 4], PLACES[(at + seq) % 4]], protocols=[]
    )
    for at, seed in enumerate(SEEDS)
    for seq in (1, 2)
]
STATIC = [f"dp2p://{KEYS[0]}@198.51.0.1:4617", PLACES[1], "tcp4://peer.example:4617"]
SHARDS = 2
CAP = 1_000_000
REASONS = ["eof", "duplicate", "bye", "full", "protocol", "timeout", "Connection reset by peer"]
FAILURES = ["timeout", "refused", "identity", "limit", "eof", "auth"]
MODES: list[bus.Mode] = ["xx", "ik", "resume"]


@dataclass
class FakeLink:
    """One link whose handshake is done, as its shard knows it."""

    report: bus.LinkReport
    admitted: bool = False
    waits: bool = False
    offered: bool = False
    up: bool = False
    closing: str | None = None
    asked: list[introduction.Said] = field(default_factory=list)
    "What the coordinator asks the peer."


@dataclass
class FakeShard:
    """One life of a shard."""

    index: int
    incarnation: str
    identity: bytes
    said: deque[bus.Message] = field(default_factory=deque)
    told: deque[bus.ToShard] = field(default_factory=deque)
    links: dict[int, FakeLink] = field(default_factory=dict)
    dials: dict[int, bus.DialLink] = field(default_factory=dict)
    probed: set[int] = field(default_factory=set)
    registry: bus.Registry = field(
        default_factory=lambda: bus.Registry(generation=0, apps=[], protocols=[])
    )
    caps: bus.Caps = field(default_factory=bus.Caps)
    rates: bus.Rates | None = None
    asked: list[int] = field(default_factory=list)
    "Questions about traffic that are not answered."
    welcomed: bool = False
    alive: bool = True
    found_dead: bool = False
    "A send to it fails."
    last: int = 0
    "Handle given last: each life begins anew."

    @property
    def busy(self) -> bool:
        """Something of it is on the way."""
        closing = any(one.closing for one in self.links.values())
        return bool(self.said or self.told or self.probed or self.asked or closing)

    def say(self, message: bus.Message) -> None:
        self.said.append(message)

    def hello(self) -> None:
        up = [one.report for one in self.links.values() if one.up and not one.closing]
        self.say(
            bus.ShardHello(
                shard=self.index,
                incarnation=self.incarnation,
                pid=1,
                aead="",
                data_endpoint="",
                listening=[],
                links=up,
                generation=self.registry.generation,
                apps=self.registry.apps,
                protocols=self.registry.protocols,
                caps=self.caps,
            )
        )
        for one in self.links.values():
            if not one.up and not one.closing:
                self.say(bus.LinkReady(report=one.report))

    def obey(self) -> None:
        """Do the next thing that the coordinator has told."""
        message = self.told.popleft()
        match message:
            case bus.Welcome():
                self.welcomed = True
            case bus.WhoAreYou():
                self.hello()
            case bus.Registry() if message.generation >= self.registry.generation:
                self.registry = message
            case bus.SetCaps(caps=caps) if caps.generation >= self.caps.generation:
                self.caps = caps
            case bus.Rates():
                self.rates = message
            case bus.AskTraffic():
                self.asked.append(message.id)
            case bus.DialLink():
                self.dials[message.dial] = message
            case bus.Admit() | bus.Close() | bus.Probe() | bus.TellPeer():
                one = self.links.get(message.link)
                if one is not None and not one.closing:
                    self._about(message, one)

    def _about(
        self, message: bus.Admit | bus.Close | bus.Probe | bus.TellPeer, one: FakeLink
    ) -> None:
        match message:
            case bus.Admit() if not one.admitted:
                _check_trust(message, one.report)
                one.report = msgspec.structs.replace(
                    one.report, trust=message.trust, introducers=message.introducers
                )
                one.waits, one.admitted = message.wait, not message.wait
                self.open(message.link)
            case bus.Close():
                one.closing = message.reason
            case bus.Probe():
                self.probed.add(message.link)
            case bus.TellPeer() if one.up:
                said = introduction.decode(message.type, message.body)
                one.asked += [said] if isinstance(said, Find | Check) else []

    def open(self, number: int) -> None:
        """Open a link if both sides have admitted it."""
        one = self.links[number]
        one.admitted |= one.waits and one.offered
        if one.admitted and one.offered and not one.up:
            one.up = True
            self.say(bus.LinkUp(link=number))

    def end(self, number: int, reason: str, *, remote: bool) -> None:
        del self.links[number]
        self.probed.discard(number)
        self.say(bus.LinkDown(link=number, reason=reason, remote=remote))


def _check_trust(admit: bus.Admit, report: bus.LinkReport) -> None:
    """What may be said of a link without knowing more."""
    assert not (report.fell_back and admit.trust != "none")
    assert (admit.trust == "resumed") == (report.mode == "resume" and not report.fell_back)


class FakeRouter:
    """The coordinator's end of either socket."""

    def __init__(self, deliver: Callable[[bytes, bytes], bool]) -> None:
        self.counters = Counters()
        self.send = deliver

    def behind(self, _identity: bytes) -> bool:
        """Everybody reads."""
        return False

    def close(self) -> None:
        """Nothing is open."""


class World:
    """All of it. ``step`` does one thing, ``end`` lets everything come to an end."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now = 1000.0
        self.store = PeerStore(None, max_peers=100)
        self.serial = 0
        self.shards = [self._new_shard(index) for index in range(SHARDS)]
        self.resolving: list[Any] = []
        self.open_requests: set[int] = set()
        self.sessions: list[str] = []
        self.tickets: list[bytes] = []
        "Names of those with which peers may dial."
        self.start()

    def start(self) -> None:
        """A coordinator begins."""
        routers = iter([FakeRouter(self._to_shard), FakeRouter(self._to_application)])
        settings = config.Config()
        settings = msgspec.structs.replace(
            settings,
            shards=msgspec.structs.replace(settings.shards, count=SHARDS),
            peers=msgspec.structs.replace(settings.peers, static=STATIC),
            limits=msgspec.structs.replace(settings.limits, max_peers=4, max_dials=6),
        )
        with (
            patch.object(node_module, "Router", lambda *_: next(routers)),
            patch.object(node_module, "new_context", lambda: None),
        ):
            self.node = Node(
                settings,
                OWN,
                store=self.store,
                clock=lambda: self.now,
                wall=lambda: self.now + 1.7e9,
                random=self.draw.random,
                token=lambda: self.draw.randbytes(16).hex(),
                first_dial=self.draw.getrandbits(30),
            )
        driven = cast(Any, self.node)
        driven._resolve = lambda action: action
        driven._spawn = self.resolving.append

    # --- the sockets ---

    def _to_shard(self, identity: bytes, frame: bytes) -> bool:
        for shard in self.shards:
            if shard.identity == identity and not shard.found_dead:
                shard.told.append(bus.decode_to_shard(frame))
                return True
        return False

    def _to_application(self, _identity: bytes, frame: bytes) -> bool:
        told = msgspec.json.decode(frame)
        if "event" not in told:
            self.open_requests.remove(told["id"])  # one answer each
            session = told.get("ok", {}).get("session")
            self.sessions += [session] if session else []
        return True

    # --- what may happen ---

    def step(self) -> None:
        """One thing."""
        shard = self.draw.choice(self.shards)
        if not shard.alive:
            self._after_death(shard)
            return
        link = self.draw.choice([0, *shard.links])
        actions: list[tuple[float, Callable[[], None]]] = [
            (8, self.wait),
            (30, lambda: self.deliver(shard)),
            (30, lambda: shard.obey() if shard.told else None),
            (3, lambda: self._handshake(shard)),
            (6, lambda: self._dial_ends(shard)),
            (4, self._ask),
            (2, self._resolved),
            (3, lambda: self._beat(shard)),
            (0.3, shard.hello),
            (0.2, lambda: self._crash(shard)),
            (0.1, self._restart),
            (1, lambda: self._ticket_asked(shard)),
            (1, lambda: self._probed(shard)),
            (4, lambda: self._measured(shard)),
        ]
        if link:
            actions += [
                (12, lambda: self._offer(shard, link)),
                (1, lambda: self._down(shard, link)),
                (15, lambda: self._peer_says(shard, link)),
            ]
        weights = [weight for weight, _ in actions]
        self.draw.choices([action for _, action in actions], weights)[0]()

    def wait(self, most_s: float = 3.0) -> None:
        """Time passes, and what is due is done."""
        self.now += self.draw.random() * most_s
        driven = cast(Any, self.node)
        driven._run_due()

    def deliver(self, shard: FakeShard) -> None:
        """The coordinator reads the next message of a shard."""
        if shard.said:
            self.node.fabric.received(shard.identity, bus.encode(shard.said.popleft()))

    def _handshake(self, shard: FakeShard, dial: bus.DialLink | None = None) -> None:
        shard.last += 1
        key = dial.key if dial and dial.key else self.draw.choice([*KEYS, *KEYS[:2], OWN.key])
        fell_back = self.draw.random() < 0.3
        mode = self.draw.choice(MODES)
        if dial is not None:
            mode = "xx" if dial.key is None else "resume" if dial.ticket else "ik"
            if fell_back and not dial.pinned:
                key = self.draw.choice(KEYS)
        report = bus.LinkReport(
            link=shard.last,
            key=key,
            direction="in" if dial is None else "out",
            endpoint=f"tcp4://{dial.host}:{dial.port}" if dial else self._outside(),
            instance=self.draw.choice(["0" * 16, "1" * 16]) if dial is None else "0" * 16,
            listen=self.draw.sample([*PLACES, "nonsense"], 2),
            mode=mode,
            fell_back=fell_back and mode != "xx",
            record=self.draw.choice([None, b"junk", *(one.signed for one in RECORDS)]),
            dial=dial.dial if dial else None,
        )
        shard.links[shard.last] = FakeLink(msgspec.structs.replace(report, record=None))
        mine, theirs = (self.draw.randbytes(48) for _ in range(2))
        self.tickets.append(theirs[:16])
        shard.say(bus.LinkReady(report=report, dial_ticket=mine, accept_ticket=theirs))

    def _ticket_asked(self, shard: FakeShard) -> None:
        name = self.draw.choice([*self.tickets, b"none of that name"[:16]])
        shard.say(bus.TicketAsked(link=0, name=name))

    def _outside(self) -> str:
        return f"tcp4://203.0.{self.draw.randrange(4)}.1:{self.draw.randrange(50000, 50004)}"

    def _dial_ends(self, shard: FakeShard) -> None:
        if not shard.dials:
            return
        dial = shard.dials.pop(self.draw.choice(list(shard.dials)))
        if self.draw.random() < 0.7:
            self._handshake(shard, dial)
        else:
            self._dial_fails(shard, dial, self.draw.choice(FAILURES))

    def _dial_fails(self, shard: FakeShard, dial: bus.DialLink, reason: str) -> None:
        answered = self.draw.choice([None, *KEYS]) if reason == "identity" else None
        shard.say(bus.DialFailed(dial=dial.dial, reason=reason, answered=answered))

    def _offer(self, shard: FakeShard, link: int) -> None:
        """The peer admits a link."""
        shard.links[link].offered = True
        if not shard.links[link].closing:
            shard.open(link)

    def _down(self, shard: FakeShard, link: int) -> None:
        one = shard.links[link]
        shard.end(link, one.closing or self.draw.choice(REASONS), remote=self.draw.random() < 0.5)

    def _probed(self, shard: FakeShard) -> None:
        for link in list(shard.probed):
            shard.probed.discard(link)
            shard.say(bus.Probed(link=link, alive=self.draw.random() < 0.5))

    def _measured(self, shard: FakeShard) -> None:
        """It says what it used, and answers what it was asked."""
        for number in shard.asked:
            shard.say(bus.TrafficTold(id=number, rows=[]))
        shard.asked.clear()
        used = bus.Used(self.draw.random() * 1e6, 0, self.draw.random() < 0.5, False)
        shard.say(bus.Usage(generation=shard.caps.generation, node=used, protocols={"chat": used}))
        shard.say(bus.Totals(totals=[bus.Total("p", "chat", 1, 2, 3, 4)]))

    def _peer_says(self, shard: FakeShard, link: int) -> None:
        one = shard.links[link]
        if one.up and not one.closing:
            kind, body = self._words(one)
            shard.say(bus.PeerSaid(link=link, type=kind, body=body))

    def _words(self, one: FakeLink) -> tuple[int, bytes]:
        if self.draw.random() < 0.02:
            return self.draw.randrange(3, 9), self.draw.randbytes(20)
        known = RECORDS[self.draw.randrange(len(RECORDS))]
        signed = [record.signed for record in self.draw.sample(RECORDS, 3)]
        claims = [KeyClaim(key=key, evidence="dialled") for key in self.draw.sample(KEYS, 2)]
        asked = one.asked.pop() if one.asked else None
        number = asked.id if isinstance(asked, Find | Check) else 7
        if isinstance(asked, Find):
            return introduction.encode(Found(id=number, records=[*signed, b"junk"]))
        if isinstance(asked, Check):
            return introduction.encode(Keys(id=number, keys=claims))
        says: list[introduction.Said] = [
            Find(id=1, near=self.draw.choice([None, OWN.node])),
            Check(id=2, endpoint=self.draw.choice([*PLACES, "nonsense"])),
            Record(record=known.signed),
            Found(id=number, records=[*signed, b"junk"]),
            Keys(id=number, keys=claims),
        ]
        return introduction.encode(self.draw.choice(says))

    # --- processes ---

    def _new_shard(self, index: int) -> FakeShard:
        self.serial += 1
        shard = FakeShard(index, f"life {self.serial}", b"%d" % self.serial)
        shard.hello()
        return shard

    def _beat(self, shard: FakeShard) -> None:
        shard.say(bus.ShardHeartbeat(shard=shard.index, stats={}))
        if not shard.welcomed:
            shard.hello()

    def _crash(self, shard: FakeShard) -> None:
        shard.alive = False

    def _after_death(self, shard: FakeShard) -> None:
        """What it said last is read, it is found dead, and another one begins."""
        happens = self.draw.randrange(3)
        if happens == 0:
            self.deliver(shard)
        elif happens == 1:
            shard.found_dead = True
        else:
            self.shards[shard.index] = self._new_shard(shard.index)

    def _restart(self) -> None:
        """Another coordinator: what was on the way to the former is lost."""
        self.resolving.clear()
        self.open_requests.clear()
        for shard in self.shards:
            self.serial += 1
            shard.identity = b"%d" % self.serial
            shard.said.clear()
        self.start()

    # --- applications ---

    def _ask(self) -> None:
        """An application asks for something; it is answered once."""
        self.serial += 1
        session = self.draw.choice([*self.sessions[-2:], "0" * 32])
        peer = self.draw.choice([f"dp2p://{key}" for key in KEYS] + [ids.node_id_text(KEYS[0])])
        address = self.draw.choice([*STATIC, *PLACES, peer, f"dp2p://{KEYS[3]}@x.example:1", "?"])
        near, timeout = self.draw.choice([None, peer]), 1 + 9 * self.draw.random()
        number = self.serial
        asked: list[control.Request] = [
            control.Dial(id=number, address=address, timeout_s=timeout),
            control.Dial(id=number, address=address, timeout_s=timeout),
            control.Find(id=number, near=near, timeout_s=timeout),
            control.Disconnect(id=number, peer=ids.node_id_text(self.draw.choice(KEYS))),
            control.Known(id=number, peer=peer),
            control.Peers(id=number),
            control.Status(id=number),
            control.Attach(id=number, name="app"),
            control.Subscribe(id=number, session=session),
            control.Subscribe(id=number, session=session, traffic_s=0.5),
            control.Limit(id=number, scope="node", up=self.draw.choice([None, CAP])),
            control.Limit(id=number, scope="protocol", name="chat", down=CAP),
            control.Traffic(id=number, peer=peer),
        ]
        self.open_requests.add(number)
        self.node.applications.received(b"app", msgspec.json.encode(self.draw.choice(asked)))

    def _resolved(self) -> None:
        if not self.resolving:
            return
        wanted, dialer = self.resolving.pop(0), self.node.dialer
        found = [("198.51.2.1", wanted.port), ("198.51.3.1", wanted.port)]
        done = (
            dialer.resolved(wanted.target, found, self.now)
            if self.draw.random() < 0.5
            else dialer.resolve_failed(wanted.target, "no such name", self.now)
        )
        self.node.dialled(done)

    # --- the end ---

    def settle(self) -> None:
        """Let all that is on the way arrive, and close what is to be closed."""
        for shard in self.shards:
            if not shard.alive:
                self.shards[shard.index] = self._new_shard(shard.index)
            self._beat(self.shards[shard.index])
        self._pass_on()
        if not self.node.settled:
            self.now += node_module.SETTLE_S
            cast(Any, self.node)._run_due()
            self._pass_on()

    def _pass_on(self) -> None:
        while any(shard.busy for shard in self.shards):
            for shard in self.shards:
                self.deliver(shard)
                if shard.told:
                    shard.obey()
                self._probed(shard)
                if shard.asked:
                    self._measured(shard)
                for link, one in list(shard.links.items()):
                    if one.closing:
                        self._down(shard, link)

    def end(self) -> None:
        """Nobody is there any more, for so long that every deadline passes."""
        for shard in self.shards:
            for link in list(shard.links):
                self._down(shard, link)
        for _ in range(60):
            self._nobody_answers()
            self.wait(40.0)
        self._nobody_answers()

    def _nobody_answers(self) -> None:
        for shard in self.shards:
            self._beat(shard)
        self.settle()
        for shard in self.shards:
            while shard.dials:
                _, dial = shard.dials.popitem()
                self._dial_fails(shard, dial, "timeout")
        self.settle()

    # --- what must hold ---

    def check(self) -> None:
        """At any moment."""
        up = [link.peer for link in cast(Any, self.node.peers)._links.values() if link.up]
        assert len(up) == len(set(up))
        assert len(self.node.peers) <= 4

    def check_settled(self) -> None:
        """The coordinator knows those links that there are, and what they are."""
        known = {link.id: link.up for link in cast(Any, self.node.peers)._links.values()}
        there = {
            LinkId(shard.index, number): one.up
            for shard in self.shards
            for number, one in shard.links.items()
        }
        assert known == there
        caps = {cap.scope: cap for cap in self.node.metering.caps.caps}
        for shard in self.shards:
            assert shard.rates is not None
            assert shard.caps == self.node.metering.caps
        for scope, cap in caps.items():
            ups = [_share(shard.rates, scope).up for shard in self.shards]
            assert sum(ups) == (cap.up or 0)
        for target in cast(Any, self.node.dialer)._targets:
            held = target.phase is Phase.HELD
            assert not held or self.node.peers.link_of(target.peer) is not None

    def books(self) -> Iterator[tuple[str, Any]]:
        """All that is kept of links, dials and requests."""
        node = cast(Any, self.node)
        known, dialer = node.acquaintance, node.dialer
        yield "links", node.peers._links
        yield "peers", node.peers._by_peer
        yield "early", node._hearing._early
        yield "answers", node._answers._waiting
        yield "pending dials", dialer._pending._attempts
        yield "pending dials by network", dialer._pending._by_network
        yield "targets", [one for one in dialer._targets if not one.static]
        yield "closing", node._hearing._closing
        yield "lost", node._hearing._lost
        yield "relied", known._relied
        yield "unproven", known.tickets._unproven
        yield "conversations", known._talk._links
        yield "waiting", known._talk._waiting
        yield "questions", known._talk._open
        yield "questions of links", known._talk._open_of
        yield "suspects", known._watch._suspects
        yield "suspects by peer", known._watch._by_peer
        yield "suspects by endpoint", known._watch._by_endpoint
        yield "searches", known._introductions.searches._searches
        yield "requests", self.open_requests
        yield "asked of traffic", node.metering._asked
        yield "questions of traffic", node.metering._questions._open


def _share(rates: bus.Rates | None, scope: str) -> bus.Share:
    assert rates is not None
    return rates.node if scope == "node" else rates.protocols["chat"]
