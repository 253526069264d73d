"""Records of the data socket between an application and a shard.

Source: docs/spec/app-api.md, "Data". One ZeroMQ message is a row of records. A record is a header
of 12 bytes (size of the whole record, kind, zero, flow; little endian) and a body; its size is
a multiple of 4. Datagrams travel in columns, so that a batch is built and taken apart without a
loop over its bytes: payloads one after the other, then all lengths, then all types.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import msgspec

from dp2p.errors import RecordError

DATAGRAM_COST = 16  # bytes of credit that a datagram costs beyond its payload
DATAGRAM_MAX = 16 << 20
MESSAGE_MAX = 32 << 20  # largest ZeroMQ message on a data socket

HEADER = struct.Struct("<IHHI")
DATA_HEADER = struct.Struct("<IHHIII")
POSITION = struct.Struct("<IHHIIQQ")
EPOCH = struct.Struct("<IHHIIQQQ")
_COUNTS = struct.Struct("<II")
_FLOW_AT = 8  # where a header names the flow
_ROW = 64  # datagrams of one size taken apart in one step
_LARGE = 1024  # mean bytes beyond which a payload is copied out on its own
_BIG_ENDIAN = sys.byteorder == "big"


class Kind(IntEnum):
    """What a record is; the comment says who sends it."""

    ATTACH = 1  # application: body is the session token, 16 bytes
    ATTACHED = 2  # shard: JSON
    DATA = 3  # both
    CONSUMED = 4  # application: what it has consumed of a flow
    CREDIT = 5  # shard: what the peer's application has consumed, and its window
    UP = 6  # shard: JSON, a peer is there and speaks the protocol
    DOWN = 7  # shard: JSON, it is gone
    ERROR = 8  # shard: JSON, a record was refused
    EPOCH = 9  # both: where the positions of a flow's sender stand, in front of all DATA


class Record(NamedTuple):
    """One record as it stands in a message."""

    kind: int
    flow: int
    body: memoryview


class Position(NamedTuple):
    """Absolute position in a flow, since it came up."""

    window: int
    "Bytes beyond ``bytes`` that may be sent; 0 in CONSUMED."
    datagrams: int
    bytes: int


class Epoch(NamedTuple):
    """Where a flow begins in what one side says to the other, over any number of connections."""

    epoch: int
    "Random: which conversation, 64 bits."
    datagrams: int
    "So many of it were confirmed before this flow began."
    bytes: int
    "What they cost."


def _column(code: str, values: Sequence[int]) -> array[int]:
    column = array(code, values)
    if _BIG_ENDIAN:
        column.byteswap()
    return column


def encode_data(
    flow: int,
    payloads: Sequence[bytes],
    types: int | Sequence[int],
    sizes: list[int] | None = None,
) -> bytes:
    """A DATA record with ``payloads`` in order; ``types`` is one type for all or one for each.

    ``sizes`` are the payloads' lengths, for a caller that has them already.
    """
    if sizes is None:
        sizes = list(map(len, payloads))
    count = len(sizes)
    if isinstance(types, int):
        type_column = _column("H", [types]) * count
    elif len(types) == count:
        type_column = _column("H", types)
    else:
        raise RecordError(f"{count} payloads but {len(types)} types")
    payload_size = sum(sizes)
    pad = -payload_size % 4
    tail = 2 * (count % 2)
    size = DATA_HEADER.size + payload_size + pad + 6 * count + tail
    header = DATA_HEADER.pack(size, Kind.DATA, 0, flow, count, payload_size)
    lengths = _column("I", sizes).tobytes()
    return b"".join((header, *payloads, bytes(pad), lengths, type_column.tobytes(), bytes(tail)))


class Datagrams(NamedTuple):
    """What a DATA record holds."""

    payloads: list[bytes]
    types: Sequence[int]
    size: int
    "Bytes of all payloads."

    @property
    def cost(self) -> int:
        """Credit that they take."""
        return self.size + DATAGRAM_COST * len(self.payloads)


def decode_data(body: memoryview) -> Datagrams:
    """What a DATA record's body (all behind the 12-byte header) holds.

    Raises: RecordError when columns and payload do not fit the body.
    """
    if len(body) < 8:
        raise RecordError("DATA record without counts")
    count, payload_size = _COUNTS.unpack_from(body)
    column = 8 + payload_size + -payload_size % 4
    types_at = column + 4 * count
    if types_at + 2 * count + 2 * (count % 2) != len(body):
        raise RecordError(f"DATA record of {len(body)} bytes does not hold {count} datagrams")
    sizes = _read_column("I", body[column:types_at]).tolist()
    if sum(sizes) != payload_size:
        raise RecordError("DATA record whose lengths do not add up to its payload")
    types = _read_column("H", body[types_at : types_at + 2 * count])
    return Datagrams(_cut(body[8 : 8 + payload_size], sizes), types, payload_size)


def _read_column(code: str, column: memoryview) -> array[int]:
    values = array(code)
    values.frombytes(column)
    if _BIG_ENDIAN:
        values.byteswap()
    return values


@lru_cache(maxsize=64)
def _row_of_equals(size: int) -> struct.Struct:
    return struct.Struct(f"{size}s" * _ROW)


def _cut(data: memoryview, sizes: list[int]) -> list[bytes]:
    """``data`` in pieces of ``sizes``. Three ways, each several times as fast as the others
    on its own ground: large pieces, many of one size, anything else.
    """
    ends = accumulate(sizes)
    if len(data) > _LARGE * len(sizes):
        return [bytes(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    done: list[bytes] = []
    rows = len(sizes) // _ROW
    if rows and sizes[0] and sizes.count(sizes[0]) == len(sizes):
        whole = rows * _ROW * sizes[0]
        done += chain.from_iterable(_row_of_equals(sizes[0]).iter_unpack(data[:whole]))
        data, ends = data[whole:], accumulate(sizes[rows * _ROW :])
    rest = bytes(data)
    start = 0
    for end in ends:
        done.append(rest[start:end])
        start = end
    return done


def encode_position(kind: Kind, flow: int, position: Position) -> bytes:
    """A CONSUMED or CREDIT record."""
    return POSITION.pack(POSITION.size, kind, 0, flow, *position)


def decode_position(body: memoryview) -> Position:
    """The position in a CONSUMED or CREDIT record's body."""
    if len(body) != POSITION.size - HEADER.size:
        raise RecordError(f"position record with a body of {len(body)} bytes")
    return Position(*struct.unpack("<IQQ", body))


