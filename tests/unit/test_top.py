"""What ``dp2p top`` shows, and the commands for limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import control, ids
from dp2p.cli import client, run, top
from dp2p.cli.root import cli
from dp2p.cli.top_view import render

PEER = "b" * 51 + "q"
LIMIT = {"scope": "node", "name": "", "up": 10_000_000, "down": None}


def flow(peer: str = PEER, **more: Any) -> dict[str, Any]:
    return {
        "peer": peer, "protocol": "chat", "shard": 1, "priority": "urgent", "weight": 16,
        "rate_up": 1000, "rate_down": 0, "queued_bytes": 0, "wait_ms": 0, "waited_max_ms": 0,
        "credit_up": 1 << 20, "unread_bytes": 0, **more,
    }  # fmt: skip


def protocol(name: str = "chat", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "peers": 2, "rate_up": 1000, "rate_down": 0, "limit_up": None,
        "limit_down": 5000, "queued_bytes": 0, "unread_bytes": 0, "up_bytes": 10,
        "down_bytes": 20, **more,
    }  # fmt: skip


def traffic(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rows": list(rows), "left_out": 0, "silent": [], **more}


def status(*rows: dict[str, Any], limits: list[Any] | None = None) -> dict[str, Any]:
    names = ("buffer_bytes", "window_bytes", "peer_window_bytes", "unread_bytes", "queued_bytes")
    return {
        "node": PEER,
        "uptime_s": 61.5,
        "peers": 2,
        "memory": dict.fromkeys(names, 0) | {"buffer_bytes": 1 << 30},
        "limits": limits or [],
        "traffic": list(rows),
    }


def test_all_of_it() -> None:
    shown = render(
        traffic(flow(wait_ms=1500, waited_max_ms=61_000), left_out=3, silent=[0, 2]),
        status(protocol(), limits=[LIMIT]),
    )
    assert shown.splitlines() == [
        "bbbbbbbbbbbb  up 1m01s, peers 2   up 1.00 kB/s   down 0 B/s",
        "queued 0 B, unread 0 B, windows 0 B of 1.07 GB",
        "limits up 10.0 MB, down none",
        "",
        "PROTOCOL  PEERS  UP/s     LIMIT  DOWN/s  LIMIT    QUEUED  UNREAD  SENT  RECEIVED",
        "chat      2      1.00 kB  none   0 B     5.00 kB  0 B     0 B     10 B  20 B",
        "",
        "PEER          PROTOCOL  CLASS      UP/s     DOWN/s  QUEUED  WAIT  WAITED  CREDIT   UNREAD  SHARD",  # noqa: E501
        "bbbbbbbbbbbb  chat      urgent 16  1.00 kB  0 B     0 B     1.5s  1m01s   1.05 MB  0 B     1",  # noqa: E501
        "3 more flows are not shown",
        "no answer in time from shard 0, 2",
    ]


ORDERS = [
    ("rate", ["fast", "long", "late"]),
    ("queue", ["long", "fast", "late"]),
    ("wait", ["late", "fast", "long"]),
]


@pytest.mark.parametrize(("sort", "order"), ORDERS)
def test_sorted(sort: str, order: list[str]) -> None:
    rows = [
        flow("late", wait_ms=9, rate_up=1),
        flow("long", queued_bytes=9, rate_up=2),
        flow("fast", rate_up=3),
    ]
    lines = render(traffic(*rows), status(), sort=sort).splitlines()
    assert [line.split()[0] for line in lines[-3:]] == order


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 40))
def test_it_fits_any_terminal(width: int, height: int, flows: int) -> None:
    shown = render(
        traffic(*(flow() for _ in range(flows)), left_out=1),
        status(protocol()),
        width=width,
        height=height,
    ).splitlines()
    assert len(shown) <= max(2, height)
    assert all(len(line) <= width for line in shown)


def test_nothing_goes_on() -> None:
    assert render(traffic(), status()).endswith("\n\nno flows")


# --- commands ---


class Answers:
    """Stands in the node's place."""

    def __init__(self) -> None:
        self.asked: list[control.AnyRequest] = []
        self.interrupt_at = 0

    def request(self, _run_dir: Path, message: control.AnyRequest, _limit: float = 5.0) -> Any:
        self.asked.append(message)
        if len(self.asked) == self.interrupt_at:
            raise KeyboardInterrupt
        match message:
            case control.Traffic():
                return traffic(flow())
            case control.Status():
                return status(protocol())
            case control.Limits():
                return {"limits": [LIMIT]}
        return LIMIT


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answers:
    answers = Answers()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(client, "request", answers.request)
    monkeypatch.setattr("dp2p.cli.top.time.sleep", lambda _: None)
    return answers


def test_top_in_a_pipe_prints_once(node: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["top", "--sort", "wait", "--peer", f"dp2p://{PEER}"]) == 0
    shown = capsys.readouterr().out
    assert "PROTOCOL" in shown
    assert "\x1b" not in shown
    asked = node.asked[0]
    assert isinstance(asked, control.Traffic)
    assert asked.peer == ids.node_id_text(PEER)


def test_top_for_programs(node: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["top", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["peer"] for one in shown["rows"]] == [PEER]
    assert [one["name"] for one in shown["protocols"]] == ["chat"]


def test_ctrl_c_ends_it_and_gives_the_terminal_back(
    node: Answers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    node.interrupt_at = 7  # in the midst of the third look
    assert run(cli, ["top"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(top.ENTER)
    assert shown.count(top.HOME) == 2
    assert shown.endswith(top.LEAVE)


SET = [
    (["node", "--up", "10MB"], {"scope": "node", "up": 10_000_000}),
    (
        ["protocol", "chat", "--down", "none"],
        {"scope": "protocol", "name": "chat", "down": None},
    ),
    (
        ["peer", PEER, "--up", "2KiB", "--down", "3000"],
        {"scope": "peer", "name": PEER, "up": 2048, "down": 3000},
    ),
]


@pytest.mark.parametrize(("arguments", "asked"), SET)
def test_limits_are_set(
    node: Answers, arguments: list[str], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["limit", *arguments]) == 0
    assert node.asked == [control.Limit(id=1, **asked)]
    assert capsys.readouterr().out.splitlines()[1].split() == ["node", "10.0", "MB", "none"]


WRONG = [
    (["node"], "nothing to change"),
    (["node", "chat", "--up", "10MB"], "a node has no NAME"),
    (["protocol", "--up", "10MB"], "NAME is missing"),
    (["node", "--up", "ten"], "'ten' is not a rate"),
    (["city", "--up", "10MB"], "'city' is not one of"),
]


@pytest.mark.parametrize(("arguments", "why"), WRONG)
def test_limits_that_cannot_be(
    node: Answers, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["limit", *arguments]) == 2
    assert why in capsys.readouterr().err
    assert node.asked == []


def test_limits_are_listed(node: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["limits"]) == 0
    assert "10.0 MB" in capsys.readouterr().out
    assert run(cli, ["limits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [LIMIT]
