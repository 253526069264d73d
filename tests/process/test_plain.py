"""A client that was written from the specification alone, and an application of the SDK: what
either sends the other takes in order, once and whole, whatever becomes of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import dp2p
from dp2p.errors import RequestError
from dp2p.sdk.types import Trouble
from process.nodes import PATIENCE_S, Node, running
from process.plain import Plain

SEED = 1603
COUNT = 1500  # datagrams each way
SIZES = (0, 1, 90, 3_000, 70_001, 200_002)
CUTS = ("disconnect", "here", "disconnect", "there", "disconnect")
WAITING = 40  # that the client keeps at most


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.mkdir()
    with running(*(Node(path, shards=2) for path in paths)) as (a, b):
        yield a, b


def payloads(seed: int) -> list[bytes]:
    choice = random.Random(seed)
    return [number.to_bytes(4, "big") + bytes(choice.choice(SIZES)) for number in range(COUNT)]


async def converse(
    plain: Plain, mine: list[bytes], theirs: list[bytes], turned: asyncio.Event
) -> None:
    """Until all is taken and confirmed. The client knows nothing of event loops."""
    waiting = mine[::-1]
    while waiting or plain.unconfirmed or len(plain.taken) < len(theirs):
        while waiting and plain.unconfirmed < WAITING:
            plain.send(waiting.pop())
        await asyncio.to_thread(plain.turn, 0.01)
        turned.set()


async def cut(a: Node, b: Node, plain: Plain, turned: asyncio.Event) -> None:
    """The connection is lost in each way, a few hundred datagrams apart, and made again."""
    for number, way in enumerate(CUTS, 1):
        while len(plain.taken) < number * COUNT // (len(CUTS) + 1):
            turned.clear()
            await turned.wait()
        node = b if way == "there" else a
        if way == "disconnect":
            await asyncio.to_thread(a.disconnect, b.id)
        else:
            shard = (await asyncio.to_thread(node.peers))[0]["shard"]
            await asyncio.to_thread(node.kill, f"shard-{shard}")
        ups = plain.ups
        while plain.ups == ups:
            with contextlib.suppress(RequestError):
                await asyncio.to_thread(a.dial, b.address, 1.0)


@pytest.mark.timeout(120)
async def test_what_the_specification_says_is_enough(two: tuple[Node, Node]) -> None:
    a, b = two
    here, there = payloads(SEED), payloads(SEED + 1)
    plain = Plain(a.run_dir, "plain")
    async with asyncio.timeout(3 * PATIENCE_S), dp2p.attach(b.run_dir) as session:
        chat = await session.register("plain")
        events, turned = session.events(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(converse(plain, here, there, turned))
            await asyncio.to_thread(a.dial, b.address)
            await chat.wait_peer(a.id)
            cutting = group.create_task(cut(a, b, plain, turned))
            group.create_task(chat.send_many(a.id, there))
            taken = [(await chat.recv()).payload for _ in here]
            await cutting
        await chat.drain()
    plain.close()
    assert taken == here
    assert plain.taken == there
    assert plain.errors == []
    assert plain.ups > len(CUTS)
    assert plain.dropped > 0
    assert not [event for event in events.unread if isinstance(event, Trouble)]
