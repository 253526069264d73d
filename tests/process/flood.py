"""``python flood.py HOST PORT COUNT SOURCE...``: strangers that never finish what they begin.

Keeps COUNT connections, from these sources in turn, and says ``open`` once each was tried. What the
node hangs up on is tried again, RATE times a second in all, until a line comes on stdin. Then waits
until the node has hung up on all, and says as JSON what came of them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import selectors
import socket
import sys
from collections.abc import Callable

from dp2p import noise
from dp2p.errors import TransportError
from dp2p.transport import PRODUCE_MIN, TICKET_LEN, Known, Node
from process.fakes import Waiting

RATE = 500
TURN_MS = 20
LAST_S = 60.0  # for the node to hang up on the last of them
CHUNK = 65536


class Stranger:
    """One connection, which sends what there is to send and then nothing."""

    def __init__(self, source: str, place: tuple[str, int], first: bytes) -> None:
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        self.socket.connect(place)
        self.answered = False
        self.say(first)

    def say(self, data: bytes) -> None:
        """The node may have hung up already."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def hear(self) -> bool:
        """Something can be read; False when that is the end."""
        try:
            data = self.socket.recv(CHUNK)
        except OSError:
            return False
        self.answered = self.answered or bool(data)
        self.take(data)
        return bool(data)

    def take(self, data: bytes) -> None:
        """What the node said."""


class Mute(Stranger):
    """Proves a key that nobody has seen before, and says nothing more."""

    def __init__(self, source: str, place: tuple[str, int]) -> None:
        self._node = Node(secrets.token_bytes(32))
        self._node.set_hello(b'{"instance":"%s"}' % secrets.token_hex(8).encode())
        self._link = self._node.link_new(initiator=True, now_ms=0)
        self._heard = bytearray()
        super().__init__(source, place, self._node.produce(self._link, PRODUCE_MIN, 0))

    def take(self, data: bytes) -> None:
        self._heard += data
        with contextlib.suppress(TransportError):
            del self._heard[: self._node.receive(self._link, self._heard, 0)]
            self.say(self._node.produce(self._link, PRODUCE_MIN, 0))


class Asker(Stranger):
    """Names a ticket that nobody has, and goes as soon as that was looked up."""

    def __init__(self, source: str, place: tuple[str, int]) -> None:
        known = Known(stranger_key(), ticket=secrets.token_bytes(TICKET_LEN))
        super().__init__(source, place, first_message(known))

    def take(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


def stranger_key() -> bytes:
    """A public key of nobody."""
    return noise.identity_public(secrets.token_bytes(32))


def first_message(known: Known | None = None) -> bytes:
    """Message 1 of a handshake: XX, or what ``known`` makes of it."""
    node = Node(secrets.token_bytes(32))
    return node.produce(node.link_new(initiator=True, known=known, now_ms=0), PRODUCE_MIN, 0)


KINDS: list[Callable[[str, tuple[str, int]], Stranger]] = [
    lambda source, place: Stranger(source, place, b""),
    lambda source, place: Stranger(source, place, secrets.token_bytes(300)),
    lambda source, place: Stranger(source, place, first_message()[:20]),
    lambda source, place: Stranger(source, place, first_message()),
    lambda source, place: Stranger(source, place, first_message(Known(stranger_key()))),
    Mute,
    Asker,
]


class Flood:
    """All of them."""

    def __init__(self, place: tuple[str, int], count: int, sources: list[str]) -> None:
        self.opened = self.answered = 0
        self._place = place
        self._count = count
        self._turns = zip(itertools.cycle(sources), itertools.cycle(KINDS), strict=True)
        self._selector = selectors.DefaultSelector()

    def __len__(self) -> int:
        return len(self._selector.get_map())

    def open(self, most: int) -> None:
        """Try some that are missing."""
        for _ in range(min(most, self._count - len(self))):
            source, kind = next(self._turns)
            self.opened += 1
            stranger = kind(source, self._place)
            self._selector.register(stranger.socket, selectors.EVENT_READ, stranger)

    def turn(self, milliseconds: int) -> None:
        """Hear what there is to hear."""
        for key, _ in self._selector.select(milliseconds / 1000):
            stranger: Stranger = key.data
            if not stranger.hear():
                self.answered += stranger.answered
                self._selector.unregister(stranger.socket)
                stranger.socket.close()


def main() -> None:
    """Flood until a line comes."""
    host, port, count, *sources = sys.argv[1:]
    flood = Flood((host, int(port)), int(count), sources)
    told = selectors.DefaultSelector()
    told.register(sys.stdin, selectors.EVENT_READ)
    flood.open(int(count))
    print("open", flush=True)
    while not told.select(TURN_MS / 1000):
        flood.turn(0)
        flood.open(RATE * TURN_MS // 1000)
    waiting = Waiting(LAST_S)
    while len(flood) and waiting.left_ms():
        flood.turn(waiting.left_ms())
    outcome = {"opened": flood.opened, "answered": flood.answered, "left": len(flood)}
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
