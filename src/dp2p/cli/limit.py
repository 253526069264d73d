"""``dp2p limit``: cap a rate while the node runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import click
from msgspec import UNSET, UnsetType

from dp2p import addresses, control, sizes
from dp2p.cli import client
from dp2p.cli.limits import describe
from dp2p.cli.settings import Globals, pass_globals

Change = int | UnsetType | None


def _rate(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Change:
    """A rate as it is given; what is not given stays."""
    if text is None:
        return UNSET
    try:
        return sizes.parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("scope", type=click.Choice(["node", "protocol", "peer"]))
@click.argument("name", default="")
@click.option("--up", callback=_rate, metavar="RATE", help="To peers; none lifts the cap.")
@click.option("--down", callback=_rate, metavar="RATE", help="From peers; none lifts the cap.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def limit(
    context: Globals, *, scope: str, name: str, up: Change, down: Change, as_json: bool
) -> None:
    """Cap the rate of the whole node, of a protocol, or of a peer.

    Takes effect at once and lasts until the node ends; what is to last longer belongs in the file,
    section [rates]. NAME is a protocol's name, or a peer's node-ID or address with a key; it may be
    of one that is not there yet. RATE is in bytes a second: 1500000, 10MB, 512KiB, or none. Each
    datagram counts its payload and 16 bytes.

    \b
    Examples:
      dp2p limit node --up 10MB --down 5MB
      dp2p limit protocol chat --down none
      dp2p limit peer PEER --up 200KiB
    """
    if (scope == "node") is bool(name):
        raise click.UsageError("a node has no NAME" if name else f"which {scope}? NAME is missing")
    if up is UNSET and down is UNSET:
        raise click.UsageError("nothing to change: give --up or --down, or see `dp2p limits`")
    if scope == "peer":
        name = addresses.parse_peer(name)
    message = control.Limit(id=1, scope=cast(control.Scope, scope), name=name, up=up, down=down)
    reply: dict[str, Any] = client.request(Path(context.load().node.run_dir), message)
    click.echo(json.dumps(reply, indent=2) if as_json else describe([reply]))
