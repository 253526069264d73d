"""``dp2p known``: what the node remembers of a peer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from dp2p import addresses, control
from dp2p.cli import client, record
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import age, table


@click.command()
@click.argument("peer")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def known(context: Globals, peer: str, as_json: bool) -> None:
    """Show what the node remembers of PEER.

    That is its record, its places and who introduced it; connected or not. PEER is a node-ID, or
    an address with a public key. INTRODUCED BY lists who handed over its
    record; introducers of one network count as one, and those that were wrong, because another key
    answered, do not count.

    \b
    Examples:
      dp2p known PEER
      dp2p known dp2p://KEY --json | jq .endpoints
    """
    message = control.Known(id=1, peer=addresses.parse_peer(peer))
    reply = client.request(Path(context.load().node.run_dir), message)
    click.echo(json.dumps(reply, indent=2) if as_json else describe(reply, time.time()))


def describe(reply: dict[str, Any], now: float) -> str:
    """For people; ``now`` is in seconds since the epoch, as all times in the reply."""
    introduced = reply["introducers"]
    tickets = reply["tickets"]
    lines = [
        f"key         {reply['key']}",
        f"node-ID     {reply['node']}",
        f"connected   {'yes' if reply['connected'] else 'no'}",
        f"trust       {reply['trust'] or 'none'}",
        f"introduced  by {introduced} independent {'peer' if introduced == 1 else 'peers'}",
        f"tickets     {tickets['dial']} to dial it, {tickets['accept']} for its dials",
        f"first seen  {_ago(reply['first_seen'], now)}",
        f"last seen   {_ago(reply['last_seen'], now)}",
    ]
    parts = ["\n".join(lines), _record(reply["record"]), _endpoints(reply, now)]
    parts.append(_introductions(reply, now))
    return "\n\n".join(part for part in parts if part)


def _record(text: str | None) -> str:
    if text is None:
        return ""
    found = record.read(text)
    spoken = record.protocols(found.protocols, more=found.more)
    return f"record      number {found.seq}, protocols {spoken}\n{text}"


def _endpoints(reply: dict[str, Any], now: float) -> str:
    rows = [
        (
            row["endpoint"],
            _ago(row["last_success"], now),
            _ago(row["last_failure"], now),
            str(row["failures"]),
        )
        for row in reply["endpoints"]
    ]
    head = ("ENDPOINT", "LAST SUCCESS", "LAST FAILURE", "FAILURES SINCE")
    return table(head, rows) if rows else ""


def _introductions(reply: dict[str, Any], now: float) -> str:
    rows = [
        (row["key"], row["network"], _ago(row["at"], now), "wrong" if row["wrong"] else "")
        for row in reply["introductions"]
    ]
    return table(("INTRODUCED BY", "NETWORK", "WHEN", ""), rows) if rows else ""


def _ago(at: float | None, now: float) -> str:
    return "never" if at is None else f"{age(max(0.0, now - at))} ago"
