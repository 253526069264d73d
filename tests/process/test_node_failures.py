"""What dies, and what goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import dp2p
from dp2p import blocking
from process.fakes import FakeApp, Waiting
from process.nodes import PATIENCE_S, Node, app, connect, expect, gone, meet, running, talking

Pair = tuple[Node, Node]
LARGE = 8 << 20
BIG = {"max_datagram": LARGE, "window": 64 << 20}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing in the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def link_shard(node: Node) -> str:
    """Name of the process that has the node's only link."""
    (peer,) = node.peers()
    return f"shard-{peer['shard']}"


def shard_pid(node: Node) -> int:
    return node.pid(link_shard(node))


def nothing_came(receiver: blocking.Protocol) -> None:
    with pytest.raises(TimeoutError):
        receiver.recv(0.2)


def all_confirmed(sender: blocking.Protocol, receiver: blocking.Protocol) -> None:
    """Everything sent was received: wait until the sender knows. Both are driven by this thread."""
    waiting = Waiting(PATIENCE_S)
    while waiting.left_ms():
        nothing_came(receiver)
        try:
            return sender.drain(timeout=0.05)
        except TimeoutError:
            continue
    raise AssertionError("not confirmed")


@pytest.fixture
def doomed(tmp_path: Path, pair: Pair) -> Iterator[Node]:
    """A third node, connected to the first, that a test may kill."""
    a, b = pair
    a.disconnect(b.id)
    node = Node(tmp_path)
    with running(node):
        a.until(a.connected, "the old link's end")
        connect(a, node)
        yield node
        node.process.kill()


# --- a node vanishes in mid-datagram ---


def test_the_receiving_node_vanishes(pair: Pair, doomed: Node) -> None:
    """Its shard stands still, so that the kernel's buffers fill within the first datagram: then
    everything is killed. The sender is told exactly what was not confirmed.
    """
    a, _ = pair
    small, big = talking(a, doomed, "small", keep_s=0), talking(a, doomed, "large", keep_s=0, **BIG)
    with small as (ours, theirs), big as large:
        events, news = ours.events(), large[0].events()
        for i in range(5):
            ours.send(doomed.id, b"%d" % i)
            theirs.recv(PATIENCE_S)
        all_confirmed(ours, theirs)
        with stopped(shard_pid(doomed)):
            large[0].send_many(doomed.id, [bytes(LARGE)] * 3, timeout=PATIENCE_S)
            ours.send_many(doomed.id, [b"x"] * 7, timeout=PATIENCE_S)
            doomed.process.kill()
        down, less = expect(news, dp2p.PeerDown), expect(events, dp2p.PeerDown)
        assert (down.unconfirmed_from, down.unconfirmed, down.unsent) == (0, 3, 0)
        assert (less.unconfirmed_from, less.unconfirmed, less.unsent) == (5, 7, 0)
        nothing_came(large[1])
    a.until(a.connected, "no peers")


def test_the_sending_node_vanishes(pair: Pair, doomed: Node) -> None:
    """Our shard stands still meanwhile: of what lies in the kernel's buffers when it goes on, the
    beginning of a large datagram is nobody's business.
    """
    a, _ = pair
    with talking(a, doomed, "partial", **BIG) as (ours, theirs):
        events = ours.events()
        theirs.send(a.id, b"whole")
        with stopped(shard_pid(a)):
            theirs.send(a.id, bytes(LARGE))
            doomed.process.kill()
            doomed.process.wait(PATIENCE_S)
        expect(events, dp2p.PeerDown)
        assert ours.recv(PATIENCE_S).payload == b"whole"
        nothing_came(ours)


# --- a shard ---


