"""What applications and the command line ask of the node, and how it is put for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

import dp2p
from dp2p import addresses, bus, config, control, ids, keys, node_record
from dp2p.addresses import Endpoint, NodeId, PeerAddress, PeerOnly
from dp2p.coordinator import applications
from dp2p.coordinator.acquaintance import Acquaintance
from dp2p.coordinator.fabric import Fabric, Shard
from dp2p.coordinator.inquiries import Inquiries, described_record
from dp2p.coordinator.metering import Metering
from dp2p.coordinator.own_record import OwnRecord
from dp2p.coordinator.peers import Link, Peers
from dp2p.coordinator.registry import Registry
from dp2p.coordinator.router import Router
from dp2p.coordinator.searches import Answered
from dp2p.coordinator.searches import Wanted as Sought
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.targets import Wanted
from dp2p.errors import RequestError
from dp2p.places import PROCESSES_FILE

KEY_PREFIX = "dp2p://"
LEAST_S = 0.5  # for a dial, when finding where to took all the time


@dataclass(slots=True)
class Answers:
    """Requests whose answers come later, by token."""

    _waiting: dict[int, applications.Answer] = field(default_factory=dict)
    _next: int = 1

    def expect(self, answer: applications.Answer) -> int:
        """The token under which the answer will come."""
        token, self._next = self._next, self._next + 1
        self._waiting[token] = answer
        return token

    def forget(self, token: int) -> None:
        """No answer will come."""
        del self._waiting[token]

    def give(self, token: int, result: Any) -> None:
        """The answer, or the RequestError that stands in its place."""
        self._waiting.pop(token)(result)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the desk looks at; all of it is the node's."""

    settings: config.Config
    identity: keys.Identity
    registry: Registry
    peers: Peers
    fabric: Fabric
    store: PeerStore
    acquaintance: Acquaintance
    metering: Metering
    own: OwnRecord
    inquiries: Inquiries
    bus: Router
    control: Router


class Carrier(Protocol):
    """What the desk asks the node to carry out."""

    settled: bool
    "Enough shards have spoken since the coordinator began."

    def request_dial(self, token: int, target: Wanted, timeout_s: float) -> None:
        """Connect; the outcome comes under ``token``."""

    def request_find(self, token: int, wanted: Sought, timeout_s: float) -> None:
        """Search; the outcome comes under ``token``.  Raises: RequestError."""

    def registry_changed(self) -> None:
        """Sessions or protocols are not what they were."""

    def wake(self) -> None:
        """Something may be due earlier than it was."""


