"""``dp2p dial``: connect the node to an address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dp2p import addresses, control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals

_HOW = {"xx": "fresh", "ik": "by its key", "resume": "resumed"}
"What a handshake relied on, by mode."


@click.command()
@click.argument("address")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 120),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def dial(context: Globals, address: str, timeout_s: float, as_json: bool) -> None:
    """Connect the node to ADDRESS, and say who is there.

    With a public key or a node-ID in ADDRESS, the connection stands only when the peer proves to
    have that key. A bare endpoint takes whoever answers. Without a place, the node goes where it
    knows the peer to be; of a node-ID it must also know the key.

    The answer says how the connection was made: "fresh" relies on nothing, "by its key" on a key
    that was known, "resumed" on an earlier session.

    \b
    Examples:
      dp2p dial dp2p://KEY@node.example.org:4617
      dp2p dial dp2p://KEY
      dp2p dial NODE-ID
      dp2p dial tcp4://192.0.2.7:4617
      dp2p dial tcp6://[2001:db8::7]:4617
    """
    addresses.parse_target(address)
    run_dir = Path(context.load().node.run_dir)
    message = control.Dial(id=1, address=address, timeout_s=timeout_s)
    result = client.request(run_dir, message, timeout_s + client.TIMEOUT_S)
    click.echo(json.dumps(result) if as_json else describe(result))


def describe(result: dict[str, Any]) -> str:
    """For people."""
    mode = result["mode"]
    how = "fell back" if result["fell_back"] else _HOW.get(mode, mode)
    connected = f"connected to {result['peer']} at {result['endpoint']} ({how})"
    if not result["fell_back"]:
        return connected
    return f"{connected}\nwhat was known of the peer was of no use: trust was removed"
