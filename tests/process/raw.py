"""An application that speaks the API by hand, so that it can do what the SDK never would."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import zmq

from dp2p import records
from dp2p.records import Kind
from process.fakes import FakeApp, Waiting
from process.nodes import PATIENCE_S, Node


class RawApp:
    """One session with one data socket, to the shard that has the link."""

    def __init__(self, node: Node, name: str = "raw") -> None:
        self.control = FakeApp(node.run_dir)
        attached = self.control.call("attach", name=name)
        self.session = self.control.session = attached["session"]
        self.sockets = [self._open(shard["endpoint"]) for shard in attached["shards"]]
        for socket in self.sockets:
            self._attach(socket)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(node,), daemon=True)
        self._heart.start()

    def _open(self, endpoint: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        return socket

    def _attach(self, socket: zmq.Socket[bytes]) -> None:
        """Until the shard has heard of the session."""
        waiting = Waiting(PATIENCE_S)
        while waiting.left_ms():
            socket.send(records.encode_bytes(Kind.ATTACH, 0, bytes.fromhex(self.session)))
            kind, _, _ = self._next(socket, waiting)[0]
            if kind == Kind.ATTACHED:
                return
        raise AssertionError("not attached")

    @staticmethod
    def _next(socket: zmq.Socket[bytes], waiting: Waiting) -> list[tuple[int, int, bytes]]:
        assert socket.poll(waiting.left_ms()), "nothing came from the shard"
        message = socket.recv()
        return [(one.kind, one.flow, bytes(one.body)) for one in records.split(message)]

    def expect(self, kind: Kind, seconds: float = PATIENCE_S) -> tuple[int, Any]:
        """Flow and body of the next record of ``kind`` on any data socket; reads all before it."""
        waiting = Waiting(seconds)
        poller = zmq.Poller()
        for socket in self.sockets:
            poller.register(socket, zmq.POLLIN)
        while ready := poller.poll(waiting.left_ms()):
            for socket, _ in ready:
                for found, flow, body in self._next(socket, waiting):
                    if found == kind:
                        self.sockets.remove(socket)
                        self.sockets.insert(0, socket)
                        return flow, msgspec.json.decode(body) if found in JSON else body
        raise AssertionError(f"no {kind.name} came")

    def _beat(self, node: Node) -> None:
        heart = FakeApp(node.run_dir)
        while not self._over.wait(1.0):
            heart.ask("heartbeat", session=self.session)
        heart.close()

    def send(self, *frames: bytes) -> None:
        """A message on the data socket that something was last expected on."""
        self.sockets[0].send_multipart(frames)

    def close(self) -> None:
        """Detach and go."""
        self._over.set()
        self._heart.join()
        self.control.call("detach", session=self.session)
        for socket in self.sockets:
            socket.close()
        self.control.close()


JSON = (Kind.UP, Kind.DOWN, Kind.ERROR, Kind.ATTACHED)
