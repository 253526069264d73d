"""``dp2p status``: what the node does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dp2p import control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals
from dp2p.cli.text import age, size, table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all counters.")
@pass_globals
def status(context: Globals, as_json: bool) -> None:
    """Show the node's state and what it has counted.

    Exits with 1 when no node runs at the run directory.

    \b
    Examples:
      dp2p status
      dp2p --run-dir /run/other status --json | jq .peers
    """
    reply = client.request(Path(context.load().node.run_dir), control.Status(id=1))
    click.echo(json.dumps(reply, indent=2) if as_json else _text(reply))


def _text(reply: dict[str, Any]) -> str:
    up = len(reply["shards"])
    lines = [
        f"node-ID   {reply['node']}",
        f"key       {reply['key']}",
        f"network   {reply['network']}",
        f"version   {reply['version']}, up {age(reply['uptime_s'])}",
        f"listens   {', '.join(reply['listen']) or 'nowhere'}",
        f"peers     {reply['peers']} of at most {reply['max_peers']}",
        f"shards    {up} of {reply['configured_shards']}"
        + ("" if reply["settled"] else ", the coordinator is still asking them what they own"),
    ]
    parts = ["\n".join(lines), _trust(reply), discovered(reply)]
    parts += [_shards(reply), _apps(reply), _protocols(reply)]
    return "\n\n".join(part for part in parts if part)


def _trust(reply: dict[str, Any]) -> str:
    """Handshakes in full; of the rest what is not 0."""
    lines = []
    if counters := reply.get("trust"):
        handshakes = {name: counters[name] for name in counters if _of_handshakes(name)}
        others = {name: counters[name] for name in counters if name not in handshakes}
        lines.append(f"handshakes  {_counts(handshakes)}")
        lines.append(f"trust       {_counts(_not_0(others)) or 'nothing to tell'}")
    if store := reply.get("store"):
        lines.append(f"store       {_counts(_not_0(store)) or 'empty'}")
    return "\n".join(lines)


def discovered(reply: dict[str, Any]) -> str:
    """What of discovery is not 0."""
    found = reply.get("discovery")
    if not found:
        return ""
    serves = "serves others" if found["serves"] else "serves nobody"
    lines = [f"discovery   contacts {found['contacts']}, {serves}"]
    for name, label in (("discovery", "messages"), ("sessions", "sessions"), ("table", "table")):
        lines.append(f"{label:<11} {_counts(_not_0(found[name])) or 'nothing to tell'}")
    return "\n".join(lines)


def _of_handshakes(name: str) -> bool:
    return name.startswith("handshakes_") or name in ("fallbacks", "identity_errors")


def _not_0(counters: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counters.items() if count}


def _counts(counters: dict[str, int]) -> str:
    """``xx 3, ik 1``; the words of a counter's name in its place."""
    return ", ".join(
        f"{name.removeprefix('handshakes_').replace('_', ' ')} {count}"
        for name, count in counters.items()
    )


def _shards(reply: dict[str, Any]) -> str:
    starts = {row["name"]: row["starts"] for row in reply["processes"]}
    return table(
        ("SHARD", "PID", "STARTS", "AEAD", "LINKS", "HEARTBEAT"),
        [
            (
                str(row["index"]),
                str(row["pid"]),
                str(starts.get(f"shard-{row['index']}", "?")),
                row["aead"],
                str(row["links"]),
                f"{row['heartbeat_age_s']:.1f}s ago" + (" (silent)" if row["silent"] else ""),
            )
            for row in reply["shards"]
        ],
    )


def _apps(reply: dict[str, Any]) -> str:
    rows = [(row["name"], ", ".join(row["protocols"]) or "none") for row in reply["apps"]]
    return table(("APPLICATION", "PROTOCOLS"), rows) if rows else ""


def _protocols(reply: dict[str, Any]) -> str:
    rows = [
        (
            row["name"],
            ", ".join(map(str, row["versions"])),
            row["priority"],
            str(row["weight"]),
            size(row["max_datagram"]),
            size(row["window"]),
            str(row["slots"]),
            "yes" if row["shared"] else "no",
        )
        for row in reply["protocols"]
    ]
    head = ("PROTOCOL", "VERSIONS", "CLASS", "WEIGHT", "LARGEST", "WINDOW", "SLOTS", "SHARED")
    return table(head, rows) if rows else ""
