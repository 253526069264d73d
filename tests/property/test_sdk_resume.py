"""Two applications over connections that come and go: what one sends the other takes in order, once
and whole, unless its sender was told otherwise.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from conversing import LARGEST, NUMBER, SHARDS, Network, everything_came

SIDE = st.integers(0, 1)
INDEX = st.integers(0, SHARDS - 1)
WINDOW = st.integers(LARGEST + 16, 5000)
DISASTERS = ["shard", "session", "withdrawal", "application", "time"]
SIZES = st.lists(st.integers(0, LARGEST - NUMBER), max_size=20)


class Conversations(RuleBasedStateMachine):
    """Any order of sends, reads, cuts, late arrivals, lost sessions and dead applications."""

    @initialize()
    def begin(self) -> None:
        self.network = Network()
        self.network.connect((0, 1), (1000, 3000))

    @rule(which=SIDE, sizes=SIZES, one_by_one=st.booleans())
    def send(self, which: int, sizes: list[int], one_by_one: bool) -> None:
        self.network.sides[which].send(sizes, one_by_one=one_by_one)

    @rule(which=SIDE, count=st.integers(1, 8), window=WINDOW)
    def deliver(self, which: int, count: int, window: int) -> None:
        self.network.deliver(which, count, window)

    @rule(which=SIDE, count=st.integers(1, 20))
    def take(self, which: int, count: int) -> None:
        self.network.sides[which].take(count)

    @rule(which=SIDE, sizes=SIZES, count=st.integers(0, 8), window=WINDOW)
    def talk(self, which: int, sizes: list[int], count: int, window: int) -> None:
        """Some of it goes all the way, and back."""
        self.network.sides[which].send(sizes)
        self.network.deliver(1 - which, count, window)
        self.network.sides[1 - which].take(count)
        self.network.deliver(which, count, window)

    @rule(indexes=st.tuples(INDEX, INDEX), windows=st.tuples(WINDOW, WINDOW))
    def connect(self, indexes: tuple[int, int], windows: tuple[int, int]) -> None:
        self.network.connect(indexes, windows)

    @rule(
        goodbyes=st.tuples(st.booleans(), st.booleans()),
        indexes=st.tuples(INDEX, INDEX),
        windows=st.tuples(WINDOW, WINDOW),
        late=st.booleans(),
    )
    def cut(
        self,
        goodbyes: tuple[bool, bool],
        indexes: tuple[int, int],
        windows: tuple[int, int],
        late: bool,
    ) -> None:
        """The connection is lost and made again; what was on it may arrive in between."""
        self.network.cut(goodbyes)
        if late:
            self.network.arrive_late()
        self.network.connect(indexes, windows)

    @rule(what=st.sampled_from(DISASTERS), which=SIDE, index=INDEX)
    def suffer(self, what: str, which: int, index: int) -> None:
        """Something else happens, and the connection is gone."""
        if what == "shard":
            self.network.kill_shard(which, index)
        elif what == "session":
            self.network.lose_session(which)
        elif what == "withdrawal":
            self.network.withdraw(which)
        elif what == "application":
            self.network.kill(which)
        else:
            self.network.cut((True, True))
            self.network.sides[which].expire(31.0)

    @rule()
    def arrive_late(self) -> None:
        self.network.arrive_late()

    @invariant()
    def in_order_and_kept(self) -> None:
        self.network.check()

    def teardown(self) -> None:
        """On a connection that holds, everything arrives and is confirmed."""
        if not hasattr(self, "network"):
            return
        self.network.connect((0, 0), (2000, 2000))
        self.network.settle()
        self.network.check()
        self.network.each_way(everything_came)


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
