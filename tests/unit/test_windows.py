"""Windows open when they alone hold a sender up, within caps; what all have is divided."""

from __future__ import annotations

import pytest

from dp2p import records
from dp2p.errors import TransportError
from dp2p.records import DATAGRAM_COST
from dp2p.transport import NodeConfig
from wire import Pair

SIZE = 1000 - DATAGRAM_COST
WINDOW = 8000
MOST = 64_000


def pair_of(window_bytes_max: int = 0) -> Pair:
    config = NodeConfig(window_max=MOST, window_bytes_max=window_bytes_max)
    return Pair(config=config).open()


class Stream:
    """One direction of a flow whose sender always has more, in datagrams that cost 1000."""

    def __init__(self, pair: Pair, number: int = 0, window: int = WINDOW) -> None:
        self.pair = pair
        self.ours, self.theirs = pair.flow(number, window=window, max_datagram=SIZE)
        self.consumed = 0

    def fill(self) -> None:
        """As many datagrams as credit allows, one record each."""
        info = self.pair.a.node.flow(self.ours)
        for _ in range((info.send_limit - info.accepted.bytes) // 1000):
            self.pair.a.ingest(records.encode_data(self.ours, [bytes(SIZE)], 0))

    def read(self, count: int | None = None) -> None:
        """The application takes ``count`` datagrams, or all there are."""
        arrived = self.pair.b.node.flow(self.theirs).received.datagrams
        self.consumed = arrived if count is None else min(arrived, self.consumed + count)
        self.pair.b.consume(self.theirs, self.consumed, 1000 * self.consumed)

    def round(self, count: int | None = None) -> int:
        """A round trip; returns the window then."""
        self.fill()
        self.pair.run()
        self.read(count)
        self.pair.run()
        return self.window

    @property
    def window(self) -> int:
        return self.pair.b.node.flow(self.theirs).window


def test_a_window_doubles_with_each_round_trip_up_to_its_cap() -> None:
    stream = Stream(pair_of())
    assert [stream.round() for _ in range(5)] == [16_000, 32_000, 64_000, 64_000, 64_000]
    sender = stream.pair.a.node.flow(stream.ours)
    assert sender.peer_window == MOST
    assert sender.send_limit == stream.pair.b.node.flow(stream.theirs).receive_limit
    assert stream.pair.b.node.stats()["windows_grown"] == 3


def test_an_application_that_is_slower_than_the_line_keeps_its_window() -> None:
    """It reads a quarter at a time, and there is always more."""
    stream = Stream(pair_of())
    assert [stream.round(2) for _ in range(20)] == [WINDOW] * 20


def test_a_sender_that_is_not_held_up_gets_no_more() -> None:
    stream = Stream(pair_of())
    for _ in range(20):
        stream.pair.a.ingest(records.encode_data(stream.ours, [bytes(SIZE)] * 5, 0))
        stream.pair.run()
        stream.read()
        stream.pair.run()
    assert stream.window == WINDOW


def test_several_blocked_under_way_are_one_growth() -> None:
    """What was said before the last growth was known says nothing of the new window."""
    stream = Stream(pair_of())
    pair = stream.pair
    stream.fill()
    pair.carry(pair.a, pair.b)
    for _ in range(3):  # in quarters, with CREDIT and BLOCKED crossing
        stream.read(2)
        pair.carry(pair.b, pair.a)
    assert stream.window == WINDOW
    stream.fill()
    late = pair.a.node.produce(pair.a.link, 1 << 17, pair.now)
    stream.read()
    pair.run()
    pair.b.inbox += late
    pair.run()
    assert stream.window == WINDOW  # the first BLOCKED was cleared by CREDIT amid unread data
    stream.read()
    pair.run()
    assert stream.window == 2 * WINDOW


def test_datagrams_as_large_as_half_the_window() -> None:
    stream = Stream(pair_of(), window=2000)
    assert stream.round(1) == 2000
    assert stream.round(1) == 2000
    assert stream.round() == 4000


def test_a_peer_without_bound_gets_no_more_than_the_cap() -> None:
    pair = Pair(config=NodeConfig(window_max=MOST), other=NodeConfig(window_max=10 * MOST)).open()
    stream = Stream(pair)
    for _ in range(10):
        stream.round()
    assert stream.window == 2 * MOST  # it saw that more is not used
    sender = pair.a.node.flow(stream.ours)
    assert sender.peer_window == MOST
    assert sender.send_limit - sender.confirmed.bytes == MOST


def test_a_window_that_begins_above_the_cap_is_used_up_to_it() -> None:
    pair = pair_of()
    stream = Stream(pair, window=2 * MOST)
    assert pair.a.node.flow(stream.ours).send_limit == MOST
    assert stream.window == 2 * MOST
    largest, _ = pair.flow(1, window=4 * MOST, max_datagram=2 * MOST)
    assert pair.a.node.flow(largest).send_limit == 2 * MOST + DATAGRAM_COST


def test_no_window_grows_beyond_the_sum() -> None:
    """Four windows that begin with 8000 each leave room for one more of these."""
    pair = pair_of(window_bytes_max=40_000)
    first, second = Stream(pair, 0), Stream(pair, 1)
    for _ in range(10):
        first.round()
        second.round()
    assert first.window + second.window == 3 * WINDOW
    stats = pair.b.node.stats()
    assert stats["window_bytes"] == 3 * WINDOW
    assert stats["window_bytes"] + stats["peer_window_bytes"] == 40_000


def test_who_has_more_than_its_share_gives_back() -> None:
    """The first grows as long as it is alone; then both come to what they can have."""
    pair = pair_of(window_bytes_max=60_000)
    first, second = Stream(pair, 0), Stream(pair, 1)
    for _ in range(5):
        first.round()
    assert (first.window, second.window) == (32_000, WINDOW)
    windows = []
    for _ in range(10):
        first.round()
        second.round()
        windows.append((first.window, second.window))
    assert windows[-1] == (16_000, 16_000)
    assert all(sum(both) <= 44_000 and min(both) >= WINDOW for both in windows)
    pair.b.node.sink_close(pair.b.sink)
    assert pair.b.node.stats()["window_bytes"] == pair.b.node.stats()["peer_window_bytes"] == 0


def test_a_window_must_have_a_cap() -> None:
    with pytest.raises(TransportError, match="argument"):
        Pair(config=NodeConfig(window_max=0))
