"""Global options, and the configuration that they, the environment and the file make together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dp2p import config_load
from dp2p.config import Config
from dp2p.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Globals:
    """What was given before the command."""

    file: Path | None
    run_dir: str | None

    def load(self, flags: dict[str, tuple[str, Any]] | None = None) -> Config:
        """The configuration; ``flags`` maps a key to the flag's name and its value."""
        given = dict(flags or {})
        if self.run_dir is not None:
            given["node.run_dir"] = ("--run-dir", self.run_dir)
        return config_load.load(self.file, flags=given)


def given_flags(
    assignments: tuple[str, ...], **flags: tuple[str, str, Any]
) -> dict[str, tuple[str, Any]]:
    """Flags that were given, for ``Globals.load``.

    ``assignments`` are those of ``--set``; the others are name of the flag, key and value, of which
    None and () mean that the flag was not given.  Raises: ConfigError.
    """
    given: dict[str, tuple[str, Any]] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set {text}: expected KEY=VALUE, as in limits.max_peers=64")
        given[key.strip()] = (f"--set {key.strip()}", value.strip())
    for flag, key, value in flags.values():
        if value is not None and value != ():
            given[key] = (flag, list(value) if isinstance(value, tuple) else value)
    return given


pass_globals = click.make_pass_decorator(Globals)
