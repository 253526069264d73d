"""Stand-ins for a shard and an application, and the real coordinator as a process of its own.

Everything waits by polling sockets or process descriptors with a deadline; nothing sleeps.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zmq

from dp2p import bus, config, control, keys

PATIENCE_S = 15.0  # for what must come; a loaded machine may need some of it

M = TypeVar("M", bound=bus.Message)


class Waiting:
    """What is left of a span of time."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left_ms(self) -> int:
        return max(0, int((self._end - time.monotonic()) * 1000))


class FakeShard:
    """A DEALER that speaks the fabric as a shard does."""

    def __init__(self, run_dir: Path, index: int = 0, incarnation: str = "one") -> None:
        self.index = index
        self.incarnation = incarnation
        self.links: list[bus.LinkReport] = []
        self.registry = bus.Registry(generation=0, apps=[], protocols=[])
        self.caps = bus.Caps()
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.connect(config.bus_endpoint(str(run_dir)))
        self.data_endpoint = config.shard_endpoint(str(run_dir), index, incarnation)

    def send(self, message: bus.Message) -> None:
        self.socket.send(bus.encode(message))

    def hello(self) -> FakeShard:
        self.send(
            bus.ShardHello(
                shard=self.index,
                incarnation=self.incarnation,
                pid=os.getpid(),
                aead="libsodium",
                data_endpoint=self.data_endpoint,
                listening=["tcp4://127.0.0.1:4617"],
                links=self.links,
                generation=self.registry.generation,
                apps=self.registry.apps,
                protocols=self.registry.protocols,
                caps=self.caps,
            )
        )
        return self

    def heartbeat(self) -> None:
        self.send(bus.ShardHeartbeat(shard=self.index, stats={"links": len(self.links)}))

    def expect(
        self,
        kind: type[M],
        where: Callable[[M], bool] = lambda _: True,
        seconds: float = PATIENCE_S,
    ) -> M:
        """The next message of ``kind`` for which ``where`` holds; others are passed over."""
        waiting = Waiting(seconds)
        while self.socket.poll(waiting.left_ms()):
            message = bus.decode_to_shard(self.socket.recv())
            if isinstance(message, bus.Registry):
                self.registry = message
            if isinstance(message, kind) and where(message):
                return message
        raise AssertionError(f"no {kind.__name__} came")

    def close(self) -> None:
        self.socket.close()


class FakeApp:
    """A DEALER that speaks the control API as an application does."""

    def __init__(self, run_dir: Path) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.connect(config.control_endpoint(str(run_dir)))
        self.session = ""
        self.events: list[dict[str, Any]] = []
        self._number = 0

    def ask(self, op: str, **fields: Any) -> int:
        """Send a request; its number."""
        self._number += 1
        self.socket.send(msgspec.json.encode({"id": self._number, "op": op, **fields}))
        return self._number

    def reply(self, number: int, seconds: float = PATIENCE_S) -> control.Reply:
        """The reply to a request; events that come before it are kept."""
        waiting = Waiting(seconds)
        while self.socket.poll(waiting.left_ms()):
            body = msgspec.json.decode(self.socket.recv())
            if "event" in body:
                self.events.append(body)
            elif body["id"] == number:
                return msgspec.convert(body, control.Reply)
        raise AssertionError(f"no reply to request {number}")

    def call(self, op: str, **fields: Any) -> Any:
        """The ``ok`` of a request that must succeed."""
        reply = self.reply(self.ask(op, **fields))
        assert reply.error is None, reply.error
        return reply.ok

    def refused(self, op: str, **fields: Any) -> control.ErrorBody:
        """The error of a request that must fail."""
        reply = self.reply(self.ask(op, **fields))
        assert reply.error is not None, reply.ok
        return reply.error

    def attach(self, name: str = "app") -> FakeApp:
        self.session = self.call("attach", name=name)["session"]
        return self

    def register(self, name: str, **more: Any) -> Any:
        protocol = {"name": name, "versions": [1], **more}
        return self.call("register", session=self.session, protocol=protocol)

    def heartbeat(self) -> None:
        self.call("heartbeat", session=self.session)

    def event(self, name: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The next event called ``name``; others are passed over."""
        waiting = Waiting(seconds)
        while True:
            while self.events:
                if (event := self.events.pop(0))["event"] == name:
                    return event
            assert self.socket.poll(waiting.left_ms()), f"no event {name}"
            body = msgspec.json.decode(self.socket.recv())
            if "event" in body:
                self.events.append(body)

    def close(self) -> None:
        self.socket.close()


class Coordinator:
    """The real one, in a process of its own."""

    def __init__(self, directory: Path, **sections: Mapping[str, Any]) -> None:
        self.run_dir = directory / "run"
        self.run_dir.mkdir(mode=0o700)
        self.identity = keys.create(directory / "key")
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        own = {"key_file": str(directory / "key"), "run_dir": str(self.run_dir)}
        logging = {"log_level": "debug", "log_format": "json"}
        ours = {"shards": {"count": 1}, "store": {"file": str(directory / "peers.db")}}
        body = {**ours, **sections, "node": own | logging}
        config.write_resolved(msgspec.convert(body, config.Config), self.node_file)

    @property
    def node_file(self) -> Path:
        return self.run_dir / config.NODE_FILE

    def start(self) -> Coordinator:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dp2p.coordinator", "--config", str(self.node_file)],
                stderr=log,
            )
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)


def wait_for_end(pid: int, seconds: float = PATIENCE_S) -> bool:
    """Whether a process, of whatever parent, ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(seconds * 1000))
    finally:
        os.close(descriptor)
