"""``dp2p recv``: show what peers send."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from dp2p.cli.protocol import on_air, protocol_options
from dp2p.cli.settings import Globals, pass_globals
from dp2p.errors import Dp2pError
from dp2p.sdk.types import Message


@click.command()
@click.argument("protocol")
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="End after N datagrams.  [default: never]"
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Fail when they have not come after so long.  [default: wait for ever]",
)
@click.option("--from", "sender", metavar="PEER", help="Show only what this peer sends.")
@click.option("--raw", is_flag=True, help="Print payloads as they are, with nothing between.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; payload in base64.")
@protocol_options
@pass_globals
def recv(
    context: Globals,
    /,
    *,
    protocol: str,
    count: int | None,
    timeout_s: float | None,
    sender: str | None,
    raw: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Receive datagrams of PROTOCOL from any peer, and print them.

    The protocol is on the air while this runs. Each line shows the sender, the type and the
    payload; what is not printable is escaped.

    \b
    Examples:
      dp2p recv chat
      dp2p recv chat --count 1 --raw > picture.png
      dp2p recv log --json | jq -r .peer
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    output = sys.stdout.buffer
    show: Callable[[Message], bytes] = _raw if raw else _json if as_json else _line
    with on_air(context, "recv", protocol, **options) as channel:
        left = count
        while left is None or left > 0:
            pause = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = channel.recv(pause)
            except TimeoutError:
                got = (count or 0) - (left or 0)
                text = f"timeout: {got} datagrams within {timeout_s:g} s (protocol {protocol})"
                raise Dp2pError(text) from None
            if sender is None or message.peer == sender:
                output.write(show(message))
                output.flush()
                left = None if left is None else left - 1


def _raw(message: Message) -> bytes:
    return message.payload


def _line(message: Message) -> bytes:
    text = message.payload.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"{message.peer} {message.type} {shown}\n".encode()


def _json(message: Message) -> bytes:
    payload = base64.b64encode(message.payload).decode()
    row = {"peer": message.peer, "type": message.type, "payload": payload}
    return json.dumps(row).encode() + b"\n"
