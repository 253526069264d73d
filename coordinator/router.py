"""A ROUTER socket that loses nothing silently.

A ROUTER drops what it cannot route, and drops again at its high-water mark. So the mark is off,
and a message without a way is an error here, which is counted and shown by ``dp2p status``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.asyncio

from dp2p.logs import Log

log = Log("coordinator.router")


def new_context() -> zmq.asyncio.Context:
    """What the sockets of one coordinator share."""
    return zmq.asyncio.Context()


@dataclass(slots=True)
class Counters:
    """What went over one socket."""

    received: int = 0
    sent: int = 0
    unroutable: int = 0
    "Sends to somebody who has gone."
    malformed: int = 0
    "Messages that were not identity and one frame, or could not be read."


class Router:
    """One bound ROUTER. Belongs to one event loop."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: str, max_message: int) -> None:
        self.counters = Counters()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_message)
        self._path = Path(endpoint.removeprefix("ipc://"))
        _bind_private(self._socket, endpoint, self._path)

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Send one frame; False when nobody has this identity any more."""
        future = self._socket.send_multipart([identity, frame], zmq.DONTWAIT)
        assert isinstance(future, asyncio.Future)
        error = future.exception()  # done at once: the high-water mark is off
        if error is None:
            self.counters.sent += 1
            return True
        if isinstance(error, zmq.ZMQError) and error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
            self.counters.unroutable += 1
            return False
        raise error

    async def serve(self, handle: Callable[[bytes, bytes], None]) -> None:
        """Give each message to ``handle(identity, frame)``, for ever."""
        while True:
            parts = await self._socket.recv_multipart()
            self.counters.received += 1
            if len(parts) != 2:
                self.counters.malformed += 1
                continue
            try:  # one message must not end the coordinator
                handle(parts[0], parts[1])
            except Exception:
                log.exception("message failed")

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _bind_private(socket: zmq.asyncio.Socket, endpoint: str, path: Path) -> None:
    """Bind an ipc socket that only this user can connect to."""
    before = os.umask(0o177)
    try:
        socket.bind(endpoint)
    finally:
        os.umask(before)
    path.chmod(0o600)
