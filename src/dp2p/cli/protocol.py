"""What ``dp2p send`` and ``dp2p recv`` share: a session and a protocol, as options say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from dp2p.cli.settings import Globals
from dp2p.sdk import blocking

_OPTIONS = (
    click.option(
        "--version",
        "versions",
        type=click.IntRange(0, 65535),
        multiple=True,
        default=(1,),
        metavar="N",
        help="A version of the protocol that is spoken; may be given more than once.  [default: 1]",
    ),
    click.option(
        "--max-datagram",
        type=click.IntRange(1, 16 << 20),
        default=1 << 20,
        metavar="BYTES",
        help="Largest datagram; both sides' lower value counts.  [default: 1048576]",
    ),
    click.option(
        "--priority",
        type=click.Choice(["urgent", "normal", "bulk"]),
        default="normal",
        show_default=True,
        help="Class of the protocol.",
    ),
    click.option(
        "--shared",
        is_flag=True,
        help="Serve the protocol beside other applications of this node that share it too.",
    ),
)


def protocol_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how the protocol is registered."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@contextmanager
def on_air(
    context: Globals, command: str, name: str, **options: Any
) -> Iterator[blocking.Protocol]:
    """The protocol, while the block runs.  Raises: RequestError."""
    versions = list(options.pop("versions"))
    run_dir = context.load().node.run_dir
    with blocking.attach(run_dir, name=f"dp2p {command}") as node:
        yield node.register(name, version=versions, **options)
