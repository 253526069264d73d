"""What ``dp2p lookup``, ``table`` and ``crawl`` show and write."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dp2p import ids
from dp2p.cli import crawl as crawl_module
from dp2p.cli import run
from dp2p.cli.lookup import describe
from dp2p.cli.root import cli
from dp2p.cli.status import discovered
from dp2p.cli.table import drawn, listed

OWN = ids.to_text(bytes(32))


def contact(number: int) -> dict[str, Any]:
    text = ids.to_text(bytes([number]).rjust(32, b"\0"))
    return {"node": text, "key": text, "endpoint": f"udp4://192.0.2.{number}:4617"}


def entry(number: int, **changes: Any) -> dict[str, Any]:
    fields = {"known_s": 120.0, "alive_s": 5.0, "checked": True, "failures": 0}
    return {**contact(number), **fields, **changes}


TABLE = {
    "node": OWN,
    "key": OWN,
    "contacts": 3,
    "buckets": [
        {"distance": 255, "replacements": 0, "entries": [entry(1)]},
        {"distance": 256, "replacements": 4, "entries": [entry(2), entry(3, failures=2)]},
        {"distance": 254, "replacements": 0, "entries": []},
    ],
}


def text(shown: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_lookup_says_how_far_each_is_from_the_target() -> None:
    reply = {
        "target": OWN,
        "found": False,
        "contacts": [contact(1), contact(4)],
        "hops": 2,
        "asked": 9,
        "failed": 1,
        "seconds": 0.128,
    }
    lines = describe(reply).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "3"]
    assert lines[-1] == "did not find it: asked 9 nodes, 1 of them in vain, in 2 hops and 0.13 s"
    assert describe({**reply, "contacts": []}).endswith("nobody answered")
    once = describe({**reply, "asked": 1, "hops": 1, "failed": 0}).splitlines()[-1]
    assert once == "did not find it: asked 1 node, 0 of them in vain, in 1 hop and 0.13 s"


def test_status_says_what_discovery_has_counted() -> None:
    found = {
        "contacts": 3,
        "serves": True,
        "discovery": {"requests": 7, "failures": 0},
        "sessions": {"received": 20, "garbage": 1},
        "table": {"entered": 0},
    }
    assert discovered({"discovery": found}).splitlines() == [
        "discovery   contacts 3, serves others",
        "messages    requests 7",
        "sessions    received 20, garbage 1",
        "table       nothing to tell",
    ]
    assert "serves nobody" in discovered({"discovery": {**found, "serves": False}})
    assert discovered({"discovery": None}) == ""


def test_a_table_is_drawn_from_the_farthest_bucket_on() -> None:
    lines = text(drawn(TABLE))
    assert [line.split()[0] for line in lines[1:]] == ["256", "255"]  # empty ones are left out
    assert "██··············" in lines[1]
    assert lines[1].split()[-2:] == ["2", "4"]


def test_each_contact_is_listed() -> None:
    lines = text(listed(TABLE))
    assert len(lines) == 4
    assert "192.0.2.2" in lines[1]
    assert "5s ago" in lines[1]
    assert "2 failures" in lines[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dp2p.cli.client.request", lambda *_: TABLE)


def crawl(*arguments: str) -> int:
    return run(cli, ["crawl", *arguments])


@pytest.mark.usefixtures("asked")
def test_an_interrupted_crawl_writes_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crawl_module, "_walk", interrupted)
    output = tmp_path / "crawl.json"
    assert crawl("--output", str(output)) == 130
    assert "4 nodes, 1 of them answered, 3 contacts" in capsys.readouterr().out
    found = json.loads(output.read_text())
    assert not found["complete"]
    assert found["from"] == OWN
    assert found["edges"] == [[0, 1], [0, 2], [0, 3]]
    assert [path.name for path in tmp_path.iterdir()] == ["crawl.json"]  # whole, or not at all


@pytest.mark.usefixtures("asked")
def test_a_crawl_into_nowhere_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crawl("--output", str(tmp_path / "absent" / "crawl.json")) == 1
    assert "no such directory" in capsys.readouterr().err


def test_a_crawl_needs_somebody_to_begin_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = {**TABLE, "buckets": []}
    monkeypatch.setattr("dp2p.cli.client.request", lambda *_: alone)
    assert crawl("--output", str(tmp_path / "crawl.json")) == 1
    assert "knows nobody" in capsys.readouterr().err
