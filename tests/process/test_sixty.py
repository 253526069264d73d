"""Sixty nodes on one machine form one network, in which each finds each.

Each is a coordinator process of its own, with its UDP socket on one of several loopback addresses.
They have neither shards nor supervisors: discovery needs none, and 120 processes more would measure
nothing but how long a machine with two cores takes to start them.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dp2p import config, control, keys, launch
from dp2p.addresses import PeerAddress
from dp2p.cli import client
from process.fakes import Waiting
from process.nodes import resident

NODES = 60
HOSTS = [f"127.0.{number}.1" for number in range(6)]
FORKED = Path(__file__).with_name("forked.py")
END_S = 30.0
LOOKUPS_AT_ONCE = 4
START_S = 120.0
FORMED_S = 180.0
"After all have started. How long it took is printed."
FIND_S = 120.0


@dataclass
class Coordinator:
    """One node's coordinator."""

    prepared: launch.Prepared
    log: Path
    pid: int

    @property
    def id(self) -> str:
        return self.prepared.identity.node

    def request(self, message: control.AnyRequest) -> Any:
        return client.request(self.prepared.run_dir, message, 30.0)

    def contacts(self) -> int:
        return int(self.request(control.Status(id=1))["discovery"]["contacts"])

    @property
    def there(self) -> bool:
        return (self.prepared.run_dir / "control.sock").exists()


def prepare(directory: Path, host: str, bootstrap: list[str]) -> launch.Prepared:
    directory.mkdir()
    keys.create(directory / "key")
    settings = {
        "node": {"key_file": str(directory / "key"), "run_dir": str(directory / "run")},
        "store": {"file": str(directory / "peers.db")},
        "listen": {"addresses": [f"tcp4://{host}:0"]},
        "discovery": {"bootstrap": bootstrap},
        "shards": {"count": 1},
    }
    return launch.prepare(msgspec.convert(settings, config.Config))


def prepare_all(directory: Path, held: ExitStack) -> list[launch.Prepared]:
    """The first knows nobody, and the others know it."""
    made: list[launch.Prepared] = []
    bootstrap: list[str] = []
    for number in range(NODES):
        host = HOSTS[number % len(HOSTS)]
        made.append(prepare(directory / str(number), host, bootstrap))
        held.callback(made[-1].close)
        if not bootstrap:
            port = config.listen_endpoints(made[0].settings)[0].port
            bootstrap = [str(PeerAddress(made[0].identity.key, host, port))]
    return made


@contextmanager
def started(directory: Path, prepared: list[launch.Prepared]) -> Iterator[list[Coordinator]]:
    logs = [directory / f"{number}.log" for number in range(len(prepared))]
    arguments = [
        text
        for one, log in zip(prepared, logs, strict=True)
        for text in (str(one.run_dir / config.NODE_FILE), str(log))
    ]
    command = [sys.executable, str(FORKED), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pids = map(int, process.stdout.readline().split())
            yield [Coordinator(*one) for one in zip(prepared, logs, pids, strict=True)]
        finally:
            process.terminate()
            try:
                failed = process.wait(END_S)
            finally:
                process.kill()
        assert failed == 0


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Coordinator]]:
    directory = tmp_path_factory.mktemp("sixty")
    waiting = Waiting(START_S)
    with ExitStack() as held, started(directory, prepare_all(directory, held)) as made:
        until_all(made, lambda one: one.there, waiting)
        print(f"\n{NODES} started in {START_S - waiting.left_ms() / 1000:.1f} s")
        yield made
    for one in made:
        assert "Traceback" not in one.log.read_text(), one.log.read_text()[-4000:]


def until_all(nodes: list[Coordinator], condition: Any, waiting: Waiting) -> None:
    """Wait until the condition holds for each, looking at one after the other."""
    for one in nodes:
        while not condition(one):
            assert waiting.left_ms(), f"waited in vain for {one.log}"
            signal.sigtimedwait([], 0.05)


@pytest.mark.timeout(300)
def test_sixty_nodes_form_a_network_in_which_each_finds_each(sixty: list[Coordinator]) -> None:
    waiting = Waiting(FORMED_S)
    known = math.log2(NODES) * 2  # contacts; all buckets but the farthest hold all there are
    until_all(sixty, lambda one: one.contacts() >= known, waiting)
    print(f"formed in {FORMED_S - waiting.left_ms() / 1000:.1f} s")
    memory = sum(resident(one.pid) for one in sixty) / NODES
    print(f"{memory / 2**20:.0f} MiB of memory each")
    waiting = Waiting(FIND_S)
    wanted = {one.id: [other for other in sixty if other is not one] for one in sixty}
    rounds = []
    while any(wanted.values()):
        assert waiting.left_ms(), {node: [one.id for one in left] for node, left in wanted.items()}
        rounds.append(sum(map(len, wanted.values())))
        wanted = {one.id: missed(one, wanted[one.id]) for one in sixty}
    print(
        f"lookups, and again those that failed: {rounds}, in "
        f"{FIND_S - waiting.left_ms() / 1000:.1f} s"
    )


def missed(one: Coordinator, others: list[Coordinator]) -> list[Coordinator]:
    """Those that one node does not find; on a busy machine, answers come too late now and then."""
    found: dict[int, bool] = {}
    with client.conversation(one.prepared.run_dir) as node:
        for number, other in enumerate(others):
            if number >= LOOKUPS_AT_ONCE:
                take(node, found)
            node.send(control.Lookup(id=number, target=other.id))
        while len(found) < len(others):
            take(node, found)
    return [other for number, other in enumerate(others) if not found[number]]


def take(node: client.Conversation, found: dict[int, bool]) -> None:
    frame = node.receive(30.0)
    assert frame is not None, "no answer"
    reply = msgspec.json.decode(frame, type=control.Reply)
    found[reply.id] = bool(client.result(reply)["found"])
