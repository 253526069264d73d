"""``dp2p table``: the contacts that the node keeps, by distance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dp2p import control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import age, counted

BUCKET = 16  # entries that a bucket holds
FULL, EMPTY = "█", "·"
NODE_SHOWN = 16  # characters of a node-ID that tell it from others at a glance


@click.command("table")
@click.option("--all", "entries", is_flag=True, help="Show each contact.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def table(context: Globals, entries: bool, as_json: bool) -> None:
    """Show discovery's table: the contacts that the node keeps, in buckets by distance.

    The distance is in bits: half of all nodes are at 256, a quarter at 255, and so on, so that far
    buckets are full and near ones empty. "Waiting" are those that would take the place of a
    contact that stops answering.

    \b
    Examples:
      dp2p table
      dp2p table --all
      dp2p table --json | jq .contacts
    """
    reply = client.request(Path(context.load().node.run_dir), control.Table(id=1))
    if as_json:
        click.echo(json.dumps(reply, indent=2))
        return
    console = Console(highlight=False)
    console.print(drawn(reply))
    if entries:
        console.print(listed(reply), soft_wrap=True)
    console.print(f"{reply['contacts']} contacts have answered")


def drawn(reply: dict[str, Any]) -> Table:
    """One line for each bucket that is not empty, the farthest first."""
    shown = Table("DISTANCE", "CONTACTS", "", "WAITING", box=None, header_style="")
    for bucket in sorted(reply["buckets"], key=lambda one: -one["distance"]):
        entries = bucket["entries"]
        if not entries and not bucket["replacements"]:
            continue
        bar = Text()
        for one in entries:
            bar.append(FULL, style=_style(one))
        bar.append(EMPTY * (BUCKET - len(entries)), style="dim")
        row = (str(bucket["distance"]), bar, str(len(entries)), str(bucket["replacements"]))
        shown.add_row(*row)
    return shown


def listed(reply: dict[str, Any]) -> Table:
    """One line for each contact."""
    shown = Table("DISTANCE", "NODE-ID", "ENDPOINT", "KNOWN", "ANSWERED", "", box=None)
    for bucket in sorted(reply["buckets"], key=lambda one: -one["distance"]):
        for one in bucket["entries"]:
            known, alive = age(one["known_s"]), one["alive_s"]
            shown.add_row(
                str(bucket["distance"]),
                one["node"][:NODE_SHOWN],
                one["endpoint"],
                known,
                "not yet" if alive is None else f"{age(alive)} ago",
                counted(one["failures"], "failure") if one["failures"] else "",
                style=_style(one),
            )
    return shown


def _style(entry: dict[str, Any]) -> str:
    if not entry["checked"]:
        return "dim"
    return "yellow" if entry["failures"] else "green"
