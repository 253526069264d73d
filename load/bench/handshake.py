"""Ours: what it costs to shake hands, in each way, beside the X25519 operations that it needs.

``handshake.c``, built with all of ``cext/src`` when the bench starts, with the extension's flags.
One process alternates between all ways every few milliseconds and says what each turn cost; what
compares them is the median of the ratios within a turn. Rates are of both sides together on one
core, by CPU time.
"""

from __future__ import annotations

import json
import os
import runpy
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median

from load.bench.ceiling import BUILD_S, _run
from load.bench.model import (
    CPU_US_PER_HANDSHAKE,
    HANDSHAKE_GAINS,
    HANDSHAKE_SHARES,
    HANDSHAKES,
    HANDSHAKES_PER_S,
    Measurement,
    PhaseError,
    Settings,
    Source,
    Unavailable,
)

PROGRAM = Path(__file__).with_name("handshake.c")
CEXT = PROGRAM.parents[2] / "cext"
BARE = "x25519-"  # in front of a way: its X25519 operations alone
XX = "xx"
NOTES = {  # way -> what the dialler relies on
    XX: "nothing",
    "ik": "a key dialled before",
    "ik-cold": "a key never dialled",
    "resume": "a ticket: NNpsk0",
    "ik-fallback": "a wrong key",
    "resume-fallback": "a ticket that was lost",
}
BARE_OF = (XX, "ik", "resume", "ik-fallback")  # the others need the same as one of these

Turn = Mapping[str, Sequence[float]]
"Way -> µs of CPU for a handshake: initiator, responder, X25519 of the initiator, of the responder."

# --- the program ----------------------------------------------------------------------


def _extension() -> tuple[list[str], bool]:
    """The compiler flags of ``cext/build.py``, libraries last, and whether OpenSSL is built in.

    Raises: Unavailable without the sources, pkg-config or libsodium's headers.
    """
    recipe = CEXT / "build.py"
    if not recipe.exists():
        raise Unavailable("the sources of the extension are not here")
    try:
        names = runpy.run_path(str(recipe))
        openssl = names["with_openssl"]()
        libraries = ["libsodium", *(["libcrypto"] if openssl else [])]
        linked = names["pkg_config"]("--cflags", "--libs", *libraries)
    except RuntimeError as cause:
        raise Unavailable(str(cause)) from cause
    macros = ["-D_GNU_SOURCE", *(["-DDP_HAVE_OPENSSL"] if openssl else [])]
    included = ["-iquote", str(CEXT / "include"), "-iquote", str(CEXT / "src")]
    return [*names["CFLAGS"], *macros, *included, *linked], openssl


@cache
def build(build_dir: Path) -> Path:
    """Compile ``handshake.c`` and the transport if any of it changed; returns the program.

    Raises: Unavailable without what that needs.
    """
    flags, openssl = _extension()
    sources = [PROGRAM, *sorted(CEXT.glob("src/*.c"))]
    parts = [*sources, CEXT / "build.py", *CEXT.glob("*/*.h")]
    program = build_dir / ("handshake-openssl" if openssl else "handshake")
    if program.exists() and program.stat().st_mtime > max(one.stat().st_mtime for one in parts):
        return program
    build_dir.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    try:
        _run([*compiler, *map(str, sources), "-o", str(fresh), *flags], BUILD_S)
    except PhaseError as cause:
        raise Unavailable(f"handshake.c was not built: {cause}") from cause
    fresh.replace(program)
    return program


# --- from turns to figures ------------------------------------------------------------


def _rate(contender: str, costs: Sequence[Sequence[float]], note: str) -> Measurement:
    """Handshakes a second from (initiator, responder) of each turn."""
    both = median(sum(cost) for cost in costs)
    sides = {
        "initiator": median(cost[0] for cost in costs),
        "responder": median(cost[1] for cost in costs),
    }
    values = {HANDSHAKES_PER_S: 1e6 / both, CPU_US_PER_HANDSHAKE: both}
    return Measurement(HANDSHAKES, contender, values, sides, note)


def _ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]]) -> float:
    """The median of the ratios within a turn, of both sides together."""
    return median(sum(one) / sum(two) for one, two in zip(above, below, strict=True))


def figures(turns: Sequence[Turn], note: str) -> list[Measurement]:
    """Of one run: rates of the ways and of bare operations, and both comparisons.

    Raises: PhaseError without turns.
    """
    if not turns:
        raise PhaseError("no turn was finished")
    found = []
    xx = [turn[XX][:2] for turn in turns]
    for way, about in NOTES.items():
        ours = [turn[way][:2] for turn in turns]
        bare = [turn[way][2:] for turn in turns]
        share = {HANDSHAKE_SHARES.rate: _ratio(bare, ours)}
        gain = {HANDSHAKE_GAINS.rate: _ratio(xx, ours)}
        found += [
            _rate(way, ours, f"{about}; {note}" if way == XX else about),
            Measurement(HANDSHAKE_SHARES, way, share),
            Measurement(HANDSHAKE_GAINS, way, gain),
        ]
        if way in BARE_OF:
            found.append(_rate(BARE + way, bare, "libsodium alone"))
    return found


def measure(settings: Settings) -> list[Measurement]:
    """One round: as many phases as there are ways, in turn."""
    seconds = settings.seconds * len(NOTES)
    program = build(settings.build_dir)
    answer = _run([str(program), str(seconds)], settings.deadline_s).splitlines()
    about, *turns = map(json.loads, answer)
    return figures(turns, f"AEAD {about['aead']}, hello {about['hello_bytes']} B")


SOURCES = (
    Source(
        HANDSHAKES,
        XX,
        measure,
        also=(
            *(f"{HANDSHAKES.name}/{way}" for way in NOTES if way != XX),
            *(f"{HANDSHAKES.name}/{BARE}{way}" for way in BARE_OF),
            *(
                f"{case.name}/{way}"
                for case in (HANDSHAKE_SHARES, HANDSHAKE_GAINS)
                for way in NOTES
            ),
        ),
    ),
)
