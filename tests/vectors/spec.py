"""docs/spec/wire.md as tests read it, and a node of the extension that they feed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dp2p.errors import TransportError
from dp2p.transport import PRODUCE_MIN, Event, EventKind, Known, LinkState, Node, Place

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "docs" / "spec" / "wire.md").read_text(encoding="utf-8")
HELLO = b'{"instance":"0123456789abcdef"}'
LIST = b'{"generation":1,"protocols":[]}'
REMOTE = {"i": Place("192.0.2.1", 50000), "r": Place("192.0.2.2", 4617)}
"Where the other side sees each."


def blocks(mark: str, text: str = SPEC) -> list[tuple[str, str]]:
    """What stands behind the mark, and the body, of each fenced block with that mark."""
    return re.findall(rf"^```{mark} ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)


def table(heading: str, text: str = SPEC) -> list[list[str]]:
    """Cells of the first table behind a heading, without its head and without backticks."""
    section = text.split(f"\n{heading}\n", 1)[1]
    lines = section[section.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines[2:]]


def section(number: int) -> str:
    """The text of a numbered section, in one line."""
    found = SPEC.split(f"\n## {number}. ", 1)[1].split("\n## ", 1)[0]
    return " ".join(found.split())


def read_vectors(text: str = SPEC) -> dict[str, str]:
    """Name -> value; lines that begin with a space go on with the value before."""
    found: dict[str, str] = {}
    name = ""
    for _, body in blocks("vector", text):
        for line in body.splitlines():
            rest = line
            if not line.startswith(" "):
                name, rest = line.split(maxsplit=1)
                assert name not in found
            found[name] = found.get(name, "") + rest.replace(" ", "")
    return found


VECTORS = read_vectors()


def value(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


class Script:
    """Random bytes that were written down beforehand: each draw takes the next, of its length."""

    def __init__(self, draws: Iterable[bytes]) -> None:
        self.draws = list(draws)

    def __call__(self, length: int) -> bytes:
        drawn = self.draws.pop(0)
        assert len(drawn) == length
        return drawn


class Ours:
    """A node of the extension with one link."""

    def __init__(
        self,
        *,
        initiator: bool,
        seed: bytes,
        draws: Iterable[bytes],
        known: Known | None = None,
        hello: bytes = HELLO,
    ) -> None:
        self.draws = Script(draws)
        self.node = Node(seed, random=self.draws)
        self.node.set_hello(hello)
        remote = REMOTE["r" if initiator else "i"]
        self.link = self.node.link_new(initiator=initiator, now_ms=0, remote=remote, known=known)
        self.tickets: dict[bytes, tuple[bytes, bytes]] = {}
        "Psk and the peer's key by name; each is given out once."

    def say(self) -> bytes:
        return self.node.produce(self.link, 4 * PRODUCE_MIN, 0)

    def hear(self, data: bytes) -> list[Event]:
        """The events that ``data`` makes; it must be taken whole unless it ends the link."""
        rest = bytearray(data)
        events = self.take(rest)
        if events and events[0].kind == EventKind.TICKET:
            psk, key = self.tickets.pop(events[0].data, (None, None))
            self.node.ticket(self.link, psk, key)
            events = self.take(rest)
        assert not rest or self.ended
        return events

    def take(self, data: bytearray) -> list[Event]:
        """The same, but what is not taken stays in ``data``."""
        try:
            used = self.node.receive(self.link, bytearray(data), 0)
            del data[:used]
        except TransportError:
            assert self.ended
        events = self.node.events()
        self.node.events_done()
        return events

    @property
    def ended(self) -> bool:
        try:
            return self.node.link(self.link).state >= LinkState.CLOSING
        except TransportError:
            return True  # and forgotten
