"""``dp2p crawl``: walk over the whole network and write down who is there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dp2p import control
from dp2p.cli import client
from dp2p.cli.crawling import Crawl
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import counted
from dp2p.errors import Dp2pError, RequestError

LOOK_S = 0.5  # between two looks at the clock while nothing comes
SILENT_S = 60.0  # a node that answers nothing for so long is gone
BUSY_S = 0.05  # before the node is asked again that had too much to do


class CrawlError(Dp2pError):
    """The crawl cannot begin or go on."""


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("crawl.json"),
    show_default=True,
    metavar="FILE",
    help="Where to write what was found.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    metavar="N",
    help="Questions under way at a time, one to each node.",
)
@click.option("--records", is_flag=True, help="Ask each node for its record too.")
@click.option(
    "--max-nodes",
    type=click.IntRange(1, 10_000_000),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Stop to take in others after so many.",
)
@pass_globals
def crawl(
    context: Globals, /, *, output: Path, concurrency: int, records: bool, max_nodes: int
) -> int:
    """Walk over the network, from the contacts of this node on, and write it as JSON.

    Each node is asked whom it knows at each distance. The file has the nodes, whether and how fast
    each answered, and who knows whom. Ctrl-C ends the walk and writes what is there.

    \b
    Examples:
      dp2p crawl
      dp2p crawl --records --output network.json
      jq '[.nodes[] | select(.answered)] | length' crawl.json
    """
    run_dir = Path(context.load().node.run_dir)
    if not output.resolve().parent.is_dir():
        raise CrawlError(f"--output: {output}: no such directory")
    walk = Crawl(records=records, limit=max_nodes)
    table = client.request(run_dir, control.Table(id=0))
    walk.begin(table)
    if walk.over:
        raise CrawlError("this node knows nobody to begin with; is it part of a network?")
    began, at = time.monotonic(), time.time()
    interrupted = False
    try:
        _walk(run_dir, walk, concurrency)
    except KeyboardInterrupt:
        interrupted = True
    found = {
        "from": table["node"],
        "at": at,
        "seconds": round(time.monotonic() - began, 3),
        **walk.report(),
    }
    _write(output, found)
    click.echo(_summary(found, output))
    return 130 if interrupted else 0


def _walk(run_dir: Path, walk: Crawl, concurrency: int) -> None:
    """Ask until nobody is left."""
    with _progress() as progress, client.conversation(run_dir) as node:
        bar = progress.add_task("nodes", total=None)
        heard = time.monotonic()
        while not walk.over:
            while walk.under_way < concurrency and (question := walk.ask()) is not None:
                node.send(question)
            if (frame := node.receive(LOOK_S)) is not None:
                heard = time.monotonic()
                _take(walk, msgspec.json.decode(frame, type=control.Reply))
            elif time.monotonic() - heard > SILENT_S:
                raise CrawlError("the node does not answer any more")
            progress.update(bar, completed=walk.done, total=len(walk.nodes))


def _take(walk: Crawl, reply: control.Reply) -> None:
    try:
        answer: dict[str, Any] | RequestError = client.result(reply)
    except RequestError as error:
        answer = error
        if error.code == "busy":
            time.sleep(BUSY_S)
    walk.answered(reply.id, answer)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _write(output: Path, found: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = output.with_name(output.name + ".new")
    try:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(output)
    except OSError as error:
        raise CrawlError(f"--output: {output}: {error.strerror}") from None


def _summary(found: dict[str, Any], output: Path) -> str:
    nodes = found["nodes"]
    answered = [one for one in nodes if one["answered"]]
    whole = "" if found["complete"] else ", not complete"
    return (
        f"{counted(len(nodes), 'node')}, {len(answered)} of them answered, "
        f"{counted(len(found['edges']), 'contact')}, "
        f"in {found['seconds']:.1f} s{whole}: {output}"
    )
