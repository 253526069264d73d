"""The edge of discovery: its sockets, its timer, names to look up, and the node's other parts.

Everything here runs in the coordinator's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from dp2p import addresses, config, ids, keys
from dp2p.addresses import Address, PeerAddress
from dp2p.coordinator import bootstrap, seeds
from dp2p.coordinator.bootstrap import Bootstrap
from dp2p.coordinator.discovering import Answer, Discovering, Located, Question
from dp2p.coordinator.discovery.actions import DiscoveryBusy, Own, Result, Settings
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.service import Discovery
from dp2p.coordinator.discovery.sessions import Datagram, Limits, Sessions
from dp2p.coordinator.discovery.table import NetworkLimits
from dp2p.coordinator.discovery.udp import Sockets
from dp2p.coordinator.interfaces import interface_addresses
from dp2p.coordinator.nat import Nat
from dp2p.coordinator.own_endpoints import WILDCARDS, Mapped, OwnEndpoints
from dp2p.coordinator.peers import Link
from dp2p.coordinator.store import PeerStore
from dp2p.errors import ConfigError, RequestError
from dp2p.logs import Log
from dp2p.networks import is_local
from dp2p.node_record import NodeRecord

TICK_S = 1.0
ANCHORS_FIRST_S, ANCHORS_S = 90.0, 300.0  # after the start, and between two writes
RECORDS_S, RECORDS_AT_ONCE = 5.0, 4  # contacts that are asked for records the store has not
DIAL_S = 20.0  # for a bootstrap address
RESOLVE_S = 10.0

log = Log("coordinator.discovery")

T = TypeVar("T")


class Carrier(Protocol):
    """What discovery asks of the node."""

    settled: bool
    "Links can be opened."

    def dial(self, address: Address, timeout_s: float, done: Callable[[Any], None]) -> None:
        """Connect; ``done`` is told what has come of it, a RequestError when nothing."""

    def endpoints_changed(self) -> None:
        """This node may be found elsewhere than its record says."""


class Discoverer:
    """One node's discovery."""

    def __init__(
        self,
        settings: config.Config,
        identity: keys.Identity,
        store: PeerStore,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
    ) -> None:
        """``clock`` is monotonic (s), ``wall`` says seconds since 1970."""
        self._identity = identity
        self._store = store
        self._clock = clock
        self._random = random
        self._carrier: Carrier | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._held: list[Address] = []
        "Bootstrap addresses to dial once that is possible."
        self._anchors_due = clock() + ANCHORS_FIRST_S
        self._records_due = clock() + RECORDS_S
        self.endpoints = OwnEndpoints(settings)
        listening = config.discovery_endpoints(settings)
        self._families = {addresses.family_of(one.scheme) for one in listening}
        self._places = [(one.host, one.port) for one in listening]
        self._sockets: Sockets | None = None
        section = settings.discovery
        self.discovering = Discovering(
            Sessions(
                identity,
                settings.node.network,
                random_bytes=secrets.token_bytes,
                limits=Limits(local=section.limit_local),
            ),
            Discovery(
                Own(identity.public, tuple(_own_places(self._places))),
                Settings(section.serve, section.paths, NetworkLimits(local=section.limit_local)),
                random=random,
            ),
            store,
            transmit=self._transmit,
            place_agreed=self._place_agreed,
            wall=wall,
        )
        self._nat: Nat | None = None
        if section.nat == "auto":
            streams = config.listen_endpoints(settings)
            self._nat = Nat([*streams, *listening], self._mapped)
        self._bootstrap = Bootstrap(config.bootstrap(settings), random.random, now=clock())

    def open(self) -> None:
        """Bind the sockets, within the loop.  Raises: ConfigError."""
        try:
            self._sockets = Sockets(self._places, self._received)
        except OSError as error:
            places = ", ".join(str(addresses.datagram_endpoint(*one)) for one in self._places)
            raise ConfigError(f"discovery.listen: {places}: {error.strerror}") from None

    def attach(self, carrier: Carrier) -> None:
        """The node is there."""
        self._carrier = carrier

    async def run(self) -> None:
        """Work, for ever."""
        if self._nat is not None:
            self._spawn(self._nat.run())
        while True:
            self._wake.clear()
            now = self._clock()
            self.discovering.run(now)
            self._bootstrapping(now)
            self._keep_anchors(now)
            if now >= self._records_due:
                self._records_due = now + RECORDS_S
                self.discovering.fetch_missing(RECORDS_AT_ONCE, now)
            delay = max(0.0, min(TICK_S, self._next_due() - self._clock()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def close(self) -> None:
        """Remember whom to go to next time, and let go of sockets and the router's ports."""
        self._set_anchors(self._clock())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sockets is not None:
            self._sockets.close()
        if self._nat is not None:
            await self._nat.close()

    def _next_due(self) -> float:
        deadline = self.discovering.next_deadline()
        times = [self._bootstrap.next_deadline(), self._anchors_due, self._records_due]
        return min(times if deadline is None else [*times, deadline])

    # --- packets ---

    def _received(self, data: bytes, source: Place) -> None:
        self.discovering.datagram(data, source, self._clock())
        self._wake.set()

    def _transmit(self, datagram: Datagram) -> None:
        if self._sockets is not None:
            self._sockets.send(datagram)

    # --- what the node says ---

    def link_up(self, link: Link) -> None:
        """A peer is connected: it may take discovery's packets where its record says, or where it
        was dialled.
        """
        now, report = self._clock(), link.report
        self.endpoints.link_up(report, now)
        key = ids.from_text(report.key)
        remote = addresses.parse_endpoint(report.endpoint) if report.endpoint else None
        known = self._store.peer(key)
        found: list[Contact] = []
        if known is not None and known.record is not None and remote is not None:
            found = seeds.contacts_of(known.record, local=is_local(remote.host))
        if not found and remote is not None and report.direction == "out":
            found = [Contact(key, (remote.host, remote.port))]
        self._try(found)

    def say(self, record: NodeRecord) -> None:
        """The node's record is new."""
        self.discovering.own_record(record, self._clock())
        self._wake.set()

    def serve(self, protocols: Iterable[str]) -> None:
        """The protocols on the air."""
        self.discovering.serve(protocols, self._clock())
        self._wake.set()

    def _place_agreed(self, place: Place) -> None:
        log.info("contacts agree on this node's address", place=str(place))
        self.endpoints.agreed(place)
        self._endpoints_changed()

    def _mapped(self, mapped: Mapped | None) -> None:
        self.endpoints.mapped(mapped)
        self._endpoints_changed()

    def _endpoints_changed(self) -> None:
        if self._carrier is not None:
            self._carrier.endpoints_changed()

    def wake(self) -> None:
        """Something may be due earlier than it was."""
        self._wake.set()

    # --- where to begin ---

    def settled(self) -> None:
        """Links can be opened from now on."""
        held, self._held = self._held, []
        for address in held:
            self._dial(address)
        self._wake.set()

    def _bootstrapping(self, now: float) -> None:
        for action in self._bootstrap.run(self.discovering.contacts, now):
            match action:
                case bootstrap.Recall():
                    elsewhere = (self._random.randbytes(32) for _ in range(seeds.FAR))
                    known = seeds.remembered(
                        self._store,
                        self._identity.public,
                        elsewhere,
                        private=self.endpoints.private,
                    )
                    self._try(known)
                case bootstrap.Contact(address):
                    self._spawn(self._resolve(address))
                case bootstrap.Dial(address):
                    self._dial(address)

    def _try(self, contacts: Iterable[Contact]) -> None:
        usable = [one for one in contacts if addresses.version_of(one.place[0]) in self._families]
        if usable:
            self.discovering.candidates(usable, self._clock())
            self._wake.set()

    async def _resolve(self, address: PeerAddress) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # a timeout is an OSError
            why = getattr(error, "strerror", None) or str(error) or "no answer in time"
            self._failed(address, f"{address.host} has no address: {why}")
            return
        key = ids.from_text(address.key)
        self._try([Contact(key, (str(at[4][0]), int(at[4][1]))) for at in found])

    def _dial(self, address: Address) -> None:
        if self._carrier is None or not self._carrier.settled:
            if address not in self._held:
                self._held.append(address)
            return

        def done(result: Any) -> None:
            if isinstance(result, RequestError):
                self._failed(address, result.message)
            else:
                self._bootstrap.succeeded(address)

        self._carrier.dial(address, DIAL_S, done)

    def _failed(self, address: Address, why: str) -> None:
        if self._bootstrap.failed(address, why):
            log.warning("bootstrap address is of no use", address=str(address), why=why)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- whom to remember ---

    def _keep_anchors(self, now: float) -> None:
        if now >= self._anchors_due:
            self._anchors_due = now + ANCHORS_S
            self._set_anchors(now)

    def _set_anchors(self, now: float) -> None:
        """Those of before stay when there is nobody: a node that is offline learns nothing."""
        found = seeds.anchors(self.discovering.buckets(), now)
        if found:
            self._store.set_anchors(found)

    # --- what applications want ---

    def search(
        self,
        protocol: str,
        wanted: int,
        found: Callable[[NodeRecord], None],
        done: Callable[[], None],
    ) -> None:
        """Records of nodes that serve a protocol, each when it is there.

        Raises: DiscoveryBusy.
        """

        def providers(contacts: tuple[Contact, ...]) -> None:
            left = len(contacts)
            if not left:
                done()

            def fetched(record: NodeRecord | None) -> None:
                nonlocal left
                left -= 1
                if record is not None and (record.more or protocol in record.protocols):
                    found(record)
                if not left:
                    done()

            for one in contacts:
                self._fetch(one, fetched)

        self.discovering.search(protocol, wanted, providers, self._clock())
        self._wake.set()

    def lookup(self, target: int, timeout_s: float, done: Callable[[Result | None], None]) -> None:
        """The contacts closest to a node-ID; None when that takes too long.

        Raises: DiscoveryBusy.
        """
        once: _Once[Result | None] = _Once(timeout_s, done, None)
        once.begin(lambda: self.discovering.lookup(target, once, self._clock()))
        self._wake.set()

    def locate(self, node_id: bytes, timeout_s: float, done: Callable[[Located], None]) -> None:
        """Find a node by its ID, with its record.  Raises: DiscoveryBusy."""
        once = _Once(timeout_s, done, Located())
        once.begin(lambda: self.discovering.locate(node_id, once, self._clock))
        self._wake.set()

    def ask(self, contact: Contact, question: Question, done: Callable[[Answer], None]) -> None:
        """One question to one contact.  Raises: DiscoveryBusy."""
        self.discovering.ask(contact, question, done, self._clock())
        self._wake.set()

    def _fetch(self, contact: Contact, done: Callable[[NodeRecord | None], None]) -> None:
        try:
            self.discovering.fetch(contact, done, self._clock())
        except DiscoveryBusy:
            done(None)

    def status(self) -> dict[str, Any]:
        """For ``status``."""
        sockets = self._sockets
        return {
            "listen": [str(addresses.datagram_endpoint(*place)) for place in self._places],
            "bootstrap": self._bootstrap.describe(),
            **self.discovering.status(),
            "sockets": {} if sockets is None else {**sockets.errors, "ignored": sockets.ignored},
        }


class _Once(Generic[T]):
    """Tells a result once: that which comes first, or another one when none comes in time."""

    def __init__(self, timeout_s: float, done: Callable[[T], None], late: T) -> None:
        self._done: Callable[[T], None] | None = done
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self, late)

    def __call__(self, result: T) -> None:
        done, self._done = self._done, None
        self._timer.cancel()
        if done is not None:
            done(result)

    def begin(self, work: Callable[[], None]) -> None:
        """Start what will have the result; nothing is told when that raises."""
        try:
            work()
        except BaseException:
            self._done = None
            self._timer.cancel()
            raise


def _own_places(listening: Iterable[Place]) -> list[Place]:
    """Where packets come in, with the interfaces' addresses for a wildcard."""
    here = interface_addresses()
    found: list[Place] = []
    for host, port in listening:
        if host in WILDCARDS:
            found += [
                (one, port)
                for one in here
                if addresses.version_of(one) == addresses.version_of(host)
            ]
        else:
            found.append((host, port))
    return found