class Desk:
    """Implements ``dp2p.coordinator.applications.Desk``."""

    def __init__(
        self, parts: Parts, carrier: Carrier, answers: Answers, clock: Callable[[], float]
    ) -> None:
        self._parts = parts
        self._carrier = carrier
        self._answers = answers
        self._clock = clock
        self._began = clock()

    # --- requests ---

    def dial(self, address: str, timeout_s: float, answer: applications.Answer) -> None:
        target = addresses.parse_target(address)
        if isinstance(target, Endpoint | PeerAddress):
            self._carrier.request_dial(self._answers.expect(answer), target, timeout_s)
            return
        wanted = self._with_key(target)
        if self._parts.inquiries.possible and not self._has_place(wanted):
            self._locate(target.peer, wanted, timeout_s, answer)
        elif wanted is None:
            raise RequestError("unknown_peer", "nothing is known of it", peer=target.peer)
        else:
            self._carrier.request_dial(self._answers.expect(answer), wanted, timeout_s)

    def _with_key(self, target: PeerOnly | NodeId) -> PeerOnly | None:
        """A node-ID stands for a key; None when that is not known here."""
        if isinstance(target, PeerOnly):
            return target
        key = self._key_of(target.node)
        return None if key is None else PeerOnly(ids.to_text(key))

    def _has_place(self, wanted: PeerOnly | None) -> bool:
        """Whether it is known where to dial."""
        if wanted is None:
            return False
        known = self._parts.store.peer(ids.from_text(wanted.key))
        connected = self._parts.peers.connected(wanted.peer) is not None
        return connected or (known is not None and bool(known.endpoints))

    def _locate(
        self, peer: str, known: PeerOnly | None, timeout_s: float, answer: applications.Answer
    ) -> None:
        """Ask discovery where a peer is, and dial it there."""
        deadline = self._clock() + timeout_s

        def found(where: Wanted | None, asked: int) -> None:
            if where is not None:
                left = max(LEAST_S, deadline - self._clock())
                self._carrier.request_dial(self._answers.expect(answer), where, left)
                return
            why = f"discovery asked {asked} others and did not find it"
            if known is None:
                answer(RequestError("unknown_peer", f"nothing is known of it; {why}", peer=peer))
            else:
                text = f"no place is known where it could be; {why}"
                answer(RequestError("dial_failed", text, peer=peer))

        self._parts.inquiries.locate(peer, timeout_s, found)

    def find(self, request: control.Find, answer: applications.Answer) -> None:
        near = request.near
        if near is not None and near.startswith(KEY_PREFIX):
            near = ids.node_id_text(near.removeprefix(KEY_PREFIX))
        wanted = Sought(request.protocol, near, request.limit)
        token = self._answers.expect(answer)
        try:
            self._carrier.request_find(token, wanted, request.timeout_s)
        except RequestError:
            self._answers.forget(token)
            raise

    def lookup(self, request: control.Lookup, answer: applications.Answer) -> None:
        self._parts.inquiries.lookup(request, answer)

    def table(self) -> dict[str, Any]:
        identity = self._parts.identity
        return {"node": identity.node, "key": identity.key, **self._parts.inquiries.table()}

    def ask_contact(self, request: control.AskContact, answer: applications.Answer) -> None:
        self._parts.inquiries.ask_contact(request, answer)

    def limit(self, request: control.Limit) -> dict[str, Any]:
        return self._parts.metering.limit(request)

    def limits(self) -> list[dict[str, Any]]:
        return self._parts.metering.limits()

    def traffic(self, request: control.Traffic, answer: applications.Answer) -> None:
        self._parts.metering.traffic(request, answer, self._clock())
        self._carrier.wake()

    def watch(self, session: str, every_s: float | None) -> None:
        self._parts.metering.watch(session, every_s, self._clock())
        self._carrier.wake()

    def disconnect(self, peer: str) -> None:
        links = self._parts.peers.links_of(peer)
        if not links:
            raise RequestError("unknown_peer", "not connected", peer=peer)
        for link in links:
            self._parts.fabric.send(link.id.shard, bus.Close(link=link.id.link, reason="bye"))

    def registry_changed(self) -> None:
        self._carrier.registry_changed()

    def known(self, peer: str) -> dict[str, Any]:
        key = self._key_of(peer)
        found = None if key is None else self._parts.acquaintance.describe(key)
        if found is None:
            raise RequestError("unknown_peer", "nothing is known of it", peer=peer)
        link = self._parts.peers.connected(found["node"])
        trust = None if link is None else link.report.trust
        return {**found, "connected": link is not None, "trust": trust}

    def _key_of(self, peer: str) -> bytes | None:
        """The key of ``dp2p://KEY``, of a node-ID that is known, or of a key without a scheme."""
        if peer.startswith(KEY_PREFIX):
            return ids.from_text(peer.removeprefix(KEY_PREFIX))
        link = self._parts.peers.link_of(peer)
        if link is not None:
            return ids.from_text(link.report.key)
        text = ids.from_text(peer)
        return self._parts.store.key_of(text) or (text if self._parts.store.peer(text) else None)

    # --- what there is ---

    def identity(self) -> tuple[str, str]:
        return self._parts.identity.node, self._parts.identity.key

    def endpoints(self) -> list[control.ShardEndpoint]:
        return [
            control.ShardEndpoint(shard.index, shard.hello.data_endpoint)
            for shard in self._parts.fabric.shards
        ]

    def peer_list(self) -> list[dict[str, Any]]:
        return [
            {**one, "warnings": self._parts.acquaintance.warnings(str(one["peer"]))}
            for one in self._parts.peers.describe(self._clock())
        ]

    def status(self) -> dict[str, Any]:
        parts, now = self._parts, self._clock()
        settings, own = parts.settings, parts.own.record
        return {
            "node": parts.identity.node,
            "key": parts.identity.key,
            "record": None if own is None else node_record.to_text(own.signed),
            "network": settings.node.network,
            "version": dp2p.__version__,
            "uptime_s": round(now - self._began, 3),
            "settled": self._carrier.settled,
            "listen": settings.listen.addresses,
            "configured_shards": settings.shards.count,
            "shards": parts.fabric.describe(parts.peers.count_by_shard()),
            "apps": parts.registry.describe_apps(now),
            "protocols": parts.registry.describe_protocols(),
            "peers": len(parts.peers),
            "max_peers": settings.limits.max_peers,
            "trust": parts.acquaintance.status(),
            "store": {**parts.store.counts(), "failures": parts.store.failures},
            "discovery": parts.inquiries.status(),
            **parts.metering.summary(),
            "processes": self._processes(),
            "counters": {"bus": parts.bus.counters, "control": parts.control.counters},
        }

    def _processes(self) -> list[Any]:
        """What the supervisor says of the processes it runs; empty without one."""
        path = Path(self._parts.settings.node.run_dir) / PROCESSES_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Any])
        except (OSError, msgspec.MsgspecError):
            return []


def shard_up(shard: Shard) -> control.ShardUp:
    """A shard's data socket, for applications."""
    return control.ShardUp(index=shard.index, endpoint=shard.hello.data_endpoint)


def connected(link: Link) -> dict[str, Any]:
    """The answer to a dial."""
    report = link.report
    return {
        "peer": link.peer,
        "key": report.key,
        "endpoint": report.endpoint,
        "mode": report.mode,
        "fell_back": report.fell_back,
        "trust": report.trust,
        "introducers": report.introducers,
    }


def found(answered: Answered) -> dict[str, Any]:
    """The answer to a search."""
    records = [described_record(one) for one in answered.records]
    return {"records": records, "asked": answered.asked}
