"""What applications and the command line ask of discovery, and how it is put for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Protocol

from dp2p import addresses, control, ids, node_record
from dp2p.addresses import Address, PeerAddress, PeerOnly
from dp2p.coordinator.applications import Answer as Reply
from dp2p.coordinator.discovering import Answer, Discovering, Located, Question, describe
from dp2p.coordinator.discovery.actions import DiscoveryBusy, Result
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import AskRecord, Find, FindProtocol, topic
from dp2p.coordinator.discovery.table import BucketView
from dp2p.errors import AddressError, NodeRecordError, RequestError
from dp2p.node_record import NodeRecord

KEY_PREFIX = "dp2p://"


class Discoverer(Protocol):
    """What is asked of ``dp2p.coordinator.discoverer``, which has the sockets."""

    @property
    def discovering(self) -> Discovering:
        """The logic."""

    def lookup(self, target: int, timeout_s: float, done: Callable[[Result | None], None]) -> None:
        """The contacts closest to a node-ID."""

    def locate(self, node_id: bytes, timeout_s: float, done: Callable[[Located], None]) -> None:
        """Find a node by its ID, with its record."""

    def ask(self, contact: Contact, question: Question, done: Callable[[Answer], None]) -> None:
        """One question to one contact."""

    def status(self) -> dict[str, Any]:
        """For ``status``."""


class Inquiries:
    """Of one node; of one without discovery all are refused."""

    def __init__(self, discoverer: Discoverer | None, clock: Callable[[], float]) -> None:
        self._discoverer = discoverer
        self._clock = clock

    @property
    def possible(self) -> bool:
        """Whether somebody can be asked."""
        return self._discoverer is not None and self._discoverer.discovering.contacts > 0

    def lookup(self, request: control.Lookup, reply: Reply) -> None:
        """Walk the network.  Raises: RequestError."""
        target = _target(request.target)

        def done(result: Result | None) -> None:
            if result is None:
                reply(RequestError("timeout", "the lookup took too long"))
            else:
                reply({"target": ids.to_text(target), **_result(result, target)})

        with _refusals():
            number = int.from_bytes(target, "big")
            self._there().lookup(number, request.timeout_s, done)

    def locate(
        self, peer: str, timeout_s: float, found: Callable[[Address | PeerOnly | None, int], None]
    ) -> None:
        """Where a node-ID can be dialled, None when it was not found; and how many were asked.

        Raises: RequestError.
        """

        def done(located: Located) -> None:
            found(_dialable(located), located.asked)

        with _refusals():
            self._there().locate(ids.from_text(peer), timeout_s, done)

    def ask_contact(self, request: control.AskContact, reply: Reply) -> None:
        """Ask one node.  Raises: AddressError, RequestError."""
        endpoint = addresses.parse_endpoint(request.endpoint, schemes=addresses.DATAGRAMS)
        if not addresses.is_numeric(endpoint.host):
            raise AddressError(f"endpoint {request.endpoint!r}: expected a numeric address")
        contact = Contact(ids.from_text(request.key), (endpoint.host, endpoint.port))
        began = self._clock()

        def done(answer: Answer) -> None:
            if answer is None:
                reply(RequestError("timeout", f"no answer from {request.endpoint}"))
                return
            try:
                found = _answer(answer)
            except RequestError as error:
                reply(error)
            else:
                reply({**found, "seconds": round(self._clock() - began, 6)})

        with _refusals():
            self._there().ask(contact, _question(request), done)

    def table(self) -> dict[str, Any]:
        """The table.  Raises: RequestError."""
        discovering = self._there().discovering
        now = self._clock()
        buckets = [_bucket(one, now) for one in discovering.buckets()]
        return {"buckets": buckets, "contacts": discovering.contacts}

    def status(self) -> dict[str, Any] | None:
        """For ``status``; None without discovery."""
        return None if self._discoverer is None else self._discoverer.status()

    def _there(self) -> Discoverer:
        if self._discoverer is None:
            raise RequestError("no_discovery", "discovery.enabled is false on this node")
        return self._discoverer


@contextmanager
def _refusals() -> Any:
    """Discovery refuses in its own words."""
    try:
        yield
    except DiscoveryBusy as error:
        raise RequestError("busy", str(error)) from None


def _target(peer: str) -> bytes:
    """The node-ID that is meant."""
    text = peer.removeprefix(KEY_PREFIX)
    return ids.node_id(ids.from_text(text)) if text != peer else ids.from_text(text)


def _question(request: control.AskContact) -> Question:
    if request.near is not None:
        return Find(0, _target(request.near))
    if request.protocol is not None:
        return FindProtocol(0, topic(request.protocol))
    return AskRecord(0)


def _answer(answer: tuple[Contact, ...] | bytes) -> dict[str, Any]:
    if not isinstance(answer, bytes):
        return {"contacts": [describe(one) for one in answer]}
    try:
        return {"record": described_record(node_record.verify(answer)) if answer else None}
    except NodeRecordError as error:
        raise RequestError("bad_record", str(error)) from None


def _result(result: Result, target: bytes) -> dict[str, Any]:
    number = int.from_bytes(target, "big")
    return {
        "found": any(one.id == number for one in result.contacts),
        "contacts": [describe(one) for one in result.contacts],
        "hops": result.hops,
        "asked": result.asked,
        "failed": result.failed,
        "seconds": round(result.seconds, 6),
    }


def _dialable(located: Located) -> Address | PeerOnly | None:
    """Where its record says, which the store has; else at the TCP port of the same number."""
    if located.contact is None:
        return None
    key = ids.to_text(located.contact.key)
    if located.record is not None and located.record.dialable:
        return PeerOnly(key)
    return PeerAddress(key, *located.contact.place)


def _bucket(bucket: BucketView, now: float) -> dict[str, Any]:
    return {
        "distance": bucket.log_distance,
        "replacements": bucket.replacements,
        "entries": [
            {
                **describe(one.contact),
                "known_s": round(now - one.since, 3),
                "alive_s": round(now - one.alive, 3) if one.checked else None,
                "checked": one.checked,
                "failures": one.failures,
            }
            for one in bucket.entries
        ],
    }


def described_record(record: NodeRecord) -> dict[str, Any]:
    """A record for applications."""
    return {
        "key": ids.to_text(record.key),
        "node": ids.to_text(ids.node_id(record.key)),
        "seq": record.seq,
        "endpoints": record.endpoints,
        "protocols": record.protocols,
        "text": node_record.to_text(record.signed),
    }
