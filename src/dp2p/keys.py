"""The node's key file: one Ed25519 seed, readable by its owner alone.

The file holds the seed as one line of base32 (52 characters and a newline). Errors name the file
and what is wrong with it, never what it holds.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from dp2p import ids
from dp2p.errors import KeyFileError

SEED_BYTES = 32
_FILE_BYTES = ids.TEXT_CHARACTERS + 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's key pair."""

    seed: bytes = field(repr=False)
    "Secret: never logged, never part of an error."
    public: bytes

    @property
    def key(self) -> str:
        """Public key, base32."""
        return ids.to_text(self.public)

    @property
    def node(self) -> str:
        """Node-ID, base32."""
        return ids.to_text(ids.node_id(self.public))

    def __repr__(self) -> str:
        return f"Identity({self.key})"


def identity(seed: bytes) -> Identity:
    """The key pair that ``seed`` (32 secret bytes) stands for."""
    from dp2p import noise

    return Identity(seed, noise.identity_public(seed))


def create(path: Path) -> Identity:
    """Make a key pair and write it to ``path``, which must not exist.  Raises: KeyFileError."""
    made = identity(os.urandom(SEED_BYTES))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(ids.to_text(made.seed).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"key file {path} exists already; it was left as it is") from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from None
    return made


def load(path: Path) -> Identity:
    """Read a key file.  Raises: KeyFileError when it is missing, malformed or open to others."""
    text = _read(path)
    if len(text) != _FILE_BYTES or not text.endswith(b"\n"):
        raise KeyFileError(
            f"key file {path} does not hold a key: expected one line of {ids.TEXT_CHARACTERS} "
            f"characters, found {len(text)} bytes"
        )
    try:
        seed = ids.from_text(text[:-1].decode("ascii"))
    except ValueError:
        raise KeyFileError(f"key file {path} does not hold a key in base32") from None
    return identity(seed)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(f"no key file at {path}; make one with: dp2p keygen {path}") from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from None
    try:
        _check(path, os.fstat(descriptor))
        return os.read(descriptor, _FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _check(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others could have read or put there."""
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"key file {path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise KeyFileError(
            f"key file {path} belongs to user {status.st_uid}, not to user {os.geteuid()}, "
            "who runs this"
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(
            f"key file {path} has mode {mode:04o}, open to others; "
            f"make it private with: chmod 600 {path}"
        )
