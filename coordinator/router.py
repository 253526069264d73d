"""A ROUTER socket that loses nothing silently.

A ROUTER drops what it cannot route, and drops again at its high-water mark. Here both are errors. A
message without a way is counted and shown by ``dp2p status``; one at the mark waits here, and a
receiver for which too much waits is given up.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.asyncio

from dp2p.coordinator.backlog import Backlogs
from dp2p.logs import Log

SEND_MARK = 16  # messages that ZeroMQ keeps for a receiver; a message may have megabytes
RETRY_S = 0.001, 0.1  # to the next look at who is behind: after some progress, and at most
TURN = 8  # messages read in a row before others have the loop

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
    given_up: int = 0
    "Receivers that did not read what they were sent."
    malformed: int = 0
    "Messages that were not identity and one frame, or could not be read."


class Router:
    """One bound ROUTER. Belongs to one event loop."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        endpoint: str,
        max_message: int,
        backlogs: Backlogs | None = None,
    ) -> None:
        """``backlogs`` bounds what waits for those who do not read; without it nothing does."""
        self.counters = Counters()
        self._backlogs = backlogs
        self._retrying: asyncio.TimerHandle | None = None
        self._given_up: Callable[[bytes], None] = lambda _: None
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, SEND_MARK if backlogs is not None else 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_message)
        self._path = Path(endpoint.removeprefix("ipc://"))
        _bind_private(self._socket, endpoint, self._path)

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Send one frame, now or when its receiver has read what came before; False when nobody
        has this identity any more, or who has it does not read.
        """
        if not self.behind(identity):
            error = self._try(identity, frame)
            if error is None:
                return True
            if error == zmq.EHOSTUNREACH or self._backlogs is None:
                self.counters.unroutable += 1
                return False
        return self._keep(identity, frame)

    def behind(self, identity: bytes) -> bool:
        """Whether something waits for a receiver that has not read what it was sent before."""
        return self._backlogs is not None and identity in self._backlogs

    def _try(self, identity: bytes, frame: bytes) -> int | None:
        """Send at once; else why not: EHOSTUNREACH or EAGAIN."""
        future = self._socket.send_multipart([identity, frame], zmq.DONTWAIT)
        assert isinstance(future, asyncio.Future)
        error = future.exception()  # done at once: it may not wait
        if error is None:
            self.counters.sent += 1
            return None
        if isinstance(error, zmq.ZMQError) and error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
            return int(error.errno)
        raise error

    # --- receivers that are behind ---

    def _keep(self, identity: bytes, frame: bytes) -> bool:
        assert self._backlogs is not None
        over = self._backlogs.add(identity, frame)
        if over is not None:
            self.counters.given_up += 1  # whoever sends may be amid a decision: it is told later
            asyncio.get_running_loop().call_soon(self._given_up, over)
        if self._retrying is None:
            self._retry_in(RETRY_S[0])
        return over != identity

    def _retry_in(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._retrying = loop.call_later(delay_s, self._retry, delay_s)

    def _retry(self, delay_s: float) -> None:
        """A ROUTER does not say for whom it has room again, so this tries."""
        assert self._backlogs is not None
        self._retrying = None
        sent = sum(self._drain(self._backlogs, identity) for identity in self._backlogs.receivers)
        if self._backlogs.receivers:
            self._retry_in(RETRY_S[0] if sent else min(2 * delay_s, RETRY_S[1]))

    def _drain(self, backlogs: Backlogs, identity: bytes) -> int:
        error: int | None = None

        def send(frame: bytes) -> bool:
            nonlocal error
            error = self._try(identity, frame)
            return error is None

        sent = backlogs.drain(identity, send)
        if error == zmq.EHOSTUNREACH:
            self.counters.unroutable += backlogs.forget(identity)
        return sent

    # --- reading ---

    async def serve(
        self,
        handle: Callable[[bytes, bytes], None],
        given_up: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Give each message to ``handle(identity, frame)``, for ever. ``given_up(identity)`` is
        told who did not read: what waited for it is lost.
        """
        self._given_up = given_up
        for turn in itertools.count(1):
            parts = await self._socket.recv_multipart()
            self.counters.received += 1
            if len(parts) == 2:
                _handled(handle, parts)
            else:
                self.counters.malformed += 1
            if turn % TURN == 0:  # what is there is received without waiting
                await asyncio.sleep(0)

    def close(self) -> None:
        """Close the socket and remove its file."""
        if self._retrying is not None:
            self._retrying.cancel()
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _handled(handle: Callable[[bytes, bytes], None], parts: list[bytes]) -> None:
    try:  # one message must not end the coordinator
        handle(parts[0], parts[1])
    except Exception:
        log.exception("message failed")


def _bind_private(socket: zmq.asyncio.Socket, endpoint: str, path: Path) -> None:
    """Bind an ipc socket that only this user can connect to."""
    before = os.umask(0o177)
    try:
        socket.bind(endpoint)
    finally:
        os.umask(before)
    path.chmod(0o600)
