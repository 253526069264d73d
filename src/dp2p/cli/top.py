"""``dp2p top``: what goes on, live."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from dp2p import addresses, control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.top_view import SORTS, render

FIRST_S = 0.5  # between the two looks of which the first screen shows the rates
HOME, CLEAR_LINE, CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"The terminal's other screen, without a cursor, and back."

Look = tuple[dict[str, Any], dict[str, Any]]
"Replies to ``traffic`` and to ``status``."


@click.command()
@click.option("--sort", type=click.Choice(list(SORTS)), default="rate", show_default=True)
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True)
@click.option("--protocol", metavar="NAME", help="Only this protocol.")
@click.option("--peer", metavar="PEER", help="Only this peer.")
@click.option("--once", is_flag=True, help="Print once and end; so it is too in a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, once.")
@pass_globals
def top(
    context: Globals,
    *,
    sort: str,
    interval: float,
    protocol: str | None,
    peer: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Show rates, queues and waiting times by protocol and by peer, until Ctrl-C.

    UP is to the peer, DOWN from it, in bytes a second. QUEUED was accepted from the application
    here and is not sent; WAIT is how long what is next has waited, WAITED the longest since the
    last look. UNREAD has come and the application here has not consumed it. CREDIT is what the
    application here may still hand over. Near 0 with nothing QUEUED it means that the peer's
    application does not keep up, or that a limit there holds; with much QUEUED, that a limit, the
    line or more urgent protocols hold it back here.
    docs/guides/shares-and-limits.md says what to make of it.

    \b
    Examples:
      dp2p top
      dp2p top --sort wait --protocol chat
      dp2p top --json | jq '.rows[] | select(.wait_ms > 1000)'
    """
    if protocol == "" or peer == "":
        raise click.UsageError("an empty name stands for nobody")
    run_dir = Path(context.load().node.run_dir)
    wanted = control.Traffic(
        id=1, protocol=protocol, peer=None if peer is None else addresses.parse_peer(peer)
    )
    _look(run_dir, wanted)
    time.sleep(FIRST_S)
    if as_json:
        traffic, status = _look(run_dir, wanted)
        click.echo(json.dumps({**traffic, "protocols": status["traffic"]}, indent=2))
    elif once or not sys.stdout.isatty():
        click.echo(render(*_look(run_dir, wanted), sort=sort, width=None))
    else:
        _live(run_dir, wanted, sort, interval)


def _look(run_dir: Path, wanted: control.Traffic) -> Look:
    traffic = client.request(run_dir, wanted)
    return traffic, client.request(run_dir, control.Status(id=2))


def _live(run_dir: Path, wanted: control.Traffic, sort: str, interval: float) -> None:
    """Draw again and again; Ctrl-C is how it is meant to end."""
    click.echo(ENTER, nl=False)
    try:
        while True:
            traffic, status = _look(run_dir, wanted)
            size = shutil.get_terminal_size()
            text = render(traffic, status, sort=sort, width=size.columns, height=size.lines)
            lines = "\n".join(line + CLEAR_LINE for line in text.splitlines())
            click.echo(HOME + lines + CLEAR_REST, nl=False)
            time.sleep(interval)
    except KeyboardInterrupt:
        pass
    finally:
        click.echo(LEAVE, nl=False)
