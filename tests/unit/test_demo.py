"""The demo's own logic: which files, where to, what counts as a match."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import pytest

from dp2p.cli.demo import Result, tree
from dp2p.cli.demo.transfer import ABORT, CHUNK, CLOSE, END, PATH, Receiver
from dp2p.cli.demo.tree import TreeError, compare, inside, scan

# sent, received, lines
COMPARED = [
    ({}, {}, []),
    ({"a": "1"}, {"a": "1"}, []),
    ({"a": "1"}, {"a": "2"}, ["a: BLAKE2b differs, sent 1.., received 2.."]),
    ({"a": "1"}, {}, ["a: not received"]),
    ({}, {"a": "1"}, ["a: received, but never sent"]),
    ({"a": "1", "b": "2"}, {"a": "2", "c": "2"}, ["a:", "b:", "c:"]),
]


@pytest.mark.parametrize(("sent", "received", "lines"), COMPARED)
def test_compare(sent: dict[str, str], received: dict[str, str], lines: list[str]) -> None:
    found = compare(sent, received)
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


GOOD: dict[str, object] = {"hashes": {"a": "1"}, "failed": {}, "trouble": None}
# what differs from a good report on either side: all are faults
FAULTY: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({"hashes": {"a": "2"}}, {}, "differs"),
    ({}, {"hashes": {}}, "not received"),
    ({"hashes": {}, "failed": {"a": "Permission denied"}}, {"hashes": {}}, "cannot be read"),
    ({"hashes": {}}, {"hashes": {}}, "never sent"),
    ({}, {"failed": {"../b": "refused"}}, "refused"),
    ({"trouble": "chat: no answer"}, {}, "no answer"),
]


@pytest.mark.parametrize(("sent", "received", "text"), FAULTY)
def test_faults(sent: dict[str, object], received: dict[str, object], text: str) -> None:
    files = tree.Tree(Path(), {"a": 1})
    assert Result(dict(GOOD), dict(GOOD)).faults(files) == []
    (line,) = Result({**GOOD, **sent}, {**GOOD, **received}).faults(files)
    assert text in line


@pytest.mark.parametrize("name", ["a", "a/b", "..a", "a../b", ".hidden", "a b", "\udcff"])
def test_paths_below_the_folder_are_taken(name: str) -> None:
    assert inside(Path("folder"), name) == Path("folder") / name


@pytest.mark.parametrize(
    "name", ["", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "a\0b", "a/"]
)
def test_paths_that_could_leave_it_are_refused(name: str) -> None:
    with pytest.raises(TreeError, match="refused"):
        inside(Path("folder"), name)


def test_scan_takes_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "__pycache__").mkdir()
    for name in ("b", "sub/a", "__pycache__/c"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "folder-link").symlink_to("sub")
    os.mkfifo(tmp_path / "pipe")
    found = scan(tmp_path)
    assert found.files == {"b": 5, "sub/a": 5}
    assert (found.skipped, found.size) == (3, 10)
    assert scan(tmp_path, limit=9).files == {"b": 5}


def test_scan_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="no regular files"):
        scan(tmp_path)
    with pytest.raises(TreeError, match="No such file"):
        scan(tmp_path / "missing")


def test_receiver_writes_and_hashes(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    rows = [(PATH, b"d/f"), (CHUNK, b"one"), (CHUNK, b"two"), (CLOSE, b""), (PATH, b"e")]
    for row in [*rows, (CLOSE, b""), (END, b"")]:
        receiver.take(*row)
    assert (tmp_path / "d/f").read_bytes() == b"onetwo"
    assert receiver.hashes == {
        "d/f": blake2b(b"onetwo").hexdigest(),
        "e": blake2b(b"").hexdigest(),
    }
    assert (receiver.bytes, receiver.files) == (6, 2)


def test_receiver_refuses_to_leave_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path / "target")
    (home / "there").write_bytes(b"old")
    receiver = Receiver(home)
    for name in (b"../target", b"/target", b"link", b"there"):
        for row in [(PATH, name), (CHUNK, b"evil"), (CLOSE, b"")]:
            receiver.take(*row)
    assert list(receiver.refused) == ["../target", "/target", "link", "there"]
    assert receiver.hashes == {}
    assert not (tmp_path / "target").exists()
    assert (home / "there").read_bytes() == b"old"


def test_a_file_that_broke_off_has_no_hash(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    for row in [(PATH, b"a"), (CHUNK, b"x"), (ABORT, b""), (PATH, b"b"), (CLOSE, b"")]:
        receiver.take(*row)
    assert list(receiver.hashes) == ["b"]
