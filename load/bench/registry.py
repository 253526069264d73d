"""Who takes part. The one place to edit for a new contender.

A contender is a module of this package with ``SOURCES: tuple[Source, ...]``. Each ``Source`` names
a case (``model.CASES``), the contender, and ``measure(settings) -> list[Measurement]``: one round
of about ``settings.seconds`` within ``settings.deadline_s``, in processes of its own that have
ended when it returns. The bench repeats it, in turn with the others of the case, and takes medians.
``Unavailable`` says that the machine lacks something; any other error is a failure.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass

from load.bench.model import CASES, Group, Source

PACKAGE = "load.bench"
MODULES = (
    "ceiling",
    "tls_uvloop",
    "pyzmq_curve",
    "zmq_ipc",
    "engine",
    "handshake",
    "shard_idle",
    "application",
    "shares",
    "discovery",
)


@dataclass(frozen=True, slots=True)
class Registry:
    """What will be measured, and which modules could not be asked."""

    sources: tuple[Source, ...]
    absent: dict[str, str]
    "Module -> why."


def load(groups: Iterable[Group]) -> Registry:
    """Import every contender; sources ordered so that those of one case stand together."""
    wanted = set(groups)
    found: list[Source] = []
    absent: dict[str, str] = {}
    for name in MODULES:
        try:
            found += importlib.import_module(f"{PACKAGE}.{name}").SOURCES
        except ImportError as error:
            absent[name] = "not there" if error.name == f"{PACKAGE}.{name}" else str(error)
    order = {case: place for place, case in enumerate(CASES)}
    ours = [source for source in found if source.case.group in wanted]
    return Registry(tuple(sorted(ours, key=lambda source: order[source.case])), absent)
