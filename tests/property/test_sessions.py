"""Whatever a network does to packets, and whatever strangers make of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.held import Held
from dp2p.coordinator.discovery.sessions import Delivered, Limits
from packet_world import World

SMALL = Limits(
    sessions=4,
    sessions_of_network=3,
    sessions_of_contact=2,
    halves=4,
    halves_of_address=2,
    halves_of_network=3,
    pending=4,
    waiting=3,
    ephemerals=4,
    calm=(3, 5.0),
    calm_network=(2, 5.0),
    proven_address=(2, 5.0),
    lifetime_s=60.0,
    grace_s=5.0,
    idle_s=30.0,
)
HOSTS = ("192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("doubt"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("deliver"), st.integers(0, 99), st.booleans()),
        st.tuples(st.just("replay"), st.integers(0, 99), st.integers(0, 99)),
        st.tuples(st.just("change"), st.integers(0, 99), st.integers(0, 1279)),
        st.tuples(st.just("elsewhere"), st.integers(0, 99), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 4.0, 20.0]), st.just(0)),
    ),
    max_size=60,
)


class Storm:
    """Four nodes, and a network that loses, repeats, reorders, changes and misdirects."""

    def __init__(self) -> None:
        self.world = World()
        self.now = 0.0
        self.nodes = [self.world.node(f"{n}", host, limits=SMALL) for n, host in enumerate(HOSTS)]
        self.under_way: list[tuple[Place, bytes, Place]] = []
        self.past: list[tuple[Place, bytes, Place]] = []
        self.said: set[bytes] = set()

    def collect(self) -> None:
        for node in self.nodes:
            self.under_way += [(node.place, data, to) for data, to in node.out]
            node.out = []

    def give(self, source: Place, data: bytes, to: Place) -> None:
        node = self.world.ends[to]
        node.out += node.take(data, source, self.now)

    def step(self, what: str, one: int | float, other: int | bool) -> None:
        if what == "send":
            a, b = self.nodes[int(one)], self.nodes[int(other)]
            body = b"%d to %d: %d" % (one, other, len(self.said))
            self.said.add(body)
            a.send(b, body, self.now)
        elif what == "doubt":
            self.nodes[int(one)].sessions.doubt(self.nodes[int(other)].contact)
        elif what == "wait":
            self.now += one
            for node in self.nodes:
                node.run(self.now)
        elif what == "deliver" and self.under_way:
            moved = self.under_way.pop(int(one) % len(self.under_way))
            self.past.append(moved)
            if other:
                self.give(*moved)
        elif self.past:
            self.attack(what, *self.past[int(one) % len(self.past)], int(other))

    def attack(self, what: str, source: Place, data: bytes, to: Place, other: int) -> None:
        if what == "change":
            at = other % len(data)
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if what == "elsewhere":
            to = self.nodes[other].place
        self.give(source, data, to)

    def check(self) -> None:
        for number, node in enumerate(self.nodes):
            sizes = node.sessions.sizes
            assert sizes.sessions <= SMALL.sessions
            assert sizes.halves <= SMALL.halves
            assert sizes.pending <= SMALL.pending
            assert sizes.ephemerals <= SMALL.ephemerals
            assert len(node.sessions._numbered) == sizes.sessions + sizes.halves + sizes.pending
            assert len(node.sessions._pairs) <= sizes.sessions + sizes.pending
            said = [event for event in node.events if isinstance(event, Delivered)]
            assert len({event.body for event in said}) == len(said)
            for event in said:
                sender = HOSTS.index(event.contact.place[0])
                assert event.body in self.said
                assert event.body.startswith(b"%d to %d:" % (sender, number))


@settings(max_examples=40, deadline=None)
@given(steps)
def test_what_is_delivered_was_said_once_by_whom_it_names(
    script: list[tuple[str, int | float, int | bool]],
) -> None:
    storm = Storm()
    for what, one, other in script:
        storm.step(what, one, other)
        storm.collect()
        storm.check()


@settings(max_examples=20, deadline=None)
@given(steps)
def test_when_the_storm_is_over_everybody_is_reached(
    script: list[tuple[str, int | float, int | bool]],
) -> None:
    storm = Storm()
    for what, one, other in script:
        storm.step(what, one, other)
        storm.collect()
    a, b = storm.nodes[0], storm.nodes[2]
    for _ in range(20):  # handshakes are given up, sessions and shares are forgotten
        storm.now += 10.0
        for node in storm.nodes:
            node.run(storm.now)
            node.out = []
    a.send(b, b"calm again", storm.now)
    storm.world.settle(storm.now)
    assert b.bodies[-1] == b"calm again"


# --- amplification ---

strangers = st.lists(
    st.tuples(
        st.integers(0, 5),  # whose message 1
        st.integers(0, 3),  # from where
        st.sampled_from(["whole", "again", "cut", "changed", "garbage"]),
        st.integers(0, 1400),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(strangers, st.booleans())
def test_an_unproven_address_gets_no_more_bytes_than_it_sends(
    script: list[tuple[int, int, str, int]], calm: bool
) -> None:
    world = World()
    limits = Limits() if calm else SMALL
    victim = world.node("victim", "203.0.113.1", limits=limits)
    firsts = []
    for n in range(6):
        node = world.node(f"{n}", "100.64.0.1", port=1024 + n)
        node.send(victim, b"x")
        firsts.append(node.only()[0])
    bytes_in: dict[Place, int] = {}
    bytes_out: dict[Place, int] = {}
    for turn, (who, where, what, at) in enumerate(script):
        data, source = firsts[who], (HOSTS[where], 9)
        if what == "cut":
            data = data[:at]
        elif what == "changed":
            data = data[: at % len(data)] + bytes([at % 256]) + data[at % len(data) + 1 :]
        elif what == "garbage":
            data = world.random.randbytes(at)
        bytes_in[source] = bytes_in.get(source, 0) + len(data)
        out = victim.take(data, source, float(turn))
        assert sum(len(one) for one, _ in out) < max(len(data), 1) or not out
        assert all(to == source for _, to in out)
        bytes_out[source] = bytes_out.get(source, 0) + sum(len(one) for one, _ in out)
        victim.run(float(turn))
        assert victim.out == []  # nothing on its own account
        assert bytes_out[source] <= bytes_in[source]
    assert victim.events == []


# --- what is held ---


@given(st.lists(st.tuples(st.sampled_from(["add", "touch", "remove"]), st.integers(0, 30))))
def test_held_is_bounded_and_the_least_used_leave(script: list[tuple[str, int]]) -> None:
    held = Held(8, [2, 4])
    model: list[int] = []  # by last use

    def groups(number: int) -> tuple[str | None, str | None]:
        return (f"{number % 7}", f"{number % 3}") if number % 5 else (None, None)

    def pushed_out(number: int) -> list[int]:
        gone = []
        for kind, (name, most) in enumerate(zip(groups(number), (2, 4), strict=True)):
            members = [one for one in model if groups(one)[kind] == name]
            if name is not None and len(members) >= most:
                gone.append(members[0])
                model.remove(members[0])
        if len(model) >= 8:
            gone.append(model.pop(0))
        return gone

    for what, number in script:
        if what == "add" and number not in model:
            assert held.add(number, groups(number)) == pushed_out(number)
            model.append(number)
        elif what == "touch" and number in model:
            held.touch(number)
            model.remove(number)
            model.append(number)
        elif what == "remove":
            held.remove(number)
            model = [one for one in model if one != number]
        assert len(held) == len(model)
        assert held.oldest == (model[0] if model else None)
