"""Applications that do not play by the rules, and those beside them that must not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import zmq

import dp2p
from dp2p import records
from dp2p.records import DATAGRAM_COST, Kind, Position
from process.nodes import PATIENCE_S, Node, app, expect, meet, talking
from process.raw import RawApp

Pair = tuple[Node, Node]

WINDOW = 4 << 20
SLACK = 24 << 20  # memory that shards may take beyond one window each: buffers, Python, allocator


@pytest.fixture
def raw(pair: Pair) -> Iterator[RawApp]:
    with closing(RawApp(pair[1])) as made:
        yield made


def round_trips(
    ours: dp2p.blocking.Protocol, theirs: dp2p.blocking.Protocol, a: Node, b: Node, count: int
) -> None:
    for i in range(count):
        ours.send(b.id, b"%d" % i, timeout=PATIENCE_S)
        assert theirs.recv(PATIENCE_S) == (a.id, 0, b"%d" % i)
        theirs.send(a.id, b"%d" % i, timeout=PATIENCE_S)
        assert ours.recv(PATIENCE_S) == (b.id, 0, b"%d" % i)


def test_an_application_that_never_reads(pair: Pair, raw: RawApp) -> None:
    """Its peer's sender waits; another protocol on the connection goes on; memory is bounded."""
    a, b = pair
    raw.control.register("deaf", window=WINDOW)
    with talking(a, b, "lively") as (ours, theirs), app(a) as first:
        deaf = first.register("deaf", window=WINDOW)
        deaf.wait_peer(b.id, timeout=PATIENCE_S)
        before = a.resident() + b.resident()
        payloads = [bytes(50_000)] * 10_000  # half a gigabyte
        with pytest.raises(dp2p.SendError) as stuck:
            deaf.send_many(b.id, payloads, timeout=1.0)
        assert stuck.value.code == "timeout"
        most = WINDOW // (50_000 + DATAGRAM_COST)
        assert most * 3 // 4 <= stuck.value.accepted <= most
        round_trips(ours, theirs, a, b, 200)
        assert a.resident() + b.resident() - before < 2 * WINDOW + SLACK
        assert [row["name"] for row in b.status()["apps"] if row["name"] == "raw"] == ["raw"]


def test_an_application_that_reads_but_does_not_consume(pair: Pair) -> None:
    """The SDK reads for every protocol of the process; credit comes back only with `recv`."""
    a, b = pair
    with app(a) as first, app(b) as second:
        options = {"window": 1 << 20, "max_datagram": 10_000}
        ours = [first.register(name, **options) for name in ("taken", "left")]
        theirs = [second.register(name, **options) for name in ("taken", "left")]
        meet(*((one, b) for one in ours), *((one, a) for one in theirs))
        accepted = (1 << 20) // (10_000 + DATAGRAM_COST)
        for _ in range(accepted):
            ours[1].send_nowait(b.id, bytes(10_000))
        round_trips(ours[0], theirs[0], a, b, 50)
        with pytest.raises(dp2p.RequestError, match="no_credit"):
            ours[1].send_nowait(b.id, bytes(10_000))
        for _ in range(accepted):
            assert theirs[1].recv(PATIENCE_S).payload == bytes(10_000)
        with pytest.raises(TimeoutError):
            theirs[1].recv(0.0)
        ours[1].send(b.id, bytes(10_000), timeout=PATIENCE_S)


# --- what a shard refuses, with an ERROR record, and nobody else notices ---


class Mischief:
    """A misbehaving application on the second node, beside well-behaved ones."""

    def __init__(self, pair: Pair, raw: RawApp, first: dp2p.blocking.Node) -> None:
        self.raw = raw
        self.node = pair[1]
        raw.control.register("mischief", window=1 << 20, max_datagram=1000, types=4)
        self.peer = first.register("mischief", window=1 << 20, max_datagram=1000, types=4)
        self.flow, up = raw.expect(Kind.UP)
        assert up["peer"] == pair[0].id
        self.peer.wait_peer(self.node.id, timeout=PATIENCE_S)

    def refused(self, message: bytes) -> str:
        self.raw.send(message)
        _, body = self.raw.expect(Kind.ERROR)
        return str(body["code"])


@pytest.fixture
def mischief(pair: Pair, raw: RawApp) -> Iterator[Mischief]:
    with app(pair[0]) as first:
        yield Mischief(pair, raw, first)


def data(flow: int, *payloads: bytes, type: int = 0) -> bytes:  # noqa: A002
    return records.encode_data(flow, payloads, type)


def position(flow: int, datagrams: int, size: int) -> bytes:
    return records.encode_position(Kind.CONSUMED, flow, Position(0, datagrams, size))


def test_one_who_sends_only_garbage_is_given_up(mischief: Mischief) -> None:
    """It never reads, so what it is told would pile up in the shard."""
    events = mischief.peer.events()
    expect(events, dp2p.PeerUp)
    for _ in range(1100):
        mischief.raw.send(data(mischief.flow + 1000, b"x"))
    expect(events, dp2p.PeerDown)


