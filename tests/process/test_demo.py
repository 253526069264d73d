"""``dp2p demo`` as people run it: real nodes, real applications, a small tree."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MAIN = "from dp2p.cli import main; main()"
PATIENCE_S = 50.0

pytestmark = pytest.mark.timeout(100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tree with what trees have: empty and large files, odd names, links."""
    root = tmp_path / "tree"
    (root / "sub" / "deeper").mkdir(parents=True)
    for number in range(40):
        (root / "sub" / f"small {number}").write_bytes(bytes([number]) * number * 37)
    (root / "sub" / "deeper" / "large").write_bytes(os.urandom(3_000_000))
    (root / "empty").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff")).write_bytes(b"x")
    (root / "link").symlink_to("empty")
    return root


@pytest.fixture
def endless(folder: Path) -> Path:
    """The same with a file that takes minutes: what is done to the demo comes before its end."""
    with (folder / "endless").open("wb") as file:
        file.truncate(64 << 30)  # a hole, which takes no space
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of who runs the tests reaches the nodes."""
    monkeypatch.setenv("DP2P_LIMITS_MAX_PEERS", "0")


def demo(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started_by(pid: int) -> Iterator[int]:
    """Processes that a process has started."""
    for path in Path(f"/proc/{pid}/task/{pid}").glob("children"):
        for child in path.read_text().split():
            yield int(child)
            yield from started_by(int(child))


def ended(pids: list[int]) -> bool:
    """Whether processes end in time; they need not be ours."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], PATIENCE_S)[0]:
                return False
        finally:
            os.close(descriptor)
    return True


@pytest.mark.usefixtures("short")
def test_everything_matches(folder: Path, tmp_path: Path) -> None:
    process = demo(folder, "--keep", tmp_path / "copy")
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output + errors
    assert "43 of 43 moved, all match (BLAKE2b); 1 links" in output
    for label in ("MB/s", "s per GB", "under load"):
        assert label in output
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            copy = tmp_path / "copy" / path.relative_to(folder)
            assert copy.read_bytes() == path.read_bytes()


def test_a_file_that_stands_in_the_way_is_a_failure(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "empty").write_bytes(b"mine")
    process = demo(folder, "--keep", copy)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, output + errors
    assert "empty: not received" in errors
    assert (copy / "empty").read_bytes() == b"mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_what_it_started(endless: Path, number: signal.Signals) -> None:
    process = demo(endless)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(" connected to " in line for line in lines)
    children = list(started_by(process.pid))
    assert len(children) >= 8  # two nodes, each supervisor, coordinator and two shards
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert ended(children)


def test_a_dead_node_is_named_with_its_log(endless: Path) -> None:
    process = demo(endless)
    assert process.stdout is not None
    assert any(" connected to " in line for line in iter(process.stdout.readline, ""))
    nodes = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(nodes[1]), signal.SIGKILL)
    children = list(started_by(process.pid))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "node b ended with exit code -9" in errors
    assert ended(children)
