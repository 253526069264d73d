"""One shard: the C engine between the network, its applications and the coordinator."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import zmq

from dp2p import bus, config, ids
from dp2p.bus import LinkReport
from dp2p.errors import TransportError
from dp2p.hello import CloseReason, Hello, HelloError, decode_hello, dialable
from dp2p.keys import Identity
from dp2p.logs import Log
from dp2p.shards.applications import Applications
from dp2p.shards.fabric import Fabric
from dp2p.shards.links import Heard, Links, endpoint_text
from dp2p.shards.metering import Metering
from dp2p.shards.probes import Probes
from dp2p.shards.questions import Questions
from dp2p.transport import (
    WOKEN_EVENTS,
    WOKEN_OUTPUT,
    Engine,
    Event,
    EventKind,
    Known,
    Mode,
    NodeConfig,
    Place,
    Status,
    status_name,
)

HEARTBEAT_S = 1.0
GREETING_S = 0.1  # between hellos until a coordinator answers
_DATA, _BUS = 0, 1  # tags of watched descriptors
_DATA_BIT, _BUS_BIT = 1 << _DATA, 1 << _BUS
_MODES: dict[Mode, bus.Mode] = {Mode.XX: "xx", Mode.IK: "ik", Mode.RESUME: "resume"}
_REFUSED: dict[int, tuple[str, str]] = {
    Status.CHANNEL: ("unknown_flow", "no such flow of this application"),
    Status.CREDIT: ("no_credit", "beyond the credit that the peer has granted"),
    Status.DATAGRAM: ("datagram_refused", "larger than agreed, or of a type not agreed"),
    Status.BATCH: ("malformed", "the record cannot be read"),
}

AboutLink = bus.Ticket | bus.Admit | bus.Close | bus.Probe | bus.TellPeer

log = Log("shard")


def _why(event: Event) -> str:
    """The reason in a DOWN event, as text."""
    if event.status == Status.CLOSED:
        known = event.reason in CloseReason.__members__.values()
        return CloseReason(event.reason).name.lower() if known else f"reason {event.reason}"
    if event.status == Status.IO:
        return os.strerror(event.reason)
    if event.status == Status.OK:
        return CloseReason(event.reason).name.lower()
    return status_name(event.status)


def window_bytes(settings: config.Config) -> int:
    """What one shard sets aside for windows."""
    return settings.limits.buffer_bytes // max(1, settings.shards.count)


def engine_config(settings: config.Config) -> NodeConfig:
    """The engine's limits from the node's configuration."""
    limits = settings.limits
    return NodeConfig(
        network=settings.node.network,
        aead=settings.shards.aead,
        max_links=limits.max_links_per_shard,
        max_handshakes=limits.max_handshakes,
        max_handshakes_per_address=limits.max_handshakes_per_address,
        max_handshakes_per_network=limits.max_handshakes_per_network,
        handshake_ms=round(limits.handshake_deadline_s * 1000),
        keepalive_ms=round(limits.keepalive_s * 1000),
        idle_ms=round(limits.idle_close_s * 1000),
        rekey_bytes=limits.rekey_bytes,
        rekey_ms=round(limits.rekey_s * 1000),
        send_low_water=limits.send_low_water,
        window_max=limits.window_max,
        window_bytes_max=window_bytes(settings),
    )


class Shard:
    """All of it. ``turn`` is the loop's body; nothing else touches the engine."""

    def __init__(
        self,
        settings: config.Config,
        identity: Identity,
        *,
        index: int,
        incarnation: str,
        clock: Callable[[], float],
        cpu: Callable[[], float],
    ) -> None:
        """``incarnation`` names this life of the shard."""
        self._settings = settings
        self._index = index
        self._record: bytes | None = None
        "The node's signed record, once the coordinator has made one."
        self._incarnation = incarnation
        self._clock = clock
        self._cpu = cpu
        self._context: zmq.Context[Any] = zmq.Context()
        self._engine = Engine(identity.seed, engine_config(settings))
        run_dir = settings.node.run_dir
        self._endpoint = config.shard_endpoint(run_dir, index, incarnation)
        self._apps = Applications(self._context, self._engine, self._endpoint, self._app_gone)
        self._metering = Metering(self._engine, index, clock())
        self._links = Links(self._engine, self._apps, self._metering, clock, window_bytes(settings))
        self._probes = Probes(self._engine)
        self._fabric = Fabric(self._context, config.bus_endpoint(run_dir))
        self._questions = Questions(self._fabric.send)
        self._registry = bus.Registry(generation=0, apps=[], protocols=[])
        self._next_heartbeat = clock()
        self._idle_ms = 0
        self._welcomed = False
        self._listening: list[str] = []
        self.stopping = False
        self._engine.watch(self._apps.descriptor, _DATA)
        self._engine.watch(self._fabric.descriptor, _BUS)
        self._set_hello()

    def start(self) -> None:
        """Listen, and tell the coordinator.  Raises: Refused."""
        for endpoint in config.listen_endpoints(self._settings):
            port = self._engine.listen(Place(endpoint.host, endpoint.port))
            self._listening.append(endpoint_text(Place(endpoint.host, port)))
        log.info("shard up", listening=self._listening, aead=self._engine.aead)

    def close(self) -> None:
        """Close links with a word, then everything."""
        for report in self._links.reports():
            self._links.close(report.link, CloseReason.SHUTDOWN)
        self._engine.poll(0)
        self._events()
        self._apps.close()
        self._fabric.close()
        self._engine.close()
        self._context.term()
        log.info("shard ends")

    # --- the loop's body ---

    def turn(self) -> None:
        """Wait for something, then handle all there is. What is not due costs nothing here: this
        runs for every message that travels alone.
        """
        apps, fabric = self._apps, self._fabric
        idle = not (apps.waiting or fabric.waiting)
        woken = self._engine.poll(self._idle_ms if idle else 0)
        if woken & WOKEN_EVENTS:
            self._events()
        if woken & WOKEN_OUTPUT:
            apps.deliver()
        if (woken & _DATA_BIT or apps.waiting) and apps.receive():
            self._links.refresh()
        if apps.holding:
            apps.release()
        if woken & _BUS_BIT or fabric.waiting:
            for message in fabric.receive():
                self._obey(message)
        now, due = self._clock(), self._next_heartbeat
        if now >= due:
            self._heartbeat(now)
            due = self._next_heartbeat
        if self._probes:
            for link, alive in self._probes.answers(now):
                fabric.send(bus.Probed(link=link, alive=alive))
            due = min(due, self._probes.due)
        if now >= self._metering.due:
            fabric.send(self._metering.usage(now))
        due = min(due, self._metering.due)
        self._idle_ms = max(0, int(1000 * (due - now)) + 1)

    def _heartbeat(self, now: float) -> None:
        if not self._welcomed:
            self._next_heartbeat = now + GREETING_S
            self._say_hello()
            return
        self._next_heartbeat = now + HEARTBEAT_S
        self._apps.forgive()
        stats = {
            **self._engine.stats(),
            "cpu_s": round(self._cpu(), 3),
            "applications": len(self._apps.by_session),
            "data_socket": msgspec.to_builtins(self._apps.counters),
            "fabric_unsent": self._fabric.unsent,
        }
        load, totals = self._metering.beat(now)
        self._fabric.send(bus.ShardHeartbeat(shard=self._index, stats=stats, load=load))
        if totals is not None:
            self._fabric.send(totals)

    # --- events of the engine ---

    def _events(self) -> None:
        for event in self._engine.events():
            match event.kind:
                case EventKind.READY:
                    self._ready(event)
                case EventKind.CONTROL:
                    self._control(event)
                case EventKind.TICKET:
                    self._questions.ask(event.link, event.data)
                case EventKind.DOWN:
                    self._down(event)
                case EventKind.REFUSED:
                    self._refused(event)
        self._engine.events_done()

    def _ready(self, event: Event) -> None:
        try:
            hello = decode_hello(event.data)
            report = self._report(event.link, event.dial, hello)
            dial_ticket, accept_ticket = self._engine.tickets(event.link)
        except HelloError as error:
            log.warning("link refused", link=event.link, why=str(error))
            with suppress(TransportError):
                self._engine.close_link(event.link, CloseReason.PROTOCOL)
            return
        except TransportError:
            return  # it is gone already, and its DOWN event next
        self._links.add(event.link, msgspec.structs.replace(report, record=None))
        self._fabric.send(
            bus.LinkReady(report=report, dial_ticket=dial_ticket, accept_ticket=accept_ticket)
        )

    def _control(self, event: Event) -> None:
        match self._links.control(event.link, event.type, event.data, self._clock()):
            case Heard.UP:
                self._fabric.send(bus.LinkUp(link=event.link))
            case Heard.FORWARD:
                self._fabric.send(bus.PeerSaid(link=event.link, type=event.type, body=event.data))

    def _report(self, link: int, dial: int, hello: Hello) -> LinkReport:
        info = self._engine.link(link)
        return LinkReport(
            link=link,
            key=ids.to_text(info.key),
            direction="out" if info.initiator else "in",
            endpoint=endpoint_text(info.remote),
            instance=hello.instance,
            listen=dialable(hello),
            mode=_MODES[info.mode],
            fell_back=info.fell_back,
            record=hello.record,
            seen=endpoint_text(info.seen) or None,
            dial=dial or None,
        )

    def _down(self, event: Event) -> None:
        reason = _why(event)
        link = self._links.down(event.link, reason)
        self._probes.forget(event.link)
        self._questions.over(event.link)
        if link is not None:
            remote = event.status == Status.CLOSED
            self._fabric.send(bus.LinkDown(link=event.link, reason=reason, remote=remote))
        elif event.dial:
            answered = ids.to_text(event.data) if len(event.data) == ids.KEY_BYTES else None
            self._fabric.send(
                bus.DialFailed(
                    dial=event.dial, reason=reason, answered=answered, unsent=event.unsent
                )
            )
        else:
            log.debug("handshake failed", link=event.link, why=reason)

    def _refused(self, event: Event) -> None:
        app = self._apps.of_sink(event.sink)
        if app is None:
            return
        refusal = ("refused", status_name(event.status))
        code, message = _REFUSED.get(event.status, refusal)
        self._apps.refused(app, event.flow, code, message)

    def _app_gone(self, session: str) -> None:
        self._fabric.send(bus.AppGone(session=session))
        self._links.refresh()

    # --- the coordinator ---

    def _obey(self, message: bus.ToShard) -> None:
        match message:
            case bus.Welcome():
                self._welcomed = True
            case bus.WhoAreYou():
                self._say_hello()
            case bus.Registry():
                self._take_registry(message)
            case bus.NodeRecord(record=record):
                self._record = record
                self._set_hello()
            case bus.DialLink():
                self._dial(message)
            case bus.Stop():
                self.stopping = True
            case bus.SetCaps() | bus.Rates() | bus.AskTraffic():
                self._meter(message)
            case _:
                self._obey_about(message)

    def _meter(self, message: bus.SetCaps | bus.Rates | bus.AskTraffic) -> None:
        now = self._clock()
        match message:
            case bus.SetCaps(caps=caps):
                self._metering.set_caps(caps, now)
            case bus.Rates():
                self._metering.set_shares(message)
            case bus.AskTraffic():
                for answer in self._metering.told(message, now):
                    self._fabric.send(answer)

    def _obey_about(self, message: AboutLink) -> None:
        """What concerns one link, which may be gone already."""
        link = message.link
        match message:
            case bus.Ticket():
                self._answer_ticket(message)
            case bus.Admit():
                if self._links.admit(link, message):
                    self._fabric.send(bus.LinkUp(link=link))
            case bus.Close(reason=reason):
                known = CloseReason.__members__.get(reason.upper(), CloseReason.REFUSED)
                self._links.close(link, known)
            case bus.Probe():
                self._probes.begin(link, self._clock())
            case bus.TellPeer(type=kind, body=body):
                self._links.tell(link, kind, body)

    def _answer_ticket(self, ticket: bus.Ticket) -> None:
        self._questions.over(ticket.link)
        key = None if ticket.key is None else ids.from_text(ticket.key)
        with suppress(TransportError):  # the handshake has ended meanwhile
            self._engine.ticket(ticket.link, ticket.psk, key)

    def _say_hello(self) -> None:
        self._fabric.send(
            bus.ShardHello(
                shard=self._index,
                incarnation=self._incarnation,
                pid=os.getpid(),
                aead=self._engine.aead,
                data_endpoint=self._endpoint,
                listening=self._listening,
                links=self._links.reports(),
                generation=self._registry.generation,
                apps=self._apps.known,
                protocols=self._registry.protocols,
                caps=self._metering.caps,
            )
        )
        self._fabric.send(self._metering.everything())
        for report in self._links.ready_reports():
            self._fabric.send(bus.LinkReady(report=report))
        self._questions.ask_again()

    def _take_registry(self, registry: bus.Registry) -> None:
        if registry.generation < self._registry.generation:
            return  # of a coordinator that has not heard yet what this shard knows
        self._registry = registry
        self._engine.flush()  # what flows that end now have still to say
        self._set_hello()
        self._apps.set_known(registry.apps)
        names = {entry.spec.name for entry in registry.protocols}
        self._metering.set_protocols(names, self._clock())
        self._links.set_protocols(registry.protocols)

    def _set_hello(self) -> None:
        names = sorted({entry.spec.name for entry in self._registry.protocols})
        hello = Hello(
            instance=self._settings.node.instance,
            listen=config.advertised(self._settings),
            protocols=names,
            record=self._record,
        )
        self._engine.set_hello(msgspec.json.encode(hello))

    def _dial(self, message: bus.DialLink) -> None:
        try:
            known = None
            if message.key is not None:
                known = Known(ids.from_text(message.key), message.ticket, message.pinned)
            self._engine.dial(Place(message.host, message.port), dial=message.dial, known=known)
        except (TransportError, ValueError) as error:
            self._fabric.send(bus.DialFailed(dial=message.dial, reason=str(error), unsent=True))
