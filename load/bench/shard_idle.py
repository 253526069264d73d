"""Ours: memory per idle connection of a real shard process, with its Python objects.

One ``python -m dp2p.shards``; this module plays its coordinator (which admits everybody) and its
application (one protocol, a flow on every link). The dialling side is an engine: see
``engine_idle``.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import zmq

from dp2p import bus, config, keys, listening, records
from dp2p.addresses import Endpoint
from dp2p.control import ProtocolSpec
from dp2p.hello import Ack, ControlType, Hello, Protocols, decode_protocols, offer
from dp2p.records import Kind
from dp2p.transport import Event, EventKind
from load.bench.engine_idle import AT_A_TIME, DEADLINE_S, QUICK_MOST, WARM, allow_files
from load.bench.engine_side import HOST, NUMBER, WINDOW, Side
from load.bench.harness import Crew, Station, process_private_kib
from load.bench.model import (
    IDLE_1K,
    IDLE_10K,
    KIB_PER_CONNECTION,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
)
from load.bench.nodes import NETWORK, end, last_words, spawn

NAME = "shard"
SESSION = secrets.token_hex(16)
INSTANCE = secrets.token_hex(8)
SPEC = ProtocolSpec(name="bench", versions=[1], window=WINDOW)
HELLO = msgspec.json.encode(Hello(instance="0" * 16))
OFFERS = msgspec.json.encode(Protocols(generation=1, protocols=[offer(NUMBER, SPEC)]))
PATIENCE_MS = 10_000
PAUSE_S = 0.05
FLOWS_S = 40.0  # for all flows of a goal
REST_S = 1.5  # a heartbeat passes, and what was under way ends
Socket = zmq.Socket[bytes]


class Dialler(Side):
    """Speaks of one protocol, as a shard would, and acknowledges the other side's list."""

    def __init__(self) -> None:
        super().__init__(network=NETWORK)
        self.engine.set_hello(HELLO)
        self._open: set[int] = set()

    @property
    def count(self) -> int:
        """Links that are open on both sides."""
        return len(self._open)

    def greeting(self, _event: Event) -> bytes:
        return OFFERS

    def handle(self, event: Event) -> None:
        super().handle(event)
        if event.kind == EventKind.CONTROL and event.type == ControlType.PROTOCOLS:
            ack = Ack(generation=decode_protocols(event.data).generation)
            self.engine.control(event.link, ControlType.ACK, msgspec.json.encode(ack))

    def opened(self, event: Event) -> None:
        self._open.add(event.link)  # a second list comes when the application attaches later


def dial(station: Station, port: int, goals: tuple[int, ...]) -> None:
    """Make connections until each goal is reached; go on when told."""
    allow_files(goals[-1])
    side = Dialler()
    begun = 0
    for goal in goals:
        while side.count < goal:
            while begun < goal and begun - side.count < AT_A_TIME:
                side.dial(port)
                begun += 1
            side.turn_or_fail()
        while side.turn(20):
            pass
        station.tell("there")
        station.hear()


