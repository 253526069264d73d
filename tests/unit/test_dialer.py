"""The dialer in virtual time: what it opens, when, and what those who wait are told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dp2p import bus, ids
from dp2p.addresses import Address, parse
from dp2p.coordinator.dialer import BACKOFF_MAX_S, OPEN_S, REDIALS, Dialer
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.targets import Action, Connect, Connected, Failed, Resolve

KEY = ids.to_text(bytes([7]) * 32)
PEER = ids.node_id_text(KEY)
KEYED = parse(f"dp2p://{KEY}@192.0.2.1:4617")
BARE = parse("tcp4://192.0.2.1:4617")
NAMED = parse("tcp4://node.example:4617")
HANDSHAKE_S = 10.0


def link(number: int = 1, shard: int = 0, direction: str = "out", **more: list[str]) -> Link:
    report = bus.LinkReport(
        link=number,
        key=KEY,
        direction=direction,
        endpoint="tcp4://192.0.2.1:4617",
        instance="i",
        trust="none",
        listen=more.get("listen", []),
    )
    return Link(LinkId(shard, number), PEER, report, 0.0, up=True)


@dataclass
class World:
    """What the dialer sees of the node, and a driver for it."""

    open: dict[str, Link] = field(default_factory=dict)
    shards: list[int] = field(default_factory=lambda: [0])
    jitter: float = 0.5

    def __post_init__(self) -> None:
        self.dialer = Dialer(self, lambda: self.jitter, HANDSHAKE_S, first_dial=100)

    def connected(self, peer: str) -> Link | None:
        return self.open.get(peer)

    def open_to(self, endpoint: str) -> Link | None:
        links = (one for one in self.open.values() if one.report.endpoint == endpoint)
        return next(links, None)

    def least_loaded(self) -> int | None:
        return self.shards[0] if self.shards else None

    def up(self, made: Link) -> list[Action]:
        self.open[made.peer] = made
        return self.dialer.link_up(made)

    def lose(self, now: float) -> None:
        del self.open[PEER]
        self.dialer.peer_down(PEER, now)


def dialled(actions: list[Action]) -> bus.DialLink:
    (action,) = actions
    assert isinstance(action, Connect)
    return action.message


def failure(actions: list[Action]) -> tuple[int, str]:
    (action,) = actions
    assert isinstance(action, Failed)
    return action.token, action.code


@pytest.fixture
def world() -> World:
    return World()


# --- a requested dial ---


def test_a_dial_is_answered_when_the_link_is_open(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 10.0, 0.0))
    assert (message.dial, message.host, message.port, message.key) == (100, "192.0.2.1", 4617, KEY)
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
    made = link()
    assert world.up(made) == [Connected(1, made)]
    assert world.dialer.next_deadline() is None


@pytest.mark.parametrize("address", [KEYED, BARE])
def test_what_is_connected_already_is_answered_at_once(world: World, address: Address) -> None:
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
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
    assert failure(world.dialer.link_down(LinkId(0, 1), reason, 1.0)) == (1, code)


def test_a_duplicate_is_success_when_the_peer_is_connected(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 10.0, 0.0))
    world.open[PEER] = link(9, direction="in")
    world.open[PEER].report = bus.LinkReport(
        link=9, key=KEY, direction="in", endpoint="tcp4://x:1", instance="i", trust="", listen=[]
    )
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
    actions = world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0)
    assert actions == [Connected(1, world.open[PEER])]


def test_a_duplicate_waits_for_the_other_link(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 60.0, 0.0))
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
    assert world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0) == []
    other = link(2, direction="in")
    assert world.up(other) == [Connected(1, other)]


def test_a_duplicate_whose_other_link_never_opens(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 60.0, 0.0))
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
    world.dialer.link_down(LinkId(0, 1), "duplicate", 1.0)
    assert failure(world.dialer.run(1.0 + OPEN_S)) == (1, "timeout")


def test_a_request_ends_at_its_own_deadline(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 3.0, 0.0))
    assert world.dialer.next_deadline() == 3.0
    assert world.dialer.run(2.9) == []
    assert failure(world.dialer.run(3.0)) == (1, "timeout")
    assert world.dialer.dial_failed(message.dial, "timeout", 10.0) == []
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 10.0)
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


# --- host names ---


def resolve(world: World) -> Resolve:
    (action,) = world.dialer.request(1, NAMED, 30.0, 0.0)
    assert isinstance(action, Resolve)
    return action


def test_each_address_of_a_name_is_tried_in_turn(world: World) -> None:
    wanted = resolve(world)
    assert (wanted.host, wanted.port, wanted.family) == ("node.example", 4617, 4)
    places = [("192.0.2.1", 4617), ("192.0.2.2", 4617), ("192.0.2.1", 4617)]
    first = dialled(world.dialer.resolved(wanted.target, places, 1.0))
    second = dialled(world.dialer.dial_failed(first.dial, "io", 2.0))
    assert (first.host, second.host) == ("192.0.2.1", "192.0.2.2")
    assert failure(world.dialer.dial_failed(second.dial, "timeout", 3.0)) == (1, "timeout")


def test_a_wrong_key_says_more_than_what_comes_after(world: World) -> None:
    wanted = resolve(world)
    places = [("192.0.2.1", 4617), ("192.0.2.2", 4617)]
    first = dialled(world.dialer.resolved(wanted.target, places, 1.0))
    second = dialled(world.dialer.dial_failed(first.dial, "identity", 2.0))
    assert failure(world.dialer.dial_failed(second.dial, "io", 3.0)) == (1, "identity_mismatch")


def test_a_name_without_address(world: World) -> None:
    wanted = resolve(world)
    assert failure(world.dialer.resolve_failed(wanted.target, "unknown", 1.0))[1] == "dial_failed"
    assert world.dialer.resolved(wanted.target, [("192.0.2.1", 1)], 2.0) == []


def test_a_name_that_is_never_resolved(world: World) -> None:
    resolve(world)
    due = world.dialer.next_deadline()
    assert due is not None
    assert failure(world.dialer.run(due)) == (1, "timeout")


# --- static peers ---


def test_a_static_peer_is_dialled_with_growing_pauses(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        message = dialled(world.dialer.run(now))
        assert world.dialer.dial_failed(message.dial, "io", now) == []
        due = world.dialer.next_deadline()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF_MAX_S


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_jitter_stays_within_half(jitter: float, failures: int) -> None:
    world = World(jitter=jitter)
    world.dialer.keep([KEYED], 0.0)
    now, pause = 0.0, 0.0
    for _ in range(min(failures, 12) + 1):
        message = dialled(world.dialer.run(now))
        world.dialer.dial_failed(message.dial, "io", now)
        due = world.dialer.next_deadline()
        assert due is not None
        pause, now = due - now, due
    assert 0.5 * 0.5 * 0.99 <= pause <= 1.5 * BACKOFF_MAX_S


def test_a_static_peer_that_is_lost_is_dialled_again(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    dialled(world.dialer.run(0.0))
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


def test_a_request_does_not_wait_for_the_backoff(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    message = dialled(world.dialer.run(0.0))
    world.dialer.dial_failed(message.dial, "io", 0.0)
    message = dialled(world.dialer.request(1, KEYED, 5.0, 0.1))
    assert failure(world.dialer.dial_failed(message.dial, "io", 0.2)) == (1, "dial_failed")
    assert world.dialer.next_deadline() is not None


# --- dead shards ---


def test_what_was_under_way_goes_through_another_shard(world: World) -> None:
    world.shards = [0, 1]
    first = world.dialer.request(1, KEYED, 30.0, 0.0)
    world.shards = [1]
    (action,) = world.dialer.shard_down(0, 1.0)
    assert isinstance(action, Connect)
    assert action.shard == 1
    assert action.message.host == dialled(first).host
    assert world.dialer.shard_down(0, 2.0) == []


def test_a_link_that_was_opening_in_a_dead_shard_is_dialled_again(world: World) -> None:
    message = dialled(world.dialer.request(1, KEYED, 30.0, 0.0))
    world.dialer.ready(message.dial, LinkId(0, 1), PEER, 1.0)
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
    while actions:
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
        self.world = World(shards=[0, 1])
        self.dialer = self.world.dialer
        self.now = 0.0
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.dials: list[int] = []
        self.links: list[LinkId] = []
        self.targets: list[int] = []
        self.dialer.keep([NAMED], 0.0)

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Connected(token, _) | Failed(token, _, _):
                    self.answered.append(token)
                case Connect(_, message):
                    self.dials.append(message.dial)
                case Resolve(target):
                    self.targets.append(target)

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.dialer.run(self.now))

    @rule(address=st.sampled_from([KEYED, BARE, NAMED]))
    def request(self, address: Address) -> None:
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
        self.dialer.ready(dial, self.links[-1], PEER, self.now)

    @precondition(lambda self: self.links)
    @rule(data=st.data(), reason=st.sampled_from(["duplicate", "full", "eof"]))
    def refused(self, data: st.DataObject, reason: str) -> None:
        self.take(self.dialer.link_down(data.draw(st.sampled_from(self.links)), reason, self.now))

    @rule()
    def peer_up(self) -> None:
        self.take(self.world.up(link()))

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


TestDialerMachine = DialerMachine.TestCase
