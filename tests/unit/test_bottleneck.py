"""The bottleneck that benchmarks measure through: its model in virtual time, then with sockets.

Rates and delays of the model are exact. Of the sockets only what no slow machine can break is
asserted: bytes, their order, the end, the rate from above and the delay from below.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[2]))

from load.bottleneck import NS, SEGMENT, Bottleneck, Line, Meter, Place, Shape

SLOW = Shape(1e6, 0.020)
QUICK = Shape(20e6, 0.005)
MS = NS // 1000


class Run:
    """A line whose sender always has more, and whose reader takes all that is due."""

    def __init__(self, shape: Shape, *, reads: bool = True) -> None:
        self.line = Line(shape, Meter(shape))
        self.reads = reads
        self.put = 0
        self.got: list[tuple[int, int]] = []
        "When, and how much."

    def step(self, now: int) -> None:
        while room := self.line.room(now):
            self.line.put(now, bytes(room))
            self.put += room
        while self.reads and (data := self.line.peek(now)) is not None:
            self.line.take(len(data))
            self.got.append((now, len(data)))

    def taken(self, start: int, end: int) -> int:
        return sum(size for at, size in self.got if start < at <= end)


# --- the model ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SLOW, QUICK, Shape(125e6, 0.060)])
@pytest.mark.parametrize("late_ms", [1, 3])
def test_a_saturated_line_delivers_its_rate(shape: Shape, late_ms: int) -> None:
    run = Run(shape)
    for ms in range(0, 2000, late_ms):
        run.step(ms * MS)
    carried = run.taken(500 * MS, 1500 * MS)
    assert carried == pytest.approx(shape.rate, rel=0.01)


def test_nothing_is_due_before_it_has_passed_and_the_delay_is_over() -> None:
    line = Line(SLOW, Meter(SLOW))
    line.put(NS, b"first")
    assert line.due_ns() == NS + 20 * MS
    assert line.peek(NS + 20 * MS - 1) is None
    assert bytes(line.peek(NS + 20 * MS) or b"") == b"first"


def test_bytes_wait_for_those_before_them() -> None:
    meter = Meter(SLOW)
    meter.admit(NS, SLOW.burst)  # what may pass at once
    assert meter.admit(NS, 1000) == NS + 1 * MS
    assert meter.admit(NS, 1000) == NS + 2 * MS
    assert meter.waiting(NS) == pytest.approx(2000)


def test_a_line_whose_reader_stops_holds_no_more_than_its_bound() -> None:
    run = Run(SLOW, reads=False)
    for ms in range(1000):
        run.step(ms * MS)
    assert SLOW.most - SLOW.chunk < run.put <= SLOW.most
    assert run.line.opens_ns() is None


def test_the_end_comes_last_and_late() -> None:
    line = Line(SLOW, Meter(SLOW))
    line.put(NS, bytes(100))
    line.put(NS, b"")
    assert line.room(2 * NS) == 0
    assert not line.ended(2 * NS)
    line.take(60)
    assert len(line.peek(2 * NS) or b"") == 40
    line.take(40)
    assert not line.ended(NS)
    assert line.ended(2 * NS)


@given(steps=st.lists(st.tuples(st.integers(0, 30 * MS), st.integers(1, 4 * SEGMENT)), max_size=60))
def test_the_rate_is_never_exceeded_whoever_sends_when(steps: list[tuple[int, int]]) -> None:
    meter, now, passed = Meter(SLOW), NS, []
    for wait, size in steps:
        now += wait
        passed.append((meter.admit(now, size), size))
    assert [at for at, _ in passed] == sorted(at for at, _ in passed)
    for first in range(len(passed)):
        for last in range(first + 1, len(passed)):
            span = passed[last][0] - passed[first][0]
            size = sum(size for _, size in passed[first + 1 : last + 1])
            assert size <= SLOW.rate * span / NS + SLOW.burst + 1


@given(cuts=st.lists(st.integers(1, 3 * SEGMENT), max_size=30), seed=st.integers())
def test_any_split_keeps_bytes_and_order(cuts: list[int], seed: int) -> None:
    line, dice, now = Line(QUICK, Meter(QUICK)), random.Random(seed), 0
    sent = received = b""
    for size in cuts:
        now += dice.randrange(20 * MS)
        data = dice.randbytes(size)
        line.put(now, data)
        sent += data
        if (due := line.peek(now)) is not None:
            part = dice.randint(1, len(due))
            received += due[:part]
            line.take(part)
    while (due := line.peek(now + NS * 60)) is not None:
        received += due
        line.take(len(due))
    assert received == sent
    assert line.held == 0


# --- with sockets -------------------------------------------------------------------------


@contextmanager
def through(shape: Shape) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through a bottleneck."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        with (
            Bottleneck(listener.getsockname(), shape) as between,
            socket.create_connection(between.place, 10) as near,
        ):
            far, _ = listener.accept()
            far.settimeout(10)
            with far:
                yield near, far


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def say(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def test_bytes_pass_both_ways_unchanged_and_the_end_passes_by_itself() -> None:
    there, back = random.Random(1).randbytes(1 << 20), random.Random(2).randbytes(1 << 19)
    with through(QUICK) as (near, far):
        sender = threading.Thread(target=say, args=(near, there))
        sender.start()
        begin = time.monotonic()
        assert read_all(far) == there
        spent = time.monotonic() - begin
        sender.join()
        answerer = threading.Thread(target=say, args=(far, back))
        answerer.start()
        assert read_all(near) == back
        answerer.join()
    held = QUICK.burst + QUICK.most + (1 << 18)  # what had passed, or nearly, before we looked
    assert spent >= (len(there) - held) / QUICK.rate


def test_no_byte_is_early() -> None:
    with through(SLOW) as (near, far):
        for _ in range(3):
            begin = time.monotonic()
            near.sendall(b"?")
            far.sendall(far.recv(1))
            assert near.recv(1) == b"?"
            assert time.monotonic() - begin >= 2 * SLOW.delay_s


def test_a_reader_that_stops_holds_the_sender_back() -> None:
    with through(SLOW) as (near, far):
        near.settimeout(0.5)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(64 << 20))
        assert far.recv(1) == b"\0"


def test_a_reset_passes_and_others_go_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        with Bottleneck(listener.getsockname(), QUICK) as between:
            ends = [_join(listener, between.place) for _ in range(2)]
            (near, far), (other_near, other_far) = ends
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            near.close()
            assert far.recv(1) == b""
            other_near.sendall(b"still here")
            assert other_far.recv(10, socket.MSG_WAITALL) == b"still here"
            for sock in (far, other_near, other_far):
                sock.close()


def _join(listener: socket.socket, place: Place) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection(place, 10)
    far, _ = listener.accept()
    far.settimeout(10)
    return near, far


def test_a_target_that_refuses_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        place = gone.getsockname()
    with (
        Bottleneck(place, QUICK) as between,
        socket.create_connection(between.place, 10) as near,
    ):
        assert near.recv(1) == b""
