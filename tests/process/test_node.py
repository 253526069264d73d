"""Two real nodes and applications on both."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dp2p
from dp2p.errors import RequestError
from process.nodes import PATIENCE_S, Node, app, expect, gone, meet, talking

Pair = tuple[Node, Node]


def test_two_applications_talk(pair: Pair) -> None:
    a, b = pair
    with talking(a, b, "chat") as (ours, theirs):
        ours.send(b.id, b"hello", type=7)
        assert theirs.recv(PATIENCE_S) == (a.id, 7, b"hello")
        theirs.send(a.id, b"", type=65535)
        assert ours.recv(PATIENCE_S) == (b.id, 65535, b"")
        large = bytes(range(256)) * 4096
        ours.send(b.id, large, timeout=PATIENCE_S)
        assert theirs.recv(PATIENCE_S).payload == large


async def test_the_asyncio_sdk(pair: Pair) -> None:
    a, b = pair
    async with dp2p.attach(a.run_dir) as first, dp2p.attach(b.run_dir) as second:
        ours, theirs = await first.register("aio"), await second.register("aio")
        await ours.wait_peer(b.id)
        for i in range(2000):
            await ours.send(b.id, b"%d" % i, type=i)
        got: list[Any] = [await theirs.recv() for _ in range(2000)]
        assert [(m.type, m.payload) for m in got] == [(i, b"%d" % i) for i in range(2000)]
        await ours.drain()


def test_versions_and_limits_are_the_common_ones(pair: Pair) -> None:
    a, b = pair
    with app(a) as first, app(b) as second:
        ours = first.register("common", version=[1, 2, 3], max_datagram=5000, types=10)
        theirs = second.register("common", version=[2, 3, 9], max_datagram=4000, types=20)
        first.register("other", version=1)
        second.register("other", version=2)
        meet((ours, b), (theirs, a))
        peer = ours.wait_peer(b.id)
        assert (peer.version, peer.max_datagram, peer.types) == (3, 4000, 10)
        with pytest.raises(RequestError, match="datagram_too_large"):
            ours.send(b.id, bytes(4001))
        with pytest.raises(RequestError, match="bad_type"):
            ours.send(b.id, b"", type=10)


def test_a_withdrawn_protocol_can_be_registered_again(pair: Pair) -> None:
    a, b = pair
    with app(a) as first, app(b) as second:
        theirs = second.register("again")
        events = theirs.events()
        for _ in range(5):
            ours = first.register("again")
            meet((ours, b), (theirs, a))
            theirs.send(a.id, b"x")
            assert ours.recv(PATIENCE_S).payload == b"x"
            first.withdraw(ours)
            assert gone(events).reason == "peer_withdrew"


# --- several applications ---


def test_a_taken_protocol(pair: Pair) -> None:
    a, _ = pair
    with app(a, "first") as first, app(a, "second") as second:
        first.register("mine")
        with pytest.raises(RequestError) as refused:
            second.register("mine")
        assert (refused.value.code, refused.value.protocol) == ("protocol_taken", "mine")
        with pytest.raises(RequestError, match="protocol_taken"):
            second.register("mine", shared=True)
        second.register("yours")


def test_a_shared_protocol_goes_to_one_of_its_applications(pair: Pair) -> None:
    """How peers are spread over applications: tests/unit/test_negotiation.py."""
    a, b = pair
    with app(a) as first, app(a) as second, app(b) as other:
        for name, one in (("warm-1", first), ("warm-2", second)):  # both are attached everywhere
            meet((one.register(name), b), (other.register(name), a))
        shared = [one.register("shared", shared=True) for one in (first, second)]
        # Shards hear of protocols in order: with this one up they know of both applications, and no
        # flow moves from one to the other with a datagram on it.
        meet((first.register("warm-3"), b), (other.register("warm-3"), a))
        peer = other.register("shared")
        peer.wait_peer(a.id, timeout=PATIENCE_S)
        peer.send(a.id, b"x")
        heard = a.until(lambda: [i for i in (0, 1) if _heard(shared[i])], "the datagram")
        assert len(heard) == 1
        events = peer.events()
        (first, second)[heard[0]].withdraw(shared[heard[0]])
        expect(events, dp2p.PeerDown)
        expect(events, dp2p.PeerUp)
        peer.send(a.id, b"y")
        assert shared[1 - heard[0]].recv(PATIENCE_S).payload == b"y"


def _heard(protocol: dp2p.blocking.Protocol) -> bool:
    try:
        return protocol.recv(0.0).payload == b"x"
    except TimeoutError:
        return False


# --- an application that dies ---


@pytest.fixture
def talker(pair: Pair) -> Iterator[subprocess.Popen[str]]:
    """An application on the second node, in a process of its own."""
    program = str(Path(__file__).with_name("talker.py"))
    process = subprocess.Popen(
        [sys.executable, program, str(pair[1].run_dir), "echo"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait(PATIENCE_S)
    process.stdout.close()


def test_a_killed_application_goes_off_the_air(pair: Pair, talker: subprocess.Popen[str]) -> None:
    a, b = pair
    with talking(a, b, "bystander") as (near, far), app(a) as first:
        ours = first.register("echo", keep_s=0)
        events = ours.events()
        ours.wait_peer(b.id, timeout=PATIENCE_S)
        ours.send(b.id, b"hi")
        assert ours.recv(PATIENCE_S).payload == b"hi"
        assert b.lost() == dict.fromkeys(b.lost(), 0)
        talker.kill()
        talker.wait(PATIENCE_S)
        ours.send(b.id, b"anybody there?")  # what cannot be delivered tells that it is gone
        down = expect(events, dp2p.PeerDown)
        assert (down.protocol, down.peer, down.reason) == ("echo", b.id, "peer_withdrew")
        assert (down.unconfirmed_from, down.unconfirmed, down.unsent) == (1, 1, 0)
        b.until(lambda: "talker" not in [row["name"] for row in b.status()["apps"]], "its end")
        b.until(lambda: b.lost()["unroutable"] >= 1, "the lost message to be counted")
        assert (b.lost()["blocked"], b.lost()["malformed"]) == (0, 0)
        with app(b) as second:
            meet((ours, b), (second.register("echo"), a))
        near.send(b.id, b"still here")
        assert far.recv(PATIENCE_S).payload == b"still here"


def test_a_silent_killed_application_goes_off_the_air(
    pair: Pair, talker: subprocess.Popen[str]
) -> None:
    """Nothing is sent to it: its heartbeats are missed."""
    a, b = pair
    with app(a) as first:
        ours = first.register("echo")
        events = ours.events()
        ours.wait_peer(b.id, timeout=PATIENCE_S)
        talker.kill()
        assert expect(events, dp2p.PeerDown).unconfirmed == 0
    b.until(lambda: "echo" not in [row["name"] for row in b.status()["protocols"]], "its end")


# --- what nobody may read ---


def test_no_secret_in_logs_or_node_json(pair: Pair) -> None:
    a, b = pair
    with talking(a, b, "secret") as (ours, theirs):
        ours.send(b.id, b"payload-nobody-else-reads")
        theirs.recv(PATIENCE_S)
        drivers = ours._driver, theirs._driver
        tokens = [driver.session.token() for driver in drivers]
    for node in pair:
        seed = node.identity.seed
        text = (node.directory / "key").read_text().strip()
        encoded = [seed.hex(), base64.b32encode(seed).decode(), base64.b64encode(seed).decode()]
        secrets = [text, repr(seed), *encoded, *tokens, "payload-nobody-else-reads"]
        places = [node.log(), (node.run_dir / "node.json").read_text(), repr(node.status())]
        places += [(node.run_dir / "processes.json").read_text(), repr(node.peers())]
        for place in places:
            assert not [one for one in secrets if one.lower() in place.lower()]
        assert "application attached" in places[0]
