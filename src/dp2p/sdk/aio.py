"""The asyncio API.

    async with dp2p.attach() as node:
        chat = await node.register("chat", version=1, slots=8, priority="normal")
        async for message in chat:
            await chat.send(message.peer, type=1, payload=b"hello")

What is sent in one turn of the event loop travels together; a call that has to wait sends first
what was sent before it. Works with any event loop that has ``add_reader``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
from msgspec import UNSET, UnsetType

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.aio_driver import AioDriver
from dp2p.sdk.arrivals import Arrivals
from dp2p.sdk.driver import (
    ANSWER_LATE_S,
    ATTACH_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    EventLog,
    Handle,
    make_spec,
)
from dp2p.sdk.port import FLUSH_BYTES
from dp2p.sdk.registration import KEEP_S
from dp2p.sdk.types import Batch, Dialled, Event, Introduced, Message, Peer


def attach(
    run_dir: Path | str | None = None,
    endpoint: str | None = None,
    name: str | None = None,
    timeout: float = ATTACH_TIMEOUT_S,
) -> Node:
    """A session with the node in ``run_dir`` (or behind the control ``endpoint``); it begins and
    ends with ``async with``.

    Raises on entering: RequestError, ``no_node`` when none answers in ``timeout`` seconds.
    """
    return Node(run_dir, endpoint, name, timeout)


class Node:
    """A session with a node; ``attach`` makes it."""

    _driver: AioDriver

    def __init__(
        self, run_dir: Path | str | None, endpoint: str | None, name: str | None, timeout: float
    ) -> None:
        self._where = run_dir, endpoint, name
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        self._driver = driver = AioDriver(*self._where)
        try:
            await self._call(driver.session.attach(), self._timeout)
        except RequestError as error:
            await driver.close()
            if error.code == "timeout":
                text = f"nothing answers at {driver.endpoint}; is the node running?"
                raise RequestError("no_node", text) from None
            raise
        except BaseException:
            await driver.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """The node's node-ID, base32."""
        self._driver.session.token()
        attached = self._driver.session.attached
        return attached.node if attached is not None else ""

    async def close(self) -> None:
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
                request = driver.session.request(control.Detach(id=0, session=session))
                await self._call(request, 1.0)
        except (RequestError, zmq.ZMQError):
            pass  # the node is gone, or has forgotten us: then there is nothing to end
        finally:
            await driver.close()

    async def register(
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
        await self._call(request)
        return Protocol(self._driver, registration)

    async def withdraw(self, protocol: Protocol) -> None:
        """Take a protocol off the air."""
        session = self._driver.session
        request = control.Withdraw(id=0, session=session.token(), name=protocol.name)
        await self._call(session.request(request))

    async def status(self) -> dict[str, Any]:
        """The node's state."""
        return dict(await self._call(self._driver.session.request(control.Status(id=0))))

    async def peers(self) -> list[dict[str, Any]]:
        """All peers of the node, whatever they speak."""
        reply = await self._call(self._driver.session.request(control.Peers(id=0)))
        return list(reply["peers"])

    async def dial(self, address: str, timeout: float = 10.0) -> Dialled:  # noqa: ASYNC109
        """Connect to an address, or to a peer that the node knows: ``dp2p://KEY@HOST:PORT``,
        ``tcp4://HOST:PORT``, ``tcp6://[HOST]:PORT``, ``dp2p://KEY`` or a node-ID.

        Raises: RequestError: ``bad_address``, ``unknown_peer``, ``dial_failed``,
        ``identity_mismatch``, ``timeout``, ...
        """
        request = control.Dial(id=0, address=address, timeout_s=timeout)
        reply = await self._call(self._driver.session.request(request), timeout + ANSWER_LATE_S)
        return msgspec.convert(reply, Dialled)

    async def find(
        self,
        protocol: str | None = None,
        near: str | None = None,
        limit: int = 16,
        timeout: float = 5.0,  # noqa: ASYNC109
    ) -> list[Introduced]:
        """Ask connected peers to introduce others, and wait until all have answered, at most
        ``timeout`` seconds: up to ``limit`` (256) that receive ``protocol``, those whose node-IDs
        are closest to ``near`` first. The node remembers who introduced whom.
        """
        request = control.Find(id=0, protocol=protocol, near=near, limit=limit, timeout_s=timeout)
        reply = await self._call(self._driver.session.request(request), timeout + ANSWER_LATE_S)
        return msgspec.convert(reply["records"], list[Introduced])

    async def known(self, peer: str) -> dict[str, Any]:
        """What the node remembers of a peer, by its node-ID or ``dp2p://KEY``, connected or not.

        Raises: RequestError, ``unknown_peer``.
        """
        return dict(await self._call(self._driver.session.request(control.Known(id=0, peer=peer))))

    async def limit(
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
        return dict(await self._call(self._driver.session.request(request)))

    async def limits(self) -> list[dict[str, Any]]:
        """All caps of the node."""
        reply = await self._call(self._driver.session.request(control.Limits(id=0)))
        return list(reply["limits"])

    async def traffic(
        self, protocol: str | None = None, peer: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """How the flows of all applications stand, or those of a protocol, or of a peer: the
        longest queues first. Fields are those of ``traffic`` in docs/spec/app-api.md.
        """
        request = control.Traffic(id=0, protocol=protocol, peer=peer, limit=limit)
        return list((await self._call(self._driver.session.request(request)))["rows"])

    async def disconnect(self, peer: str) -> None:
        """Close the connection to a peer, for all applications."""
        await self._call(self._driver.session.request(control.Disconnect(id=0, peer=peer)))

    async def subscribe(self, traffic_s: float | None = None) -> None:
        """Have ``Notice`` among the events of this node from now on, also in later sessions; and
        ``Traffic`` of this session's protocols every ``traffic_s`` seconds (0.2 to 60).
        """
        await self._call(self._driver.session.subscribe(traffic_s))

    def events(self) -> Events:
        """All events of this session from now on; those of peers that are there come first."""
        return Events(self._driver, None)

    async def _call(self, request_id: int, limit: float = REQUEST_TIMEOUT_S) -> Any:
        driver = self._driver
        future = driver.answers[request_id] = driver.loop.create_future()
        driver.flush()
        try:
            async with asyncio.timeout(limit):
                return await future
        except TimeoutError:
            raise RequestError("timeout", f"no answer in {limit:g} s") from None
        finally:
            if driver.answers.pop(request_id, None) is not None:
                driver.session.forget(request_id)


class Events(EventLog):
    """Events, oldest first: ``async for event in chat.events()``."""

    def __init__(self, driver: AioDriver, protocol: str | None) -> None:
        super().__init__(protocol)
        self._driver = driver
        self._waiter: asyncio.Future[None] | None = None
        driver.subscribe(self)

    def add(self, event: Event) -> None:
        super().add(event)
        self.close()

    def close(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Event:
        """The next event.  Raises: RequestError, ``closed``, when the node is."""
        while not self.unread:
            if self._driver.closed:
                raise RequestError("closed", "the node is closed")
            self._driver.flush()
            self._waiter = self._driver.loop.create_future()
            await self._waiter
        return self.take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.get()
        except RequestError:
            raise StopAsyncIteration from None


class Protocol(Handle):
    """A protocol of this application; ``Node.register`` makes it. Calls that wait may be cancelled
    and put under ``asyncio.timeout``.
    """

    _driver: AioDriver

    async def recv(self) -> Message:
        """The next datagram. Taking it counts as consuming it."""
        message = next(self._inbox.messages, None)
        if message is not None:
            return message
        return await self._next_message()

    def __aiter__(self) -> Self:
        """Datagrams as they come, until the protocol is withdrawn or the node closed."""
        return self

    async def __anext__(self) -> Message:
        message = next(self._inbox.messages, None)
        if message is not None:
            return message
        try:
            return await self._next_message()
        except RequestError:
            raise StopAsyncIteration from None

    async def _next_message(self) -> Message:
        while (source := self._inbox.open()) is None:
            await self._changed()
        self._consumed(source)
        return next(self._inbox.messages)

    async def recv_many(self) -> Batch:
        """All datagrams that arrived together: the fastest way to receive."""
        while (taken := self._inbox.take_batch()) is None:
            await self._changed()
        source, batch = taken
        self._consumed(source)
        return batch

    async def batches(self) -> AsyncIterator[Batch]:
        """``recv_many`` for ever, until the protocol is withdrawn or the node closed."""
        while True:
            try:
                batch = await self.recv_many()
            except RequestError:
                return
            yield batch

    def _consumed(self, source: Arrivals) -> None:
        """Tell the peer, at once if it is much, else when this turn of the loop is over."""
        if source.consumed_bytes - source.announced_bytes >= self._inbox.quarter:
            self._driver.flush_port(source.port)
        elif not self._driver.scheduled:
            self._driver.schedule()

    async def send(self, peer: str, payload: bytes, type: int = 0) -> None:  # noqa: A002
        """Send one datagram; waits for credit, and for a peer that is away.  Raises: SendError."""
        flow = self._flows.get(peer)
        if flow is None or not flow.offer(payload, type):
            await self.send_many(peer, (payload,), type)
        elif flow.port.backlog >= FLUSH_BYTES:
            self._driver.flush_port(flow.port)
        elif not self._driver.scheduled:
            self._driver.schedule()

    async def send_many(
        self,
        peer: str,
        payloads: Sequence[bytes],
        type: int | Sequence[int] = 0,  # noqa: A002
    ) -> None:
        """Send datagrams in order, as credit allows: the fastest way to send. ``type`` is one for
        all or one for each. Waits for a peer that is away.  Raises: SendError.
        """
        flow, outgoing = self._outgoing(peer, payloads, type)
        driver = self._driver
        driver.schedule()
        if not outgoing.done:
            outgoing.token = driver.loop.create_future()
            driver.flush_port(flow.port)
            try:
                await outgoing.token
            finally:
                if not outgoing.done:
                    flow.give_up(outgoing)
        if outgoing.error is not None:
            raise outgoing.error

    def send_nowait(self, peer: str, payload: bytes, type: int = 0) -> None:  # noqa: A002
        """Send one datagram, or raise SendError ``no_credit``."""
        flow = self._registration.flow(peer)
        if not flow.offer(payload, type):
            raise flow.error("no_credit", f"{flow.credit} bytes of credit left")
        self._driver.schedule()

    async def drain(self, peer: str | None = None) -> None:
        """Wait until the peer's application (None: those of all peers that are there or away) has
        consumed everything that was sent.  Raises: SendError ``peer_down``.
        """
        for flow in self._registration.undrained(peer):
            while flow.unconfirmed:
                if flow.down is not None:
                    raise flow.error("peer_down", flow.down)
                await self._driver.changed(self.name)

    async def wait_peer(self, peer: str | None = None) -> Peer:
        """Wait until a peer (None: any) is there."""
        while True:
            if flow := self._registration.present(peer):
                return flow.peer
            await self._changed()

    def events(self) -> Events:
        """Events of this protocol; those of peers that are there come first."""
        return Events(self._driver, self.name)

    async def _changed(self) -> None:
        if self._registration.closed is not None:
            raise self._registration.closed
        await self._driver.changed(self.name)
