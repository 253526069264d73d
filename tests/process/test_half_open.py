"""Floods of handshakes that nobody finishes: caps hold, and who is connected does not notice."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dp2p
from dp2p import blocking
from dp2p.errors import RequestError
from process.nodes import PATIENCE_S, Node, connect, part, running, talking

FLOOD = Path(__file__).with_name("flood.py")
TESTS = FLOOD.parents[1]

IN_ALL, OF_NETWORK, OF_ADDRESS = 48, 32, 16
CAPS = {
    "max_handshakes": IN_ALL,
    "max_handshakes_per_network": OF_NETWORK,
    "max_handshakes_per_address": OF_ADDRESS,
    "handshake_deadline_s": 3,
}
STRANGERS = 300
PINGS = 200
GROWTH_MAX = 32 << 20  # bytes; a connection that is not open takes some 10 KiB

ONE = ["127.1.2.3"]
NETWORK = [f"127.2.2.{host}" for host in range(1, 101)]
MANY = [f"127.3.{network}.1" for network in range(1, 101)]

Three = tuple[Node, Node, Node]


class Flood:
    """``flood.py``, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def outcome(self) -> dict[str, int]:
        """Begin nothing new, and wait until the node has hung up on all that is there."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(json.loads(self.hear()))


@contextmanager
def flood(node: Node, sources: list[str]) -> Iterator[Flood]:
    """Strangers that keep coming, until the end of the block."""
    host, port = node.place
    with subprocess.Popen(
        [sys.executable, str(FLOOD), host, str(port), str(STRANGERS), *sources],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    ) as process:
        try:
            started = Flood(process)
            assert started.hear() == "open\n"
            yield started
        finally:
            process.kill()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """One that is flooded, one that is connected to it, and one more."""
    caps = [word for key, value in CAPS.items() for word in ("--set", f"limits.{key}={value}")]
    flooded = Node(tmp_path_factory.mktemp("flooded"), *caps)
    others = [Node(tmp_path_factory.mktemp("other")) for _ in range(2)]
    with running(flooded, *others):
        connect(others[0], flooded)
        yield flooded, others[0], others[1]


Ends = tuple[tuple[Node, blocking.Protocol], tuple[Node, blocking.Protocol]]


def round_trips(ends: Ends, began: int) -> float:
    """Send numbers there and back; the median time that took, in seconds."""
    (here, near), (there, far) = ends
    took = []
    for number in range(began, began + PINGS):
        before = time.perf_counter()
        near.send(there.id, b"%d" % number)
        far.send(here.id, far.recv(PATIENCE_S).payload)
        assert near.recv(PATIENCE_S).payload == b"%d" % number
        took.append(time.perf_counter() - before)
    return statistics.median(took)


def is_connected(node: Node, other: Node) -> bool:
    return other.id in [row["peer"] for row in node.peers() if row["open"]]


def meet_through_the_flood(flooded: Node, third: Node) -> None:
    """A new peer comes by itself. Where strangers have taken all places, somebody gives way; it may
    have to try again when it was the oldest by then.
    """

    def comes() -> bool:
        try:
            return bool(third.dial(flooded.address)["peer"] == flooded.id)
        except RequestError as error:
            if error.code not in ("dial_failed", "timeout"):
                raise
            return False

    third.until(comes, "a way in")
    third.until(lambda: is_connected(third, flooded), "a new peer")
    assert is_connected(flooded, third)
    part(third, flooded)


def turned_away(node: Node) -> int:
    """Connections that were refused, or had to give way, or came to nothing otherwise."""
    return node.stat("links_refused") + node.stat("handshakes_failed")


ROWS: list[Any] = [
    pytest.param(ONE, OF_ADDRESS, id="one address"),
    pytest.param(NETWORK, OF_NETWORK, id="one network"),
    pytest.param(MANY, IN_ALL, id="many networks"),
]


@pytest.mark.parametrize(("sources", "cap"), ROWS)
def test_a_flood(three: Three, sources: list[str], cap: int) -> None:
    flooded, other, third = three
    before_it, shaken = turned_away(flooded), flooded.stat("handshakes_xx")
    asked, before = flooded.status()["trust"]["tickets_missing"], flooded.resident()
    with talking(flooded, other, "pulse") as (near, far):
        ends = (flooded, near), (other, far)
        events = near.events(), far.events()
        calm = round_trips(ends, 0)
        with flood(flooded, sources) as strangers:
            flooded.until(lambda: flooded.stat("handshakes_pending") == cap, "the cap")
            rough = round_trips(ends, PINGS)
            meet_through_the_flood(flooded, third)
            assert flooded.stat("handshakes_pending") <= cap
            assert flooded.resident() - before < GROWTH_MAX
            outcome = strangers.outcome()
        print(f"{outcome}; round trip {calm * 1e6:.0f} us, then {rough * 1e6:.0f} us")
        print(f"that is {rough / calm:.1f} times; {flooded.resident() - before} bytes more")
        assert outcome["left"] == 0
        assert outcome["opened"] > STRANGERS
        assert outcome["answered"] > cap // 2
        flooded.until(lambda: flooded.stat("handshakes_pending") == 0, "nothing left of them")
        assert turned_away(flooded) - before_it > STRANGERS // 2
        assert flooded.stat("handshakes_xx") > shaken
        assert flooded.status()["trust"]["tickets_missing"] > asked
        assert not [one for each in events for one in each.unread if isinstance(one, dp2p.PeerDown)]
        round_trips(ends, 2 * PINGS)
    assert flooded.connected(other.id)
