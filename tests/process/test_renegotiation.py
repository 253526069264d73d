"""Protocols come and go while the connection lives, and those that stay do not notice."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest

import dp2p
from dp2p.control import PriorityClass
from dp2p.errors import RequestError
from dp2p.hello import PROTOCOLS_MAX
from process.nodes import PATIENCE_S, Node, app, exchange, expect, meet, talking

Pair = tuple[Node, Node]

ROUNDS = 40
STEADY = 10  # datagrams of the protocol that stays, each way and between two changes
CLASSES: tuple[PriorityClass, ...] = ("urgent", "normal", "bulk")


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%d" % number * (1 + number % 50) for number in range(first, first + count)]


def test_as_many_protocols_as_there_can_be(pair: Pair) -> None:
    """All of them work on one connection; one more is refused; half of them go and come back."""
    a, b = pair
    with app(a) as first, app(b) as second:
        names = [f"one-of-many/{number}" for number in range(PROTOCOLS_MAX)]
        ours = {name: first.register(name, max_datagram=1000, window=2000) for name in names}
        theirs = {name: second.register(name, max_datagram=1000, window=2000) for name in names}
        with pytest.raises(RequestError, match="too_many_protocols"):
            first.register("one-too-many")
        for again in range(2):
            meet(*((one, b) for one in ours.values()), *((one, a) for one in theirs.values()))
            for name, one in ours.items():
                one.send(b.id, name.encode(), timeout=PATIENCE_S)
            for name, one in theirs.items():
                assert one.recv(PATIENCE_S) == (a.id, 0, name.encode())
            if again:
                break
            events = {name: theirs[name].events() for name in names[::2]}
            for name in names[::2]:
                first.withdraw(ours[name])
            for name in names[::2]:
                assert expect(events[name], dp2p.PeerDown).reason == "peer_withdrew"
                ours[name] = first.register(name, max_datagram=1000, window=2000)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_stays_does_not_notice(pair: Pair, seed: int) -> None:
    """Either side registers and withdraws others at random; nothing of the one that stays is lost,
    doubled or out of order, and no peer of it goes down. Each of the others works when both
    sides have it.
    """
    a, b = pair
    draw = random.Random(seed)
    with talking(a, b, "steady") as steady, ExitStack() as stack:
        nodes = [stack.enter_context(app(node)) for node in pair]
        events = [one.events() for one in steady]
        peers = b.id, a.id
        registered: list[dict[str, dp2p.blocking.Protocol]] = [{}, {}]
        for turn in range(ROUNDS):
            side, name = draw.randrange(2), f"passing/{draw.randrange(6)}"
            if name in registered[side]:
                nodes[side].withdraw(registered[side].pop(name))
            else:
                registered[side][name] = nodes[side].register(
                    name, priority=draw.choice(CLASSES), weight=draw.randint(1, 255)
                )
            for one, peer in zip(steady, peers, strict=True):
                one.send_many(peer, numbered(turn * STEADY, STEADY), timeout=PATIENCE_S)
        for name in registered[0].keys() & registered[1].keys():
            pair_of_it = registered[0][name], registered[1][name]
            meet((pair_of_it[0], b), (pair_of_it[1], a))
            assert exchange(*pair_of_it, b, name.encode()) == (a.id, 0, name.encode())
        for one, peer in zip(steady, peers, strict=True):
            got = [one.recv(PATIENCE_S) for _ in range(ROUNDS * STEADY)]
            assert [message.payload for message in got] == numbered(0, ROUNDS * STEADY)
            assert {message.peer for message in got} == {peer}
        for log in events:
            assert not [event for event in log.unread if isinstance(event, dp2p.PeerDown)]


def test_what_is_sent_into_a_flow_that_has_ended_goes_again(pair: Pair) -> None:
    """The peer's application takes the protocol off the air and on again while this one does
    something else, and has heard nothing of it when it sends.
    """
    a, b = pair
    with app(a) as first, app(b) as second:
        ours, theirs = first.register("again"), second.register("again")
        meet((ours, b), (theirs, a))
        second.withdraw(theirs)
        theirs = second.register("again")
        meet((theirs, a))
        assert exchange(ours, theirs, b, b"one") == (a.id, 0, b"one")
        assert exchange(ours, theirs, b, b"two") == (a.id, 0, b"two")
        assert exchange(theirs, ours, a, b"three") == (b.id, 0, b"three")