def encode_epoch(flow: int, epoch: Epoch) -> bytes:
    """An EPOCH record."""
    return EPOCH.pack(EPOCH.size, Kind.EPOCH, 0, flow, 0, *epoch)


def decode_epoch(body: memoryview) -> Epoch:
    """What an EPOCH record's body says.  Raises: RecordError."""
    if len(body) != EPOCH.size - HEADER.size:
        raise RecordError(f"EPOCH record with a body of {len(body)} bytes")
    zero, *said = struct.unpack("<IQQQ", body)
    if zero:
        raise RecordError(f"EPOCH record with {zero} where zero belongs")
    return Epoch(*said)


def readdress(record: bytes, flow: int) -> bytes:
    """The same record for another flow."""
    return record[:_FLOW_AT] + flow.to_bytes(4, "little") + record[HEADER.size :]


def encode_bytes(kind: Kind, flow: int, body: bytes) -> bytes:
    """A record with ``body``; JSON bodies are padded with spaces, which JSON allows."""
    padded = body + b" " * (-len(body) % 4)
    return HEADER.pack(HEADER.size + len(padded), kind, 0, flow) + padded


def encode_json(kind: Kind, flow: int, body: Any) -> bytes:
    """A record whose body is JSON."""
    return encode_bytes(kind, flow, msgspec.json.encode(body))


def split(message: bytes | memoryview) -> Iterator[Record]:
    """The records of one ZeroMQ message.  Raises: RecordError at the first malformed one."""
    view = memoryview(message)
    offset = 0
    while offset < len(view):
        if len(view) - offset < HEADER.size:
            raise RecordError(f"record header cut short at byte {offset}")
        size, kind, zero, flow = HEADER.unpack_from(view, offset)
        if size < HEADER.size or size % 4 or size > len(view) - offset or zero:
            raise RecordError(f"record at byte {offset} claims {size} bytes")
        yield Record(kind, flow, view[offset + HEADER.size : offset + size])
        offset += size
