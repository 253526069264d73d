"""The peer store under a running node: kills, damage, a newer version, and who may read it."""

from __future__ import annotations

import base64
import json
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dp2p import ids
from process.fakes import FakeApp, Waiting
from process.nodes import PATIENCE_S, Node, part, running

KILLS = 5
REQUESTS = 40  # of which a node has answered some when it is killed

Three = tuple[Node, Node, Node]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Three that know each other."""
    a, b, c = (Node(tmp_path_factory.mktemp("other")) for _ in range(3))
    with running(a, b, c):
        a.dial(b.address)
        a.dial(c.address)
        b.dial(c.address)
        yield a, b, c


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """One whose store is in for something."""
    with running(Node(tmp_path)) as (made,):
        yield made


def store(node: Node) -> Path:
    return node.directory / "key.peers.db"


def files(node: Node) -> list[Path]:
    """The database and what lies beside it."""
    return sorted(node.directory.glob("key.peers.db*"))


def rows(path: Path, query: str) -> list[Any]:
    """What another process sees, which is what was committed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def facts(path: Path) -> set[tuple[Any, ...]]:
    """Peers, where they answered, and who introduced whom: what only grows in these tests."""
    queries = (
        "SELECT key FROM peers",
        "SELECT key, endpoint FROM endpoints JOIN peers ON id = peer WHERE last_success > 0",
        "SELECT key, introducer FROM introductions JOIN peers ON id = peer",
    )
    return {row for query in queries for row in rows(path, query)}


def meet(node: Node, other: Node) -> None:
    """Connect them; the other one has more connections."""
    node.dial(other.address)
    for one, peer in ((node, other), (other, node)):
        one.until(lambda one=one, peer=peer: is_open(one, peer), "a link")  # type: ignore[misc]


def is_open(node: Node, peer: Node) -> bool:
    return peer.id in [row["peer"] for row in node.peers() if row["open"]]


def events(node: Node, since: int = 0) -> list[dict[str, Any]]:
    """What its processes logged."""
    return [json.loads(line) for line in node.log()[since:].splitlines()]


# --- kills ---


def ask_much(client: FakeApp, others: Three, draw: random.Random) -> list[int]:
    """Dials and searches in any order; numbers of the requests."""
    choices: list[Callable[[Node], int]] = [
        lambda other: client.ask("dial", address=other.address),
        lambda other: client.ask("dial", address=other.bare),
        lambda other: client.ask("dial", address=f"dp2p://{other.identity.key}"),
        lambda other: client.ask("disconnect", peer=other.id),
        lambda other: client.ask("find", near=other.id, timeout_s=1),
    ]
    return [draw.choice(choices)(draw.choice(others)) for _ in range(REQUESTS)]


def live_on(node: Node, client: FakeApp, others: Three, draw: random.Random) -> None:
    """Until something of this life was committed, and a while longer; in the midst of requests."""
    began, more = last_seen(node), draw.randint(0, 3)
    waiting = Waiting(PATIENCE_S)
    while more >= 0:
        assert waiting.left_ms()
        client.reply(draw.choice(ask_much(client, others, draw)))
        more -= last_seen(node) != began


def last_seen(node: Node) -> Any:
    return rows(store(node), "SELECT MAX(last_seen) FROM peers")


def check_copy(node: Node, directory: Path) -> None:
    """What a kill has left is whole. The files themselves are the node's to recover."""
    directory.mkdir()
    for path in files(node):
        shutil.copy(path, directory)
    with closing(sqlite3.connect(directory / store(node).name)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_kills_at_any_moment(node: Node, others: Three, tmp_path: Path) -> None:
    draw = random.Random(1)
    before: set[tuple[Any, ...]] = set()
    for kill in range(KILLS):
        with closing(FakeApp(node.run_dir)) as client:
            live_on(node, client, others, draw)
            before |= facts(store(node))
            node.end_at_once()
        check_copy(node, tmp_path / f"copy-{kill}")
        assert before <= facts(tmp_path / f"copy-{kill}" / store(node).name)
        node.restart()
        assert node.status()["store"]["replaced"] == 0
        for other in others:
            if (ids.from_text(other.identity.key),) in before:
                assert node.known(other)["node"] == other.id
    assert {(ids.from_text(other.identity.key),) for other in others} <= before
    for other in others:
        meet(node, other)
    node.until(lambda: node.connected(*(other.id for other in others)), "all of them")


# --- damage ---


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 1)


