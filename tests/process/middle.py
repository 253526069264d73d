"""Somebody on the way between two nodes: passes bytes on, breaks them, repeats them, or answers in
the other's place with a key of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum, auto

import msgspec

from dp2p.errors import TransportError
from dp2p.hello import Hello, Protocols
from dp2p.transport import PRODUCE_MIN, EventKind, Node, NodeConfig

LOOK_S = 0.02  # between two looks at whether it is over
CHUNK = 65536


class Way(Enum):
    """What becomes of the next connections."""

    PASS = auto()
    "Bytes are passed on as they are."
    BREAK = auto()
    "One bit of what the dialler sends first is flipped, then bytes are passed on."
    ANSWER = auto()
    "The middle answers itself."


class Middle:
    """Listens in a thread of its own until the end of the block."""

    def __init__(self, target: tuple[str, int], network: str = "dp2p") -> None:
        """``target``: who is dialled really."""
        self.way = Way.PASS
        self.flip = 40
        "The byte whose lowest bit is flipped."
        self.firsts: list[bytes] = []
        "What diallers sent first, as it came."
        self.replies: list[bytes] = []
        "What they got first."
        self.node = Node(secrets.token_bytes(32), NodeConfig(network=network))
        self.node.set_hello(msgspec.json.encode(Hello(instance=secrets.token_hex(8))))
        self.met: list[bytes] = []
        "Keys of those that shook hands with the middle itself."
        self._target = target
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK_S)
        self._threads: list[threading.Thread] = []
        self.place: tuple[str, int] = self._listener.getsockname()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"tcp4://{self.place[0]}:{self.place[1]}"

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._start(self._serve, connection)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            if self.way is Way.ANSWER:
                self._answer(connection)
                return
            with socket.create_connection(self._target) as onward:
                self._relay(connection, onward, self.way is Way.BREAK)

    def _relay(self, dialler: socket.socket, answerer: socket.socket, broken: bool) -> None:
        """Both ways until one side closes."""
        heard = {dialler: False, answerer: False}
        while not self._over.is_set():
            for source in select.select([dialler, answerer], [], [], LOOK_S)[0]:
                data = _read(source)
                if not data:
                    return
                if not heard[source]:
                    heard[source] = True
                    (self.firsts if source is dialler else self.replies).append(data)
                    if source is dialler and broken:
                        data = _flipped(data, self.flip)
                with contextlib.suppress(OSError):
                    (answerer if source is dialler else dialler).sendall(data)

    def _answer(self, connection: socket.socket) -> None:
        """Shake hands as a node would, and admit whoever comes."""
        with self._lock:
            link = self.node.link_new(initiator=False, now_ms=_now_ms())
        rest = bytearray()
        while not self._over.is_set():
            if select.select([connection], [], [], LOOK_S)[0]:
                data = _read(connection)
                if not data:
                    return
                rest += data
            with self._lock:
                try:
                    del rest[: self.node.receive(link, rest, _now_ms())]
                    self._handle()
                    out = self.node.produce(link, PRODUCE_MIN, _now_ms())
                except TransportError:
                    return
            if out:
                connection.sendall(out)

    def _handle(self) -> None:
        for event in self.node.events():
            match event.kind:
                case EventKind.TICKET:
                    self.node.ticket(event.link, None, None)
                case EventKind.READY:
                    self.met.append(self.node.link(event.link).key)
                    lists = Protocols(generation=1, protocols=[])
                    self.node.admit(event.link, msgspec.json.encode(lists))
        self.node.events_done()

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        for thread in self._threads:
            thread.join(10.0)
        self._listener.close()

    def start(self) -> Middle:
        """Listen."""
        self._start(self._accept)
        return self


@contextlib.contextmanager
def between(target: tuple[str, int]) -> Iterator[Middle]:
    """A middle before ``target``, until the end of the block."""
    middle = Middle(target).start()
    try:
        yield middle
    finally:
        middle.close()


def _read(source: socket.socket) -> bytes:
    try:
        return source.recv(CHUNK)
    except OSError:
        return b""


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
