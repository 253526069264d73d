"""``dp2p id``: who this node is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dp2p import keys
from dp2p.addresses import DEFAULT_PORT, PeerAddress, PeerOnly, parse_endpoint
from dp2p.cli.settings import Globals, pass_globals
from dp2p.config import Config

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what is not told to anybody


@click.command()
@click.argument("keyfile", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def id(context: Globals, keyfile: Path | None, as_json: bool) -> None:  # noqa: A001 - the command
    """Show this node's key, node-ID and addresses.

    KEYFILE is the configured key file (node.key_file) when it is left out. The addresses are made
    from the configuration: what is listened on, or listen.advertise. No node needs to run, and all
    that is printed is public.

    \b
    Examples:
      dp2p id
      dp2p id ./alice.key
      dp2p id --json | jq -r '.addresses[]'
    """
    settings = context.load()
    identity = keys.load(keyfile if keyfile is not None else Path(settings.node.key_file))
    found = [str(address) for address in addresses(settings, identity.key)]
    if as_json:
        click.echo(json.dumps({"key": identity.key, "node": identity.node, "addresses": found}))
        return
    click.echo(f"key      {identity.key}")
    click.echo(f"node-ID  {identity.node}")
    for text in found:
        click.echo(f"address  {text}")
    if not found:
        click.echo(f"address  {PeerOnly(identity.key)}, without a place: set listen.advertise")


def addresses(settings: Config, key: str) -> list[PeerAddress]:
    """Where others can dial the node, as far as the configuration tells: not where it says "any
    address" or "any port".
    """
    told = settings.listen.advertise or settings.listen.addresses
    endpoints = [parse_endpoint(text, default_port=DEFAULT_PORT, lowest_port=0) for text in told]
    return [
        PeerAddress(key, each.host, each.port)
        for each in endpoints
        if each.port and each.host not in _ANYWHERE
    ]
