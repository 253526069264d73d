"""``dp2p send``: one datagram, or many, to a peer."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from dp2p.cli.protocol import on_air, protocol_options
from dp2p.cli.settings import Globals, pass_globals
from dp2p.errors import Dp2pError, RequestError
from dp2p.sdk import blocking


@click.command()
@click.argument("protocol")
@click.argument("peer")
@click.option("--text", metavar="TEXT", help="Send TEXT, as UTF-8.")
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send the contents of FILE as one datagram.",
)
@click.option("--lines", is_flag=True, help="One datagram for each line, without its line end.")
@click.option(
    "--type",
    "kind",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="N",
    help="Type of the datagrams.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="For each of: the peer to be there, credit, confirmation.",
)
@protocol_options
@pass_globals
def send(
    context: Globals,
    /,
    *,
    protocol: str,
    peer: str,
    text: str | None,
    file: Path | None,
    lines: bool,
    kind: int,
    timeout_s: float,
    **options: Any,
) -> None:
    """Send a datagram of PROTOCOL to PEER, and wait until its application has consumed it, over as
    many connections as that takes.

    PEER is the node-ID of a connected peer (see `dp2p peers`), or "any" for the first one there
    that speaks the protocol. Without --text and --file, standard input is sent.

    \b
    Examples:
      dp2p send chat PEER --text hello
      dp2p send chat any --type 3 --file picture.png
      journalctl -f | dp2p send log any --lines
    """
    if text is not None and file is not None:
        raise click.UsageError("--text and --file exclude each other")
    with on_air(context, "send", protocol, **options) as channel:
        try:
            target = channel.wait_peer(None if peer == "any" else peer, timeout_s).id
            for payload in _payloads(text, file, lines=lines):
                _send(channel, target, payload, kind, timeout_s)
            channel.drain(target, timeout_s)
        except TimeoutError:
            raise Dp2pError(_why(channel.peers, protocol, peer, timeout_s)) from None


def _send(
    channel: blocking.Protocol, target: str, payload: bytes, kind: int, timeout_s: float
) -> None:
    """Send one datagram, also to a peer that went when everything was confirmed: it may be back
    soon. With an error nothing was accepted, so it is not sent twice.

    Raises: SendError, TimeoutError.
    """
    while True:
        try:
            return channel.send(target, payload, kind, timeout_s)
        except RequestError as error:
            if error.code != "peer_down":
                raise
        channel.wait_peer(target, timeout_s)


def _payloads(text: str | None, file: Path | None, *, lines: bool) -> Iterable[bytes]:
    """Datagrams to send, as they can be read."""
    if text is not None:
        data = text.encode()
    elif file is not None:
        data = file.read_bytes()
    else:
        stream = sys.stdin.buffer
        if lines:
            return (line.rstrip(b"\r\n") for line in stream)
        data = stream.read()
    return data.splitlines() if lines else [data]


def _why(peers: dict[str, Any], protocol: str, peer: str, timeout_s: float) -> str:
    """What did not happen in time."""
    if peer in peers or (peer == "any" and peers):
        return f"timeout: not consumed within {timeout_s:g} s (protocol {protocol}, peer {peer})"
    who = "no peer" if peer == "any" else f"peer {peer} does not"
    speaks = "speaks" if peer == "any" else "speak"
    others = f"; there is {', '.join(peers)}" if peers else ""
    return f"unknown_peer: {who} {speaks} {protocol} within {timeout_s:g} s{others}"
