"""The shard's end of the fabric: a DEALER to the coordinator that never waits."""

from __future__ import annotations

from typing import Any

import zmq

from dp2p import bus
from dp2p.logs import Log

MESSAGES_PER_TURN = 64
QUEUE_MAX = 100_000  # messages for a coordinator that is busy; an absent one gets none

log = Log("shard.fabric")


class Fabric:
    """Messages to and from the coordinator.

    While there is no coordinator nothing is queued: what it missed it learns from the next hello.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE_MAX)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.connect(endpoint)
        self.descriptor = int(self._socket.getsockopt(zmq.FD))
        self.waiting = False
        "``receive`` is due: there is more, or a send may have swallowed a message's wake-up."
        self.unsent = 0
        "Messages that found no coordinator."

    def send(self, message: bus.FromShard) -> None:
        """Send, or count what cannot be sent."""
        try:
            self._socket.send(bus.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self.unsent += 1
        self.waiting = True

    def receive(self) -> list[bus.ToShard]:
        """What the coordinator said, up to a bound; call it when the descriptor was readable and
        while ``waiting``.
        """
        messages: list[bus.ToShard] = []
        while len(messages) < MESSAGES_PER_TURN:
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self.waiting = False
                return messages
            try:
                messages.append(bus.decode_to_shard(self._socket.recv(zmq.NOBLOCK)))
            except bus.BusError as error:
                log.error("message refused", why=str(error))
        self.waiting = True
        return messages

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
