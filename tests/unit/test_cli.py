"""The command line: help for everything, errors in one line, exit codes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dp2p import keys
from dp2p.cli import run
from dp2p.cli.root import COMMANDS, cli
from dp2p.cli.text import age, size, table


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No file, variable or running node of this machine has a say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DP2P_NODE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


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
    (["--config", "none.toml", "status"], 1, "none.toml: cannot be read"),
    (["up"], 1, "dp2p keygen"),
    (["up", "--shards", "x"], 1, "--shards: shards.count is 'x'"),
    (["dial"], 2, "Missing argument"),
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
