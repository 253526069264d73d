"""``python -m load.bench``: measure, print, and write JSON when asked.

Exit code: 0 when everything that could run did run, whether bars are met or not; 1 when a contender
failed; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from load.bench import ceiling, machine
from load.bench.model import Group, Settings
from load.bench.registry import load
from load.bench.report import Report, as_json, show
from load.bench.run import run

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
FULL = Settings(build_dir=BUILD)
QUICK = Settings(seconds=0.3, rounds=1, build_dir=BUILD, quick=True)
PROGRAM = "python -m load.bench"
WIDTH = 150  # columns where the output is no terminal


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Measure dp2p beside its peers and beside the physical limit, in one run.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round; rough figures")
    parser.add_argument(
        "--only",
        action="append",
        type=Group,
        choices=list(Group),
        metavar="GROUP",
        help=f"one of {', '.join(Group)}; may be given several times",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run the bench; ``program`` is what the user typed before the arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(program).parse_args(given)
    settings = QUICK if options.quick else FULL
    groups = tuple(options.only or Group)
    about = machine.describe(ceiling.versions(settings))
    with Console(stderr=True).status("starting") as status:
        results = run(load(groups), settings, status.update)
    shown = [Path(one).name if one.startswith("/") else one for one in given]
    command = shlex.join([*program.split(), *shown])
    report = Report(command, about, settings, groups, results)
    out = Console()
    show(report, out if out.is_terminal else Console(width=WIDTH))
    if options.json:
        text = json.dumps(as_json(report), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if results.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
