"""A client of a node written from docs/spec/app-api.md alone, with pyzmq and nothing of ours.

It speaks one protocol with one peer, keeps what is not confirmed and sends it again. What it takes
counts as consumed at once.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any

import zmq

ATTACH, ATTACHED, DATA, CONSUMED, CREDIT, UP, DOWN, ERROR, EPOCH = range(1, 10)
HEADER = struct.Struct("<IHHI")
POSITION = struct.Struct("<IQQ")
EPOCH_BODY = struct.Struct("<IQQQ")
TERMS = ("application", "version", "max_datagram", "types")
ATTACH_AGAIN_S = 0.02


def record(kind: int, flow: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 0, flow) + body


def data_record(flow: int, payload: bytes, kind: int = 0) -> bytes:
    """One datagram."""
    size = len(payload)
    columns = struct.pack("<IHH", size, kind, 0)
    return record(DATA, flow, struct.pack("<II", 1, size) + payload + bytes(-size % 4) + columns)


def payloads_of(body: bytes) -> list[bytes]:
    count, size = struct.unpack_from("<II", body)
    lengths = struct.unpack_from(f"<{count}I", body, 8 + size + -size % 4)
    found, at = [], 8
    for length in lengths:
        found.append(body[at : at + length])
        at += length
    return found


class Flow:
    """What UP opened."""

    def __init__(self, socket: zmq.Socket[bytes], number: int, up: dict[str, Any]) -> None:
        self.socket = socket
        self.number = number
        self.up = up
        self.limit = up["window"]
        self.sent = 0
        self.next = 0
        "Index of the first kept datagram that has not gone in this flow."
        self.base = (0, 0)
        self.their_base = (0, 0)
        self.arrived = [0, 0]
        self.told = 0


class Plain:
    """A session; ``turn`` does what there is to do."""

    def __init__(self, run_dir: Path, protocol: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._poller = zmq.Poller()
        self._control = self._open(f"ipc://{run_dir}/control.sock")
        self._shards: dict[str, zmq.Socket[bytes]] = {}
        self._attached: set[zmq.Socket[bytes]] = set()
        self._attach_at: dict[zmq.Socket[bytes], float] = {}
        self._instance = os.urandom(8).hex()
        self._protocol = protocol
        self._session = ""
        self._heartbeat_s = 1.0
        self._beat_at = float("inf")
        self._id = 0
        self._requests: dict[int, str] = {}
        self.flow: Flow | None = None
        self.before: dict[str, Any] | None = None
        "The latest UP."
        self._epoch = int.from_bytes(os.urandom(8))
        self._kept: deque[bytes] = deque()
        self._confirmed = [0, 0]
        self._their_epoch: int | None = None
        self._received = [0, 0]
        self.taken: list[bytes] = []
        self.ups = self.again = self.dropped = 0
        self.errors: list[Any] = []
        self._ask("attach", name="plain", instance=self._instance)

    @property
    def unconfirmed(self) -> int:
        return len(self._kept)

    def send(self, payload: bytes) -> None:
        """Sooner or later."""
        self._kept.append(payload)
        self._pump()

    def turn(self, wait_s: float) -> None:
        """Read what has come, at most after so long, and beat."""
        for socket, _ in self._poller.poll(round(wait_s * 1000)):
            while socket.poll(0):
                if socket is self._control:
                    self._on_control(json.loads(socket.recv()))
                else:
                    self._on_message(socket, socket.recv())
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat_s
            self._ask("heartbeat", session=self._session)
        for socket in [socket for socket, at in self._attach_at.items() if at <= now]:
            self._attach(socket)
        self._tell_consumed()

    def close(self) -> None:
        self._ask("detach", session=self._session)
        self._control.close(linger=1000)
        for socket in self._shards.values():
            socket.close(linger=0)

    # --- control ---

    def _open(self, endpoint: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.connect(endpoint)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _ask(self, op: str, **fields: Any) -> None:
        self._id += 1
        self._requests[self._id] = op
        self._control.send(json.dumps({"op": op, "id": self._id, **fields}).encode())

    def _on_control(self, said: dict[str, Any]) -> None:
        if said.get("event") == "shard_up":
            self._shard_up(said["endpoint"])
        elif said.get("event") == "shard_down":
            self._shard_down(said["endpoint"])
        elif "id" in said:
            op = self._requests.pop(said["id"])
            assert "ok" in said, said
            if op == "attach":
                self._begin(said["ok"])

    def _begin(self, ok: dict[str, Any]) -> None:
        self._session, self._heartbeat_s = ok["session"], ok["heartbeat_s"]
        self._beat_at = 0.0
        for shard in ok["shards"]:
            self._shard_up(shard["endpoint"])
        self._ask(
            "register", session=self._session, protocol={"name": self._protocol, "versions": [1]}
        )

    def _shard_up(self, endpoint: str) -> None:
        if endpoint not in self._shards:
            socket = self._shards[endpoint] = self._open(endpoint)
            self._attach(socket)

    def _shard_down(self, endpoint: str) -> None:
        socket = self._shards.pop(endpoint, None)
        if socket is None:
            return
        if self.flow is not None and self.flow.socket is socket:
            self.flow = None
        self._attach_at.pop(socket, None)
        self._poller.unregister(socket)
        socket.close(linger=0)

    def _attach(self, socket: zmq.Socket[bytes]) -> None:
        self._attach_at.pop(socket, None)
        socket.send(record(ATTACH, 0, bytes.fromhex(self._session)))

    # --- data ---

    def _on_message(self, socket: zmq.Socket[bytes], message: bytes) -> None:
        at = 0
        while at < len(message):
            size, kind, _, number = HEADER.unpack_from(message, at)
            self._on_record(socket, kind, number, message[at + HEADER.size : at + size])
            at += size

    def _on_record(self, socket: zmq.Socket[bytes], kind: int, number: int, body: bytes) -> None:
        if kind == ATTACHED:
            self._attached.add(socket)
        elif kind == UP:
            self._on_up(Flow(socket, number, json.loads(body)))
        elif kind == ERROR:
            self._on_error(socket, json.loads(body))
        elif (flow := self.flow) and flow.socket is socket and flow.number == number:
            if kind == DOWN:
                self.flow = None
            elif kind == EPOCH:
                self._on_epoch(flow, body)
            elif kind == DATA:
                self._on_data(flow, payloads_of(body))
            elif kind == CREDIT:
                self._on_credit(flow, body)

    def _on_error(self, socket: zmq.Socket[bytes], error: dict[str, Any]) -> None:
        if error["code"] == "unknown_session" and socket not in self._attached:
            self._attach_at[socket] = time.monotonic() + ATTACH_AGAIN_S
        elif error["code"] != "unknown_flow":
            self.errors.append(error)

    def _on_up(self, flow: Flow) -> None:
        up, before = flow.up, self.before
        if self.flow is not None and up["since"] < self.flow.up["since"]:
            return
        assert before is None or [up[one] for one in TERMS] == [before[one] for one in TERMS]
        self.flow, self.before = flow, up
        flow.base = self._confirmed[0], self._confirmed[1]
        self.ups += 1
        said = EPOCH_BODY.pack(0, self._epoch, *flow.base)
        flow.socket.send(record(EPOCH, flow.number, said))
        self._pump()

    def _pump(self) -> None:
        flow = self.flow
        while flow is not None and flow.next < len(self._kept):
            payload = self._kept[flow.next]
            if flow.sent + len(payload) + 16 > flow.limit:
                return
            flow.sent += len(payload) + 16
            flow.next += 1
            flow.socket.send(data_record(flow.number, payload))

    def _on_credit(self, flow: Flow, body: bytes) -> None:
        window, datagrams, size = POSITION.unpack(body)
        flow.limit = size + window
        while self._confirmed[0] < flow.base[0] + datagrams:
            cost = len(self._kept.popleft()) + 16
            self._confirmed = [self._confirmed[0] + 1, self._confirmed[1] + cost]
            flow.next -= 1
        assert self._confirmed[1] == flow.base[1] + size
        self._pump()

    def _on_epoch(self, flow: Flow, body: bytes) -> None:
        _, epoch, datagrams, size = EPOCH_BODY.unpack(body)
        flow.their_base = datagrams, size
        if epoch != self._their_epoch:
            self._their_epoch, self._received = epoch, [datagrams, size]
        assert datagrams <= self._received[0], "a gap"

    def _on_data(self, flow: Flow, payloads: list[bytes]) -> None:
        for payload in payloads:
            flow.arrived = [flow.arrived[0] + 1, flow.arrived[1] + len(payload) + 16]
            if flow.their_base[0] + flow.arrived[0] <= self._received[0]:
                self.dropped += 1
                continue
            self.taken.append(payload)
            self._received = [sum(pair) for pair in zip(flow.their_base, flow.arrived, strict=True)]

    def _tell_consumed(self) -> None:
        flow = self.flow
        if flow is not None and flow.arrived[0] > flow.told:
            flow.told = flow.arrived[0]
            flow.socket.send(record(CONSUMED, flow.number, POSITION.pack(0, *flow.arrived)))
