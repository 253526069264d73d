"""Two applications talk without a pause while shards are killed and connections cut at any byte:
what either sends the other takes in order, once and whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import dp2p
from dp2p.errors import RequestError
from process.nodes import PATIENCE_S, Node, running

SEED = 20260
ROUNDS = 3  # of each kind of disaster
FURTHER = 300  # datagrams that each must have got after a disaster, before the next
SIZES = (0, 1, 100, 100, 100, 5_000, 5_000, 70_000, 300_000)
LIVES_BYTES = (1 << 16, 1 << 24)  # what the first and the last connection may carry before its cut
LOOK_S = 0.2  # before it is dialled once more
CHUNK = 1 << 16


class Shears:
    """A way to a node that cuts each connection after so many bytes, both directions together."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self.budget: int | None = None
        "Bytes that the next connections may carry; None: any number."
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Shears:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.place: tuple[str, int] = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = [self.budget]
        try:
            onward, out = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        ways = ((reader, out), (onward, writer))
        pumps = [asyncio.create_task(self._pump(*way, left)) for way in ways]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, out):
            one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int | None]
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if left[0] is not None:
                    data = data[: left[0]]
                    left[0] -= len(data)
                writer.write(data)
                await writer.drain()
                if left[0] == 0:
                    self.cuts += 1
                    return


class Talker:
    """An application: it sends datagrams that can be told by their numbers, and expects such."""

    def __init__(self, protocol: dp2p.Protocol, peer: str, seeds: tuple[int, int]) -> None:
        self._protocol = protocol
        self._peer = peer
        self._seeds = seeds
        self.sent = self.got = 0
        self.over = False
        self.changed = asyncio.Event()
        self.away = self.resumed = 0
        self.trouble: list[object] = []

    async def send(self) -> None:
        """Send until it is over, a datagram alone or some together."""
        source, choice = payloads(self._seeds[0]), random.Random(self._seeds[0])
        await self._protocol.wait_peer(self._peer)
        while not self.over:
            batch = [next(source) for _ in range(choice.choice((1, 1, 5, 20)))]
            done = 0
            while done < len(batch):
                try:
                    await self._protocol.send_many(self._peer, batch[done:])
                    break
                except RequestError as error:
                    if error.code != "peer_down":
                        raise
                    done += getattr(error, "accepted", 0)
                    await self._protocol.wait_peer(self._peer)
            self.sent += len(batch)
        await self._protocol.drain(self._peer)

    async def receive(self) -> None:
        """Take what comes: it must be what the other sends next."""
        source = payloads(self._seeds[1])
        async for message in self._protocol:
            assert message.payload == next(source), f"datagram {self.got}"
            self.got += 1
            self.changed.set()

    async def follow(self) -> None:
        """Count comings and goings."""
        async for event in self._protocol.events():
            self.away += isinstance(event, dp2p.PeerAway)
            if isinstance(event, dp2p.PeerUp):
                self.resumed += event.resumed
            elif isinstance(event, dp2p.PeerDown) and (event.unconfirmed or event.unsent):
                self.trouble.append(event)


def payloads(seed: int) -> Iterator[bytes]:
    """Numbered payloads of mixed sizes."""
    choice = random.Random(seed)
    number = 0
    while True:
        yield number.to_bytes(8, "big") + choice.randbytes(16) * (choice.choice(SIZES) // 16)
        number += 1


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes of two shards each."""
    paths: list[Path] = [tmp_path_factory.mktemp("n") for _ in range(2)]
    with running(*(Node(path, shards=2) for path in paths)) as (a, b):
        yield a, b


@contextlib.asynccontextmanager
async def talkers(two: tuple[Node, Node]) -> AsyncIterator[tuple[tuple[Talker, ...], dp2p.Node]]:
    """One application on each, as soon as they are connected; and the session of the first."""
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(dp2p.attach(node.run_dir)) for node in two]
        protocols = [await session.register("endless") for session in sessions]
        seeds = (SEED, SEED + 1)
        found = (
            Talker(protocols[0], two[1].id, seeds),
            Talker(protocols[1], two[0].id, seeds[::-1]),
        )
        yield found, sessions[0]


async def get_further(both: tuple[Talker, ...], session: dp2p.Node, address: str) -> None:
    """Dial until both have got so many more."""
    async with asyncio.timeout(2 * PATIENCE_S):
        for one in both:
            target = one.got + FURTHER
            while one.got < target:
                one.changed.clear()
                try:
                    await asyncio.wait_for(one.changed.wait(), LOOK_S)
                except TimeoutError:
                    with contextlib.suppress(RequestError):
                        await session.dial(address, timeout=1.0)


def kill_shard(node: Node) -> None:
    """That which has the link, if there is one now."""
    indexes = [peer["shard"] for peer in node.peers()]
    if indexes:
        node.kill(f"shard-{indexes[0]}")


@pytest.mark.timeout(240)
async def test_nothing_is_lost_doubled_or_reordered(two: tuple[Node, Node]) -> None:
    chance = random.Random(SEED)
    async with Shears() as shears, talkers(two) as (both, session):
        shears.target = two[1].place
        address = f"dp2p://{two[1].identity.key}@127.0.0.1:{shears.place[1]}"
        async with asyncio.TaskGroup() as group:
            await session.dial(address)
            sending = [group.create_task(one.send()) for one in both]
            others = [group.create_task(run()) for one in both for run in (one.receive, one.follow)]
            for _ in range(ROUNDS):
                for node in two:
                    await get_further(both, session, address)
                    await asyncio.to_thread(kill_shard, node)
                shears.budget = chance.randrange(*LIVES_BYTES)
                with contextlib.suppress(RequestError):  # its end may be on the way already
                    await session.disconnect(two[1].id)
                await get_further(both, session, address)
                shears.budget = None
            for one in both:
                one.over = True
            async with asyncio.timeout(2 * PATIENCE_S):
                await asyncio.gather(*sending)
            for task in others:
                task.cancel()
    a, b = both
    assert (a.sent, b.sent) == (b.got, a.got)
    assert shears.cuts > 0
    assert min(one.away for one in both) > 0
    assert min(one.resumed for one in both) >= ROUNDS
    assert [one.trouble for one in both] == [[], []]
