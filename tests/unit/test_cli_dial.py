"""``dp2p dial``: what it takes, and what it says of the connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dp2p import control, ids
from dp2p.cli import client, run
from dp2p.cli.dial import describe
from dp2p.cli.root import cli

KEY = ids.to_text(bytes(31) + b"\1")
NODE = ids.node_id_text(KEY)
PLACE = "tcp4://192.0.2.7:4617"
RESULT: dict[str, Any] = {
    "peer": NODE,
    "key": KEY,
    "endpoint": PLACE,
    "mode": "xx",
    "fell_back": False,
    "trust": "none",
    "introducers": 0,
}
HEAD = f"connected to {NODE} at {PLACE}"

# what is different -> what is said
SAID = [
    ({}, f"{HEAD} (fresh)"),
    ({"mode": "ik", "trust": "introduced"}, f"{HEAD} (by its key)"),
    ({"mode": "resume", "trust": "resumed"}, f"{HEAD} (resumed)"),
    ({"mode": "carrier pigeon"}, f"{HEAD} (carrier pigeon)"),
    (
        {"mode": "resume", "fell_back": True},
        f"{HEAD} (fell back)\nwhat was known of the peer was of no use: trust was removed",
    ),
]


@pytest.mark.parametrize(("different", "said"), SAID)
def test_how_it_was_connected(different: dict[str, Any], said: str) -> None:
    assert describe(RESULT | different) == said


TAKEN = [f"dp2p://{KEY}@a.example:1", f"dp2p://{KEY}", NODE, PLACE, "tcp6://[2001:db8::7]:4617"]


@pytest.mark.parametrize("address", TAKEN)
def test_every_form_of_address_is_passed_on(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[control.AnyRequest, float]] = []

    def request(_run_dir: Path, message: control.AnyRequest, timeout_s: float) -> Any:
        asked.append((message, timeout_s))
        return RESULT

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "request", request)
    assert run(cli, ["dial", address, "--timeout", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == RESULT
    expected = control.Dial(id=1, address=address, timeout_s=3.0)
    assert asked == [(expected, 3.0 + client.TIMEOUT_S)]


@pytest.mark.parametrize("address", [NODE[:-1], f"dp2p://{KEY}x", "tcp4://", "dp2p://@a:1", ""])
def test_what_is_no_address_is_refused_here(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["dial", address]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert f"address '{address}'" in captured.err
