"""Caps and traffic with real nodes: what is set takes hold, outlives processes, and is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dp2p.records import DATAGRAM_COST
from dp2p.sdk.types import Traffic
from process.nodes import PATIENCE_S, Node, app, connect, expect, talking

Pair = tuple[Node, Node]
PAYLOAD = bytes(984)
COST = len(PAYLOAD) + DATAGRAM_COST


def rows(node: Node, found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of one peer, by protocol."""
    return {row["protocol"]: row for row in found if row["peer"] == node.id}


def summary(node: Node, protocol: str) -> dict[str, Any]:
    """What ``status`` says of a protocol."""
    return next((one for one in node.status()["traffic"] if one["name"] == protocol), {})


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_cap_of_a_protocol_holds_it_back_and_no_other(pair: Pair) -> None:
    """At 100 kB/s 200 kB cannot go in less than a second, however fast the machine is."""
    a, b = pair
    with talking(a, b, "slow") as (slow, theirs), talking(a, b, "fast") as (fast, _), app(a) as us:
        us.limit("protocol", "slow", up=100_000)
        slow.send_many(b.id, [PAYLOAD] * 200, timeout=PATIENCE_S)
        fast.send(b.id, b"passes", timeout=PATIENCE_S)
        found = rows(b, us.traffic("slow"))["slow"]
        assert found["queued_bytes"] > 0
        assert seconds(lambda: [theirs.recv(PATIENCE_S) for _ in range(200)]) > 1.0
        assert us.limit("protocol", "slow", up=None)["up"] is None
        slow.send_many(b.id, [PAYLOAD] * 200, timeout=PATIENCE_S)
        for _ in range(200):
            theirs.recv(PATIENCE_S)


def test_totals_outlive_flows_and_shards(pair: Pair) -> None:
    a, b = pair
    for life in (1, 2):
        with talking(a, b, "counted") as (ours, theirs), app(a) as us:
            ours.send_many(b.id, [PAYLOAD] * 10, timeout=PATIENCE_S)
            for _ in range(10):
                theirs.recv(PATIENCE_S)
            theirs.confirm()
            ours.drain(b.id, PATIENCE_S)
            row = rows(b, us.traffic("counted"))["counted"]
            assert (row["up_datagrams"], row["up_bytes"]) == (10 * life, 10 * life * COST)
            a.until(lambda: summary(a, "counted").get("peers") == 1, "the summary")
    shard = next(one["shard"] for one in a.peers() if one["peer"] == b.id)
    a.kill(f"shard-{shard}")
    a.until(lambda: a.connected(b.id) and b.connected(a.id), "another link")
    with talking(a, b, "counted"):
        found = a.until(lambda: summary(a, "counted"), "the summary")
        assert found["up_bytes"] == 20 * COST


def test_limits_stay_when_processes_die(pair: Pair) -> None:
    a, b = pair
    with app(a) as us:
        us.limit("node", up=50_000_000)
        us.limit("peer", b.id, down=1_000_000)
        known = us.limits()
        a.kill("coordinator")
        a.until(lambda: a.status()["settled"], "a coordinator")
        assert us.limits() == known
        a.kill("shard-0")
        a.until(lambda: len(a.status()["shards"]) == a.shards, "a shard")
        assert us.limits() == known
        us.limit("node", up=None)
        us.limit("peer", b.id, down=None)
        assert us.limits() == []
    connect(a, b)


def test_a_session_sees_its_own_protocols(pair: Pair) -> None:
    a, b = pair
    with app(a) as us, app(b) as them, talking(a, b, "theirs"):
        ours = us.register("ours")
        them.register("ours")
        ours.wait_peer(b.id, timeout=PATIENCE_S)
        events = us.events()
        us.subscribe(0.2)
        for _ in range(2):
            seen = expect(events, Traffic)
            assert [row["protocol"] for row in seen.rows] == ["ours"]


def test_a_limit_here_and_a_peer_that_does_not_read_look_different(pair: Pair) -> None:
    """As the guide says of QUEUED and CREDIT: either leaves no credit, only the limit a queue."""
    a, b = pair
    count = 100
    sized: dict[str, Any] = {"max_datagram": len(PAYLOAD), "window": count * COST}
    with app(a) as us:
        us.limit("protocol", "capped", up=1024)  # before its flows come up: they begin under it
    with (
        talking(a, b, "unread", **sized) as (unread, _),
        talking(a, b, "capped", **sized) as (capped, _),
        app(a) as us,
    ):
        for protocol in (unread, capped):
            protocol.send_many(b.id, [PAYLOAD] * count, timeout=PATIENCE_S)

        def seen(name: str) -> dict[str, Any]:
            return rows(b, us.traffic(name))[name]

        row = a.until(lambda: seen("unread")["queued_bytes"] == 0 and seen("unread"), "no queue")
        assert (row["credit_up"], row["wait_ms"]) == (0, 0)
        row = a.until(lambda: seen("capped")["wait_ms"] > 100 and seen("capped"), "a wait")
        assert row["credit_up"] == 0
        assert row["queued_bytes"] > count * COST / 2
        us.limit("protocol", "capped", up=None)
