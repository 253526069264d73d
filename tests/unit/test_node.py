"""What the coordinator does with links that it has told to close, and with shards that die."""

from __future__ import annotations

from typing import Any, cast

import pytest

from coordinator_world import KEYS, FakeShard, World
from dp2p import bus, ids, introduction
from dp2p.coordinator import node as node_module
from dp2p.coordinator import own_record
from dp2p.coordinator.hearing import HELLO_S
from dp2p.coordinator.targets import Phase
from dp2p.introduction import Find


def settled() -> tuple[World, FakeShard]:
    world = World(1)
    world.settle()
    assert world.node.settled
    return world, world.shards[0]


def ready(shard: FakeShard, key: str, *, instance: str = "0" * 16, **more: Any) -> int:
    shard.last += 1
    report = bus.LinkReport(
        link=shard.last, key=key, direction="in", endpoint="tcp4://203.0.113.1:50000",
        instance=instance, listen=[], mode="xx", **more,
    )  # fmt: skip
    shard.say(bus.LinkReady(report=report, dial_ticket=bytes(48), accept_ticket=bytes(48)))
    return shard.last


def deliver(world: World, shard: FakeShard) -> list[bus.ToShard]:
    """The coordinator reads all that a shard said; what it answers."""
    shard.told.clear()
    while shard.said:
        world.deliver(shard)
    return list(shard.told)


def chooser_of(world: World) -> str:
    """A peer for which this node is the chooser."""
    own = ids.from_text(world.node.peers._own)
    return next(key for key in KEYS if ids.node_id(ids.from_text(key)) > own)


def test_a_link_that_came_up_while_it_was_closed_is_no_stranger() -> None:
    """Else a peer with two links could have a shard say all that it has, as often as it likes."""
    world, shard = settled()
    key = chooser_of(world)
    first = ready(shard, key)
    second = ready(shard, key, instance="1" * 16)  # the peer began anew
    shard.say(bus.LinkUp(link=first))
    answers = deliver(world, shard)
    assert bus.Close(link=first, reason="duplicate") in answers
    assert any(isinstance(one, bus.Admit) and one.link == second for one in answers)
    assert not any(isinstance(one, bus.WhoAreYou) for one in answers)


def test_a_link_that_nobody_knows_makes_its_shard_say_all() -> None:
    world, shard = settled()
    shard.say(bus.LinkUp(link=77))
    assert any(isinstance(one, bus.WhoAreYou) for one in deliver(world, shard))


def test_who_breaks_the_rules_is_not_heard_any_more() -> None:
    world, shard = settled()
    link = ready(shard, chooser_of(world))
    shard.say(bus.LinkUp(link=link))
    kind, body = introduction.encode(Find(id=1))
    for _ in range(100):
        shard.say(bus.PeerSaid(link=link, type=kind, body=b"nonsense"))
    shard.say(bus.PeerSaid(link=link, type=kind, body=body))
    answers = deliver(world, shard)
    assert [one for one in answers if isinstance(one, bus.Close)] == [
        bus.Close(link=link, reason="protocol")
    ]
    assert world.node.acquaintance.counters.misbehaved == 1
    assert world.node.acquaintance.counters.finds_answered == 0


def test_a_shard_that_dies_amid_a_decision_leaves_nothing() -> None:
    world, shard = settled()
    link = ready(shard, chooser_of(world))
    shard.say(bus.LinkUp(link=link))
    shard.found_dead = True
    deliver(world, shard)
    world.wait()
    books = dict(world.books())
    assert not [name for name in ("links", "conversations", "suspects", "lost") if books[name]]


def test_a_refused_link_is_forgotten_with_its_shard() -> None:
    world, shard = settled()
    own = world.node.acquaintance._own_key
    ready(shard, ids.to_text(own))
    answers = deliver(world, shard)
    assert [one.reason for one in answers if isinstance(one, bus.Close)] == ["self"]
    world.shards[0] = world._new_shard(0)
    deliver(world, world.shards[0])
    assert not dict(world.books())["closing"]


def test_a_static_peer_is_dialled_again_when_its_next_link_goes_with_a_shard() -> None:
    """Its open link was lost while another one was opening, in a shard that then died."""
    world, shard = settled()
    node, key = world.node, KEYS[0]
    other = world.shards[1]
    first = ready(shard, key)
    deliver(world, shard)
    shard.say(bus.LinkUp(link=first))
    deliver(world, shard)
    (target,) = (one for one in cast(Any, node.dialer)._targets if one.key == key and one.static)
    assert target.phase is Phase.HELD
    ready(other, key, instance="1" * 16)
    deliver(world, other)
    shard.say(bus.LinkDown(link=first, reason="eof", remote=False))
    deliver(world, shard)
    assert node.peers.link_of(ids.node_id_text(key)) is not None
    world.shards[1] = world._new_shard(1)
    deliver(world, world.shards[1])
    assert node.peers.link_of(ids.node_id_text(key)) is None
    assert target.phase is not Phase.HELD


def test_peers_cannot_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(node_module.log, "warning", lambda event, **_: lines.append(event))
    world, shard = settled()
    for _ in range(200):
        link = ready(shard, chooser_of(world), fell_back=True)
        shard.say(bus.LinkDown(link=link, reason="eof", remote=False))
    deliver(world, shard)
    at_once, _ = node_module.LOGGED[0]
    assert lines.count("fallback") == at_once
    assert world.node.acquaintance.counters.fallbacks == 200


def test_a_record_that_is_newer_than_a_hello_is_told_once_the_link_is_up() -> None:
    """The peer read the hello before there was a record, and was not up when all were told."""
    world, shard = settled()
    node = cast(Any, world.node)
    key = chooser_of(world)
    link = ready(shard, key)
    deliver(world, shard)
    world.wait(0.0)
    world.now += own_record.SETTLE_S
    world.wait(0.0)
    kind, body = introduction.encode(introduction.Record(record=node._own.record.signed))
    told = bus.TellPeer(link=link, type=kind, body=body)
    assert told not in shard.told
    shard.say(bus.LinkUp(link=link))
    assert told in deliver(world, shard)

    world.now += node._settings.limits.handshake_deadline_s + HELLO_S
    world.wait(0.0)
    late = ready(shard, next(other for other in KEYS if other != key))
    shard.say(bus.LinkUp(link=late))
    heard = [one for one in deliver(world, shard) if isinstance(one, bus.TellPeer)]
    types = [one.type for one in heard if one.link == late]
    assert types
    assert kind not in types
