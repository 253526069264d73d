"""A directory tree as the demo moves it: which files, and where they may be written."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dp2p.errors import Dp2pError

SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages"}


class TreeError(Dp2pError):
    """A tree cannot be moved, or a path must not be written."""


@dataclass(slots=True)
class Tree:
    """Regular files below a root, by path relative to it, in order."""

    root: Path
    files: dict[str, int] = field(default_factory=dict)
    "Path and size."
    skipped: int = 0
    "Symbolic links and special files."

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def scan(root: Path, limit: int | None = None) -> Tree:
    """The files below ``root``, as many as fit into ``limit`` bytes.  Raises: TreeError."""
    tree = Tree(root)
    room = limit
    for folder, names, files in os.walk(root, onerror=_refuse):
        names[:] = sorted(name for name in names if name not in SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                tree.skipped += 1
            elif room is None or status.st_size <= room:
                tree.files[os.fspath(path.relative_to(root))] = status.st_size
                room = None if room is None else room - status.st_size
        tree.skipped += sum(Path(folder, name).is_symlink() for name in names)
    if not tree.files:
        raise TreeError(f"{root}: no regular files in it")
    return tree


def _refuse(error: OSError) -> None:
    raise TreeError(f"{error.filename}: {error.strerror}")


def inside(root: Path, name: str) -> Path:
    """Where a file that a peer calls ``name`` is written.

    Raises: TreeError for whatever could leave ``root``.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or name.endswith("/"):
        raise TreeError(f"path {name!r} refused: it must stay below the folder")
    return root.joinpath(*parts)


def compare(sent: dict[str, str], received: dict[str, str]) -> list[str]:
    """What differs between the hashes of both sides, one line for each file; empty: all match."""
    lines = [f"{name}: not received" for name in sent.keys() - received.keys()]
    lines += [f"{name}: received, but never sent" for name in received.keys() - sent.keys()]
    lines += [
        f"{name}: BLAKE2b differs, sent {sent[name][:16]}.., received {received[name][:16]}.."
        for name in sent.keys() & received.keys()
        if sent[name] != received[name]
    ]
    return sorted(lines)
