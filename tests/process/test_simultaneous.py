"""Two connections to one peer at the same time: one stays, the same on both sides, and nothing that
applications send is lost, whichever comes first.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

import dp2p
from process.nodes import PATIENCE_S, Node, gone, meet, part, running, talking

ROUNDS = 30
BURST = 50  # datagrams that an application sends at once when its peer is up
BOTH = ("tcp4://127.0.0.1:0", "tcp4://127.0.0.2:0")
LOOK_S = 0.02
CHUNK = 65536

Pair = tuple[Node, Node]


@pytest.fixture(scope="module", params=[1, 2], ids=["1 shard", "2 shards"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes, each with two addresses."""
    nodes = [
        Node(tmp_path_factory.mktemp("n"), shards=request.param, listen=BOTH) for _ in range(2)
    ]
    with running(*nodes):
        yield nodes[0], nodes[1]


def bare(node: Node) -> list[str]:
    """Its endpoints, without the key."""
    return [f"tcp4://{address.partition('@')[2]}" for address in node.addresses]


# --- applications that talk whenever they can ---


class End:
    """An application. Whenever its peer comes up it sends numbered datagrams, at once."""

    def __init__(self, node: Node, session: dp2p.Node, protocol: dp2p.Protocol) -> None:
        self.node = node
        self.session = session
        self.protocol = protocol
        self.ups = 0
        self.downs: list[dp2p.PeerDown] = []
        self.got: list[bytes] = []
        self.changed = asyncio.Event()

    async def follow(self) -> None:
        """Send."""
        async for event in self.protocol.events():
            if isinstance(event, dp2p.PeerUp):
                self.ups += 1
                for number in range(BURST):
                    await self.protocol.send(event.peer, b"%d %d" % (self.ups, number))
            elif isinstance(event, dp2p.PeerDown):
                self.downs.append(event)
            self.changed.set()

    async def receive(self) -> None:
        """Receive."""
        async for message in self.protocol:
            self.got.append(message.payload)
            self.changed.set()

    def complete(self, ups: int) -> bool:
        """It was connected so often, and got all that was sent."""
        return self.ups == ups and len(self.got) == ups * BURST


def all_sent(ups: int) -> list[bytes]:
    """What one side got when the other was connected so often and nothing was lost."""
    return [b"%d %d" % (up, number) for up in range(1, ups + 1) for number in range(BURST)]


