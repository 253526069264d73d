"""One request to the node's coordinator, blocking: all that most commands need."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from dp2p import control, places
from dp2p.errors import Dp2pError, RequestError

TIMEOUT_S = 5.0


class NodeUnreachableError(Dp2pError):
    """No node answers at this run directory."""


def request(run_dir: Path, message: control.AnyRequest, timeout_s: float = TIMEOUT_S) -> Any:
    """Send one request and return the reply's ``ok``.

    Raises: RequestError when the node refuses, NodeUnreachableError when none answers.
    """
    endpoint = places.control_endpoint(run_dir)
    if not (run_dir / places.CONTROL_SOCKET).exists():
        raise NodeUnreachableError(_no_node(run_dir))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(msgspec.json.encode(message))
        return _await_reply(socket, message.id, run_dir, timeout_s)


def _await_reply(socket: zmq.Socket[bytes], number: int, run_dir: Path, timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        if not socket.poll(int(left * 1000) + 1):
            break
        reply = msgspec.json.decode(socket.recv(), type=control.Reply)
        if reply.id != number:
            continue
        if reply.error is not None:
            body = reply.error
            raise RequestError(body.code, body.message, protocol=body.protocol, peer=body.peer)
        return reply.ok
    raise NodeUnreachableError(f"{_no_node(run_dir)} (no answer within {timeout_s:g} s)")


def _no_node(run_dir: Path) -> str:
    return (
        f"no node runs at {run_dir}; start one with `dp2p up`, "
        "or say where it runs with --run-dir or DP2P_NODE_RUN_DIR"
    )
