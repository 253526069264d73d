"""Talking to the node's coordinator, blocking: all that most commands need is one request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import zmq

from dp2p import control, places
from dp2p.errors import Dp2pError, RequestError

TIMEOUT_S = 5.0
LINGER_MS = 200  # how long what was said last may take to leave


class NodeUnreachableError(Dp2pError):
    """No node answers at this run directory."""


class Conversation:
    """A socket to the coordinator."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def send(self, message: control.AnyRequest) -> None:
        """Send a request; never blocks."""
        self._socket.send(msgspec.json.encode(message), zmq.NOBLOCK)

    def receive(self, timeout_s: float) -> bytes | None:
        """The next message; None when none comes within ``timeout_s``."""
        if not self._socket.poll(int(max(0.0, timeout_s) * 1000) + 1):
            return None
        return self._socket.recv()


@contextmanager
def conversation(run_dir: Path) -> Iterator[Conversation]:
    """Talk to the node while the block runs.  Raises: NodeUnreachableError when there is none."""
    if not (run_dir / places.CONTROL_SOCKET).exists():
        raise NodeUnreachableError(no_node(run_dir))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.connect(places.control_endpoint(run_dir))
        yield Conversation(socket)


def request(run_dir: Path, message: control.AnyRequest, timeout_s: float = TIMEOUT_S) -> Any:
    """Send one request and return the reply's ``ok``.

    Raises: RequestError when the node refuses, NodeUnreachableError when none answers.
    """
    with conversation(run_dir) as node:
        node.send(message)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            frame = node.receive(left)
            if frame is None:
                break
            reply = msgspec.json.decode(frame, type=control.Reply)
            if reply.id == message.id:
                return result(reply)
    raise NodeUnreachableError(f"{no_node(run_dir)} (no answer within {timeout_s:g} s)")


def result(reply: control.Reply) -> Any:
    """The reply's ``ok``.  Raises: RequestError when it is an error."""
    if reply.error is not None:
        body = reply.error
        raise RequestError(body.code, body.message, protocol=body.protocol, peer=body.peer)
    return reply.ok


def no_node(run_dir: Path) -> str:
    """What to tell whoever finds no node there."""
    return (
        f"no node runs at {run_dir}; start one with `dp2p up`, "
        "or say where it runs with --run-dir or DP2P_NODE_RUN_DIR"
    )
