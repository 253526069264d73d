"""Rates as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.sizes import RATE_MAX, RATE_MIN, parse_rate, show_bytes, show_rate

READ = [
    ("none", None),
    (" None ", None),
    ("1500000", 1_500_000),
    ("10MB", 10_000_000),
    ("10 mb/s", 10_000_000),
    ("1.5kB", 1500),
    ("512KiB", 512 << 10),
    ("1024B", 1024),
    ("2GiB", 2 << 30),
]
REFUSED = [
    "\u0661MB",
    "",
    "0",
    "1023",
    "-1",
    "1e9",
    "10 MBit",
    "MB",
    "1..5MB",
    "2000000000000",
    "10 M B",
]
SHOWN = [
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1.00 kB"),
    (9_994, "9.99 kB"),
    (12_345, "12.3 kB"),
    (999_499, "999 kB"),
    (999_600, "1.00 MB"),
    (1.5e12, "1.50 TB"),
]


@pytest.mark.parametrize(("text", "rate"), READ)
def test_read(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed is none, or bytes a second"):
        parse_rate(text)


@pytest.mark.parametrize(("count", "text"), SHOWN)
def test_shown(count: float, text: str) -> None:
    assert show_bytes(count) == text


def test_no_cap_is_shown_as_it_is_written() -> None:
    assert parse_rate(show_rate(None)) is None


@given(st.integers(2 * RATE_MIN, RATE_MAX))
def test_what_is_shown_can_be_read_and_is_close(rate: int) -> None:
    text = show_rate(rate)
    if "TB" not in text:
        assert parse_rate(text) == pytest.approx(rate, rel=0.01)
