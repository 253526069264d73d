"""Files as typed datagrams: the sending and the receiving end.

A file is PATH, then its bytes in CHUNKs, then CLOSE; or ABORT, when it could not be read to its
end. END follows the last one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

from dp2p.cli.demo.tree import TreeError, inside
from dp2p.sdk.blocking import Protocol

PROTOCOL = "demo/files"
PATH, CHUNK, CLOSE, ABORT, END = range(5)
CHUNK_BYTES = 64 << 10
_BATCH_BYTES = 512 << 10

Report = dict[str, dict[str, str]]
Progress = Callable[[int, int], None]
"Takes bytes and files so far."


class Sender:
    """Sends files and hashes what it read."""

    def __init__(self, files: Protocol, peer: str) -> None:
        self._files = files
        self._peer = peer
        self._payloads: list[bytes] = []
        self._types: list[int] = []
        self._waiting = 0
        self.hashes: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}

    def send(self, root: Path, names: list[str]) -> Report:
        """All of them, until the other side has taken the last datagram."""
        for name in names:
            self._file(root, name)
        self._put(END, b"")
        self._flush()
        self._files.drain(self._peer)
        return {"hashes": self.hashes, "failed": self.unreadable}

    def _file(self, root: Path, name: str) -> None:
        digest = blake2b()
        try:
            with (root / name).open("rb") as file:
                self._put(PATH, os.fsencode(name))
                for chunk in _chunks(file):
                    digest.update(chunk)
                    self._put(CHUNK, chunk)
        except OSError as error:
            self.unreadable[name] = error.strerror or str(error)
            self._put(ABORT, b"")
            return
        self._put(CLOSE, b"")
        self.hashes[name] = digest.hexdigest()

    def _put(self, kind: int, payload: bytes) -> None:
        self._payloads.append(payload)
        self._types.append(kind)
        self._waiting += len(payload)
        if self._waiting >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._files.send_many(self._peer, self._payloads, self._types)
        self._payloads, self._types, self._waiting = [], [], 0


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


class Receiver:
    """Writes files below a folder and hashes what came."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: set[Path] = set()
        "Known to be there."
        self._name = ""
        self._digest = blake2b()
        self._file: IO[bytes] | None = None
        self.hashes: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.bytes = self.files = 0

    def receive(self, files: Protocol, progress: Progress) -> Report:
        """Until END has come."""
        for batch in files.batches():
            for kind, payload in zip(batch.types, batch.payloads, strict=True):
                self.take(kind, payload)
            progress(self.bytes, self.files)
            if batch.types[-1] == END:
                break
        files.confirm()
        return {"hashes": self.hashes, "failed": self.refused}

    def take(self, kind: int, payload: bytes) -> None:
        """One datagram."""
        if kind == CHUNK:
            self._digest.update(payload)
            self.bytes += len(payload)
            if self._file is not None:
                self._file.write(payload)
        elif kind == PATH:
            self._open(os.fsdecode(payload))
        elif kind in (CLOSE, ABORT):
            self._close(whole=kind == CLOSE)

    def _open(self, name: str) -> None:
        self._name = name
        self._digest = blake2b()
        try:
            path = inside(self._root, name)
            if path.parent not in self._folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb")
        except (TreeError, OSError) as error:
            self.refused[name] = str(error)

    def _close(self, *, whole: bool) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if whole:
            self.files += 1
            self.hashes[self._name] = self._digest.hexdigest()
