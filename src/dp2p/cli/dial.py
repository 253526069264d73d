"""``dp2p dial``: connect the node to an address."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dp2p import addresses, control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals


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

    With a public key in the address, the connection stands only when the peer proves to have that
    key. A bare endpoint takes whoever answers.

    \b
    Examples:
      dp2p dial dp2p://KEY@node.example.org:4617
      dp2p dial tcp4://192.0.2.7:4617
      dp2p dial tcp6://[2001:db8::7]:4617
    """
    addresses.parse(address)
    run_dir = Path(context.load().node.run_dir)
    message = control.Dial(id=1, address=address, timeout_s=timeout_s)
    result = client.request(run_dir, message, timeout_s + client.TIMEOUT_S)
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"connected to {result['peer']} at {result['endpoint']}")
