"""The coordinator's ROUTER: whoever does not read is given up, and nobody has the loop for long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import zmq
import zmq.asyncio
from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.backlog import FRAME_COST, Backlogs
from dp2p.coordinator.router import TURN, Router

SLOW, OTHER = b"slow", b"other"


class FakeSocket:
    """Takes so many messages for each receiver as there is room for; has messages to read."""

    def __init__(self, incoming: int = 0) -> None:
        self.incoming = deque([b"app", b"%d" % number] for number in range(incoming))
        self.room = {SLOW: 0, OTHER: 1_000_000}
        self.sent: list[tuple[bytes, bytes]] = []

    def socket(self, _kind: int) -> FakeSocket:
        return self

    def setsockopt(self, _option: int, _value: int) -> None:
        """Nothing here depends on it."""

    def bind(self, endpoint: str) -> None:
        Path(endpoint.removeprefix("ipc://")).touch()

    def close(self) -> None:
        """Nothing is open."""

    def send_multipart(self, parts: list[bytes], _flags: int) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        identity, frame = parts
        if identity not in self.room:
            done.set_exception(zmq.ZMQError(zmq.EHOSTUNREACH))
        elif not self.room[identity]:
            done.set_exception(zmq.ZMQError(zmq.EAGAIN))
        else:
            self.room[identity] -= 1
            self.sent.append((identity, frame))
            done.set_result(None)
        return done

    def recv_multipart(self) -> asyncio.Future[list[bytes]]:
        future = asyncio.get_running_loop().create_future()
        if self.incoming:
            future.set_result(self.incoming.popleft())
        return future


def with_router(
    path: Path, socket: FakeSocket, backlogs: Backlogs | None, work: Callable[[Router], Any]
) -> Any:
    """Run ``work`` in a loop, with a router over ``socket``."""

    async def run() -> Any:
        context = cast(zmq.asyncio.Context, socket)
        router = Router(context, f"ipc://{path / 'sock'}", 1 << 20, backlogs)
        try:
            return await work(router)
        finally:
            router.close()

    return asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until it is so; the router's own timers decide when."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("waited in vain")


def test_who_is_behind_gets_all_in_order_once_it_reads(tmp_path: Path) -> None:
    socket = FakeSocket()

    async def work(router: Router) -> None:
        frames = [b"%d" % number for number in range(1000)]
        assert all(router.send(SLOW, frame) for frame in frames)
        assert router.behind(SLOW)
        assert router.send(OTHER, b"passes")
        assert socket.sent == [(OTHER, b"passes")]
        socket.room[SLOW] = 600
        await until(lambda: len(socket.sent) == 601)
        socket.room[SLOW] = 1000
        await until(lambda: not router.behind(SLOW))
        assert [frame for identity, frame in socket.sent if identity == SLOW] == frames
        assert router.send(SLOW, b"at once")
        assert socket.sent[-1] == (SLOW, b"at once")
        assert (router.counters.sent, router.counters.given_up) == (1002, 0)

    with_router(tmp_path, socket, Backlogs(), work)


def test_who_does_not_read_is_given_up_and_may_begin_anew(tmp_path: Path) -> None:
    given_up: list[bytes] = []

    async def work(router: Router) -> None:
        serving = asyncio.create_task(router.serve(lambda *_: None, given_up.append))
        await asyncio.sleep(0)
        sent = [router.send(SLOW, bytes(100)) for _ in range(11)]
        assert sent == [True] * 10 + [False]
        assert not router.behind(SLOW)
        assert given_up == []  # whoever sends may be amid a decision
        await until(lambda: given_up)
        assert given_up == [SLOW]
        assert router.counters.given_up == 1
        assert router.send(SLOW, b"anew")
        assert router.behind(SLOW)
        serving.cancel()

    with_router(tmp_path, FakeSocket(), Backlogs(each_bytes=10 * (100 + FRAME_COST)), work)


def test_what_waits_for_one_that_has_gone_is_counted(tmp_path: Path) -> None:
    socket = FakeSocket()

    async def work(router: Router) -> None:
        assert router.send(SLOW, b"1")
        assert router.send(SLOW, b"2")
        del socket.room[SLOW]
        await until(lambda: not router.behind(SLOW))
        assert router.counters.unroutable == 2
        assert not router.send(SLOW, b"3")
        assert router.counters.unroutable == 3

    with_router(tmp_path, socket, Backlogs(), work)


def test_messages_that_never_end_leave_the_loop_to_others(tmp_path: Path) -> None:
    """Messages that are there are received without waiting, so the reader must give way itself."""
    handled: list[bytes] = []

    async def work(router: Router) -> None:
        serving = asyncio.create_task(router.serve(lambda _, frame: handled.append(frame)))
        before = 0
        while len(handled) < 100:
            assert len(handled) - before <= TURN
            before = len(handled)
            await asyncio.sleep(0)
        serving.cancel()

    with_router(tmp_path, FakeSocket(100), None, work)


SENDS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=40)))


@given(SENDS, st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 5))
def test_backlogs_are_bounded_and_keep_order(
    sends: list[tuple[bytes, bytes]], each: int, everything: int, taken: int
) -> None:
    backlogs = Backlogs(each, everything)
    model: dict[bytes, list[bytes]] = {}
    for identity, frame in sends:
        model.setdefault(identity, []).append(frame)
        over = backlogs.add(identity, frame)
        if over is not None:
            del model[over]
        costs = {one: sum(len(f) + FRAME_COST for f in kept) for one, kept in model.items()}
        assert set(backlogs.receivers) == model.keys()
        assert max(costs.values(), default=0) <= each
        assert sum(costs.values()) <= everything
    for identity, kept in model.items():
        out: list[bytes] = []

        def send(frame: bytes, out: list[bytes] = out) -> bool:
            if len(out) == taken:
                return False
            out.append(frame)
            return True

        assert backlogs.drain(identity, send) == min(taken, len(kept))
        assert out == kept[:taken]
        assert (identity in backlogs) is (len(kept) > taken)
