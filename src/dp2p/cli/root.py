"""The group of all commands. Each stands in a module of its own and is imported when it is run."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

import dp2p
from dp2p.cli.settings import Globals

COMMANDS = (
    "keygen",
    "id",
    "up",
    "status",
    "peers",
    "dial",
    "record",
    "known",
    "find",
    "lookup",
    "table",
    "crawl",
    "events",
    "limit",
    "limits",
    "top",
    "send",
    "recv",
    "demo",
    "bench",
    "sim",
)
"In the order in which the help lists them."


class Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in their own order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``."""
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"dp2p.cli.{cmd_name}")
        except ModuleNotFoundError as error:
            if error.name != f"dp2p.cli.{cmd_name}":
                raise
            return None
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file.  [default: $DP2P_CONFIG, or ./dp2p.toml when it is there]",
)
@click.option(
    "--run-dir",
    metavar="DIR",
    help="Where the node keeps its sockets.  [default: /run/dp2p for root, else "
    "$XDG_RUNTIME_DIR/dp2p or ~/.dp2p/run]",
)
@click.version_option(dp2p.__version__, prog_name="dp2p")
@click.pass_context
def cli(context: click.Context, file: Path | None, run_dir: str | None) -> None:
    """A peer-to-peer node: one encrypted network of peers, shared by any number of applications.

    \b
    First steps:
      dp2p keygen                       make this node's key
      dp2p up                           run the node, until Ctrl-C
      dp2p status                       what it does, from another terminal
      dp2p dial dp2p://KEY@HOST:4617    connect it to another node

    Settings come from a file (dp2p.toml), then variables named DP2P_SECTION_KEY, then flags; what
    comes later wins. `dp2p up --help` says more.
    """
    context.obj = Globals(file, run_dir)
