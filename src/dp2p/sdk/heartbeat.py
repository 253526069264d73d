"""Heartbeats from a thread of their own, so that a busy application still proves that it lives."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from dp2p import control
from dp2p.sdk.sockets import Socket, open_dealer
from dp2p.sdk.types import CoordinatorBack, CoordinatorLost, Event

MISSED = 3  # heartbeats without an answer after which the coordinator counts as absent
_BELL = "inproc://heartbeat"


@dataclass(frozen=True, slots=True)
class Forgotten(Event):
    """The coordinator does not know this session."""

    session: str


@dataclass(frozen=True, slots=True)
class Overheard(Event):
    """The coordinator sent an event to the heartbeat socket: a message for the control socket's
    reader. It does so when it has met this session by its heartbeats only.
    """

    message: bytes


class Pulse:
    """Beats and their answers, without clock and socket."""

    def __init__(self) -> None:
        self.session = ""
        "Whose beats; whoever owns the session sets it."
        self.subscribed = False
        """Beats are to renew a subscription: a restarted coordinator learns of the session from its
        shards, but not that it wants notices.
        """
        self.traffic_s: float | None = None
        "What the subscription says of traffic."
        self._next_id = 1
        self._sent: dict[int, str] = {}
        self._absent = False

    def beat(self) -> tuple[bytes, list[Event]]:
        """The message that is due, and what its predecessors' silence says."""
        events: list[Event] = []
        if len(self._sent) >= MISSED and not self._absent:
            self._absent = True
            events.append(CoordinatorLost())
        if len(self._sent) > MISSED:
            del self._sent[next(iter(self._sent))]
        self._sent[self._next_id] = self.session
        number, self._next_id = self._next_id, self._next_id + 1
        request: control.Subscribe | control.Heartbeat
        if self.subscribed:
            request = control.Subscribe(id=number, session=self.session, traffic_s=self.traffic_s)
        else:
            request = control.Heartbeat(id=number, session=self.session)
        return msgspec.json.encode(request), events

    def receive(self, message: bytes) -> list[Event]:
        """An answer, or an event that went astray."""
        try:
            reply = msgspec.json.decode(message, type=control.Reply)
        except msgspec.MsgspecError:
            return [Overheard(message)]
        session = self._sent.get(reply.id)
        self._sent.clear()
        events: list[Event] = []
        if self._absent:
            self._absent = False
            events.append(CoordinatorBack())
        if session and reply.error is not None and reply.error.code == "unknown_session":
            events.append(Forgotten(session))
        return events


class Heartbeat:
    """The thread. ``tell`` is called in it with ``CoordinatorLost``, ``CoordinatorBack``,
    ``Forgotten`` and ``Overheard``.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        endpoint: str,
        attached: control.Attached,
        tell: Callable[[Event], None],
    ) -> None:
        self._pulse = Pulse()
        self._pulse.session = attached.session
        self._interval_s = attached.heartbeat_s
        self._tell = tell
        self._dealer = open_dealer(context, endpoint)
        self._dealer.set(zmq.LINGER, 0)
        self._bell = context.socket(zmq.PAIR)
        self._bell.bind(_BELL)
        self._rung = context.socket(zmq.PAIR)
        self._rung.connect(_BELL)
        self._thread = threading.Thread(target=self._run, name="dp2p heartbeat", daemon=True)
        self._thread.start()

    def use(self, attached: control.Attached) -> None:
        """Beat for another session from now on."""
        self._pulse.session = attached.session

    def renew_subscription(self, traffic_s: float | None = None) -> None:
        """Subscribe with each beat from now on."""
        self._pulse.traffic_s = traffic_s
        self._pulse.subscribed = True

    def stop(self) -> None:
        """End the thread and close its sockets."""
        self._bell.send(b"")
        self._thread.join()
        self._bell.close(linger=0)

    # --- below: the thread only ---

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._rung, zmq.POLLIN)
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                due += self._interval_s
                message, events = self._pulse.beat()
                self._dealer.send(message, zmq.NOBLOCK)
                self._tell_all(events)
            ready = dict(poller.poll(math.ceil(max(0.0, due - time.monotonic()) * 1000)))
            if self._rung in ready:
                break
            if self._dealer in ready:
                self._tell_all(self._pulse.receive(self._dealer.recv()))
        self._dealer.close()
        self._rung.close(linger=0)

    def _tell_all(self, events: list[Event]) -> None:
        for event in events:
            self._tell(event)
