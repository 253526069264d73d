"""``dp2p peers``: who is connected."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dp2p import control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import age, table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@pass_globals
def peers(context: Globals, as_json: bool) -> None:
    """List the connected peers.

    DIRECTION says who opened the connection: out is this node. TRUST says what was known of the
    peer beforehand: none, introduced or resumed.

    \b
    Examples:
      dp2p peers
      dp2p peers --json | jq -r '.[].peer'
    """
    reply = client.request(Path(context.load().node.run_dir), control.Peers(id=1))
    rows = reply["peers"]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("no peers")
    else:
        head = ("PEER", "DIRECTION", "ENDPOINT", "TRUST", "SHARD", "AGE")
        click.echo(
            table(
                head,
                [
                    (
                        row["peer"],
                        row["direction"] if row["open"] else f"{row['direction']}, opening",
                        row["endpoint"],
                        row["trust"],
                        str(row["shard"]),
                        age(row["age_s"]),
                    )
                    for row in rows
                ],
            )
        )
