"""What ``dp2p top`` shows. Pure: replies of the node in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dp2p.cli.text import age, table
from dp2p.sizes import show_bytes, show_rate

PEER_SHOWN = 12  # characters of a node-ID that tell it from others at a glance
ELLIPSIS = "…"

Row = Mapping[str, Any]
SORTS: dict[str, Callable[[Row], float]] = {
    "rate": lambda row: row["rate_up"] + row["rate_down"],
    "queue": lambda row: row["queued_bytes"],
    "wait": lambda row: row.get("wait_ms", 0),
}
"Largest first. Protocols have no waiting time of their own, and stay in order of queues then."


def render(
    traffic: Mapping[str, Any],
    status: Mapping[str, Any],
    *,
    sort: str = "rate",
    width: int | None = None,
    height: int | None = None,
) -> str:
    """All of it, the head first; lines are cut at ``width`` and left out beyond ``height``."""
    parts = [_head(status), _protocols(status["traffic"], sort), _flows(traffic["rows"], sort)]
    notes = _notes(traffic)
    lines = "\n\n".join(part for part in parts if part).splitlines()
    if height is not None:
        lines = _fit(lines, height - len(notes))
    return "\n".join(_cut(line, width) for line in [*lines, *notes])


def _head(status: Mapping[str, Any]) -> str:
    memory = status["memory"]
    totals = status["traffic"]
    up, down = (sum(row[name] for row in totals) for name in ("rate_up", "rate_down"))
    node, windows = (
        status["node"][:PEER_SHOWN],
        memory["window_bytes"] + memory["peer_window_bytes"],
    )
    buffers = memory["buffer_bytes"]
    rates = f"up {show_bytes(up)}/s   down {show_bytes(down)}/s"
    held = (
        f"queued {show_bytes(memory['queued_bytes'])}, unread {show_bytes(memory['unread_bytes'])}"
    )
    granted = show_bytes(windows) + (f" of {show_bytes(buffers)}" if buffers else "")
    lines = [
        f"{node}  up {age(status['uptime_s'])}, peers {status['peers']}   {rates}",
        f"{held}, windows {granted}",
    ]
    capped = [one for one in status["limits"] if one["scope"] == "node"]
    lines += [f"limits up {show_rate(one['up'])}, down {show_rate(one['down'])}" for one in capped]
    return "\n".join(lines)


def _protocols(rows: Sequence[Row], sort: str) -> str:
    if not rows:
        return ""
    key = SORTS["queue" if sort == "wait" else sort]
    head = ("PROTOCOL", "PEERS", "UP/s", "LIMIT", "DOWN/s", "LIMIT", "QUEUED", "UNREAD")
    return table(
        (*head, "SENT", "RECEIVED"),
        [
            (
                row["name"],
                str(row["peers"]),
                show_bytes(row["rate_up"]),
                show_rate(row["limit_up"]),
                show_bytes(row["rate_down"]),
                show_rate(row["limit_down"]),
                show_bytes(row["queued_bytes"]),
                show_bytes(row["unread_bytes"]),
                show_bytes(row["up_bytes"]),
                show_bytes(row["down_bytes"]),
            )
            for row in sorted(rows, key=lambda row: (-key(row), row["name"]))
        ],
    )


def _flows(rows: Sequence[Row], sort: str) -> str:
    if not rows:
        return "no flows"
    key = SORTS[sort]
    head = ("PEER", "PROTOCOL", "CLASS", "UP/s", "DOWN/s", "QUEUED", "WAIT", "WAITED", "CREDIT")
    return table(
        (*head, "UNREAD", "SHARD"),
        [
            (
                row["peer"][:PEER_SHOWN],
                row["protocol"],
                f"{row['priority']} {row['weight']}",
                show_bytes(row["rate_up"]),
                show_bytes(row["rate_down"]),
                show_bytes(row["queued_bytes"]),
                _span(row["wait_ms"]),
                _span(row["waited_max_ms"]),
                show_bytes(row["credit_up"]),
                show_bytes(row["unread_bytes"]),
                str(row["shard"]),
            )
            for row in sorted(rows, key=lambda row: (-key(row), row["peer"], row["protocol"]))
        ],
    )


def _span(ms: int) -> str:
    """A waiting time."""
    if ms < 1000:
        return f"{ms}ms"
    return f"{ms / 1000:.1f}s" if ms < 60_000 else age(ms / 1000)


def _notes(traffic: Mapping[str, Any]) -> list[str]:
    """What is not among the rows."""
    notes = []
    if traffic["left_out"]:
        notes.append(f"{traffic['left_out']} more flows are not shown")
    if traffic["silent"]:
        notes.append("no answer in time from shard " + ", ".join(map(str, traffic["silent"])))
    return notes


def _fit(lines: list[str], height: int) -> list[str]:
    """As many as there is room for, the last of which says that there are more."""
    room = max(1, height)
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"{len(lines) - room + 1} more lines"]


def _cut(line: str, width: int | None) -> str:
    if width is None or len(line) <= width:
        return line
    return line[: max(0, width - 1)] + ELLIPSIS
