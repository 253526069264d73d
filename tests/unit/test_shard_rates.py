"""A shard's caps: what the coordinator allots goes into the engine, what was used is said."""

from __future__ import annotations

import pytest

from dp2p import bus
from dp2p.bus import Cap, Caps, Share, Used
from dp2p.shards.rates import GROUPS_MAX, SAY_S, Groups, Rates
from metered import FakeEngine, Usage

PEER, OTHER = "p" * 52, "o" * 52
NODE = Cap(scope="node", name="", up=1000)
CHAT = Cap(scope="protocol", name="chat", down=500)
SLOW = Cap(scope="peer", name=PEER, up=7, down=8)


class Shard:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.groups = Groups()
        self.rates = Rates(self.engine, self.groups, 0.0)

    def caps(self, *caps: Cap, generation: int = 1, now: float = 0.0) -> bool:
        return self.rates.set_caps(Caps(generation=generation, caps=list(caps)), now)

    def shares(self, node: Share = Share(), generation: int = 1, **protocols: Share) -> None:  # noqa: B008
        self.rates.set_shares(bus.Rates(generation=generation, node=node, protocols=protocols))


@pytest.fixture
def shard() -> Shard:
    return Shard()


def test_shares_are_limits_of_the_engine(shard: Shard) -> None:
    shard.rates.set_protocols(["chat", "files"], 0.0)
    shard.caps(NODE, CHAT)
    shard.shares(Share(600, 0), chat=Share(0, 250))
    assert shard.engine.node_limit == (600, 0)
    assert shard.engine.group_limits[shard.groups.number("chat")] == (0, 250)
    shard.caps(generation=2)
    shard.shares(generation=2)
    assert shard.engine.node_limit == (0, 0)
    assert shard.engine.group_limits[shard.groups.number("chat")] == (0, 0)


def test_shares_of_other_caps_are_not_for_it(shard: Shard) -> None:
    shard.caps(NODE, generation=3)
    shard.shares(Share(600, 0), generation=2)
    assert shard.engine.node_limit == (0, 0)
    assert not shard.caps(generation=2)
    assert shard.rates.caps.caps == [NODE]


def test_a_protocol_that_comes_later_is_capped(shard: Shard) -> None:
    shard.caps(CHAT)
    shard.shares(chat=Share(0, 250))
    shard.rates.set_protocols(["chat"], 0.0)
    assert shard.engine.group_limits == {shard.groups.number("chat"): (0, 250)}
    shard.rates.set_protocols([], 0.0)
    assert shard.engine.group_limits == {0: (0, 0)}  # for whoever has the number next


def test_peers_are_capped_where_their_links_are(shard: Shard) -> None:
    shard.rates.link_up(1, PEER)
    shard.rates.link_up(2, OTHER)
    shard.caps(SLOW)
    assert shard.engine.link_limits == {1: (7, 8)}
    shard.rates.link_down(1)
    shard.rates.link_up(3, PEER)
    assert shard.engine.link_limits[3] == (7, 8)
    shard.engine.dead_links.add(3)
    shard.caps(generation=2)  # it has ended meanwhile
    shard.rates.link_up(4, PEER)
    assert 4 not in shard.engine.link_limits


def test_usage_is_said_as_rates_since_the_last_time(shard: Shard) -> None:
    shard.rates.set_protocols(["chat", "files"], 0.0)
    assert shard.rates.due == float("inf")
    shard.caps(NODE, CHAT, now=10.0)
    assert shard.rates.due == 10.0 + SAY_S
    shard.rates.said(10.0)
    shard.engine.node = Usage(up_bytes=100, up_short=True)
    shard.engine.groups[shard.groups.number("chat")] = Usage(down_bytes=50)
    said = shard.rates.said(10.5)
    assert said == bus.Usage(
        generation=1, node=Used(up=200, up_short=True), protocols={"chat": Used(down=100)}
    )
    assert shard.rates.said(11.0).node == Used()
    shard.caps(SLOW, generation=2)  # nothing is divided
    assert shard.rates.due == float("inf")


def test_that_a_share_was_short_is_not_lost_to_who_asks_in_between(shard: Shard) -> None:
    shard.rates.set_protocols(["chat"], 0.0)
    shard.caps(CHAT)
    group = shard.groups.number("chat")
    shard.engine.groups[group] = Usage(up_bytes=30, down_bytes=10, down_short=True)
    assert shard.rates.speed("chat", 1.0) == (30, 10)
    assert shard.rates.speed("chat", 2.0) == (0, 0)
    assert shard.rates.said(2.0).protocols["chat"].down_short


def test_a_group_that_is_used_again_begins_anew(shard: Shard) -> None:
    shard.rates.set_protocols(["chat"], 0.0)
    shard.engine.groups[shard.groups.number("chat")] = Usage(up_bytes=1000)
    shard.rates.set_protocols(["files"], 1.0)
    assert shard.groups.number("files") == 0
    assert shard.rates.speed("files", 2.0) == (0, 0)


def test_groups_suffice_for_all_protocols_and_one_more_is_for_those_that_go() -> None:
    groups = Groups()
    names = [f"p{number}" for number in range(250)]
    groups.keep(names)
    others = [f"q{number}" for number in range(250)]
    groups.keep(others)
    numbers = {groups.number(name) for name in others}
    assert len(numbers) == 250
    assert groups.number("p0") == GROUPS_MAX - 1 not in numbers
