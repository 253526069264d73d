"""``dp2p keygen``: make a node's key."""

from __future__ import annotations

from pathlib import Path

import click

from dp2p import keys
from dp2p.cli.settings import Globals, pass_globals


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
@pass_globals
def keygen(context: Globals, path: Path | None) -> None:
    """Make a node's key and write it to PATH.

    PATH is the configured key file (node.key_file) when it is left out. Nothing is overwritten. The
    file is readable by you alone; whoever has it can pass for this node. What is printed is public.

    \b
    Examples:
      dp2p keygen
      dp2p keygen ./alice.key
    """
    where = path if path is not None else Path(context.load().node.key_file)
    made = keys.create(where)
    click.echo(f"key file  {where}")
    click.echo(f"key       {made.key}")
    click.echo(f"node-ID   {made.node}")