DAMAGES: list[Callable[[Path], None]] = [
    lambda path: overwrite(path, path.stat().st_size // 2, random.Random(1).randbytes(8192)),
    cut,
    lambda path: overwrite(path, 0, b"no database" * 10),
]


def test_a_damaged_store_is_set_aside(node: Node, others: Three) -> None:
    """The node says so in one line, and goes on without it."""
    other = others[0]
    for number, damage in enumerate(DAMAGES, 1):
        meet(node, other)
        node.stop()
        damage(store(node))
        damaged, logged = store(node).read_bytes(), len(node.log())
        node.restart()
        (line,) = (one for one in events(node, logged) if one["logger"] == "dp2p.store")
        assert (line["level"], line["path"]) == ("error", str(store(node)))
        assert "corrupt; it was set aside" in line["event"]
        kept = Path(line["kept"])
        assert kept == store(node).with_name(f"{store(node).name}.corrupt-{number}")
        assert kept.read_bytes() == damaged
        assert node.status()["store"]["replaced"] == 1
        assert node.status()["store"]["peers"] == 0
    assert node.dial(other.bare)["trust"] == "none"
    assert node.known(other)["node"] == other.id
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(node)} == {0o600}


def test_a_store_of_a_newer_version_is_left_alone(node: Node, others: Three) -> None:
    """A node that cannot use it does not start: it would have forgotten its bans."""
    meet(node, others[0])
    node.stop()
    with closing(sqlite3.connect(store(node))) as connection:
        connection.execute("PRAGMA user_version = 99")
    before, logged = store(node).read_bytes(), len(node.log())
    with pytest.raises(AssertionError):
        node.restart()
    assert node.process.wait(PATIENCE_S) == 1
    said = node.log()[logged:].splitlines()
    assert len(said) == 1
    assert str(store(node)) in said[0]
    assert "version 99, written by a newer dp2p" in said[0]
    assert store(node).read_bytes() == before
    assert [path for path in files(node) if path != store(node)] == []


# --- who may read it ---


def forms(secret: bytes) -> list[str]:
    """As it might be written in a log."""
    return [
        secret.hex(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        base64.b32encode(secret).decode().rstrip("=").lower(),
        repr(secret)[2:-1],
        str(list(secret))[1:-1],
    ]


def test_the_store_is_private_and_its_secrets_are_in_no_log(node: Node, others: Three) -> None:
    secrets: set[bytes] = {node.identity.seed}
    for _ in range(3):
        for other in others:
            meet(node, other)
            for one in (node, other):
                secrets |= {x for row in rows(store(one), TICKETS) for x in row}
            part(other, node)
    node.until(lambda: rows(store(node), TICKETS), "tickets that are kept")
    secrets |= {x for row in rows(store(node), TICKETS) for x in row}
    assert len(secrets) > 12
    for one in (node, *others):
        assert {stat.S_IMODE(path.stat().st_mode) for path in files(one)} == {0o600}
        assert len(files(one)) == 3  # the log and its index lie beside it
        log = one.log().lower()
        assert "application attached" in log or "peer connected" in log
        places = [log, repr(one.status()).lower(), repr(one.peers()).lower()]
        places += [repr(one.known(other)).lower() for other in (node, *others) if other is not one]
        for place in places:
            assert not [form for x in secrets for form in forms(x) if form.lower() in place]


TICKETS = "SELECT name, psk FROM tickets"
