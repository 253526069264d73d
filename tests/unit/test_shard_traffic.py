"""A shard's flows as they are told, and the books of what they moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus
from dp2p.bus import Total
from dp2p.shards.accounts import Accounts
from dp2p.shards.traffic import Opened, Traffic
from metered import FakeEngine, Info

ALL = bus.AskTraffic(id=1, limit=100)


class Shard:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.traffic = Traffic(self.engine, 3)

    def open(self, handle: int, peer: str = "p", protocol: str = "chat") -> None:
        self.traffic.opened(Opened(handle, peer, protocol, "normal", 16), 0.0)

    def told(self, now: float, asked: bus.AskTraffic = ALL) -> list[bus.FlowRow]:
        return self.traffic.told(asked, now).rows


@pytest.fixture
def shard() -> Shard:
    return Shard()


def test_a_row_says_how_a_flow_stands(shard: Shard) -> None:
    shard.open(1)
    shard.engine.flows[1] = Info(
        accepted=(9, 900),
        sent=(4, 400),
        received=(8, 800),
        consumed=(5, 500),
        send_limit=1000,
        receive_limit=2000,
        window=1500,
        peer_window=1600,
        wait_ms=12,
        waited_max_ms=34,
    )
    (row,) = shard.told(2.0)
    assert row == bus.FlowRow(
        peer="p",
        protocol="chat",
        shard=3,
        priority="normal",
        weight=16,
        window=1500,
        peer_window=1600,
        credit_up=100,
        credit_down=1200,
        queued_datagrams=5,
        queued_bytes=500,
        unread_datagrams=3,
        unread_bytes=300,
        wait_ms=12,
        waited_max_ms=34,
        rate_up=200,
        rate_down=400,
    )
    assert shard.traffic.accounts.changed() == bus.Totals(
        totals=[Total("p", "chat", 4, 400, 8, 800)]
    )
    assert shard.traffic.sums["chat"].queued_bytes == 500
    assert shard.traffic.sums["chat"].unread_bytes == 300


def test_the_longest_wait_is_kept_until_somebody_asks(shard: Shard) -> None:
    shard.open(1)
    shard.engine.flows[1] = Info(waited_max_ms=50)
    shard.traffic.sweep(1.0)
    shard.traffic.sweep(2.0)
    assert [row.waited_max_ms for row in shard.told(3.0)] == [50]
    assert [row.waited_max_ms for row in shard.told(4.0)] == [0]


def test_filters_and_limit_take_the_longest_queues(shard: Shard) -> None:
    for handle, (peer, protocol) in enumerate([("p", "chat"), ("q", "chat"), ("p", "files")]):
        shard.open(handle, peer, protocol)
        shard.engine.flows[handle] = Info(accepted=(1, handle))
    one = bus.AskTraffic(id=1, limit=1)
    told = shard.traffic.told(one, 1.0)
    assert [row.protocol for row in told.rows] == ["files"]
    assert told.left_out == 2
    chat = shard.told(1.0, bus.AskTraffic(id=1, protocols=["chat"], limit=9))
    assert [row.peer for row in chat] == ["q", "p"]
    of_peer = shard.told(1.0, bus.AskTraffic(id=1, peer="p", limit=9))
    assert [row.protocol for row in of_peer] == ["files", "chat"]
    assert shard.told(1.0, bus.AskTraffic(id=1, protocols=[], limit=9)) == []


def test_flows_are_looked_at_in_turn(shard: Shard) -> None:
    for handle in range(5):
        shard.open(handle, f"p{handle}")
        shard.engine.flows[handle] = Info(sent=(1, 10))
    shard.traffic.sweep(1.0, most=3)
    shard.traffic.sweep(2.0, most=2)
    changed = shard.traffic.accounts.changed()
    assert changed is not None
    assert sorted(one.peer for one in changed.totals) == [f"p{handle}" for handle in range(5)]


def test_what_a_flow_moved_last_is_seen_when_it_is_closed(shard: Shard) -> None:
    shard.open(1)
    shard.engine.flows[1] = Info(sent=(2, 20))
    shard.traffic.closing(1, 1.0)
    shard.open(2)
    shard.engine.flows[2] = Info(sent=(1, 5))
    shard.traffic.sweep(2.0)
    shard.traffic.gone(2)
    shard.traffic.gone(2)
    assert shard.traffic.accounts.everything().totals == [Total("p", "chat", 3, 25)]
    assert shard.traffic.sums == {}
    assert shard.told(3.0) == []


# --- books ---

KEYS = [(peer, protocol) for peer in "abcd" for protocol in ("x", "y", "z")]
steps = st.lists(
    st.tuples(st.sampled_from(["open", "close", "add", "say", "restart"]), st.sampled_from(KEYS)),
    max_size=80,
)


@given(steps)
def test_books_lose_nothing_and_stay_small(steps: list[tuple[str, tuple[str, str]]]) -> None:
    """Whoever follows what is said has the same sums, folded or not, from any moment on."""
    accounts = Accounts(most=2, others_most=2)
    open_flows: list[tuple[str, str]] = []
    heard: dict[tuple[str, str], Total] = {}
    moved = 0
    for what, key in steps:
        if what == "open":
            accounts.opened(key)
            open_flows.append(key)
        elif what == "close" and key in open_flows:
            accounts.closed(key)
            open_flows.remove(key)
        elif what == "add" and key in open_flows:
            accounts.add(key, (1, 10, 2, 20))
            moved += 1
        elif what == "say":
            hear(heard, accounts.changed())
        elif what == "restart":
            heard = {}
            hear(heard, accounts.everything())
    hear(heard, accounts.changed())
    assert sum(one.up_datagrams for one in heard.values()) == moved
    assert sum(one.down_bytes for one in heard.values()) == 20 * moved
    assert len(accounts) <= len(set(open_flows)) + 2 + 2
    assert accounts.changed() is None


def hear(heard: dict[tuple[str, str], Total], said: bus.Totals | None) -> None:
    for key in said.folded if said else []:
        heard.pop((key[0], key[1]), None)
    for one in said.totals if said else []:
        heard[one.peer, one.protocol] = one
