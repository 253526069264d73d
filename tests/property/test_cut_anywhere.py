"""A connection is cut at any byte, handshake and farewells included, and another one follows: what
two applications say to each other arrives in order, once and whole. All is real but sockets and
time: SDK sessions, records, links, engine, encryption.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from dp2p import control
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.types import PeerDown, Trouble
from dp2p.transport import Event, EventKind, NodeConfig
from scripted import Node
from shard_end import ShardEnd, entry
from wire import CAPACITY, SEED_A, SEED_B

CONFIG = NodeConfig(rekey_bytes=4000)
LARGEST = 50_000
SPEC = control.ProtocolSpec(
    name="chat", versions=[1], max_datagram=LARGEST, types=10, window=LARGEST + 30_000
)
SMALL = (0, 1, 30, 200)
"Sizes of which every cut is tried."
SMALL_END = 2100  # bytes in both directions after which all that is small has arrived


class End(ShardEnd):
    """One side: a shard, and an application that lives through all connections."""

    def __init__(self, seed: bytes, *, initiator: bool) -> None:
        super().__init__(seed, initiator=initiator, config=CONFIG)
        self.app = Node(instance=f"{seed[0]:016x}", first_epoch=1 + seed[0])
        self.registration = self.app.register("chat")
        self.app.sent()  # ATTACH, which has been answered
        self.links.set_protocols([entry(3 + seed[0] % 5, SPEC, self.app.session.instance)])
        self.taken: list[bytes] = []
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []

    def ready(self) -> None:
        self.admit()

    def down(self, event: Event) -> None:
        assert event.kind == EventKind.DOWN
        self.links.down(event.link, "eof")

    def hear(self, message: bytes) -> None:
        self.app.receive(message)

    def say(self, payloads: Sequence[bytes]) -> None:
        """To send once there is somebody."""
        self.sent += payloads
        self.waiting += payloads

    def turn(self) -> None:
        """The application takes what there is, sends what it can, and its shard hears of it."""
        self.gather()
        while self.registration.inbox.open() is not None:
            self.taken += [message.payload for message in self.registration.inbox.messages]
        for flow in self.registration.flows.values():
            if self.waiting:
                flow.submit(Outgoing(self.waiting, 7))
                self.waiting = []
            while flow.pump() is not None:
                continue
        self.app.session.settle()
        for message in self.app.port().take_messages():
            self.ingest(message)

    def begin(self) -> None:
        """A connection is made."""
        self.inbox.clear()
        self.link = self.node.link_new(initiator=self.initiator, now_ms=1000)

    def receive(self, data: bytes) -> None:
        """Some bytes of the peer."""
        self.inbox += data
        moved = True
        while moved and self.inbox:
            chunk = bytearray(self.inbox)
            used = self.node.receive(self.link, chunk, 1000)
            del self.inbox[:used]
            moved = used > 0
            self.turn()

    def lose(self) -> None:
        """The connection is gone."""
        self.node.end_link(self.link)
        self.turn()


def connect(ends: tuple[End, End], budget: int | None) -> int:
    """One connection, which carries ``budget`` bytes in both directions together (None: all there
    are); how many it carried.
    """
    for end in ends:
        end.begin()
    carried = 0
    moving = True
    while moving and carried != budget:
        moving = False
        for source, target in (ends, ends[::-1]):
            source.turn()
            data = source.node.produce(source.link, CAPACITY, 1000)
            if budget is not None:
                data = data[: budget - carried]
            carried += len(data)
            moving |= bool(data)
            target.receive(data)
    if budget is not None:
        for end in ends:
            end.lose()
    return carried


def talk(said: Sequence[Sequence[int]], budgets: Sequence[int]) -> None:
    """Sizes that each side says, cut after so many bytes, over and over, until all has arrived."""
    ends = End(SEED_A, initiator=True), End(SEED_B, initiator=False)
    for end, sizes in zip(ends, said, strict=True):
        end.say([b"%02d" % n + bytes(size) for n, size in enumerate(sizes)])
    for budget in budgets:
        connect(ends, budget)
    connect(ends, None)
    for end, other in (ends, ends[::-1]):
        assert other.taken == end.sent
        flow = next(iter(end.registration.flows.values()))
        assert flow.unconfirmed == 0
        assert not end.kept
        for event in end.app.events:
            assert not isinstance(event, Trouble)
            assert not isinstance(event, PeerDown) or event.unconfirmed == event.unsent == 0


def test_every_byte() -> None:
    """Small datagrams both ways, so that each byte of everything can be the last one."""
    ends = End(SEED_A, initiator=True), End(SEED_B, initiator=False)
    for end in ends:
        end.say([bytes(size) for size in SMALL])
    assert connect(ends, None) < SMALL_END
    for budget in range(SMALL_END):
        talk([SMALL, SMALL], [budget])


SIZES = st.lists(st.sampled_from([0, 1, 100, 5000, 32_700, LARGEST - 2]), max_size=12)
CUTS = st.lists(st.one_of(st.integers(0, 3000), st.integers(0, 400_000)), max_size=6)


@given(st.tuples(SIZES, SIZES), CUTS)
@settings(max_examples=80, deadline=None)
def test_any_bytes(said: tuple[list[int], list[int]], cuts: list[int]) -> None:
    """Large ones in pieces, under changing keys, cut several times in a row."""
    talk(said, cuts)
