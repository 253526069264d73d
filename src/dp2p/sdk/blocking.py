"""The blocking API.

    with dp2p.blocking.attach() as node:
        chat = node.register("chat", version=1, slots=8, priority="normal")
        for message in chat:
            chat.send(message.peer, type=1, payload=b"hello")

A node belongs to one thread. What is sent leaves at once. Sockets are read while a call waits: a
program that computes for long hears of peers and credit when it calls again, yet its session lives,
since heartbeats have a thread of their own. A datagram for a peer that has just gone and come back
is therefore sent again by the next call that waits; ``drain`` waits until it has arrived.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
from msgspec import UNSET, UnsetType

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.blocking_driver import BlockingDriver
from dp2p.sdk.driver import (
    ANSWER_LATE_S,
    ATTACH_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    EventLog,
    Handle,
    make_spec,
)
from dp2p.sdk.registration import KEEP_S
from dp2p.sdk.types import Batch, Dialled, Event, Introduced, Message, Peer

SHARDS_S = 1.0
"""How long ``attach`` waits for shards that are starting. What they say later is read by the next
call that waits.
"""


def attach(
    run_dir: Path | str | None = None,
    endpoint: str | None = None,
    name: str | None = None,
    timeout: float = ATTACH_TIMEOUT_S,
) -> Node:
    """Begin a session with the node in ``run_dir`` (or behind the control ``endpoint``).

    Raises: RequestError, ``no_node`` when none answers in ``timeout`` seconds.
    """
    node = Node(run_dir, endpoint, name)
    try:
        node._call(node._driver.session.attach(), timeout)
        node._driver.await_shards(time.monotonic() + SHARDS_S)
    except RequestError as error:
        node._driver.close()
        if error.code == "timeout":
            text = f"nothing answers at {node._driver.endpoint}; is the node running?"
            raise RequestError("no_node", text) from None
        raise
    except BaseException:
        node._driver.close()
        raise
    return node


class Node:
    """A session with a node; ``attach`` makes it."""

    def __init__(self, run_dir: Path | str | None, endpoint: str | None, name: str | None) -> None:
        self._driver = BlockingDriver(run_dir, endpoint, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The node's node-ID, base32."""
        self._driver.session.token()
        attached = self._driver.session.attached
        return attached.node if attached is not None else ""

    def close(self) -> None:
        """End the session. Datagrams already sent are handed to the node, not awaited: see
        ``Protocol.drain``.
        """
        driver = self._driver
        if driver.closed:
            return
        try:
            driver.flush_last()
            if driver.session.attached is not None:
                session = driver.session.token()
                self._call(driver.session.request(control.Detach(id=0, session=session)), 1.0)
        except (RequestError, zmq.ZMQError):
            pass  # the node is gone, or has forgotten us: then there is nothing to end
        finally:
            driver.close()

    def register(
        self,
        name: str,
        *,
        version: int | Sequence[int] = 1,
        keep_s: float = KEEP_S,
        **options: Any,
    ) -> Protocol:
        """Put a protocol on the air. ``options`` are the fields of ``ProtocolSpec``:
        ``max_datagram``, ``types``, ``priority``, ``weight``, ``lifts``, ``slots``, ``window``,
        ``shared``.

        What peers have not confirmed is kept while they are away, at most ``keep_s`` seconds, and
        sent again when they are back; 0 keeps nothing.

        Raises: RequestError: ``protocol_taken``, ``bad_request``, ...
        """
        session = self._driver.session
        request, registration = session.register(make_spec(name, version, options), keep_s)
        self._call(request)
        return Protocol(self._driver, registration)

    def withdraw(self, protocol: Protocol) -> None:
        """Take a protocol off the air."""
        session = self._driver.session
        request = control.Withdraw(id=0, session=session.token(), name=protocol.name)
        self._call(session.request(request))

    def status(self) -> dict[str, Any]:
        """The node's state."""
        return dict(self._call(self._driver.session.request(control.Status(id=0))))

    def peers(self) -> list[dict[str, Any]]:
        """All peers of the node, whatever they speak."""
        return list(self._call(self._driver.session.request(control.Peers(id=0)))["peers"])

    def dial(self, address: str, timeout: float = 10.0) -> Dialled:
        """Connect to an address, or to a peer that the node knows: ``dp2p://KEY@HOST:PORT``,
        ``tcp4://HOST:PORT``, ``tcp6://[HOST]:PORT``, ``dp2p://KEY`` or a node-ID.

        Raises: RequestError: ``bad_address``, ``unknown_peer``, ``dial_failed``,
        ``identity_mismatch``, ``timeout``, ...
        """
        request = control.Dial(id=0, address=address, timeout_s=timeout)
        reply = self._call(self._driver.session.request(request), timeout + ANSWER_LATE_S)
        return msgspec.convert(reply, Dialled)

    def find(
        self,
        protocol: str | None = None,
        near: str | None = None,
        limit: int = 16,
        timeout: float = 5.0,
    ) -> list[Introduced]:
        """Ask connected peers to introduce others, and wait until all have answered, at most
        ``timeout`` seconds: up to ``limit`` (256) that receive ``protocol``, those whose node-IDs
        are closest to ``near`` first. The node remembers who introduced whom.
        """
        request = control.Find(id=0, protocol=protocol, near=near, limit=limit, timeout_s=timeout)
        reply = self._call(self._driver.session.request(request), timeout + ANSWER_LATE_S)
        return msgspec.convert(reply["records"], list[Introduced])

    def known(self, peer: str) -> dict[str, Any]:
        """What the node remembers of a peer, by its node-ID or ``dp2p://KEY``, connected or not.

        Raises: RequestError, ``unknown_peer``.
        """
        return dict(self._call(self._driver.session.request(control.Known(id=0, peer=peer))))

    def limit(
        self,
        scope: control.Scope,
        name: str = "",
        *,
        up: int | UnsetType | None = UNSET,
        down: int | UnsetType | None = UNSET,
    ) -> dict[str, Any]:
        """Cap the rate of the ``node``, of a ``protocol`` (by name) or of a ``peer`` (by node-ID),
        in bytes of credit cost a second, for the whole node and until it ends. None lifts a cap;
        what is left out stays. Returns the cap as it is now.

        Raises: RequestError: ``bad_request``, ``too_many_limits``.
        """
        request = control.Limit(id=0, scope=scope, name=name, up=up, down=down)
        return dict(self._call(self._driver.session.request(request)))

    def limits(self) -> list[dict[str, Any]]:
        """All caps of the node."""
        reply = self._call(self._driver.session.request(control.Limits(id=0)))
        return list(reply["limits"])

    def traffic(
        self, protocol: str | None = None, peer: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """How the flows of all applications stand, or those of a protocol, or of a peer: the
        longest queues first. Fields are those of ``traffic`` in docs/spec/app-api.md.
        """
        request = control.Traffic(id=0, protocol=protocol, peer=peer, limit=limit)
        return list(self._call(self._driver.session.request(request))["rows"])

    def disconnect(self, peer: str) -> None:
        """Close the connection to a peer, for all applications."""
        self._call(self._driver.session.request(control.Disconnect(id=0, peer=peer)))

    def subscribe(self, traffic_s: float | None = None) -> None:
        """Have ``Notice`` among the events of this node from now on, also in later sessions; and
        ``Traffic`` of this session's protocols every ``traffic_s`` seconds (0.2 to 60).
        """
        self._call(self._driver.session.subscribe(traffic_s))

    def events(self) -> Events:
        """All events of this session from now on; those of peers that are there come first."""
        return Events(self._driver, None)

    def _call(self, request_id: int, timeout: float = REQUEST_TIMEOUT_S) -> Any:
        driver = self._driver
        deadline = time.monotonic() + timeout
        driver.answers[request_id] = None
        try:
            while (answer := driver.answers[request_id]) is None:
                driver.wait(deadline)
        except TimeoutError:
            driver.session.forget(request_id)
            raise RequestError("timeout", f"no answer in {timeout:g} s") from None
        finally:
            del driver.answers[request_id]
        if answer.error is not None:
            raise answer.error
        return answer.ok


class Events(EventLog):
    """Events, oldest first."""

    def __init__(self, driver: BlockingDriver, protocol: str | None) -> None:
        super().__init__(protocol)
        self._driver = driver
        driver.subscribe(self)

    def get(self, timeout: float | None = None) -> Event:
        """The next event.  Raises: TimeoutError."""
        deadline = _deadline(timeout)
        while not self.unread:
            self._driver.wait(deadline)
        return self.take()

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield self.get()


class Protocol(Handle):
    """A protocol of this application; ``Node.register`` makes it. ``timeout`` is in seconds, None
    waits for ever. A call that sends then raises SendError ``timeout``, any other TimeoutError.
    """

    _driver: BlockingDriver

    def recv(self, timeout: float | None = None) -> Message:
        """The next datagram. Taking it counts as consuming it."""
        message = next(self._inbox.messages, None)
        if message is not None:
            return message
        self._await_data(_deadline(timeout))
        return next(self._inbox.messages)

    def _await_data(self, deadline: float | None) -> None:
        while (source := self._inbox.open()) is None:
            self._check_open()
            self._driver.wait(deadline)
        if source.consumed_bytes - source.announced_bytes >= self._inbox.quarter:
            self._driver.flush_port(source.port)

    def __iter__(self) -> Iterator[Message]:
        """Datagrams as they come, until the protocol is withdrawn or the node closed."""
        while True:
            yield from self._inbox.messages
            try:
                self._await_data(None)
            except RequestError:
                return

    def recv_many(self, timeout: float | None = None) -> Batch:
        """All datagrams that arrived together: the fastest way to receive."""
        deadline = _deadline(timeout)
        while (taken := self._inbox.take_batch()) is None:
            self._check_open()
            self._driver.wait(deadline)
        source, batch = taken
        if source.consumed_bytes - source.announced_bytes >= self._inbox.quarter:
            self._driver.flush_port(source.port)
        return batch

    def batches(self) -> Iterator[Batch]:
        """``recv_many`` for ever, until the protocol is withdrawn or the node closed."""
        while True:
            try:
                yield self.recv_many()
            except RequestError:
                return

    def send(
        self,
        peer: str,
        payload: bytes,
        type: int = 0,  # noqa: A002
        timeout: float | None = None,
    ) -> None:
        """Send one datagram; waits for credit, and for a peer that is away.  Raises: SendError."""
        flow = self._flows.get(peer)
        if flow is not None and flow.offer(payload, type):
            self._driver.flush_port(flow.port)
        else:
            self.send_many(peer, (payload,), type, timeout)

    def send_many(
        self,
        peer: str,
        payloads: Sequence[bytes],
        type: int | Sequence[int] = 0,  # noqa: A002
        timeout: float | None = None,
    ) -> None:
        """Send datagrams in order, as credit allows: the fastest way to send. ``type`` is one for
        all or one for each. Waits for a peer that is away.  Raises: SendError.
        """
        flow, outgoing = self._outgoing(peer, payloads, type)
        deadline = _deadline(timeout)
        try:
            while not outgoing.done:
                self._driver.wait(deadline)
        except TimeoutError:
            text = f"no credit for {timeout:g} s"
            raise flow.error("timeout", text, outgoing.accepted) from None
        finally:
            if not outgoing.done:
                flow.give_up(outgoing)
            self._driver.flush_port(flow.port)
        if outgoing.error is not None:
            raise outgoing.error

    def send_nowait(self, peer: str, payload: bytes, type: int = 0) -> None:  # noqa: A002
        """Send one datagram, or raise SendError ``no_credit``."""
        flow = self._registration.flow(peer)
        if not flow.offer(payload, type):
            raise flow.error("no_credit", f"{flow.credit} bytes of credit left")
        self._driver.flush_port(flow.port)

    def drain(self, peer: str | None = None, timeout: float | None = None) -> None:
        """Wait until the peer's application (None: those of all peers that are there or away) has
        consumed everything that was sent.  Raises: SendError ``peer_down``, TimeoutError.
        """
        deadline = _deadline(timeout)
        for flow in self._registration.undrained(peer):
            while flow.unconfirmed:
                if flow.down is not None:
                    raise flow.error("peer_down", flow.down)
                self._driver.wait(deadline)

    def confirm(self) -> None:
        """Tell peers at once what has been consumed, instead of with the next wait. For an
        application that is about to do something else for a while.
        """
        self._driver.flush_last()

    def wait_peer(self, peer: str | None = None, timeout: float | None = None) -> Peer:
        """Wait until a peer (None: any) is there, by all that the node has said so far."""
        deadline = _deadline(timeout)
        self._check_open()
        self._driver.catch_up()
        while True:
            self._check_open()
            if flow := self._registration.present(peer):
                return flow.peer
            self._driver.wait(deadline)

    def events(self) -> Events:
        """Events of this protocol; those of peers that are there come first."""
        return Events(self._driver, self.name)

    def _check_open(self) -> None:
        if self._registration.closed is not None:
            raise self._registration.closed


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
