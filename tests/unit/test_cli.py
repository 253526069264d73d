"""The command line: help for everything, errors in one line, exit codes, what is shown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from dp2p import control, ids, keys, node_record
from dp2p.cli import client, known, run
from dp2p.cli.root import COMMANDS, cli
from dp2p.cli.text import age, size, table

SEED = bytes(range(32))
RECORD = node_record.sign(
    SEED, seq=7, endpoints=["tcp4://a.example:1", "tcp6://[::1]:2"], protocols=["chat", "files"]
)
TEXT = node_record.to_text(RECORD.signed)
FORGED = node_record.to_text(bytes(64) + RECORD.signed[64:])
KEY = ids.to_text(RECORD.key)
NODE = ids.node_id_text(KEY)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No file, variable or running node of this machine has a say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DP2P_NODE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


class Answers:
    """Stands in the node's place: what it is asked, and what it says."""

    def __init__(self) -> None:
        self.ok: Any = {}
        self.asked: list[control.AnyRequest] = []

    def request(
        self, _run_dir: Path, message: control.AnyRequest, _timeout_s: float = client.TIMEOUT_S
    ) -> Any:
        self.asked.append(message)
        return self.ok


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    monkeypatch.setattr(client, "request", answers.request)
    return answers


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that succeeds."""
    assert run(cli, list(arguments)) == 0
    return capsys.readouterr().out


def commands() -> list[str]:
    return [name for name in COMMANDS if cli.get_command(click.Context(cli), name) is not None]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in commands())


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"dp2p {name}" in text


def test_keygen_writes_the_default_key_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["keygen"]) == 0
    made = keys.load(home / ".config" / "dp2p" / "key")
    text = capsys.readouterr().out
    assert made.key in text
    assert made.node in text
    assert (home / ".config" / "dp2p" / "key").read_text().strip() not in text
    assert run(cli, ["keygen"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


ERRORS = [  # arguments, exit code, what stderr says
    (["status"], 1, "no node runs at"),
    (["peers"], 1, "start one with `dp2p up`"),
    (["dial", "tcp4://127.0.0.1:1"], 1, "no node runs at"),
    (["dial", "nonsense"], 1, "address 'nonsense'"),
    (["id"], 1, "dp2p keygen"),
    (["id", "none.key"], 1, "no key file at none.key"),
    (["record"], 1, "no node runs at"),
    (["record", "nonsense"], 1, "expected dp2p-record:"),
    (["record", FORGED], 1, "signature: not made by its key"),
    (["record", TEXT[:-4]], 1, "node record: body"),
    (["known", KEY], 1, "no node runs at"),
    (["known", "tcp4://a:1"], 1, "names no peer"),
    (["known", "nonsense"], 1, "address 'nonsense'"),
    (["find"], 1, "no node runs at"),
    (["find", "--near", "tcp4://a:1"], 1, "names no peer"),
    (["events"], 1, "no node runs at"),
    (["--config", "none.toml", "status"], 1, "none.toml: cannot be read"),
    (["up"], 1, "dp2p keygen"),
    (["up", "--shards", "x"], 1, "--shards: shards.count is 'x'"),
    (["dial"], 2, "Missing argument"),
    (["known"], 2, "Missing argument"),
    (["find", "--limit", "0"], 2, "1<=x<=256"),
    (["no-such-command"], 2, "No such command"),
    (["status", "--no-such-option"], 2, "No such option"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), ERRORS)
def test_errors(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, arguments) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert code == 2 or captured.err.count("\n") == 1


# --- who this node is ---


@pytest.fixture
def key_file(home: Path) -> keys.Identity:
    return keys.create(home / ".config" / "dp2p" / "key")


ADDRESSES = [  # [listen] of the configuration, what others can dial
    ("", []),
    ("addresses = []", []),
    ("addresses = ['tcp4://0.0.0.0:1', 'tcp6://[::]:1', 'tcp4://127.0.0.1:0']", []),
    ("addresses = ['tcp4://192.0.2.7', 'tcp6://[::1]:1']", ["192.0.2.7:4617", "[::1]:1"]),
    ("advertise = ['tcp4://Node.example', 'tcp4://b:2']", ["node.example:4617", "b:2"]),
]


@pytest.mark.parametrize(("listen", "places"), ADDRESSES)
def test_id_tells_key_node_and_addresses(
    listen: str,
    places: list[str],
    home: Path,
    key_file: keys.Identity,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / "dp2p.toml").write_text(f"[listen]\n{listen}\n")
    addresses = [f"dp2p://{key_file.key}@{place}" for place in places]
    said = json.loads(printed(capsys, "id", "--json"))
    assert said == {"key": key_file.key, "node": key_file.node, "addresses": addresses}
    lines = printed(capsys, "id").splitlines()
    assert lines[:2] == [f"key      {key_file.key}", f"node-ID  {key_file.node}"]
    without = [f"dp2p://{key_file.key}, without a place: set listen.advertise"]
    assert lines[2:] == [f"address  {each}" for each in addresses or without]


def test_id_of_another_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = keys.create(home / "alice.key")
    text = printed(capsys, "id", "alice.key")
    assert other.key in text
    assert (home / "alice.key").read_text().strip() not in text


# --- records ---


def test_a_record_is_verified_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        f"key        {KEY}",
        f"node-ID    {NODE}",
        "number     7",
        "endpoint   tcp4://a.example:1",
        "endpoint   tcp6://[::1]:2",
        "protocols  chat, files",
        f"size       {len(RECORD.signed)} bytes, signature verified",
    ]
    assert printed(capsys, "record", TEXT).splitlines() == lines
    said = json.loads(printed(capsys, "record", "--json", TEXT))
    assert said == {
        "key": KEY,
        "node": NODE,
        "seq": 7,
        "endpoints": list(RECORD.endpoints),
        "protocols": ["chat", "files"],
        "more": False,
        "text": TEXT,
    }


def test_a_record_with_little_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number:02}" for number in range(65)]
    for protocols, shown in ([], "none"), (names, ", ".join(names[:64]) + ", and others"):
        made = node_record.sign(SEED, seq=1, endpoints=[], protocols=protocols)
        lines = printed(capsys, "record", node_record.to_text(made.signed)).splitlines()
        assert lines[3:5] == ["endpoint   none", f"protocols  {shown}"]


def test_a_record_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f" {TEXT}\n".encode())))
    assert KEY in printed(capsys, "record", "-")
    for garbage in (b"", b"\xff" * 100, TEXT.encode() * 2, TEXT.encode() + b"\nx"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(garbage)))
        assert run(cli, ["record", "-"]) == 1
        assert capsys.readouterr().err.startswith("dp2p: node record: text: ")


def test_the_nodes_own_record(node: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    node.ok = {"record": TEXT}
    assert printed(capsys, "record").endswith(f"\n\n{TEXT}\n")
    assert json.loads(printed(capsys, "record", "--json"))["text"] == TEXT
    assert all(isinstance(each, control.Status) for each in node.asked)
    for nothing in ({}, {"record": None}):
        node.ok = nothing
        assert run(cli, ["record"]) == 1
        assert "has no record yet" in capsys.readouterr().err


# --- what is remembered and found ---

KNOWN: dict[str, Any] = {
    "key": KEY,
    "node": NODE,
    "record": TEXT,
    "first_seen": 1000.0,
    "last_seen": 4600.0,
    "endpoints": [
        {
            "endpoint": "tcp4://192.0.2.7:4617",
            "last_success": 4600.0,
            "last_failure": None,
            "failures": 0,
        }
    ],
    "introducers": 1,
    "introductions": [
        {"key": NODE, "network": "192.0.2.0/24", "at": 4000.0, "wrong": False},
        {"key": KEY, "network": "198.51.100.0/24", "at": 4540.0, "wrong": True},
    ],
    "tickets": {"dial": 1, "accept": 2},
    "connected": True,
    "trust": "introduced",
}


def test_known_says_all_that_is_remembered() -> None:
    peer, record, endpoints, introductions = known.describe(KNOWN, now=4610.0).split("\n\n")
    assert peer.splitlines() == [
        f"key         {KEY}",
        f"node-ID     {NODE}",
        "connected   yes",
        "trust       introduced",
        "introduced  by 1 independent peer",
        "tickets     1 to dial it, 2 for its dials",
        "first seen  1h00m ago",
        "last seen   10s ago",
    ]
    assert record.splitlines() == ["record      number 7, protocols chat, files", TEXT]
    assert endpoints.splitlines() == [
        "ENDPOINT               LAST SUCCESS  LAST FAILURE  FAILURES SINCE",
        "tcp4://192.0.2.7:4617  10s ago       never         0",
    ]
    assert introductions.splitlines() == [
        f"{'INTRODUCED BY':52}  NETWORK          WHEN",
        f"{NODE}  192.0.2.0/24     10m10s ago",
        f"{KEY}  198.51.100.0/24  1m10s ago   wrong",
    ]


def test_known_of_a_peer_of_which_there_is_little() -> None:
    little = KNOWN | {"record": None, "endpoints": [], "introductions": [], "introducers": 0}
    text = known.describe(little | {"connected": False, "trust": None}, now=0.0)
    assert "\n\n" not in text
    assert "connected   no\ntrust       none\nintroduced  by 0 independent peers\n" in text
    assert "last seen   0s ago" in text


WAYS = [NODE, f"dp2p://{KEY}", f"dp2p://{KEY}@a:1"]


@pytest.mark.parametrize("given", WAYS)
def test_known_takes_every_name_of_a_peer(
    given: str, node: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    node.ok = KNOWN
    assert json.loads(printed(capsys, "known", given, "--json")) == KNOWN
    assert node.asked == [control.Known(id=1, peer=NODE)]


def test_find_asks_for_what_was_wanted(node: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    node.ok = {"records": [], "asked": 0}
    assert printed(capsys, "find") == "no peer is connected that could be asked\n"
    near = ("--near", f"dp2p://{KEY}", "--limit", "3", "--timeout", "1", "--protocol", "chat")
    assert json.loads(printed(capsys, "find", *near, "--json")) == node.ok
    assert node.asked == [
        control.Find(id=1, limit=16, timeout_s=5.0),
        control.Find(id=1, protocol="chat", near=NODE, limit=3, timeout_s=1.0),
    ]


def test_find_shows_whom_peers_introduced(
    node: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"key": KEY, "node": NODE, "seq": 7, "endpoints": ["tcp4://a:1", "tcp4://b:1"]}
    node.ok = {"records": [], "asked": 1}
    assert printed(capsys, "find") == "asked 1 peer: no introductions\n"
    node.ok = {"records": [row | {"protocols": [], "text": TEXT}], "asked": 2}
    assert printed(capsys, "find").splitlines() == [
        f"{'PEER':52}  ENDPOINTS               PROTOCOLS  NUMBER",
        f"{NODE}  tcp4://a:1, tcp4://b:1  none       7",
        "",
        "asked 2 peers",
    ]


# --- peers and status ---


PEER: dict[str, Any] = {
    "peer": NODE,
    "direction": "out",
    "open": True,
    "endpoint": "tcp4://192.0.2.7:1",
    "mode": "ik",
    "fell_back": False,
    "trust": "introduced",
    "introducers": 2,
    "shard": 0,
    "age_s": 61,
    "key": KEY,
    "warnings": [],
}


def test_peers_shows_how_and_how_well_they_are_known(
    node: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    node.ok = {"peers": [PEER, PEER | {"fell_back": True, "trust": "none", "introducers": 0}]}
    wide = (52, 9, 18, 13, 10, 11, 5)
    rows = [
        ("PEER", "DIRECTION", "ENDPOINT", "MODE", "TRUST", "INTRODUCERS", "SHARD", "AGE"),
        (NODE, "out", "tcp4://192.0.2.7:1", "ik", "introduced", "2", "0", "1m01s"),
        (NODE, "out", "tcp4://192.0.2.7:1", "ik, fell back", "none", "0", "0", "1m01s"),
    ]
    assert printed(capsys, "peers").splitlines() == [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, (*wide, 5), strict=True)).rstrip()
        for cells in rows
    ]


def test_peers_warns_of_who_may_be_in_the_middle(
    node: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = {"endpoint": "tcp4://a:1", "other": "k2", "reporter": "k3", "evidence": "dialled"}
    warnings = [warning, warning | {"reporter": None, "evidence": "record"}]
    node.ok = {"peers": [PEER, PEER | {"warnings": warnings}]}
    assert printed(capsys, "peers").split("\n", 3)[3] == (
        f"\nman in the middle? at tcp4://a:1: met {KEY}, but k3 knows k2 there (dialled)\n"
        f"man in the middle? at tcp4://a:1: met {KEY}, but this node knows k2 there (record)\n"
    )


STATUS: dict[str, Any] = {
    "node": NODE,
    "key": KEY,
    "network": "dp2p",
    "version": "0",
    "uptime_s": 1,
    "settled": True,
    "listen": [],
    "configured_shards": 0,
    "shards": [],
    "apps": [],
    "protocols": [],
    "peers": 0,
    "max_peers": 1,
    "processes": [],
}


def test_status_counts_handshakes_trust_and_what_is_remembered(
    node: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    node.ok = STATUS
    assert "handshakes" not in printed(capsys, "status")
    handshakes = {"handshakes_xx": 3, "handshakes_ik": 0, "fallbacks": 1}
    trust = handshakes | {"tickets_made": 2, "unasked": 0}
    node.ok = STATUS | {"trust": trust, "store": {"peers": 5, "bans": 0}}
    assert (
        "\n\nhandshakes  xx 3, ik 0, fallbacks 1\n"
        "trust       tickets made 2\n"
        "store       peers 5\n\n"
    ) in printed(capsys, "status")
    node.ok = STATUS | {"trust": {"handshakes_xx": 0, "unasked": 0}, "store": {"peers": 0}}
    nothing = "handshakes  xx 0\ntrust       nothing to tell\nstore       empty\n"
    assert nothing in printed(capsys, "status")


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def waits() -> None:
        raise KeyboardInterrupt

    assert run(waits, []) == 130
    assert "Traceback" not in capsys.readouterr().err


AGES = [
    (0, "0s"),
    (59.9, "59s"),
    (60, "1m00s"),
    (3599, "59m59s"),
    (3600, "1h00m"),
    (90000, "1d01h"),
]


@pytest.mark.parametrize(("seconds", "text"), AGES)
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text


SIZES = [(1, "1 B"), (1024, "1 KiB"), (1025, "1025 B"), (3 << 20, "3 MiB"), (1 << 30, "1 GiB")]


@pytest.mark.parametrize(("count", "text"), SIZES)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_table_has_straight_columns() -> None:
    assert table(("A", "LONG"), [("wide", "x"), ("y", "z")]) == "A     LONG\nwide  x\ny     z"
