"""``dp2p demo``: two nodes on this machine move a directory tree."""

from __future__ import annotations

import json
import queue
import signal
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dp2p import control
from dp2p.cli import client
from dp2p.cli.demo.stage import Stage, StageError
from dp2p.cli.demo.tree import Tree, compare, scan

STALL_S = 60.0  # without a word from an application for so long, the demo gives up


@dataclass(slots=True)
class Result:
    """What the transfer came to."""

    sent: dict[str, Any] = field(default_factory=dict)
    received: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    node_cpu_s: float = 0.0
    app_cpu_s: float = 0.0

    def faults(self, tree: Tree) -> list[str]:
        """What is wrong, one line each; empty: everything matched."""
        lines = [f"{name}: cannot be read: {why}" for name, why in self.sent["failed"].items()]
        lines += [f"{name}: {why}" for name, why in self.received["failed"].items()]
        lines += compare(self.sent["hashes"], self.received["hashes"])
        seen = self.sent["hashes"].keys() | self.sent["failed"].keys()
        lines += [f"{name}: never sent" for name in tree.files.keys() - seen]
        return lines + [side["trouble"] for side in (self.sent, self.received) if side["trouble"]]


@click.command()
@click.argument(
    "path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="BYTES",
    help="Move no more than so many bytes of it.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write what is received to DIR and keep it.  [default: a temporary folder]",
)
def demo(path: Path | None, limit: int | None, keep: Path | None) -> int:
    """Move a directory tree between two nodes on this machine.

    Starts two nodes, each a coordinator and two shards, connects them, and runs an application on
    each. One sends every file below PATH (the Python standard library, if none is given) to the
    other, while both chat over the same connection. A BLAKE2b of every file is compared.

    Exits with 0 only if everything matched. All that was started is stopped, also after Ctrl-C.

    \b
    Examples:
      dp2p demo
      dp2p demo ~/pictures --keep ./copy
    """
    signal.signal(signal.SIGTERM, _interrupt)
    tree = scan(path or Path(sysconfig.get_path("stdlib")), limit)
    with Stage() as stage:
        target = keep or stage.folder / "received"
        target.mkdir(parents=True, exist_ok=True)
        result = _transfer(stage, tree, target)
    faults = result.faults(tree)
    click.echo(_summary(tree, result, len(faults)))
    for line in faults:
        click.echo(line, err=True)
    return 1 if faults else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _transfer(stage: Stage, tree: Tree, target: Path) -> Result:
    click.echo("starting two nodes")
    run_a, run_b = stage.node("a"), stage.node("b")
    first, second = stage.await_node(run_a), stage.await_node(run_b)
    place = second["listen"][0].partition("://")[2]
    dial = control.Dial(id=1, address=f"dp2p://{second['key']}@{place}")
    peer = client.request(run_a, dial, 15.0)
    click.echo(f"{first['node'][:12]}.. connected to {peer['peer'][:12]}.. at {peer['endpoint']}")
    stage.application("receive", run_b, target)
    _await(stage, "receive", "ready")
    names = stage.application("send", run_a, tree.root.resolve())
    names.write(json.dumps(list(tree.files)) + "\n")
    names.flush()
    _await(stage, "send", "started")
    return _watch(stage, tree)


def _next(stage: Stage) -> tuple[str, dict[str, Any]]:
    """The next report of an application.  Raises: StageError."""
    deadline = time.monotonic() + STALL_S
    while time.monotonic() < deadline:
        try:
            name, report = stage.reports.get(timeout=0.2)
        except queue.Empty:
            stage.check()
            continue
        if report["event"] == "failed":
            stage.check_nodes()
            raise StageError(report["text"])
        return name, report
    raise StageError(f"nothing has moved for {STALL_S:g} s")


def _await(stage: Stage, role: str, event: str) -> None:
    while _next(stage) != (role, {"event": event}):
        pass


def _watch(stage: Stage, tree: Tree) -> Result:
    """Show progress until both sides are done."""
    result = Result()
    begin = time.monotonic()
    node_cpu, app_cpu = stage.cpu_s(nodes=True), stage.cpu_s(nodes=False)
    columns = (
        TextColumn("{task.fields[files]} files"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=tree.size, files=0)
        while not (result.sent and result.received):
            name, report = _next(stage)
            if report["event"] == "progress":
                progress.update(bar, completed=report["bytes"], files=report["files"])
            elif name == "receive":
                result.received = report
                progress.update(bar, completed=tree.size, files=len(report["hashes"]))
            else:
                result.sent = report
    result.seconds = time.monotonic() - begin
    result.node_cpu_s = stage.cpu_s(nodes=True) - node_cpu
    result.app_cpu_s = stage.cpu_s(nodes=False) - app_cpu
    return result


def _summary(tree: Tree, result: Result, faults: int) -> str:
    matched = len(result.sent["hashes"].keys() & result.received["hashes"].keys())
    verdict = f"{faults} faults" if faults else "all match"
    gigabytes = max(tree.size, 1) / 1e9
    nodes, applications = result.node_cpu_s / gigabytes, result.app_cpu_s / gigabytes
    trips = result.sent["round_trips"]
    rows = {
        "files": f"{matched} of {len(tree.files)} moved, {verdict} (BLAKE2b); "
        f"{tree.skipped} links and special files skipped",
        "bytes": f"{tree.size:,} in {result.seconds:.2f} s: "
        f"{tree.size / 1e6 / result.seconds:.0f} MB/s",
        "CPU": f"{nodes + applications:.2f} s per GB: nodes {nodes:.2f}, applications "
        f"{applications:.2f} (with reading, hashing, writing)",
        "chat": f"{_quantiles(trips['busy'])} under load; {_quantiles(trips['idle'])} before",
    }
    return "\n".join(f"{name:<7} {text}" for name, text in rows.items())


def _quantiles(seconds: Sequence[float]) -> str:
    """p50 and p99 of round trips."""
    if not seconds:
        return "no round trip"
    ordered = sorted(seconds)
    p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(ordered)}"
