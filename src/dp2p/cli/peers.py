"""``dp2p peers``: who is connected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dp2p import control
from dp2p.cli import client
from dp2p.cli.events import suspicion
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import age, table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@pass_globals
def peers(context: Globals, as_json: bool) -> None:
    """List the connected peers.

    DIRECTION says who opened the connection: out is this node. MODE is the handshake it began with:
    xx knows nothing of the peer, ik relies on its key, resume on an earlier session; "fell back"
    means that this was in vain. TRUST says what was known of the peer beforehand: none, introduced
    or resumed. INTRODUCERS counts peers, of different networks, who had introduced it. Below stand
    warnings: somebody knows another key where a peer that was not known before has been met.

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
        click.echo(_table(rows))
        warnings = [
            suspicion({**warning, "met": row["key"]}) for row in rows for warning in row["warnings"]
        ]
        if warnings:
            click.echo("\n" + "\n".join(warnings))


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("PEER", "DIRECTION", "ENDPOINT", "MODE", "TRUST", "INTRODUCERS", "SHARD", "AGE")
    return table(
        head,
        [
            (
                row["peer"],
                row["direction"] if row["open"] else f"{row['direction']}, opening",
                row["endpoint"],
                f"{row['mode']}, fell back" if row["fell_back"] else row["mode"],
                row["trust"],
                str(row["introducers"]),
                str(row["shard"]),
                age(row["age_s"]),
            )
            for row in rows
        ],
    )
