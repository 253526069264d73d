"""``dp2p bench``: measure this machine with the checkout's benchmarks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

import dp2p
from dp2p.errors import Dp2pError

_MODULE = "load.bench.__main__"


class NoCheckoutError(Dp2pError):
    """The benchmarks are not part of the installed package."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> int:
    """Measure rates and costs on this machine, and print one table.

    Takes some minutes and both sides' processes run here: leave the machine alone meanwhile.

    \b
    ARGUMENTS:
      --quick       one short round; rough figures
      --only GROUP  bulk, small, rtt, connections or memory; may be given several times
      --json FILE   write the figures there too

    Exits with 0 whether bars are met or not, with 1 when something that should have run failed.

    \b
    Examples:
      dp2p bench
      dp2p bench --quick --only bulk
      dp2p bench --json result.json
    """
    checkout = str(find_checkout())
    if checkout not in sys.path:
        sys.path.append(checkout)  # the bench's own processes get the same path
    code: int = importlib.import_module(_MODULE).main(arguments, program="dp2p bench")
    return code


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
