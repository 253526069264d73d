"""Rates and sizes as people write them: ``10MB``, ``512 KiB``, ``1500000``; ``none`` for no cap."""

from __future__ import annotations

import re

RATE_MIN = 1024
RATE_MAX = 1 << 40
NONE = "none"
UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
ALLOWED = "none, or bytes a second from 1024 to 2^40, as 1500000, 10MB or 512KiB"

_FORM = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)(?:/s)?\Z")


def parse_rate(text: str) -> int | None:
    """Bytes a second; None for ``none``.  Raises: ValueError, which says what is allowed."""
    if text.strip().lower() == NONE:
        return None
    found = _FORM.match(text.strip())
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f"{text!r} is not a rate; allowed is {ALLOWED}")
    rate = round(float(found[1]) * unit)
    if not RATE_MIN <= rate <= RATE_MAX:
        raise ValueError(f"{text!r} is out of range; allowed is {ALLOWED}")
    return rate


def show_rate(rate: float | None) -> str:
    """Bytes a second in three digits: 1.25 MB, 980 B; ``none`` for no cap."""
    return NONE if rate is None else show_bytes(rate)


def show_bytes(count: float) -> str:
    """A number of bytes in about three digits and decimal units."""
    value, units = float(count), ("B", "kB", "MB", "GB", "TB")
    for unit in units[:-1]:
        if value < 999.5:
            return _digits(value, unit)
        value /= 1000
    return _digits(value, units[-1])


def _digits(value: float, unit: str) -> str:
    if unit == "B" or value >= 99.95:
        return f"{value:.0f} {unit}"
    return f"{value:.1f} {unit}" if value >= 9.995 else f"{value:.2f} {unit}"
