"""The key file: private from its first moment, and refused when it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dp2p import ids, keys
from dp2p.errors import KeyFileError


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "key"
    keys.create(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(KeyFileError) as caught:
        keys.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_created_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        made = keys.create(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == ids.to_text(made.seed) + "\n"
    assert keys.load(path) == made
    assert ids.to_text(ids.node_id(made.public)) == made.node


def test_nothing_is_overwritten(key_file: Path) -> None:
    text = key_file.read_text()
    with pytest.raises(KeyFileError, match="exists already"):
        keys.create(key_file)
    assert key_file.read_text() == text


def test_a_link_is_not_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        keys.create(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o666])
def test_open_to_others(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    text = refusal(key_file)
    assert f"{mode:04o}" in text
    assert f"chmod 600 {key_file}" in text


def test_missing(tmp_path: Path) -> None:
    assert "dp2p keygen" in refusal(tmp_path / "key")


def test_a_directory(tmp_path: Path) -> None:
    assert "not a regular file" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_of_another_user(key_file: Path) -> None:
    os.chown(key_file, 65534, -1)
    assert "belongs to user 65534" in refusal(key_file)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    assert "not a regular file" in refusal(tmp_path / "key")


@pytest.mark.parametrize("change", ["", "x", "short\n", "A" * 52 + "\n", "é" * 26 + "\n"])
def test_malformed(key_file: Path, change: str) -> None:
    key_file.write_bytes(change.encode())
    assert "does not hold a key" in refusal(key_file)


def test_no_error_and_no_repr_shows_the_seed(key_file: Path) -> None:
    made = keys.load(key_file)
    seed = ids.to_text(made.seed)
    key_file.write_text(seed[:-1] + "b\n")  # not canonical
    assert seed[:20] not in refusal(key_file)
    key_file.write_text(seed + seed + "\n")
    assert seed[:20] not in refusal(key_file)
    assert repr(made) == f"Identity({made.key})"
    assert seed not in f"{made} {made!r}"