@pytest.mark.parametrize("side", [0, 1], ids=["of the dialling node", "of the dialled node"])
def test_a_killed_shard(pair: Pair, side: int) -> None:
    a, b = pair
    victim = pair[side]
    name = link_shard(victim)
    with talking(a, b, "phoenix") as (ours, theirs):
        events = ours.events(), theirs.events()
        ours.send(b.id, b"before")
        assert theirs.recv(PATIENCE_S).payload == b"before"
        killed = victim.kill(name)
        for each in events:
            gone(each)
        meet((ours, b), (theirs, a))
        ours.send(b.id, b"after")
        assert theirs.recv(PATIENCE_S).payload == b"after"
        theirs.send(a.id, b"and back")
        assert ours.recv(PATIENCE_S).payload == b"and back"
        victim.until(lambda: victim.pid(name) not in (0, killed), "its restart")
    victim.until(lambda: len(victim.status()["shards"]) == victim.shards, "all shards")
    for one, other in ((a, b), (b, a)):
        one.until(lambda one=one, other=other: one.connected(other.id), "one link")  # type: ignore[misc]


# --- the coordinator ---


def known(peer: dict[str, Any]) -> tuple[Any, ...]:
    """What a coordinator must still know of a peer after its restart."""
    return tuple(peer[key] for key in ("peer", "shard", "direction", "endpoint", "open"))


class Stream(threading.Thread):
    """Sends numbered datagrams until it is told to stop, in a session of its own."""

    def __init__(self, node: Node, peer: Node, name: str) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.sent = 0
        self._node, self._peer, self._name = node, peer, name

    def run(self) -> None:
        with app(self._node) as node:
            protocol = node.register(self._name)
            protocol.wait_peer(self._peer.id, timeout=PATIENCE_S)
            while not self.over.is_set():
                protocol.send(self._peer.id, b"%d" % self.sent, timeout=PATIENCE_S)
                self.sent += 1
            protocol.drain(timeout=PATIENCE_S)


@pytest.mark.parametrize("side", [0, 1], ids=["of the sender", "of the receiver"])
def test_a_killed_coordinator(pair: Pair, side: int) -> None:
    """Datagrams flow all the time, none is lost or doubled; afterwards it knows everything."""
    a, b = pair
    victim = pair[side]
    stream = Stream(a, b, "stream")
    with app(b, "receiver") as node:
        protocol = node.register("stream")
        events = protocol.events()
        stream.start()
        got, kills = 0, 0
        before, links = victim.status(), victim.peers()
        returned = Waiting(0)
        while not kills or returned.left_ms():
            assert protocol.recv(PATIENCE_S).payload == b"%d" % got
            got += 1
            if got == 500:
                victim.kill("coordinator")
                kills, returned = got, Waiting(3.0)
        stream.over.set()
        while got < stream.sent or stream.is_alive():
            try:
                assert protocol.recv(0.05).payload == b"%d" % got
                got += 1
            except TimeoutError:
                continue
        assert got == stream.sent
        assert got > kills + 500
        assert not [one for one in events.unread if isinstance(one, dp2p.PeerDown)][1:]
        victim.until(lambda: victim.status()["settled"], "the coordinator to settle")
        after = victim.status()
        assert [known(row) for row in victim.peers()] == [known(row) for row in links]
        for key in ("node", "listen", "configured_shards", "peers", "max_peers"):
            assert after[key] == before[key]
        assert [row["pid"] for row in after["shards"]] == [row["pid"] for row in before["shards"]]
        assert "receiver" in [row["name"] for row in b.status()["apps"]]
        second = node.register("after-the-restart")
        assert second.name == "after-the-restart"


def test_closing_a_link_and_changing_protocols_at_once(pair: Pair) -> None:
    """Both orders reach the shard in one turn; the link's flows are gone when the second comes."""
    a, b = pair
    pids = [row["pid"] for node in pair for row in node.status()["shards"]]
    with app(b) as node, closing(FakeApp(a.run_dir)) as raw:
        raw.attach("raw")
        for i in range(5):
            connect(a, b)
            name = f"brief-{i}"
            theirs = node.register(name)
            raw.register(name)
            with app(a) as other:
                both = other.register("marker"), node.register(f"marker-{i}")
            requests = [raw.ask("disconnect", peer=b.id)]
            requests.append(raw.ask("withdraw", session=raw.session, name=name))
            for number in requests:
                assert raw.reply(number).error is None
            node.withdraw(theirs)
            a.until(a.connected, "the link's end")
            assert both
    assert [row["pid"] for node in pair for row in node.status()["shards"]] == pids
