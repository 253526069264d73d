"""A session's sockets in one thread that reads them while a call waits."""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import zmq

from dp2p.errors import RequestError
from dp2p.sdk.driver import CONFIRM_LATER_S, Driver
from dp2p.sdk.port import Port
from dp2p.sdk.signals import Replied
from dp2p.sdk.sockets import Reader, Socket
from dp2p.sdk.types import Event

_SLICE_S = 0.5  # longest wait before the heartbeat thread's news are looked at


class BlockingDriver(Driver):
    def __init__(self, run_dir: Path | str | None, endpoint: str | None, name: str | None) -> None:
        super().__init__(run_dir, endpoint, name)
        self.answers: dict[int, Replied | None] = {}
        "Of requests that a call waits for; None: not yet."
        self._poller = zmq.Poller()
        self._readers: dict[Socket, tuple[Reader, Port | None]] = {}
        self._news: deque[Event] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        "A heap of what is to be done and when; in between a number, so that no two are equal."
        self._numbers = count()
        self._confirm_later: dict[Port, float] = {}
        "When a consumed position goes at the latest."
        self.watch(self.control, None)

    def watch(self, socket: Socket, port: Port | None) -> None:
        self._readers[socket] = Reader(socket), port
        self._poller.register(socket, zmq.POLLIN)

    def unwatch(self, socket: Socket) -> None:
        del self._readers[socket]
        self._poller.unregister(socket)

    def on_replied(self, event: Replied) -> None:
        if event.id in self.answers:
            self.answers[event.id] = event

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + delay_s, next(self._numbers), act))

    def confirm_later(self, port: Port) -> None:
        self._confirm_later.setdefault(port, time.monotonic() + CONFIRM_LATER_S)

    def _confirm(self, now: float) -> None:
        for port, due in list(self._confirm_later.items()):
            if not port.consumed:
                del self._confirm_later[port]  # it went with something else
            elif due <= now:
                del self._confirm_later[port]
                self.flush_port(port)

    def expire_later(self) -> None:
        """Nothing to do: every wait looks."""

    def _expire(self, now: float) -> float:
        """Give up peers whose time is over. Returns how long until it is to be done again, 0
        when there is news.
        """
        news = self.session.expire(now)
        self.dispatch(news)
        due = self.session.due
        if news:
            return 0.0
        return math.inf if due is None else due - now

    def tell(self, event: Event) -> None:
        self._news.append(event)

    def wait(self, deadline: float | None) -> None:
        """Send what is to go; then read until something has come, or raise TimeoutError."""
        if self.closed:
            raise RequestError("closed", "the node is closed")
        self.flush()
        now = time.monotonic()
        pause = _SLICE_S if deadline is None else min(_SLICE_S, deadline - now)
        pause = min(pause, self._expire(now))
        if self._later:
            pause = min(pause, self._later[0][0] - now)
        if self._confirm_later:
            self._confirm(now)
            pause = min(pause, CONFIRM_LATER_S)
        ready = self._poller.poll(math.ceil(max(0.0, pause) * 1000))
        for socket, _ in ready:
            self._read(socket)
        if self._news or self._later:
            self._other_news()
        if not ready and deadline is not None and time.monotonic() >= deadline:
            self._confirm(math.inf)  # the application may be about to do something else
            raise TimeoutError

    def catch_up(self) -> None:
        """Read what has come by now, and wait for nothing. Credit bounds how much that is."""
        with suppress(TimeoutError):
            while True:
                self.wait(-math.inf)

    def await_shards(self, deadline: float) -> None:
        """Until every shard knows this application, so that what it registers is on the air even
        while it does something else.
        """
        with suppress(TimeoutError):
            while not all(port.attached for port in self.session.ports.values()):
                self.wait(deadline)

    def _read(self, socket: Socket) -> None:
        """One message: asking a socket whether there is another costs as much as polling all."""
        if socket not in self._readers:
            return  # closed by what came before it
        reader, port = self._readers[socket]
        message = reader.recv()
        if port is None:
            self.dispatch(self.session.receive_control(message))
        else:
            self.dispatch(self.session.receive_data(port, message))

    def _other_news(self) -> None:
        while self._news:
            self.dispatch([self._news.popleft()])
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()

    def close(self) -> None:
        """Close the sockets, after at most a short time for what is to go."""
        if not self.closed:
            self.close_sockets()
            self.context.term()
