"""Calls that wait, and peers that are away, in both APIs and over real sockets: each call ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import dp2p
from dp2p import blocking
from dp2p.sdk import driver
from dp2p.sdk.types import Event, EventsLost, Notice, PeerDown, SendError
from fake_node import FakeNode
from process.fakes import Waiting
from process.nodes import PATIENCE_S

HUNDRED = bytes(84)  # what costs 100 bytes of credit


@pytest.fixture
def fake() -> Iterator[FakeNode]:
    with FakeNode() as node:
        yield node


def there(chat: blocking.Protocol) -> bool:
    """Whether anna is a peer now."""
    try:
        return bool(chat.wait_peer("anna", timeout=0))
    except TimeoutError:
        return False


def test_blocking_who_only_sends_hears_that_a_peer_is_given_up(fake: FakeNode) -> None:
    fake.window = 600
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat", keep_s=0.05)
        chat.wait_peer(timeout=PATIENCE_S)
        chat.send("anna", HUNDRED)
        flow = fake.flow()
        fake.do(flow.down)
        while chat.credit("anna") >= 100:  # it reads nothing as long as it need not wait
            chat.send("anna", HUNDRED)
        with pytest.raises(SendError, match="peer_down"):
            chat.send("anna", HUNDRED, timeout=PATIENCE_S)


def test_blocking_who_drains_hears_that_a_peer_is_given_up(fake: FakeNode) -> None:
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat", keep_s=0.05)
        chat.wait_peer(timeout=PATIENCE_S)
        chat.send("anna", HUNDRED)
        fake.do(fake.flow().down)
        with pytest.raises(SendError, match="peer_down"):
            chat.drain("anna", timeout=PATIENCE_S)


def test_blocking_who_asks_for_a_peer_hears_that_it_has_gone(fake: FakeNode) -> None:
    """Nothing else reads the sockets, so what was read last may be old."""
    with blocking.attach(fake.run_dir) as node:
        chat = node.register("chat")
        chat.wait_peer(timeout=PATIENCE_S)
        fake.do(fake.flow().down)
        waiting = Waiting(PATIENCE_S)
        while there(chat):
            assert waiting.left_ms()


async def test_asyncio_who_waits_hears_that_a_peer_is_given_up(fake: FakeNode) -> None:
    fake.window = 600
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat", keep_s=0.05)
        await chat.wait_peer()
        calls = [
            asyncio.create_task(chat.send_many("anna", [HUNDRED] * 10)),
            asyncio.create_task(chat.send("anna", HUNDRED)),
            asyncio.create_task(chat.drain()),
        ]
        await node.status()
        fake.do(fake.flow().down)
        for call in calls:
            with pytest.raises(SendError, match="peer_down"):
                await call


async def test_asyncio_closing_ends_calls_that_send(fake: FakeNode) -> None:
    fake.window = 600
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        chat = await node.register("chat")
        await chat.wait_peer()
        events = chat.events()
        waiting = asyncio.create_task(chat.send_many("anna", [HUNDRED] * 10))
        draining = asyncio.create_task(chat.drain())
        await node.status()
        await node.close()
        for call in (waiting, draining):
            with pytest.raises(SendError, match="closed"):
                await call
        (down,) = [event async for event in events if isinstance(event, PeerDown)]
        assert (down.reason, down.unconfirmed + down.unsent) == ("closed", 10)


def notices(fake: FakeNode) -> None:
    """More than a stream keeps."""
    for number in range(5):
        fake.notice(f"kind-{number}")


def kinds(events: list[Event]) -> list[str]:
    """What was told, and how much of it was lost."""
    told = (event for event in events if isinstance(event, EventsLost | Notice))
    return [event.kind if isinstance(event, Notice) else f"lost {event.count}" for event in told]


def test_blocking_who_does_not_read_events_hears_how_many_are_lost(
    fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "EVENTS_KEPT", 2)
    with blocking.attach(fake.run_dir) as node:
        node.subscribe()
        events = node.events()
        notices(fake)
        node.status()  # its answer comes behind the notices
        got = [events.get(PATIENCE_S) for _ in range(3)]
        assert kinds(got) == ["lost 3", "kind-3", "kind-4"]


async def test_asyncio_who_does_not_read_events_hears_how_many_are_lost(
    fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "EVENTS_KEPT", 2)
    async with asyncio.timeout(PATIENCE_S), dp2p.attach(fake.run_dir) as node:
        await node.subscribe()
        events = node.events()
        notices(fake)
        await node.status()
        assert kinds([await events.get() for _ in range(3)]) == ["lost 3", "kind-3", "kind-4"]
