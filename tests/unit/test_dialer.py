"""The dialer: what it opens, what it relies on, and what those who wait are told."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dialer_world import (
    BARE,
    HANDSHAKE_S,
    KEY,
    KEYED,
    NAMED,
    OTHER_KEY,
    PEER,
    PLACELESS,
    World,
    dialled,
    failure,
    link,
    told,
    tried,
)
from dp2p.coordinator.dialer import OPEN_S, REDIALS
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.targets import (
    Action,
    Connect,
    Connected,
    Failed,
    Knowledge,
    Resolve,
    Tried,
    Wanted,
)


@pytest.fixture
def world() -> World:
    return World()


# --- a requested dial ---


def test_a_dial_is_answered_when_the_link_is_open(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert (message.dial, message.host, message.port, message.key) == (100, "192.0.2.1", 4617, KEY)
    world.ready(message.dial, 1.0)
    made = link()
    assert world.up(made) == [Connected(1, made)]
    assert world.dialer.next_deadline() is None


@pytest.mark.parametrize("address", [KEYED, BARE])
def test_what_is_connected_already_is_answered_at_once(world: World, address: Wanted) -> None:
    world.open[PEER] = link()
    assert world.dialer.request(1, address, 10.0, 0.0) == [Connected(1, world.open[PEER])]


def test_two_requests_share_one_dial(world: World) -> None:
    dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert world.dialer.request(2, KEYED, 10.0, 0.0) == []
    assert [action.token for action in world.up(link()) if isinstance(action, Connected)] == [1, 2]


FAILURES = [("identity", "identity_mismatch"), ("timeout", "timeout"), ("io", "dial_failed")]


@pytest.mark.parametrize(("reason", "code"), FAILURES)
def test_failures_have_codes(world: World, reason: str, code: str) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert failure(world.dialer.dial_failed(message.dial, reason, 1.0)) == (1, code)
    assert world.dialer.next_deadline() is None


REFUSALS = [("full", "refused:full"), ("self", "refused:self"), ("eof", "dial_failed")]


@pytest.mark.parametrize(("reason", "code"), REFUSALS)
def test_a_link_that_is_not_admitted(world: World, reason: str, code: str) -> None:
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    world.ready(message.dial, 1.0)
    assert failure(world.dialer.link_down(LinkId(0, 1), reason, 1.0)) == (1, code)


def test_a_duplicate_is_success_when_the_peer_is_connected(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    world.open[PEER] = link(9, direction="in", endpoint="tcp4://192.0.2.9:1")
    world.ready(message.dial, 1.0)
    actions = world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0)
    assert actions == [Connected(1, world.open[PEER])]


def test_a_duplicate_waits_for_the_other_link(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 60.0, 0.0))
    world.ready(message.dial, 1.0)
    assert world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0) == []
    other = link(2, direction="in")
    assert world.up(other) == [Connected(1, other)]


def test_a_duplicate_whose_other_link_never_opens(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 60.0, 0.0))
    world.ready(message.dial, 1.0)
    world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0)
    assert failure(world.dialer.run(1.0 + OPEN_S)) == (1, "timeout")


def test_a_request_ends_at_its_own_deadline(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 3.0, 0.0))
    assert world.dialer.next_deadline() == 3.0
    assert world.dialer.run(2.9) == []
    assert failure(world.dialer.run(3.0)) == (1, "timeout")
    assert told(world.dialer.dial_failed(message.dial, "timeout", 10.0)) == []
    assert world.ready(message.dial, 10.0) == []
    assert world.up(link()) == []


def test_no_shard(world: World) -> None:
    world.shards = []
    assert failure(world.dialer.request(1, KEYED, 10.0, 0.0)) == (1, "dial_failed")


def test_a_shard_that_never_answers(world: World) -> None:
    dialled(world.dialer.request(1, KEYED, 100.0, 0.0))
    due = world.dialer.next_deadline()
    assert due is not None
    assert HANDSHAKE_S < due < 100.0
    assert failure(world.dialer.run(due)) == (1, "timeout")


def test_an_answer_to_an_earlier_coordinator_is_nothing_to_this_one(world: World) -> None:
    dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert world.dialer.dial_failed(99, "io", 0.0) == []


# --- what a dial relies on, and what came of it ---


def test_the_key_that_is_asked_for_is_relied_on(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert (message.key, message.pinned, message.ticket) == (KEY, True, None)


def test_nothing_is_relied_on_at_a_place_that_nobody_knows(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    assert (message.key, message.pinned, message.ticket) == (None, False, None)


def test_who_is_thought_to_be_there_is_relied_on_and_not_asked_for(world: World) -> None:
    world.thought_at["tcp4://192.0.2.1:4617"] = KEY
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    assert (message.key, message.pinned) == (KEY, False)


def test_each_dial_takes_a_ticket_of_its_own(world: World) -> None:
    world.tickets[KEY] = [b"second", b"first"]
    first = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert first.ticket == b"first"
    failed = world.dialer.dial_failed(first.dial, "io", 1.0)
    assert dialled(world.dialer.request(2, KEYED, 10.0, 2.0)).ticket == b"second"
    assert "first" not in repr(failed)


def test_no_ticket_is_taken_for_a_dial_that_waits() -> None:
    world = World(max_dials=1, tickets={KEY: [b"ticket"]})
    world.dialer.request(1, BARE, 10.0, 0.0)
    assert world.dialer.request(2, KEYED, 10.0, 0.0) == []
    assert world.tickets[KEY]


def test_knowledge_of_another_key_is_not_used_for_a_peer_that_is_asked_for(world: World) -> None:
    world.knowledge = lambda key, endpoint: Knowledge(OTHER_KEY, b"t")  # type: ignore[method-assign]
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert (message.key, message.ticket) == (KEY, None)


MODES = [(None, [], "xx"), (KEY, [], "ik"), (KEY, [b"t"], "resume")]


@pytest.mark.parametrize(("key", "tickets", "mode"), MODES)
def test_what_came_of_a_dial_is_told(key: str | None, tickets: list[bytes], mode: str) -> None:
    endpoint = "tcp4://192.0.2.1:4617"
    world = World(tickets={KEY: tickets}, thought_at={endpoint: key} if key else {})
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    (one,) = world.ready(message.dial, 1.0, key=OTHER_KEY)
    assert isinstance(one, Tried)
    assert (one.dial, one.endpoint, one.key, one.pinned) == (message.dial, endpoint, key, False)
    assert (one.mode, one.ok, one.reason, one.answered) == (mode, True, None, OTHER_KEY)
    assert tried(world.dialer.link_down(LinkId(0, 1), "full", 2.0)) == []


def test_what_came_of_a_dial_is_told_once(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert len(world.ready(message.dial, 1.0)) == 1
    assert world.ready(message.dial, 2.0) == []
    assert world.dialer.dial_failed(message.dial, "io", 3.0) == []


def test_another_key_answers_and_is_named(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    one, failed = world.dialer.dial_failed(message.dial, "identity", 1.0, OTHER_KEY)
    assert isinstance(one, Tried)
    assert (one.ok, one.reason, one.answered) == (False, "identity", OTHER_KEY)
    assert (one.key, one.pinned) == (KEY, True)
    assert isinstance(failed, Failed)
    assert failed.code == "identity_mismatch"
    assert OTHER_KEY in failed.message


def test_a_dial_that_nobody_waits_for_any_more_is_told_as_well(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 3.0, 0.0))
    world.dialer.run(3.0)
    (one,) = world.dialer.dial_failed(message.dial, "io", 9.0)
    assert isinstance(one, Tried)


# --- static peers ---


def test_a_static_peer_that_is_lost_is_dialled_again(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    world.ready(dialled(world.dialer.run(0.0)).dial, 0.0)
    assert world.up(link()) == []
    assert world.dialer.next_deadline() is None
    world.lose(100.0)
    due = world.dialer.next_deadline()
    assert due is not None
    assert dialled(world.dialer.run(due)).key == KEY


def test_a_static_peer_that_came_by_itself_is_not_dialled(world: World) -> None:
    world.open[PEER] = link(direction="in")
    world.dialer.keep([KEYED], 0.0)
    assert world.dialer.run(0.0) == []
    assert world.dialer.next_deadline() is None


# --- dead shards ---


def test_what_was_under_way_goes_through_another_shard(world: World) -> None:
    world.shards = [0, 1]
    first = world.dialer.request(1, KEYED, 30.0, 0.0)
    world.shards = [1]
    over, action = world.dialer.shard_down(0, 1.0)
    assert isinstance(over, Tried)
    assert (over.dial, over.ok, over.reason) == (dialled(first).dial, False, "shard_down")
    assert isinstance(action, Connect)
    assert action.shard == 1
    assert action.message.host == dialled(first).host
    assert world.dialer.shard_down(0, 2.0) == []


def test_a_link_that_was_opening_in_a_dead_shard_is_dialled_again(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 30.0, 0.0))
    world.ready(message.dial, 1.0)
    assert dialled(world.dialer.shard_down(0, 1.0)).dial != message.dial


LOST = [
    (link(), ["192.0.2.1"]),
    (link(direction="in", listen=["tcp4://192.0.2.5:1", "tcp6://[::5]:1"]), ["192.0.2.5", "::5"]),
    (link(direction="in", listen=["nonsense", "tcp4://name.example:1"]), []),
    (link(direction="in"), []),
]


@pytest.mark.parametrize(("lost", "hosts"), LOST)
def test_peers_of_a_dead_shard_are_dialled_where_they_can_be(
    world: World, lost: Link, hosts: list[str]
) -> None:
    world.dialer.lost([lost], 0.0)
    tried = []
    actions = world.dialer.run(1.0)
    while told(actions):
        message = dialled(actions)
        assert message.key == KEY
        tried.append(message.host)
        actions = world.dialer.dial_failed(message.dial, "io", 1.0)
    assert tried == hosts


def test_a_lost_peer_is_given_up_after_some_tries(world: World) -> None:
    world.dialer.lost([link()], 0.0)
    rounds = 0
    while (due := world.dialer.next_deadline()) is not None:
        for action in world.dialer.run(due):
            assert isinstance(action, Connect)
            rounds += 1
            world.dialer.dial_failed(action.message.dial, "io", due)
    assert rounds == REDIALS


def test_a_peer_lost_twice_is_dialled_once(world: World) -> None:
    world.dialer.lost([link(), link(2, direction="in", listen=["tcp4://192.0.2.5:1"])], 0.0)
    assert dialled(world.dialer.run(1.0)).host == "192.0.2.1"


def test_a_peer_lost_while_it_is_dialled_is_not_dialled_again_at_once(world: World) -> None:
    dialled(world.dialer.request(1, KEYED, 30.0, 0.0))
    world.dialer.lost([link()], 1.0)
    assert world.dialer.run(2.0) == []


def test_a_lost_peer_that_returns_by_itself_is_left_alone(world: World) -> None:
    world.dialer.lost([link()], 0.0)
    world.up(link(2, direction="in"))
    assert world.dialer.next_deadline() is None


def test_a_lost_static_peer_is_dialled_once(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    world.dialer.run(0.0)
    world.up(link())
    del world.open[PEER]
    world.dialer.lost([link()], 1.0)
    due = world.dialer.next_deadline()
    assert due is not None
    dialled(world.dialer.run(due))


# --- whatever happens ---


class DialerMachine(RuleBasedStateMachine):
    """Any order of events. Every request is answered exactly once when time has passed."""

    @initialize()
    def begin(self) -> None:
        self.world = World(shards=[0, 1], max_dials=3)
        self.world.known_places[KEY] = [("192.0.2.1", 4617), ("node.example", 1), ("::1", 1)]
        self.dialer = self.world.dialer
        self.now = 0.0
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.dials: list[int] = []
        self.tried: list[int] = []
        self.links: list[LinkId] = []
        self.targets: list[int] = []
        self.dialer.keep([NAMED], 0.0)

    @invariant()
    def few_are_under_way(self) -> None:
        assert len(set(self.dials) - set(self.tried)) <= 3

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Connected(token, _) | Failed(token, _, _):
                    self.answered.append(token)
                case Connect(_, message):
                    self.dials.append(message.dial)
                case Tried(dial):
                    self.tried.append(dial)
                case Resolve(target):
                    self.targets.append(target)

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.dialer.run(self.now))

    @rule(address=st.sampled_from([KEYED, BARE, NAMED, PLACELESS]))
    def request(self, address: Wanted) -> None:
        self.asked.append(len(self.asked))
        self.take(self.dialer.request(self.asked[-1], address, 5.0, self.now))

    @precondition(lambda self: self.targets)
    @rule(count=st.integers(0, 3))
    def resolved(self, count: int) -> None:
        places = [(f"192.0.2.{number}", 1) for number in range(count)]
        self.take(self.dialer.resolved(self.targets.pop(), places, self.now))

    @precondition(lambda self: self.dials)
    @rule(data=st.data(), reason=st.sampled_from(["io", "identity", "timeout"]))
    def dial_failed(self, data: st.DataObject, reason: str) -> None:
        dial = data.draw(st.sampled_from(self.dials))
        self.take(self.dialer.dial_failed(dial, reason, self.now))

    @precondition(lambda self: self.dials)
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        self.links.append(LinkId(0, len(self.links)))
        dial = data.draw(st.sampled_from(self.dials))
        self.take(self.world.ready(dial, self.now, len(self.links) - 1))

    @precondition(lambda self: self.links)
    @rule(data=st.data(), reason=st.sampled_from(["duplicate", "full", "eof"]))
    def refused(self, data: st.DataObject, reason: str) -> None:
        self.take(self.dialer.link_down(data.draw(st.sampled_from(self.links)), reason, self.now))

    @rule()
    def peer_up(self) -> None:
        self.take(self.world.up(link(), self.now))

    @precondition(lambda self: PEER in self.world.open)
    @rule(dead_shard=st.booleans())
    def peer_down(self, dead_shard: bool) -> None:
        if dead_shard:
            self.dialer.lost([self.world.open.pop(PEER)], self.now)
        else:
            self.world.lose(self.now)

    @rule(shard=st.integers(0, 1))
    def shard_down(self, shard: int) -> None:
        self.take(self.dialer.shard_down(shard, self.now))

    def teardown(self) -> None:
        self.now += 100.0
        self.take(self.dialer.run(self.now))
        assert sorted(self.answered) == self.asked
        begun = set(self.dials)
        self.take(self.dialer.run(self.now + 100.0))
        assert begun <= set(self.tried)
        assert len(self.tried) == len(set(self.tried))


TestDialerMachine = DialerMachine.TestCase