@asynccontextmanager
async def ends(pair: Pair) -> AsyncIterator[tuple[End, End]]:
    """One application on each."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        found = []
        for node in pair:
            session = await stack.enter_async_context(dp2p.attach(node.run_dir))
            found.append(End(node, session, await session.register("burst")))
        tasks = [group.create_task(run()) for end in found for run in (end.follow, end.receive)]
        yield found[0], found[1]
        for task in tasks:
            task.cancel()


async def until_all(both: tuple[End, End], ups: int, downs: int) -> None:
    """Both have come so far, and no further."""
    async with asyncio.timeout(PATIENCE_S):
        for end in both:
            while not (end.complete(ups) and len(end.downs) == downs):
                await end.changed.wait()
                end.changed.clear()


async def dial(end: End, address: str) -> str:
    return str((await end.session.dial(address, PATIENCE_S)).peer)


async def one_link(both: tuple[End, End]) -> list[dict[str, object]]:
    """What each has, once the other links are gone."""
    rows = []
    async with asyncio.timeout(PATIENCE_S):
        for end in both:
            while sum(row["links"] for row in (await end.session.status())["shards"]) != 1:
                pass
            rows += await end.session.peers()
    return rows


async def meet_and_part(both: tuple[End, End], dials: list[tuple[End, str]], rounds: int) -> None:
    """All dials at once, again and again."""
    here, there = both
    for number in range(1, rounds + 1):
        await until_all(both, number - 1, number - 1)
        found = await asyncio.gather(*(dial(end, address) for end, address in dials))
        assert found == [there.node.id if end is here else here.node.id for end, _ in dials]
        await until_all(both, number, number - 1)
        rows = await one_link(both)
        assert sorted(str(row["direction"]) for row in rows) == ["in", "out"]
        assert [row["open"] for row in rows] == [True, True]
        assert [row["fell_back"] for row in rows] == [False, False]
        for end in both:
            await end.protocol.drain()
        await both[number % 2].session.disconnect(both[1 - number % 2].node.id)
    await until_all(both, rounds, rounds)
    for end in both:
        assert end.got == all_sent(rounds)
        assert {(down.reason, down.unconfirmed, down.unsent) for down in end.downs} == {
            ("bye", 0, 0)
        }


async def test_both_dial_at_once(two: Pair) -> None:
    async with ends(two) as both:
        here, there = both
        dials = [(here, two[1].address), (there, two[0].address)]
        dials += [(here, bare(two[1])[0]), (there, bare(two[0])[0])]
        await meet_and_part(both, dials, ROUNDS)


@pytest.mark.parametrize("turned", [False, True], ids=["there", "back"])
async def test_one_dials_two_addresses_at_once(two: Pair, turned: bool) -> None:
    """One of the two cases has the dialling node choose, the other the dialled one."""
    async with ends(two) as both:
        dialler = both[turned]
        dials = [(dialler, endpoint) for endpoint in bare(two[not turned])]
        await meet_and_part(both, dials, ROUNDS // 3)


@pytest.mark.parametrize("turned", [False, True], ids=["there", "back"])
async def test_a_second_dial_finds_the_first_link_alive(two: Pair, turned: bool) -> None:
    """By the other address, later: the link that is up answers its probe and stays."""
    async with ends(two) as both:
        dialler, first, second = both[turned], *bare(two[not turned])
        await dial(dialler, first)
        await until_all(both, 1, 0)
        before = await one_link(both)
        await dial(dialler, second)
        after = await one_link(both)
        for one, other in zip(before, after, strict=True):
            assert one["endpoint"] == other["endpoint"]
        for end in both:
            await end.protocol.drain()
        await dialler.session.disconnect(two[not turned].id)
        await until_all(both, 1, 1)


# --- an old link that is dead, as one side does not know ---


class Wire:
    """A cable between diallers and a node, and the ends of it that were cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._cut = False
        self._over = threading.Event()
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """The node hears nothing more, not even of an end, of the connection that there is. Who
        dialled does.
        """
        self._cut = True
        self._thread.join(PATIENCE_S)

    def close(self) -> None:
        """Remove what is left of it."""
        self._over.set()
        self._thread.join(PATIENCE_S)
        for one in self._kept:
            one.close()

    def _run(self) -> None:
        dialler, _ = self._listener.accept()
        self._listener.close()
        onward = socket.create_connection(self._target)
        self._kept.append(onward)
        other = {dialler: onward, onward: dialler}
        while not (self._cut or self._over.is_set()):
            for source in select.select([dialler, onward], [], [], LOOK_S)[0]:
                data = source.recv(CHUNK)
                if not data:
                    self._over.set()
                other[source].sendall(data)
        dialler.close()


@contextmanager
def wire(node: Node) -> Iterator[Wire]:
    """A cable to a node, until the end of the block."""
    made = Wire(node.place)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("turned", [False, True], ids=["there", "back"])
def test_a_redial_while_the_old_link_is_dead(two: Pair, turned: bool) -> None:
    """The node that was not told would keep the dead link for a minute. When it chooses it finds
    out by a probe, else by what the chooser does.
    """
    dialler, answerer = two[turned], two[not turned]
    with wire(answerer) as cable:
        dialler.dial(f"dp2p://{answerer.identity.key}@127.0.0.1:{cable.place[1]}")
        with talking(dialler, answerer, "cut") as (near, far):
            near.send(answerer.id, b"before")
            assert far.recv(PATIENCE_S).payload == b"before"
            events = near.events(), far.events()
            cable.cut()
            assert gone(events[0]).reason == "eof"
            dialler.until(lambda: not dialler.connected(answerer.id), "the end on one side")
            assert answerer.connected(dialler.id)
            dialler.dial(answerer.address)
            assert gone(events[1]).reason in ("duplicate", "replaced")
            meet((near, answerer), (far, dialler))
            near.send(answerer.id, b"after")
            assert far.recv(PATIENCE_S).payload == b"after"
            far.send(dialler.id, b"and back")
            assert near.recv(PATIENCE_S).payload == b"and back"
    part(dialler, answerer)


@pytest.mark.parametrize("turned", [False, True], ids=["there", "back"])
def test_a_node_that_was_killed_comes_back_before_that_is_known(two: Pair, turned: bool) -> None:
    dialler, answerer = two[turned], two[not turned]
    with wire(answerer) as cable:
        dialler.dial(f"dp2p://{answerer.identity.key}@127.0.0.1:{cable.place[1]}")
        answerer.until(lambda: answerer.connected(dialler.id), "the link")
        cable.cut()
        dialler.end_at_once()
        assert answerer.connected(dialler.id)
        dialler.restart()
        assert dialler.dial(answerer.address)["peer"] == answerer.id
        with talking(dialler, answerer, "again") as (near, far):
            near.send(answerer.id, b"hello")
            assert far.recv(PATIENCE_S).payload == b"hello"
        assert answerer.connected(dialler.id)
    part(dialler, answerer)
