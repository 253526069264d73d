"""A session's sockets on an asyncio event loop.

ZeroMQ's own descriptors are watched rather than polled. They are edge-triggered: reading goes on
until nothing is left, and after every send one looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dp2p.errors import RequestError
from dp2p.sdk.driver import CONFIRM_LATER_S, Driver
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.port import Port
from dp2p.sdk.registration import Registration
from dp2p.sdk.signals import Replied
from dp2p.sdk.sockets import Reader, Socket
from dp2p.sdk.types import Event


class AioDriver(Driver):
    def __init__(self, run_dir: Path | str | None, endpoint: str | None, name: str | None) -> None:
        super().__init__(run_dir, endpoint, name)
        self.loop = asyncio.get_running_loop()
        self.answers: dict[int, asyncio.Future[Any]] = {}
        self.scheduled = False
        "A flush is due in this turn of the loop."
        self._readers: dict[Socket, tuple[Reader, Port | None]] = {}
        self._confirming: set[Port] = set()
        self._expiry: asyncio.Handle | None = None
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        "Who waits for anything to happen to a protocol."
        self.watch(self.control, None)

    def watch(self, socket: Socket, port: Port | None) -> None:
        self._readers[socket] = Reader(socket), port
        self.loop.add_reader(socket.fileno(), self._drain, socket)
        self.schedule()

    def unwatch(self, socket: Socket) -> None:
        if socket in self._readers:
            del self._readers[socket]
            self.loop.remove_reader(socket.fileno())

    def _drain(self, socket: Socket) -> None:
        """Read until nothing is left: ZeroMQ's descriptor tells of the first message only."""
        while socket in self._readers:  # what has been read may say to close it
            reader, port = self._readers[socket]
            if not reader.more():
                if port is not None and (port.urgent or port.ready):
                    self.schedule()
                return
            message = reader.recv()
            if port is None:
                self.dispatch(self.session.receive_control(message))
            else:
                self.dispatch(self.session.receive_data(port, message))

    # --- sending ---

    def schedule(self) -> None:
        """Flush when this turn of the loop is over."""
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self.scheduled = False
        if not self.closed:
            self.flush()

    def sent(self, socket: Socket) -> None:
        """Sending may have swallowed the descriptor's signal that something can be read."""
        if self._readers[socket][0].more():
            self.loop.call_soon(self._drain, socket)

    # --- events ---

    def on_replied(self, event: Replied) -> None:
        future = self.answers.pop(event.id, None)
        if future is not None and not future.done():
            if event.error is not None:
                future.set_exception(event.error)
            else:
                future.set_result(event.ok)
        self.schedule()

    def on_received(self, registration: Registration) -> None:
        self._wake(registration.name)

    def on_progress(self, protocol: str) -> None:
        self._wake(protocol)

    def on_finished(self, outgoing: list[Outgoing]) -> None:
        for call in outgoing:
            if call.token is not None and not call.token.done():
                call.token.set_result(None)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        self.loop.call_later(delay_s, self._act, act)

    def _act(self, act: Callable[[], None]) -> None:
        if not self.closed:
            act()
            self.schedule()

    def confirm_later(self, port: Port) -> None:
        if port not in self._confirming:
            self._confirming.add(port)
            self.loop.call_later(CONFIRM_LATER_S, self._confirm, port)

    def _confirm(self, port: Port) -> None:
        self._confirming.discard(port)
        if port.consumed and not self.closed:
            self.flush_port(port)

    def expire_later(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.loop.call_soon(self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if self.closed:
            return
        self.dispatch(self.session.expire(self.loop.time()))
        if (due := self.session.due) is not None:
            self._expiry = self.loop.call_at(due, self._expire)

    def tell(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed, and the process about to end
            self.loop.call_soon_threadsafe(self._told, event)

    def _told(self, event: Event) -> None:
        if not self.closed:
            self.dispatch([event])
            self.schedule()

    async def changed(self, protocol: str) -> None:
        """Send what is to go; then wait until something happens to the protocol."""
        if self.closed:
            raise RequestError("closed", "the node is closed")
        self.flush()
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting.setdefault(protocol, []).append(future)
        await future

    def _wake(self, protocol: str) -> None:
        for future in self._waiting.pop(protocol, ()):
            if not future.done():
                future.set_result(None)

    async def close(self) -> None:
        """Close the sockets, after at most a short time for what is to go."""
        if not self.closed:
            self.close_sockets()
            for protocol in list(self._waiting):
                self._wake(protocol)
            for log in list(self.logs):
                log.close()
            await self.loop.run_in_executor(None, self.context.term)