GARBAGE = [
    b"\0",
    b"garbage that is no record at all, but long enough to be one",
    b"\xff" * 64,
    records.HEADER.pack(12, 99, 0, 0),
    records.HEADER.pack(11, Kind.DATA, 0, 0),
    records.HEADER.pack(1 << 31, Kind.DATA, 0, 0),
]


def test_garbage_is_refused_and_nobody_else_notices(pair: Pair, mischief: Mischief) -> None:
    a, b = pair
    flow = mischief.flow
    rows = [
        *[(garbage, ("malformed", "unknown_flow")) for garbage in GARBAGE],
        (records.HEADER.pack(12, Kind.DATA, 0, flow), ("malformed",)),
        (records.HEADER.pack(12, Kind.CONSUMED, 0, flow), ("malformed",)),
        (records.HEADER.pack(12, Kind.UP, 0, flow), ("malformed",)),
        (data(flow), ("malformed",)),
        (data(flow, b"x")[:-4], ("malformed",)),
        (data(flow + 1000, b"x"), ("unknown_flow",)),
        (data(flow, bytes(1001)), ("datagram_refused",)),
        (data(flow, b"x", type=4), ("datagram_refused",)),
        (position(flow, 1, 17), ("no_credit",)),
        (position(flow, 0, 1), ("no_credit",)),
        (position(flow, 1 << 63, 1 << 63), ("no_credit",)),
    ]
    with talking(a, b, "decent") as (ours, theirs):
        for message, codes in rows:
            assert mischief.refused(message) in codes
            round_trips(ours, theirs, a, b, 2)
        mischief.raw.send(b"")
        mischief.raw.send(b"several", b"frames", b"")
        mischief.raw.send(data(flow, b"still a member"))
        assert mischief.peer.recv(PATIENCE_S).payload == b"still a member"
    b.until(lambda: b.lost()["malformed"] == 1, "the message of several frames to be counted")


def test_sending_without_credit_is_refused(pair: Pair, mischief: Mischief) -> None:
    """Nothing of the record gets through; what fits afterwards does."""
    row = [bytes(1000)] * ((1 << 20) // (1000 + DATAGRAM_COST))
    rest = (1 << 20) - len(row) * (1000 + DATAGRAM_COST)
    assert mischief.refused(data(mischief.flow, *row, bytes(rest - DATAGRAM_COST + 1)))
    mischief.raw.send(data(mischief.flow, *row))
    assert mischief.refused(data(mischief.flow, bytes(rest))) == "no_credit"
    got = 0
    while got < len(row):
        batch = mischief.peer.recv_many(PATIENCE_S)
        assert set(batch.payloads) == {bytes(1000)}
        got += len(batch.payloads)
    with pytest.raises(TimeoutError):
        mischief.peer.recv(0.1)
    position_at_end = mischief.raw.expect(Kind.CREDIT)
    assert position_at_end[0] == mischief.flow


def test_flows_of_others_are_out_of_reach(pair: Pair, mischief: Mischief) -> None:
    """Every flow number that the shard may have given out is tried."""
    a, b = pair
    with talking(a, b, "victim") as (ours, theirs):
        numbers = [flow.number for flow in theirs._flows.values()]
        for number in [*range(64), *numbers]:
            if number != mischief.flow:
                assert mischief.refused(data(number, b"forged")) == "unknown_flow"
                assert mischief.refused(position(number, 0, 0)) == "unknown_flow"
        round_trips(ours, theirs, a, b, 5)


def test_a_session_that_nobody_has(pair: Pair) -> None:
    _, b = pair
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        (endpoint,) = (f"ipc://{path}" for path in b.run_dir.glob("shard-0-*.sock"))
        socket.connect(endpoint)
        for message in (records.encode_bytes(Kind.ATTACH, 0, bytes(16)), b"", *GARBAGE):
            socket.send(message)
            assert socket.poll(int(PATIENCE_S * 1000))
            (record,) = records.split(socket.recv())
            assert record.kind == Kind.ERROR
            assert b"unknown_session" in bytes(record.body)
    finally:
        socket.close()


def test_attaching_twice_begins_anew(pair: Pair, mischief: Mischief) -> None:
    """A second data socket with the same session: the old flows end, new ones come up, and
    datagrams go to the new socket; even when both ATTACH records come at once.
    """
    a, b = pair
    raw = mischief.raw
    events = mischief.peer.events()
    endpoint = raw.sockets[0].getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    raw.sockets.insert(0, raw._open(endpoint.rstrip(b"\0").decode()))
    attach = records.encode_bytes(Kind.ATTACH, 0, bytes.fromhex(raw.session))
    raw.send(attach)
    raw.send(attach)
    assert raw.expect(Kind.ERROR)[1]["code"] == "unknown_session"
    _, up = raw.expect(Kind.UP)
    assert up["peer"] == a.id
    expect(events, dp2p.PeerDown)
    expect(events, dp2p.PeerUp)
    mischief.peer.send(b.id, b"to the new one")
    raw.expect(Kind.DATA)
