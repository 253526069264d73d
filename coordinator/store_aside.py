"""The peer store's files: private to their owner, and set aside when they are damaged."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from dp2p.errors import StoreError

KEPT_MAX = 4
"Databases set aside that are kept; the oldest beyond that are removed."

_SIDES = ("-wal", "-shm")


def prepare_file(path: Path) -> None:
    """Have a file at ``path`` that its owner alone may read; SQLite gives what it puts beside it
    the same mode. For when no connection is open: to close a file lets go of the process's locks
    on it.  Raises: StoreError, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"peer store {path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"peer store {path} belongs to user {status.st_uid}, not to user {os.geteuid()}"
            )
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    for side in _SIDES:
        beside = path.with_name(path.name + side)
        if beside.exists():
            beside.chmod(0o600)


def set_aside(path: Path) -> Path:
    """Rename the database to NAME.corrupt-N, with what lies beside it; returns the new name.

    N is one more than the highest there.  Raises: OSError.
    """
    earlier = _set_aside_before(path)
    kept = path.with_name(f"{path.name}.corrupt-{max(earlier, default=0) + 1}")
    for side in _SIDES:
        beside = path.with_name(path.name + side)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + side))
    path.rename(kept)
    for number in sorted(earlier)[: max(0, len(earlier) + 1 - KEPT_MAX)]:
        for side in ("", *_SIDES):
            path.with_name(f"{path.name}.corrupt-{number}{side}").unlink(missing_ok=True)
    return kept


def _set_aside_before(path: Path) -> list[int]:
    pattern = re.compile(re.escape(path.name) + r"\.corrupt-([0-9]{1,9})\Z")
    found = (pattern.match(one.name) for one in path.parent.iterdir())
    return [int(match[1]) for match in found if match]
