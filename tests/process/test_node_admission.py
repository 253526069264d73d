"""Which connections a node makes and takes: duplicates, itself, wrong keys, caps, strangers."""

from __future__ import annotations

import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import dp2p
from dp2p import keys
from dp2p.errors import RequestError
from process.fakes import Waiting
from process.nodes import PATIENCE_S, Node, app, connect, expect, meet, running, talking

Pair = tuple[Node, Node]


def dial_into(found: list[str], node: Node, other: Node) -> None:
    found.append(node.dial(other.address)["peer"])


def links(node: Node) -> int:
    return sum(row["links"] for row in node.status()["shards"])


def test_dialling_both_ways_at_once_leaves_one_link(pair: Pair) -> None:
    """Whoever is quicker, both sides keep the same one, and both dials succeed."""
    a, b = pair
    for _ in range(8):
        a.disconnect(b.id)
        for node in pair:
            node.until(lambda node=node: node.connected(), "the old link's end")  # type: ignore[misc]
        found: list[str] = []
        threads = [
            threading.Thread(target=dial_into, args=(found, x, y))
            for x, y in ((a, b), (b, a), (a, b), (b, a))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(found) == sorted([a.id, a.id, b.id, b.id])
        for one, other in ((a, b), (b, a)):
            one.until(
                lambda one=one, other=other: one.connected(other.id) and links(one) == 1,  # type: ignore[misc]
                "one link",
            )
        ((near,), (far,)) = a.peers(), b.peers()
        assert {near["direction"], far["direction"]} == {"in", "out"}
        for node in pair:
            node.until(lambda node=node: node.stat("links") == 1, "the other links' end")  # type: ignore[misc]


def test_dialling_a_connected_peer_again(pair: Pair) -> None:
    a, b = pair
    (before,) = a.peers()
    assert a.dial(b.address)["peer"] == b.id
    assert b.dial(a.address)["peer"] == a.id
    (after,) = a.peers()
    assert (after["shard"], after["endpoint"]) == (before["shard"], before["endpoint"])


def test_a_bare_endpoint(pair: Pair) -> None:
    a, b = pair
    a.disconnect(b.id)
    a.until(a.connected, "the link's end")
    found = a.dial(b.bare)
    assert (found["key"], found["trust"]) == (b.identity.key, "resumed")


def test_dialling_itself_is_refused(pair: Pair) -> None:
    a, b = pair
    for address in (a.address, a.bare):
        with pytest.raises(RequestError) as refused:
            a.dial(address)
        assert refused.value.code == "refused:self"
    assert a.connected(b.id)


def test_another_key_answers(pair: Pair) -> None:
    a, b = pair
    a.disconnect(b.id)
    a.until(a.connected, "the link's end")
    wanted = keys.identity(bytes(32)).key
    with pytest.raises(RequestError) as refused:
        a.dial(f"dp2p://{wanted}@{b.address.partition('@')[2]}")
    assert refused.value.code == "identity_mismatch"
    assert a.connected()
    b.until(b.connected, "no trace of it")


def test_nobody_listens(pair: Pair) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(RequestError) as refused:
            pair[0].dial(f"tcp4://127.0.0.1:{port}")
    assert refused.value.code == "dial_failed"
    assert "refused" in refused.value.message


# --- nodes with settings of their own ---

NodeOf = Callable[..., Node]


@pytest.fixture
def node_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeOf]:
    with ExitStack() as stack:

        def make(*flags: str, **options: object) -> Node:
            node = Node(tmp_path_factory.mktemp("n"), *flags, **options)  # type: ignore[arg-type]
            return stack.enter_context(running(node))[0]

        yield make


def test_the_peer_set_is_full(pair: Pair, node_of: NodeOf) -> None:
    """One place: it is taken, another is told why it gets none, and gets it when it is free."""
    a, b = pair
    a.disconnect(b.id)
    small = node_of("--max-peers", "1")
    connect(a, small)
    with pytest.raises(RequestError) as refused:
        b.dial(small.address)
    assert refused.value.code == "refused:full"
    assert small.connected(a.id)
    with pytest.raises(RequestError) as refused:
        small.dial(b.address)
    assert refused.value.code == "refused:full"
    a.disconnect(small.id)
    small.until(small.connected, "a free place")
    connect(b, small)
    b.disconnect(small.id)


def test_another_network(pair: Pair, node_of: NodeOf) -> None:
    """It gets no answer that would tell it what it has found."""
    stranger = node_of("--network", "another")
    with pytest.raises(RequestError) as refused:
        stranger.dial(pair[0].address)
    assert refused.value.code in ("dial_failed", "timeout")
    assert stranger.connected()


