"""``dp2p lookup``: walk the network towards a node-ID."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dp2p import addresses, control, ids
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import counted, table


@click.command()
@click.argument("target")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 120),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def lookup(context: Globals, target: str, timeout_s: float, as_json: bool) -> None:
    """Find the nodes whose node-IDs are closest to TARGET.

    TARGET is a node-ID, or an address with a public key. The node asks ever closer nodes, over
    disjoint paths, until nobody knows a closer one. All that are shown have answered themselves;
    when TARGET is in the network, it is the first of them.

    \b
    Examples:
      dp2p lookup NODE-ID
      dp2p lookup dp2p://KEY --json | jq .hops
    """
    peer = addresses.parse_peer(target)
    run_dir = Path(context.load().node.run_dir)
    message = control.Lookup(id=1, target=peer, timeout_s=timeout_s)
    reply = client.request(run_dir, message, timeout_s + client.TIMEOUT_S)
    click.echo(json.dumps(reply, indent=2) if as_json else describe(reply))


def describe(reply: dict[str, Any]) -> str:
    """For people."""
    contacts = reply["contacts"]
    found = "found it" if reply["found"] else "did not find it"
    course = (
        f"{found}: asked {counted(reply['asked'], 'node')}, {reply['failed']} of them in vain, "
        f"in {counted(reply['hops'], 'hop')} and {reply['seconds']:.2f} s"
    )
    if not contacts:
        return f"{course}\nnobody answered"
    rows = [
        (str(_distance(reply["target"], one["node"])), one["node"], one["endpoint"])
        for one in contacts
    ]
    return f"{table(('DISTANCE', 'NODE-ID', 'ENDPOINT'), rows)}\n\n{course}"


def _distance(one: str, other: str) -> int:
    """Bits of the XOR distance."""
    return ids.distance(ids.from_text(one), ids.from_text(other)).bit_length()
