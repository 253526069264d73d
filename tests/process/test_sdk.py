"""Both APIs of the SDK against a coordinator and shards that do what the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

import dp2p
from dp2p import blocking, control
from dp2p.errors import RequestError
from dp2p.records import Position
from dp2p.sdk.types import (
    CoordinatorBack,
    CoordinatorLost,
    Dialled,
    Event,
    Introduced,
    Notice,
    PeerAway,
    PeerDown,
    PeerUp,
    SendError,
    SessionLost,
    SessionRestored,
    ShardFound,
    ShardLost,
)
from fake_node import DIALLED, FakeNode

T = TypeVar("T")

PATIENCE_S = 10.0  # for what must come
BRIEFLY_S = 0.05  # for what must not
SOMEBODY = "a" * 52  # the node-ID of no peer here


@pytest.fixture
def fake() -> Iterator[FakeNode]:
    with FakeNode() as node:
        node.keep = True
        yield node


def ops(fake: FakeNode) -> list[type[control.Request]]:
    """Kinds of the requests so far, without heartbeats."""
    return [type(request) for request in fake.do(lambda: list(fake.requests))]


def consumed(fake: FakeNode) -> Position:
    """What the application says that it has consumed."""
    return fake.do(lambda: fake.flow().consumed)


def received(fake: FakeNode) -> list[bytes]:
    """What the shard has got of the application."""
    return fake.do(lambda: list(fake.flow().payloads))


def becomes(read: Callable[[], T], wanted: T) -> bool:
    """Whether what is read becomes ``wanted`` in time."""
    deadline = time.monotonic() + PATIENCE_S
    while read() != wanted and time.monotonic() < deadline:
        pass
    return read() == wanted


def unsubscribe(fake: FakeNode) -> None:
    """As a restarted coordinator, which knows the sessions and not what they want to hear."""
    fake.do(fake.subscribed.clear)


def subscribed(fake: FakeNode) -> int:
    """How many sessions the node sends notices to."""
    return fake.do(lambda: len(fake.subscribed))


def set_window(fake: FakeNode, size: int) -> None:
    """Window of flows that come up from now on."""
    fake.window = size
    fake.max_datagram = size - 16


# --- blocking ---


def get(events: blocking.Events, kind: type[Event]) -> Event:
    """The next event of a kind."""
    while not isinstance(event := events.get(PATIENCE_S), kind):
        pass
    return event


def test_blocking_sends_and_receives(fake: FakeNode) -> None:
    fake.auto_credit = fake.echo = True
    with blocking.attach(fake.run_dir) as node:
        assert node.id == "me"
        chat = node.register("chat", version=1, slots=8, priority="normal")
        assert chat.wait_peer(timeout=PATIENCE_S).key == "kanna"
        chat.send("anna", type=3, payload=b"one")
        assert chat.recv(PATIENCE_S) == ("anna", 3, b"one")
        chat.send_many("anna", [b"two", b"three"], [4, 5])
        batch = chat.recv_many(PATIENCE_S)
        assert (batch.peer, batch.payloads, list(batch.types)) == (
            "anna",
            [b"two", b"three"],
            [4, 5],
        )
        chat.drain(timeout=PATIENCE_S)
        assert chat.unconfirmed("anna") == 0
        assert received(fake) == [b"one", b"two", b"three"]
    assert ops(fake) == [control.Attach, control.Register, control.Detach]


def test_blocking_iterates_over_messages_and_batches(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        fake.deliver(b"a", b"b", b"c")
        found = []
        for message in chat:
            found.append(message.payload)
            if message.payload == b"b":
                break
        assert found == [b"a", b"b"]
        assert next(chat.batches()).payloads == [b"c"]
        with pytest.raises(TimeoutError):
            chat.recv(BRIEFLY_S)
        assert becomes(lambda: consumed(fake), Position(0, 3, 51))


def test_blocking_waits_for_credit(fake: FakeNode) -> None:
    set_window(fake, 1000)
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        payloads = [bytes([i]) * 84 for i in range(25)]
        with pytest.raises(SendError) as caught:
            chat.send_many("anna", payloads, timeout=BRIEFLY_S)
        assert (caught.value.code, caught.value.accepted) == ("timeout", 10)
        with pytest.raises(SendError, match="no_credit"):
            chat.send_nowait("anna", b"")
        fake.confirm()
        chat.send("anna", b"now", timeout=PATIENCE_S)
        assert becomes(lambda: received(fake), [*payloads[:10], b"now"])


def test_blocking_refuses_what_cannot_be_sent(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        rows: list[tuple[str, Callable[[], None]]] = [
            ("unknown_peer", lambda: chat.send("bob", b"")),
            ("datagram_too_large", lambda: chat.send("anna", bytes(1 << 20 | 1))),
            ("bad_type", lambda: chat.send("anna", b"", 100)),
            ("bad_type", lambda: chat.send_many("anna", [b"", b""], [0, 100])),
            ("bad_request", lambda: chat.send_many("anna", [b""], [0, 0])),
        ]
        for code, call in rows:
            with pytest.raises(RequestError) as caught:
                call()
            assert caught.value.code == code
            assert caught.value.protocol == "chat"
        chat.send("anna", b"good")
        assert becomes(lambda: received(fake), [b"good"])


def test_blocking_hears_what_stayed_unconfirmed(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat", keep_s=0)
        events = chat.events()
        assert isinstance(get(events, PeerUp), PeerUp)
        chat.send_many("anna", [bytes(84)] * 5)
        fake.confirm(2, 200)
        fake.do(lambda: fake.flow().down("eof"))
        assert get(events, PeerDown) == PeerDown("anna", "chat", "eof", 2, 3, 0)
        with pytest.raises(RequestError, match="peer_down: eof"):
            chat.send("anna", b"")
        with pytest.raises(TimeoutError):
            chat.wait_peer(timeout=BRIEFLY_S)


def test_blocking_gives_up_a_peer_that_stays_away(fake: FakeNode) -> None:
    set_window(fake, 1000)
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat", keep_s=BRIEFLY_S)
        events = chat.events()
        get(events, PeerUp)
        chat.send_many("anna", [bytes(84)] * 5)
        fake.do(lambda: fake.flow().down("eof"))
        assert get(events, PeerAway) == PeerAway("anna", "chat", "eof")
        assert chat.peers == {}
        assert chat.unconfirmed("anna") == 5
        with pytest.raises(SendError, match="peer_down: eof"):
            chat.send("anna", b"waits until the peer is given up")
        assert get(events, PeerDown) == PeerDown("anna", "chat", "eof", 0, 5, 1)


def test_blocking_goes_on_where_it_stopped(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        chat.send_many("anna", [b"one", b"two", b"three"])
        assert becomes(lambda: received(fake), [b"one", b"two", b"three"])
        fake.confirm(1, 19)
        fake.reconnect()
        fake.auto_credit = True
        chat.drain(timeout=PATIENCE_S)
        assert received(fake) == [b"two", b"three"]
        epoch = fake.do(lambda: fake.flow().epoch)
        assert epoch is not None
        assert epoch[1:] == (1, 19)


def test_blocking_sender_learns_that_the_peer_went(fake: FakeNode) -> None:
    set_window(fake, 1000)
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat", keep_s=0)
        chat.wait_peer(timeout=PATIENCE_S)
        fake.do(lambda: fake.flow().down("eof"))
        with pytest.raises(SendError, match="peer_down") as caught:
            chat.send_many("anna", [bytes(84)] * 25, timeout=PATIENCE_S)
        assert caught.value.accepted == 10


def test_blocking_requests(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node, blocking.attach(fake.run_dir) as other:
        chat = node.register("chat")
        assert node.status() == {"node": "me"}
        assert node.peers() == [{"peer": "anna"}]
        address = "tcp4://192.0.2.9:1"
        assert node.dial(address) == Dialled(**{**DIALLED, "endpoint": address})
        assert node.known(SOMEBODY) == {"node": SOMEBODY, "connected": False}
        node.disconnect("anna")
        for name, code in (("chat", "protocol_taken"), ("no spaces", "bad_request")):
            with pytest.raises(RequestError) as caught:
                other.register(name)
            assert (caught.value.code, caught.value.protocol) == (code, name)
        node.withdraw(chat)
        assert list(chat) == []
        with pytest.raises(RequestError, match="withdrawn"):
            chat.recv()


BOB = Introduced("kbob", "bob", 7, ("tcp4://192.0.2.2:1",), ("chat",), "dp2p-record:...")


def test_blocking_is_introduced_to_others(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        assert node.find() == [BOB]
        assert node.find("chat", near=SOMEBODY, limit=3, timeout=0.5) == [BOB]
    requests = fake.do(lambda: list(fake.requests))
    finds = [one for one in requests if isinstance(one, control.Find)]
    assert [(one.protocol, one.near, one.limit, one.timeout_s) for one in finds] == [
        (None, None, 16, 5.0),
        ("chat", SOMEBODY, 3, 0.5),
    ]


def test_blocking_hears_notices_once_it_has_subscribed(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        events, of_chat = node.events(), chat.events()
        fake.notice("fallback", endpoint="tcp4://192.0.2.1:1")
        node.subscribe()
        fake.notice("doubted", key="kanna", endpoint="tcp4://192.0.2.1:1")
        told = {"key": "kanna", "endpoint": "tcp4://192.0.2.1:1"}
        assert get(events, Notice) == Notice("doubted", 1700000000.5, told)
        get(of_chat, PeerUp)
        assert not of_chat.unread, "what concerns the node is told to the node's events"


def test_blocking_stays_subscribed(fake: FakeNode) -> None:
    """Whether the coordinator has forgotten the subscription or the whole session."""
    with blocking.attach(fake.run_dir) as node:
        events = node.events()
        node.subscribe()
        unsubscribe(fake)
        assert becomes(lambda: subscribed(fake), 1)
        fake.notice("renewed")
        assert get(events, Notice) == Notice("renewed", 1700000000.5, {})
        fake.forget()
        get(events, SessionRestored)
        assert becomes(lambda: subscribed(fake), 1)
        fake.notice("again")
        assert get(events, Notice) == Notice("again", 1700000000.5, {})


def test_blocking_says_that_no_node_is_there(fake: FakeNode) -> None:
    with pytest.raises(RequestError, match="no_node"):
        blocking.attach(fake.run_dir / "nothing", timeout=BRIEFLY_S)


def test_blocking_survives_a_shard(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        events = node.events()
        get(events, PeerUp)
        fake.restart_shard(0)
        assert get(events, PeerDown) == PeerDown("anna", "chat", "shard_down", 0, 0, 0)
        assert get(events, ShardLost) == ShardLost(0)
        assert get(events, ShardFound) == ShardFound(0)
        get(events, PeerUp)
        chat.send("anna", b"again")
        fake.auto_credit = True
        chat.send("anna", b"and again")
        chat.drain(timeout=PATIENCE_S)
        assert received(fake) == [b"again", b"and again"]


def test_blocking_attaches_again_when_forgotten(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        events = node.events()
        get(events, PeerUp)
        fake.busy = 2
        fake.forget()
        get(events, SessionLost)
        get(events, SessionRestored)
        get(events, PeerUp)
        fake.deliver(b"welcome back")
        assert chat.recv(PATIENCE_S).payload == b"welcome back"


def test_blocking_notices_that_the_coordinator_is_silent(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        events = node.events()
        fake.silent = True
        get(events, CoordinatorLost)
        chat.send("anna", b"still flows")
        fake.silent = False
        get(events, CoordinatorBack)
        assert becomes(lambda: received(fake), [b"still flows"])


def test_a_shard_may_hear_of_the_session_late(fake: FakeNode) -> None:
    fake.refuse_attach = 3
    with blocking.attach(fake.run_dir) as node:
        assert node.register("chat").wait_peer(timeout=PATIENCE_S).id == "anna"


def test_a_busy_application_proves_that_it_lives(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir):
        before = fake.do(lambda: fake.counts["heartbeats"])
        beats = 0
        while beats < 3:  # without any call to the SDK
            beats = fake.do(lambda: fake.counts["heartbeats"]) - before


# --- asyncio ---


async def aget(events: object, kind: type[Event]) -> Event:
    """The next event of a kind."""
    assert isinstance(events, dp2p.sdk.aio.Events)
    async with asyncio.timeout(PATIENCE_S):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("the node is closed")


async def test_asyncio_sends_and_receives(fake: FakeNode) -> None:
    fake.auto_credit = fake.echo = True
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        assert node.id == "me"
        chat = await node.register("chat", version=1, slots=8, priority="normal")
        await chat.wait_peer()
        await chat.send("anna", type=3, payload=b"one")
        async for message in chat:
            assert message == ("anna", 3, b"one")
            break
        await chat.send_many("anna", [b"two", b"three"], [4, 5])
        async for batch in chat.batches():
            assert batch.payloads == [b"two", b"three"]
            break
        await chat.drain()
        assert chat.unconfirmed("anna") == 0
        assert list(chat.peers) == ["anna"]
        assert received(fake) == [b"one", b"two", b"three"]
    assert ops(fake) == [control.Attach, control.Register, control.Detach]


async def test_asyncio_sends_of_one_turn_travel_together(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        await chat.wait_peer()
        await node.status()  # sends EPOCH, if it has not gone
        assert becomes(lambda: fake.do(lambda: fake.flow().epoch is not None), wanted=True)
        before = fake.do(lambda: fake.counts["messages"])
        for index in range(100):
            await chat.send("anna", b"%d" % index)
        await node.status()  # sends what came before it
        assert becomes(lambda: len(received(fake)), 100)
        assert fake.do(lambda: fake.counts["messages"]) == before + 1


async def test_asyncio_waits_for_credit_in_order(fake: FakeNode) -> None:
    set_window(fake, 1000)
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        await chat.wait_peer()
        payloads = [bytes([i]) * 84 for i in range(25)]
        many = asyncio.create_task(chat.send_many("anna", payloads))
        one = asyncio.create_task(chat.send("anna", b"last"))
        cancelled = asyncio.create_task(chat.send("anna", b"never"))
        await node.status()
        cancelled.cancel()
        assert not many.done()
        fake.auto_credit = True
        fake.confirm()
        await many
        await one
        await chat.drain()
        assert received(fake) == [*payloads, b"last"]


async def test_asyncio_several_tasks_receive(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        await chat.wait_peer()
        tasks = [asyncio.create_task(chat.recv()) for _ in range(3)]
        await node.status()
        fake.deliver(b"a", b"b")
        fake.deliver(b"c")
        messages = await asyncio.gather(*tasks)
        assert sorted(message.payload for message in messages) == [b"a", b"b", b"c"]


async def test_asyncio_gives_up_a_peer_that_stays_away(fake: FakeNode) -> None:
    set_window(fake, 1000)
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat", keep_s=BRIEFLY_S)
        events = chat.events()
        await aget(events, PeerUp)
        many = asyncio.create_task(chat.send_many("anna", [bytes(84)] * 25))
        await node.status()
        fake.do(lambda: fake.flow().down("eof"))
        with pytest.raises(SendError, match="peer_down"):
            await many
        assert await aget(events, PeerAway) == PeerAway("anna", "chat", "eof")
        assert await aget(events, PeerDown) == PeerDown("anna", "chat", "eof", 0, 10, 15)
        with pytest.raises(RequestError, match="peer_down"):
            await chat.drain("anna")


async def test_asyncio_goes_on_where_it_stopped(fake: FakeNode) -> None:
    set_window(fake, 1000)
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        events = chat.events()
        await aget(events, PeerUp)
        payloads = [bytes([i]) * 84 for i in range(25)]
        many = asyncio.create_task(chat.send_many("anna", payloads))
        await node.status()
        fake.confirm(2, 200)
        fake.reconnect()
        fake.auto_credit = True
        up = await aget(events, PeerUp)
        assert isinstance(up, PeerUp)
        assert up.resumed
        fake.confirm()
        await many
        await chat.drain()
        assert received(fake) == payloads[2:]


async def test_asyncio_peer_down(fake: FakeNode) -> None:
    set_window(fake, 1000)
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat", keep_s=0)
        events = chat.events()
        await aget(events, PeerUp)
        many = asyncio.create_task(chat.send_many("anna", [bytes(84)] * 25))
        await node.status()
        fake.confirm(2, 200)
        fake.do(lambda: fake.flow().down("eof"))
        with pytest.raises(SendError, match="peer_down") as caught:
            await many
        down = await aget(events, PeerDown)
        assert isinstance(down, PeerDown)
        accepted = caught.value.accepted
        assert (down.unconfirmed_from, down.unconfirmed) == (2, accepted - 2)
        assert down.unsent == 25 - accepted


async def test_asyncio_survives_a_shard(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        events = node.events()
        await aget(events, PeerUp)
        fake.restart_shard(0)
        await aget(events, ShardLost)
        await aget(events, PeerUp)
        fake.deliver(b"from the new one")
        assert (await chat.recv()).payload == b"from the new one"


async def test_asyncio_attaches_again_when_forgotten(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        events = node.events()
        await aget(events, PeerUp)
        fake.busy = 2
        fake.forget()
        await aget(events, SessionLost)
        await aget(events, PeerUp)
        fake.deliver(b"welcome back")
        assert (await chat.recv()).payload == b"welcome back"


async def test_asyncio_errors(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        await chat.wait_peer()
        with pytest.raises(RequestError, match="protocol_taken"):
            await node.register("chat")
        with pytest.raises(RequestError, match="datagram_too_large"):
            await chat.send("anna", bytes(1 << 20 | 1))
        with pytest.raises(RequestError, match="unknown_peer"):
            await chat.send("bob", b"")
        waiting = asyncio.create_task(chat.recv())
        await node.withdraw(chat)
        with pytest.raises(RequestError, match="withdrawn"):
            await waiting
        assert [message async for message in chat] == []


async def test_asyncio_says_that_no_node_is_there(fake: FakeNode) -> None:
    with pytest.raises(RequestError, match="no_node"):
        async with dp2p.attach(fake.run_dir / "nothing", timeout=BRIEFLY_S):
            pass


async def test_asyncio_requests(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        assert await node.dial("tcp4://192.0.2.1:1") == Dialled(**DIALLED)
        assert await node.known(SOMEBODY) == {"node": SOMEBODY, "connected": False}
        assert await node.find("chat", near=SOMEBODY, limit=3, timeout=0.5) == [BOB]
        assert await node.peers() == [{"peer": "anna"}]


async def test_asyncio_notices(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        events = node.events()
        await node.subscribe()
        fake.notice("mitm_warning", reporter=None)
        assert await aget(events, Notice) == Notice(
            "mitm_warning", 1700000000.5, {"reporter": None}
        )
        unsubscribe(fake)
        while not subscribed(fake):
            await node.status()
        fake.notice("renewed")
        assert await aget(events, Notice) == Notice("renewed", 1700000000.5, {})
        fake.forget()
        await aget(events, SessionRestored)
        while not subscribed(fake):
            await node.status()
        fake.notice("again")
        assert await aget(events, Notice) == Notice("again", 1700000000.5, {})


async def test_asyncio_closing_wakes_who_waits(fake: FakeNode) -> None:
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        events = asyncio.create_task(aget(node.events(), ShardLost))
        waiting = asyncio.create_task(chat.recv())
        await node.status()
    with pytest.raises(RequestError, match="closed"):
        await waiting
    with pytest.raises(AssertionError):
        await events


async def test_two_shards_at_once() -> None:
    with FakeNode(shards=2) as fake:
        fake.carried = {"anna": 0, "bob": 1}
        fake.auto_credit = fake.echo = True
        async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
            chat = await node.register("chat")
            for peer in ("anna", "bob"):
                await chat.wait_peer(peer)
                await chat.send(peer, peer.encode())
            found = {message.peer: message.payload for message in [await chat.recv() for _ in "ab"]}
            assert found == {"anna": b"anna", "bob": b"bob"}