def drip(place: tuple[str, int], seconds: float) -> float:
    """Send a byte every 50 ms until the other side hangs up; how long that took."""
    waiting = Waiting(seconds)
    with socket.create_connection(place) as stranger:
        poller = select.poll()
        poller.register(stranger, select.POLLIN | select.POLLHUP | select.POLLERR)
        while waiting.left_ms() and not poller.poll(50):
            stranger.send(b"\x55", socket.MSG_NOSIGNAL)
    return seconds - waiting.left_ms() / 1000


def test_a_handshake_that_drips(node_of: NodeOf) -> None:
    """Bytes that keep coming do not move the deadline. With XX no first 37 bytes are wrong by
    themselves: the length that they claim is random, and too large for most.
    """
    node = node_of("--set", "limits.handshake_deadline_s=1")
    with socket.create_connection(node.place) as silent:
        took = [drip(node.place, 15.0) for _ in range(2)]
        assert all(one < 5.0 for one in took)
        assert select.select([silent], [], [], PATIENCE_S)[0]
        assert silent.recv(100) == b""
    node.until(lambda: node.stat("handshakes_failed") == 3, "their count")
    node.until(lambda: node.stat("handshakes_pending") == 0, "nothing left of them")


def test_handshakes_of_one_address_have_a_cap(node_of: NodeOf) -> None:
    """What is above it is hung up on at once; peers that are there do not notice."""
    flags = ("--set", "limits.max_handshakes_per_address=8")
    node, other = node_of(*flags), node_of()
    connect(other, node)
    with ExitStack() as stack, talking(node, other, "calm") as (ours, theirs):
        strangers = [stack.enter_context(socket.create_connection(node.place)) for _ in range(20)]
        node.until(lambda: node.stat("links_refused") == 12, "12 refusals")
        assert node.stat("handshakes_pending") == 8
        ended = [one for one in strangers if select.select([one], [], [], 0)[0]]
        assert len(ended) == 12
        ours.send(other.id, b"x")
        assert theirs.recv(PATIENCE_S).payload == b"x"
    node.until(lambda: node.stat("handshakes_pending") == 0, "nothing left of them")


DESCRIPTORS = 96


def test_out_of_file_descriptors(node_of: NodeOf) -> None:
    """More connections than a shard has descriptors for: the rest is hung up on, a connected peer
    and applications do not notice, and afterwards there is room again.
    """
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4 * DESCRIPTORS
    flags = ("--set", "limits.max_handshakes_per_address=1000")
    node, other = node_of(*flags, descriptors=DESCRIPTORS), node_of()
    connect(other, node)
    pid = node.pid("shard-0")
    with talking(node, other, "calm") as (ours, theirs), ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(node.place))
            for _ in range(2 * DESCRIPTORS)
        ]
        refused = node.until(
            lambda: sum(bool(select.select([one], [], [], 0)[0]) for one in strangers), "refusals"
        )
        assert refused > 0
        node.until(
            lambda: node.stat("links_refused") + node.stat("accept_failures") > DESCRIPTORS // 2,
            "their count",
        )
        with app(node) as newcomer:  # attaching takes descriptors too
            protocol = newcomer.register("late")
            assert protocol.name == "late"
            with app(other) as far:
                meet((far.register("late"), node), (protocol, other))
        for i in range(20):
            ours.send(other.id, b"%d" % i)
            assert theirs.recv(PATIENCE_S).payload == b"%d" % i
    node.until(lambda: node.stat("handshakes_pending") == 0, "room")
    assert node.pid("shard-0") == pid
    third = node_of()
    third.dial(node.address)
    node.until(lambda: node.connected(other.id, third.id), "a new peer")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback")
def test_ipv6(node_of: NodeOf) -> None:
    node = node_of(listen=("tcp6://[::1]:0", "tcp4://127.0.0.1:0"))
    other = node_of(listen=("tcp6://[::1]:0",))
    assert "[::1]" in node.address
    connect(other, node)
    (row,) = other.peers()
    assert row["endpoint"].startswith("tcp6://[::1]:")
    with talking(node, other, "six") as (ours, theirs):
        events = ours.events()
        assert expect(events, dp2p.PeerUp).info.endpoint.startswith("tcp6://[::1]:")
        ours.send(other.id, b"x")
        assert theirs.recv(PATIENCE_S).payload == b"x"
