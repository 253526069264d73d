"""Records of the data socket: what goes in comes out, and nothing malformed gets through."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import records
from dp2p.errors import RecordError
from dp2p.records import Epoch, Kind, Position

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "app-api.md"

datagrams = st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 65535)), max_size=200)


def only(message: bytes) -> records.Record:
    """The one record of a message."""
    (record,) = records.split(message)
    return record


@given(datagrams)
def test_any_datagrams_survive(rows: list[tuple[bytes, int]]) -> None:
    payloads, types = [row[0] for row in rows], [row[1] for row in rows]
    record = only(records.encode_data(9, payloads, types))
    data = records.decode_data(record.body)
    assert (record.kind, record.flow) == (Kind.DATA, 9)
    assert (data.payloads, list(data.types)) == (payloads, types)
    assert data.cost == sum(map(len, payloads)) + 16 * len(payloads)


# Sizes on both sides of what chooses among the three ways to cut.
@pytest.mark.parametrize("size", [0, 1, 63, 100, 1024, 1025, 70_000])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 130])
def test_equal_sizes_survive(size: int, count: int) -> None:
    payloads = [bytes([i % 256]) * size for i in range(count)]
    data = records.decode_data(only(records.encode_data(1, payloads, 7)).body)
    assert data.payloads == payloads
    assert list(data.types) == [7] * count


def test_known_sizes_make_the_same_record() -> None:
    payloads = [b"a", b"", b"ccc"]
    assert records.encode_data(1, payloads, 5, [1, 0, 3]) == records.encode_data(1, payloads, 5)


def test_types_must_be_as_many_as_payloads() -> None:
    with pytest.raises(RecordError, match="2 payloads but 1 types"):
        records.encode_data(1, [b"a", b"b"], [1])


@given(st.lists(st.integers(0, 5), max_size=20))
def test_a_message_is_a_row_of_records(sizes: list[int]) -> None:
    rows = [records.encode_data(flow, [b"x" * n], n) for flow, n in enumerate(sizes)]
    assert [record.flow for record in records.split(b"".join(rows))] == list(range(len(sizes)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_positions_survive(window: int, count: int, size: int) -> None:
    position = Position(window, count, size)
    record = only(records.encode_position(Kind.CREDIT, 3, position))
    assert records.decode_position(record.body) == position


NUMBER = st.integers(0, 2**64 - 1)


@given(st.builds(Epoch, NUMBER, NUMBER, NUMBER))
def test_epochs_survive(epoch: Epoch) -> None:
    record = only(records.encode_epoch(3, epoch))
    assert (record.kind, record.flow) == (Kind.EPOCH, 3)
    assert records.decode_epoch(record.body) == epoch


@pytest.mark.parametrize("body", [b"", bytes(27), bytes(29), b"\x01" + bytes(27)])
def test_epochs_have_one_size_and_a_zero(body: bytes) -> None:
    with pytest.raises(RecordError, match="EPOCH"):
        records.decode_epoch(memoryview(body))


def test_a_record_for_another_flow() -> None:
    record = records.encode_data(7, [b"one", b"two"], 5)
    assert records.readdress(record, 1 << 31) == records.encode_data(1 << 31, [b"one", b"two"], 5)


def test_json_is_padded_to_four_bytes() -> None:
    for text in ("", "a", "ab", "abc"):
        message = records.encode_json(Kind.DOWN, 3, {"reason": text})
        assert len(message) % 4 == 0
        assert bytes(only(message).body).rstrip() == b'{"reason":"%s"}' % text.encode()


WHOLE = records.encode_data(1, [b"hello", b"you"], [1, 2])


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_truncated_anywhere_is_an_error(length: int) -> None:
    with pytest.raises(RecordError):
        list(records.split(WHOLE[:length]))


# offset, struct format, value: each makes the record above malformed
BROKEN = [
    (0, "<I", 0),  # size below a header
    (0, "<I", 11),
    (0, "<I", len(WHOLE) - 1),  # no multiple of 4
    (0, "<I", len(WHOLE) + 4),  # beyond the message
    (6, "<H", 1),  # the field that is zero
    (12, "<I", 3),  # counts that do not fit the size
    (12, "<I", 2**32 - 1),
    (16, "<I", 2**32 - 1),
    (16, "<I", 0),
    (28, "<I", 6),  # lengths that do not add up
]


@pytest.mark.parametrize(("offset", "code", "value"), BROKEN)
def test_inconsistent_is_an_error(offset: int, code: str, value: int) -> None:
    broken = bytearray(WHOLE)
    struct.pack_into(code, broken, offset, value)
    with pytest.raises(RecordError):
        [records.decode_data(record.body) for record in records.split(bytes(broken))]


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(message: bytes) -> None:
    try:
        for record in records.split(message):
            data = records.decode_data(record.body)
            assert len(data.payloads) == len(data.types)
    except RecordError:
        pass


@pytest.mark.parametrize("size", [0, 19, 21])
def test_positions_have_one_size(size: int) -> None:
    with pytest.raises(RecordError):
        records.decode_position(memoryview(bytes(size)))


def test_the_examples_in_the_specification() -> None:
    blocks = re.findall(r"```\n((?:[0-9a-f ]+\n)+)```", SPEC.read_text())
    assert [bytes.fromhex(block.replace("\n", " ")) for block in blocks] == [
        records.encode_bytes(Kind.ATTACH, 0, bytes(range(16))),
        records.encode_json(Kind.ATTACHED, 0, {}),
        records.encode_data(7, [b"hello", b"", b"abc"], [1, 1, 2]),
        records.encode_position(Kind.CONSUMED, 7, Position(0, 3, 56)),
        records.encode_position(Kind.CREDIT, 7, Position(1 << 20, 3, 56)),
        records.encode_epoch(7, Epoch(0x1122334455667788, 3, 56)),
        records.encode_bytes(Kind.UP, 7, b'{"protocol":"chat",...}'),
        records.encode_json(Kind.DOWN, 7, {"reason": "shutdown"}),
        records.encode_json(Kind.ERROR, 7, {"code": "no_credit", "message": "beyond"}),
    ]
