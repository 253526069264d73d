"""``dp2p record``: what a node says of itself, signed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dp2p import control, ids, node_record
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.errors import NodeRecordError
from dp2p.node_record import NodeRecord

_INPUT_MAX = 1 << 16  # bytes read from standard input; no record is nearly as long


@click.command()
@click.argument("text", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def record(context: Globals, text: str | None, as_json: bool) -> None:
    """Show the node's own record, or verify another.

    A record says where its owner can be dialled and which protocols it receives, and is signed with
    the owner's key. Without TEXT the running node is asked for its own. TEXT is one line that
    begins with dp2p-record: and "-" reads it from standard input. Exits with 1 when it is malformed
    or not signed by its key. A record that verifies was made by its owner at some time; who is at
    the places in it, only a connection shows.

    \b
    Examples:
      dp2p record
      dp2p record dp2p-record:RECORD
      ssh other.example.org dp2p record --json | jq -r .text | dp2p record -
    """
    given = text if text is not None else _own(context)
    if given == "-":
        raw = sys.stdin.buffer.read(_INPUT_MAX)
        given = raw.decode("utf-8", "replace")
    found = read(given)
    if as_json:
        click.echo(json.dumps(as_object(found)))
        return
    click.echo("\n".join(lines(found)))
    if text is None:
        click.echo(f"\n{node_record.to_text(found.signed)}")


def read(text: str) -> NodeRecord:
    """A verified record from its text, with white space around.  Raises: NodeRecordError."""
    return node_record.verify(node_record.from_text(text.strip()))


def as_object(found: NodeRecord) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "key": ids.to_text(found.key),
        "node": ids.to_text(ids.node_id(found.key)),
        "seq": found.seq,
        "endpoints": list(found.endpoints),
        "protocols": list(found.protocols),
        "more": found.more,
        "text": node_record.to_text(found.signed),
    }


def lines(found: NodeRecord) -> list[str]:
    """What a record says, for people."""
    return [
        f"key        {ids.to_text(found.key)}",
        f"node-ID    {ids.to_text(ids.node_id(found.key))}",
        f"number     {found.seq}",
        *(f"endpoint   {endpoint}" for endpoint in found.endpoints or ("none",)),
        f"protocols  {protocols(found.protocols, more=found.more)}",
        f"size       {len(found.signed)} bytes, signature verified",
    ]


def protocols(names: tuple[str, ...], *, more: bool) -> str:
    """The names on one line."""
    return ", ".join([*names, "and others"] if more else names) or "none"


def _own(context: Globals) -> str:
    """The running node's.  Raises: NodeRecordError while it has none."""
    run_dir = Path(context.load().node.run_dir)
    own = client.request(run_dir, control.Status(id=1)).get("record")
    if not isinstance(own, str):
        raise NodeRecordError(f"the node at {run_dir} has no record yet")
    return own
