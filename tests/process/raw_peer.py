"""A peer that is the second implementation of docs/spec/wire.md: it can do what no node would."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Iterator

import msgspec

from dp2p import introduction
from dp2p.hello import ControlType
from dp2p.ids import node_id
from dp2p.introduction import Said
from process.nodes import PATIENCE_S, Node
from wire_handshake import Draws, Initiator, Known, Link, Setting, address
from wire_noise import xor


class RawPeer:
    """Dials a node."""

    def __init__(self, node: Node, seed: bytes, known: Known | None = None) -> None:
        """Send message 1; ``known`` is what that relies on."""
        self.stream = self.connect(node)
        draws = Draws(secrets.token_bytes(32), top=True, padding=secrets.token_bytes)
        host, port = node.place
        seen = address(socket.inet_aton(host), port)
        hello = msgspec.json.encode({"instance": secrets.token_hex(8)})
        self.side = Initiator(Setting(seed, draws, seen, hello))
        self.message_1 = self.side.message_1(known)
        self.stream.sendall(self.message_1)

    @staticmethod
    def connect(node: Node) -> socket.socket:
        """A connection on which nothing was said."""
        return socket.create_connection(node.place, PATIENCE_S)

    def shake_hands(self) -> Link:
        """Read message 2 and send message 3. Raises what the second implementation does."""
        begin = read(self.stream, 35)
        rest = read(self.stream, self.side.length(2, begin) - 35)
        self.message_3, self.link = self.side.message_3(begin + rest)
        self.stream.sendall(self.message_3)
        return self.link

    def open(self) -> RawPeer:
        """Exchange empty protocol lists, in the order that the node-IDs give."""
        self.shake_hands()
        chooses = node_id(self.side.key) < node_id(self.link.peer.key)
        if not chooses:
            self.expect(ControlType.PROTOCOLS)
        self.send(ControlType.PROTOCOLS, b'{"generation":1,"protocols":[]}')
        if chooses:
            self.expect(ControlType.PROTOCOLS)
        return self

    def send(self, kind: int, body: bytes) -> None:
        """A control datagram."""
        plain = struct.pack("<BBHH", 1, 255, kind, len(body)) + body
        self.stream.sendall(self.link.tx.frame(plain))

    def say(self, said: Said) -> None:
        """A control datagram about other nodes."""
        self.send(*introduction.encode(said))

    def expect(self, kind: int) -> bytes:
        """The body of the next control datagram of ``kind``; others are passed over."""
        for found, body in self._controls():
            if found == kind:
                return body
        raise AssertionError

    def _controls(self) -> Iterator[tuple[int, bytes]]:
        """Whole control datagrams that are alone in their frames; the node sends no larger ones."""
        while True:
            head = read(self.stream, 2)
            size = int.from_bytes(xor(head, self.link.rx.mask()), "little")
            plain, _ = self.link.rx.plain(head + read(self.stream, size))
            if plain[:2] == b"\x01\xff":
                yield struct.unpack("<H", plain[2:4])[0], plain[6:]

    def close(self) -> None:
        """Hang up."""
        self.stream.close()


def read(stream: socket.socket, length: int) -> bytes:
    """Exactly so many bytes.  Raises: EOFError when the other side has closed."""
    found = b""
    while len(found) < length:
        try:
            more = stream.recv(length - len(found))
        except ConnectionResetError:
            more = b""
        if not more:
            raise EOFError
        found += more
    return found
