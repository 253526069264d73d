"""``dp2p limits``: the rate caps in force."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dp2p import control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import table
from dp2p.sizes import show_rate


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@pass_globals
def limits(context: Globals, as_json: bool) -> None:
    """List the rate caps in force, in bytes a second.

    `dp2p limit` changes them. What goes on is shown by `dp2p top`.

    \b
    Examples:
      dp2p limits
      dp2p limits --json | jq '.[] | select(.scope == "protocol")'
    """
    reply = client.request(Path(context.load().node.run_dir), control.Limits(id=1))
    found = reply["limits"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(describe(found) if found else "no limits")


def describe(found: Sequence[Mapping[str, Any]]) -> str:
    """For people."""
    rows = [
        (one["scope"], one["name"], show_rate(one["up"]), show_rate(one["down"])) for one in found
    ]
    return table(("SCOPE", "NAME", "UP", "DOWN"), rows)
