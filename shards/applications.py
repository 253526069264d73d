"""The shard's data socket: which application is behind which ZeroMQ identity.

A ROUTER drops silently what it cannot route and what exceeds its high-water mark. Here the mark is
off (credit bounds what can be under way), a message without a way is an error that is
counted, and the application behind it is given up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import zmq

from dp2p import records
from dp2p.bus import AppReport
from dp2p.errors import RecordError
from dp2p.logs import Log
from dp2p.records import Kind
from dp2p.transport import Node

MESSAGES_PER_TURN = 64  # taken from applications before the network has its turn again
LINGER_MS = 100
REFUSALS_MAX = 1000  # told to one application, which may not be reading; one is forgiven a second
STRANGERS_MAX = 4096  # identities without a session whose refusals are counted
RECEIVE_MARK = 256  # messages of one application that may wait here; more wait at its end

log = Log("shard.applications")


@dataclass(slots=True)
class Application:
    """One application whose data socket is attached."""

    session: str = field(repr=False)
    "Secret token."
    name: str
    identity: bytes
    sink: int
    refusals: int = 0
    "Records refused, less those forgiven."


@dataclass(slots=True)
class Counters:
    """What went over the data socket."""

    received: int = 0
    sent: int = 0
    unroutable: int = 0
    "Messages for an application that had gone: it was given up."
    blocked: int = 0
    "Sends that would have waited or dropped; stays 0, since the high-water mark is off."
    malformed: int = 0
    refused_attach: int = 0


class Applications:
    """The data socket and who is on it. ``gone`` is told when an application stops answering."""

    def __init__(
        self, context: zmq.Context[Any], node: Node, endpoint: str, gone: Callable[[str], None]
    ) -> None:
        self._node = node
        self._gone = gone
        self._known: dict[str, AppReport] = {}
        self._by_identity: dict[bytes, Application] = {}
        self._by_sink: dict[int, Application] = {}
        self.by_session: dict[str, Application] = {}
        self._strangers: dict[bytes, int] = {}
        "Refused ATTACHes by identity."
        self._kept: dict[int, Any] = {}
        self._token = 0
        self.counters = Counters()
        self._socket = _bind(context, endpoint)
        self._recv = self._socket.recv
        self.waiting = False
        "``receive`` is due: there is more, or a send may have swallowed a message's wake-up."
        self.descriptor = int(self._socket.getsockopt(zmq.FD))

    # --- who may attach ---

    def set_known(self, apps: Iterable[AppReport]) -> bool:
        """The sessions there are, by the coordinator; those that are over are closed.
        True when an attached application went away.
        """
        self._known = {app.session: app for app in apps}
        over = [app for app in self.by_session.values() if app.session not in self._known]
        for app in over:
            self._forget(app)
        return bool(over)

    @property
    def known(self) -> list[AppReport]:
        """The sessions there are."""
        return list(self._known.values())

    def of_sink(self, sink: int) -> Application | None:
        """The application behind a sink."""
        return self._by_sink.get(sink)

    def _attach(self, identity: bytes, message: bytes) -> bool:
        """A first message; True when what is on the air has changed."""
        token = _token_of(message)
        app = self._known.get(token)
        if app is None:
            self._refuse_attach(identity)
            return False
        self._strangers.pop(identity, None)
        if before := self.by_session.get(token):
            self._forget(before)  # its flows must end before it can begin anew
            self._send_error(identity, "unknown_session", "the session was attached; attach again")
            return True
        sink = self._node.sink_open()
        self._add(Application(token, app.name, identity, sink))
        self._node.sink_push(sink, records.encode_json(Kind.ATTACHED, 0, {}))
        log.debug("application attached", name=app.name)
        return True

    def _refuse_attach(self, identity: bytes) -> None:
        """Say so, but not for ever: whoever does not read would pile up what is said to it."""
        self.counters.refused_attach += 1
        times = self._strangers.pop(identity, 0) + 1
        self._strangers[identity] = times
        if len(self._strangers) > STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]
        if times <= REFUSALS_MAX:
            self._send_error(identity, "unknown_session", "this shard knows no such session")

    def _add(self, app: Application) -> None:
        self._by_identity[app.identity] = self._by_sink[app.sink] = app
        self.by_session[app.session] = app

    def _forget(self, app: Application) -> None:
        self._node.sink_close(app.sink)
        del self._by_identity[app.identity], self._by_sink[app.sink]
        del self.by_session[app.session]

    # --- messages ---

    def receive(self) -> bool:
        """Take what applications sent, up to a bound; call it when the descriptor was readable and
        while ``waiting``. True when what is on the air has changed: that must take effect before
        the next message, or a session that ends and begins anew would seem never to have ended.
        """
        for _ in range(MESSAGES_PER_TURN):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self.waiting = False
                return False
            if self._take(self._recv(zmq.NOBLOCK), self._recv(zmq.NOBLOCK, copy=False)):
                self.waiting = True
                return True
        self.waiting = True
        return False

    def _take(self, identity: bytes, frame: zmq.Frame) -> bool:
        self.counters.received += 1
        if frame.more:
            self._skip_rest()
            return False
        app = self._by_identity.get(identity)
        if app is None:
            return self._attach(identity, frame.bytes)
        self._token += 1
        if self._node.ingest(app.sink, self._token, frame):
            self._kept[self._token] = frame
        return False

    def _skip_rest(self) -> None:
        """A message of several frames is none of ours."""
        self.counters.malformed += 1
        while self._recv(zmq.NOBLOCK, copy=False).more:
            continue

    @property
    def holding(self) -> bool:
        """Whether messages are held until their datagrams are sent."""
        return bool(self._kept)

    def release(self) -> None:
        """Let go of messages whose datagrams are all sent."""
        while self._kept and (tokens := self._node.released()):
            for token in tokens:
                self._kept.pop(token, None)

    def deliver(self) -> None:
        """Send what flows have received to their applications."""
        lost: set[int] = set()
        for sink, message in self._node.outputs():
            app = self._by_sink.get(sink)
            if app is not None and not self._send(app.identity, message):
                lost.add(sink)
        for sink in lost:
            self.give_up(self._by_sink[sink])

    def refused(self, app: Application, flow: int, code: str, message: str) -> None:
        """Tell an application of a refused record; give it up when it goes too far."""
        app.refusals += 1
        if app.refusals == 1:
            log.warning("record refused", application=app.name, code=code)
        self.tell(app, Kind.ERROR, flow, {"code": code, "message": message})
        if app.refusals > REFUSALS_MAX:
            self.deliver()
            self._strangers[app.identity] = REFUSALS_MAX
            if app.sink in self._by_sink:  # else it has gone while it was told
                self.give_up(app)

    def forgive(self) -> None:
        """A second has passed."""
        for app in self.by_session.values():
            app.refusals = max(0, app.refusals - 1)

    def give_up(self, app: Application) -> None:
        """Its data socket is gone, or nothing it sends makes sense."""
        log.warning("application given up", name=app.name)
        self._forget(app)
        self._gone(app.session)

    def _send(self, identity: bytes, message: Any) -> bool:
        try:
            self._socket.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            self.counters.blocked += 1
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counters.unroutable += 1
            return False
        self.counters.sent += 1
        self.waiting = True
        return True

    def _send_error(self, identity: bytes, code: str, message: str) -> None:
        body = {"code": code, "message": message}
        self._send(identity, records.encode_json(Kind.ERROR, 0, body))

    def tell(self, app: Application, kind: Kind, flow: int, body: dict[str, Any]) -> None:
        """A JSON record, behind what the flow has received so far."""
        self._node.sink_push(app.sink, records.encode_json(kind, flow, body))

    def close(self) -> None:
        """Close the socket, after what is on its way to the applications."""
        self.deliver()
        self._socket.close(LINGER_MS)


def _bind(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[Any]:
    """A ROUTER at an ipc endpoint that only this user can connect to."""
    socket: zmq.Socket[Any] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, records.MESSAGE_MAX)
    before = os.umask(0o177)
    try:
        socket.bind(endpoint)
    finally:
        os.umask(before)
    return socket


def _token_of(message: bytes) -> str:
    """The session token in an ATTACH message; empty when it is none."""
    try:
        found = list(records.split(message))
    except RecordError:
        return ""
    if len(found) != 1 or found[0].kind != Kind.ATTACH or len(found[0].body) != 16:
        return ""
    return bytes(found[0].body).hex()
