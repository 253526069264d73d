"""Text forms of keys: one for each value, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import ids, noise

keys = st.binary(min_size=32, max_size=32)


@given(keys)
def test_text_and_back(value: bytes) -> None:
    text = ids.to_text(value)
    assert len(text) == 52
    assert text == text.lower()
    assert ids.from_text(text) == value


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=52, max_size=52))
def test_a_text_that_is_read_is_the_only_one(text: str) -> None:
    try:
        value = ids.from_text(text)
    except ValueError:
        return
    assert ids.to_text(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 51,
        "a" * 53,
        "A" * 52,
        "a" * 51 + "b",
        "a" * 51 + "\n",
        "1" * 52,
        "a" * 52 + "====",
    ],
)
def test_other_texts_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="lower-case base32") as caught:
        ids.from_text(text)
    assert not text or text not in str(caught.value)


@given(keys, keys)
def test_distance_is_a_metric(one: bytes, other: bytes) -> None:
    assert ids.distance(one, other) == ids.distance(other, one)
    assert (ids.distance(one, other) == 0) == (one == other)


def test_node_id_is_that_of_the_extension() -> None:
    public = bytes(range(32))
    assert ids.node_id(public) == noise.node_id(public)
    assert ids.node_id_text(ids.to_text(public)) == ids.to_text(ids.node_id(public))
