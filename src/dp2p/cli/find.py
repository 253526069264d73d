"""``dp2p find``: ask peers for introductions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dp2p import addresses, control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import table


@click.command()
@click.option("--protocol", metavar="NAME", help="Peers that say they receive this protocol.")
@click.option(
    "--near", metavar="PEER", help="Peers whose node-IDs are close to this one's, closest first."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Take what has come after so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def find(
    context: Globals,
    /,
    *,
    protocol: str | None,
    near: str | None,
    limit: int,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Ask connected peers to introduce others, and the network who serves a protocol.

    Each answer is a record signed by the peer that it is about; the node has verified it and
    remembers who introduced whom. PEER is a node-ID or an address with a key. With both --protocol
    and --near: close ones among those that receive the protocol.

    \b
    Examples:
      dp2p find
      dp2p find --protocol chat --limit 4
      dp2p find --near PEER --json | jq -r '.records[].text'
    """
    message = control.Find(
        id=1,
        protocol=protocol,
        near=None if near is None else addresses.parse_peer(near),
        limit=limit,
        timeout_s=timeout_s,
    )
    run_dir = Path(context.load().node.run_dir)
    reply = client.request(run_dir, message, timeout_s + client.TIMEOUT_S)
    click.echo(json.dumps(reply, indent=2) if as_json else describe(reply))


def describe(reply: dict[str, Any]) -> str:
    """For people."""
    asked, records = reply["asked"], reply["records"]
    if not asked and not records:
        return "no peer is connected that could be asked"
    peers = "peer" if asked == 1 else "peers"
    if not records:
        return f"asked {asked} {peers}: no introductions"
    rows = [
        (
            row["node"],
            ", ".join(row["endpoints"]) or "none",
            ", ".join(row["protocols"]) or "none",
            str(row["seq"]),
        )
        for row in records
    ]
    shown = table(("PEER", "ENDPOINTS", "PROTOCOLS", "NUMBER"), rows)
    return f"{shown}\n\nasked {asked} {peers}"