class Keeper:
    """Coordinator and application of one shard."""

    def __init__(self, context: zmq.Context[Socket], run_dir: Path) -> None:
        self._bus: Socket = context.socket(zmq.ROUTER)
        self._bus.bind(config.bus_endpoint(str(run_dir)))
        self._data: Socket = context.socket(zmq.DEALER)
        self._poller = zmq.Poller()
        self._poller.register(self._bus, zmq.POLLIN)
        self._poller.register(self._data, zmq.POLLIN)
        self.port = 0
        self.flows = 0

    def turn(self) -> None:
        """Wait for words of the shard and answer them. Raises: PhaseError when none comes."""
        ready = self._poller.poll(PATIENCE_MS)
        if not ready:
            raise PhaseError("the shard says nothing")
        for socket, _ in ready:
            if socket is self._bus:
                who, frame = self._bus.recv_multipart()
                self._answer(who, bus.decode_from_shard(frame))
            else:
                kinds = [record.kind for record in records.split(self._data.recv())]
                self.flows += kinds.count(Kind.UP)
                if Kind.ERROR in kinds:  # the shard has not heard of the session yet
                    time.sleep(PAUSE_S)
                    self._attach()

    def _answer(self, who: bytes, message: bus.FromShard) -> None:
        match message:
            case bus.ShardHello():
                self._meet(who, message)
            case bus.LinkReady():
                self._say(who, bus.Admit(link=message.report.link, trust="none", introducers=0))
            case bus.LinkDown():
                raise PhaseError(f"link down: {message.reason}")

    def _meet(self, who: bytes, hello: bus.ShardHello) -> None:
        if self.port:
            return
        self.port = int(hello.listening[0].rpartition(":")[2])
        self._say(who, bus.Welcome(coordinator="bench"))
        entry = bus.ProtocolEntry(number=NUMBER, spec=SPEC, session=SESSION, instance=INSTANCE)
        apps = [bus.AppReport(session=SESSION, name="bench", instance=INSTANCE)]
        self._say(who, bus.Registry(generation=1, apps=apps, protocols=[entry]))
        self._data.connect(hello.data_endpoint)
        self._attach()

    def _attach(self) -> None:
        self._data.send(records.encode_bytes(Kind.ATTACH, 0, bytes.fromhex(SESSION)))

    def _say(self, who: bytes, message: bus.Message) -> None:
        self._bus.send_multipart((who, bus.encode(message)))

    def rest(self, flows: int) -> None:
        """Until so many flows are up and all is quiet. Raises: PhaseError."""
        until = time.monotonic() + FLOWS_S
        while self.flows < flows:
            if time.monotonic() > until:
                raise PhaseError(f"{self.flows} flows instead of {flows}")
            self.turn()
        until = time.monotonic() + REST_S
        while time.monotonic() < until:
            self.turn()  # heartbeats come every second


def _prepare(home: Path, address: str) -> Path:
    """A run directory as ``dp2p up`` leaves it to its shards."""
    run_dir = home / "run"
    run_dir.mkdir(mode=0o700)
    keys.create(home / "key")
    node = config.NodeSection(
        key_file=str(home / "key"),
        network=NETWORK,
        run_dir=str(run_dir),
        instance="1" * 16,
        log_level="warning",
    )
    settings = config.Config(
        node=node,
        listen=config.ListenSection(addresses=[address]),
        shards=config.ShardsSection(count=1),
        limits=config.LimitsSection(max_links_per_shard=1 << 16),
        store=config.StoreSection(file=str(home / "peers.db")),
    )
    config.write_resolved(settings, run_dir / config.NODE_FILE)
    return run_dir


def measure(case: Case, settings: Settings) -> list[Measurement]:
    """What the shard grows by, from a few connections to all."""
    more = min(case.count, QUICK_MOST) if settings.quick else case.count
    allow_files(WARM + more)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dp2p-bench-")))
        place = listening.reserve([Endpoint("tcp4", HOST, 0)], optional_ipv6=False)
        stack.callback(place.close)
        run_dir = _prepare(home, str(place.endpoints[0]))
        context: zmq.Context[Socket] = stack.enter_context(zmq.Context())
        stack.callback(context.destroy, 0)
        keeper = Keeper(context, run_dir)
        arguments = ["-m", "dp2p.shards", "--config", str(run_dir / config.NODE_FILE)]
        shard = spawn([*arguments, "--index", "0"], home)
        stack.callback(end, shard)
        try:
            kib = _grow(keeper, shard.pid, more, max(settings.deadline_s, DEADLINE_S)) / more
        except PhaseError as error:
            raise PhaseError(f"{error}; {last_words(shard, home)}") from error
    note = "a whole shard process, its Python objects and application included; one flow each"
    if more < case.count:
        note = f"{more:,} connections; {note}"
    return [Measurement(case, NAME, {KIB_PER_CONNECTION: kib}, {"listening": kib}, note)]


def _grow(keeper: Keeper, pid: int, more: int, deadline_s: float) -> float:
    while not keeper.port:
        keeper.turn()
    with Crew(deadline_s) as crew:
        goals = (WARM, WARM + more)
        dialler = crew.start("dialling", dial, keeper.port, goals)
        keeper.rest(goals[0])
        dialler.hear()
        before = process_private_kib(pid)
        dialler.tell("go on")
        keeper.rest(goals[1])
        dialler.hear()
        return process_private_kib(pid) - before


SOURCES = tuple(Source(case, NAME, partial(measure, case)) for case in (IDLE_1K, IDLE_10K))
