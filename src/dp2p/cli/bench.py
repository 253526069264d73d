"""``dp2p bench``: measure this machine with the checkout's benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

import dp2p
from dp2p.errors import Dp2pError


class NoCheckoutError(Dp2pError):
    """The benchmarks are not part of the installed package."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> int:
    """Measure rates and costs on this machine, and print one table.

    ARGUMENTS go to `python -m load.bench` of the checkout; `dp2p bench -- --help` lists them.

    \b
    Examples:
      dp2p bench
      dp2p bench --json result.json
    """
    checkout = find_checkout()
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "load.bench", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal sent it to the benchmark as well
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def find_checkout() -> Path:
    """The directory that holds ``load/bench``.  Raises: NoCheckoutError."""
    package = Path(dp2p.__file__).resolve().parent
    for candidate in (package.parent.parent, Path.cwd()):
        if (candidate / "load" / "bench" / "__main__.py").exists():
            return candidate
    raise NoCheckoutError(
        "the benchmarks are in the source tree, not in the installed package: "
        "get the source and run `make bench` there"
    )
