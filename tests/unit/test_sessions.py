"""Sessions over packets: who gets one, who sends on which, what expires; in virtual time."""

from __future__ import annotations

import pytest

from dp2p.coordinator.discovery import handshakes
from dp2p.coordinator.discovery.contact import Contact, Serving
from dp2p.coordinator.discovery.sessions import Established, Hello, Limits, Sizes, Unreachable
from dp2p.packets import Parser
from packet_world import World, met, pair

# --- a handshake ---


def test_the_first_body_shakes_hands_and_is_delivered() -> None:
    world, a, b = pair()
    a.sessions.say(Serving(v4=True), seq=7)
    b.sessions.say(Serving(), seq=9)
    a.send(b, b"hello")
    world.settle()
    (at_a,), (at_b, delivered) = a.events, b.events
    assert isinstance(at_a, Established)
    assert isinstance(at_b, Established)
    assert (at_a.contact, at_a.initiated, at_a.seen) == (b.contact, True, a.place)
    assert (at_a.hello.key, at_a.hello.serves, at_a.hello.seq) == (b.contact.key, False, 9)
    assert (at_b.contact, at_b.initiated, at_b.seen) == (a.contact, False, None)
    assert (at_b.hello.key, at_b.hello.serves, at_b.hello.seq) == (a.contact.key, True, 7)
    assert b.bodies == [b"hello"]
    assert delivered is b.events[1]
    assert len(world.seen) == 3


@pytest.mark.parametrize(
    ("host", "serves"), [("192.0.2.1", False), ("2001:db8::1", True)], ids=["v4", "v6"]
)
def test_whether_a_node_serves_is_said_by_family(host: str, serves: bool) -> None:
    """As it is behind a NAT for IPv4, or not; both when it begins and when it answers."""
    world = World()
    a, b = world.node("a", host, port=1), world.node("b", host, port=2)
    for end in (a, b):
        end.sessions.say(Serving(v6=True), seq=0)
    a.send(b, b"x")
    world.settle()
    assert [end.established[0].hello.serves for end in (a, b)] == [serves, serves]


def test_both_sides_go_on_without_another_handshake() -> None:
    world, a, b = met()
    for turn in range(5):
        a.send(b, b"question %d" % turn)
        b.send(a, b"answer %d" % turn)
        world.settle()
    assert len(a.bodies) == 5
    assert len(b.bodies) == 6
    assert len(world.seen) == 3 + 10
    assert (a.sessions.counters.initiated, b.sessions.counters.initiated) == (1, 0)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_the_place_where_we_are_seen(host: str) -> None:
    world = World()
    a, b = world.node("a", host, port=50000), world.node("b", "2001:db8:1::2")
    a.send(b, b"x")
    world.settle()
    assert a.established[0].seen == (host, 50000)


def test_the_responder_has_no_session_before_it_hears_of_message_2() -> None:
    world, a, b = pair()
    a.send(b, b"x")
    data, _ = a.only()
    ((second, to),) = b.take(data, a.place)
    assert (to, b.events) == (a.place, [])
    assert b.sessions.sizes == Sizes(sessions=0, halves=1, pending=0, ephemerals=1)
    (sealed,) = a.take(second, b.place)
    assert b.take(sealed[0], a.place) == []
    assert b.bodies == [b"x"]
    assert b.sessions.sizes == Sizes(sessions=1, halves=0, pending=0, ephemerals=1)
    assert world.seen == []


def test_all_that_waits_is_sent_and_no_more_waits_than_may() -> None:
    world, a, b = pair(a=Limits(waiting=3))
    for turn in range(5):
        a.send(b, b"%d" % turn)
    world.settle()
    assert b.bodies == [b"0", b"1", b"2"]
    assert a.sessions.counters.waiting_dropped == 2


def test_two_that_shake_hands_at_once_read_each_other() -> None:
    world, a, b = pair()
    a.send(b, b"from a")
    b.send(a, b"from b")
    world.settle()
    assert (a.bodies, b.bodies) == ([b"from b"], [b"from a"])
    for turn in range(3):
        a.send(b, b"a%d" % turn)
        b.send(a, b"b%d" % turn)
        world.settle()
    assert (a.bodies[1:], b.bodies[1:]) == ([b"b0", b"b1", b"b2"], [b"a0", b"a1", b"a2"])
    assert a.sessions.sizes.sessions == b.sessions.sizes.sessions == 2


def test_who_cannot_be_reached_is_spoken_to_when_it_comes() -> None:
    """As behind a NAT: nothing gets to ``b`` but what answers it."""
    world, a, b = pair()
    a.send(b, b"waits")
    world.settle(lost=lambda source, _: source == a.place)
    b.send(a, b"I am here", 1.0)
    world.settle(1.0)
    assert (a.bodies, b.bodies) == ([b"I am here"], [b"waits"])
    assert a.sessions.sizes.pending == 0
    a.run(100.0)
    assert not any(isinstance(event, Unreachable) for event in a.events)


@pytest.mark.parametrize("body", [b"", bytes(1238)])
def test_a_body_fits_into_a_packet(body: bytes) -> None:
    _, a, b = pair()
    with pytest.raises(ValueError, match="1 to 1237 bytes"):
        a.send(b, body)


def test_the_largest_body() -> None:
    world, a, b = met()
    a.send(b, bytes(1237))
    world.settle()
    assert b.bodies[-1] == bytes(1237)
    assert len(world.seen[-1][1][0]) == 1280


# --- whom there is no session with ---


def test_nobody_answers() -> None:
    _, a, b = pair()
    a.send(b, b"1")
    a.send(b, b"2")
    sizes = []
    while (now := a.sessions.next_deadline()) is not None:
        sizes += [len(data) for data, _ in a.out]
        assert all(place == b.place for _, place in a.out)
        a.out = []
        a.run(now)
    assert len(sizes) == len(Limits().resend_s)
    assert now is None
    assert a.events == [Unreachable(b.contact)]
    assert a.sessions.counters.waiting_dropped == 2
    assert a.sessions.sizes == Sizes(0, 0, 0, 0)


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),  # of low order
        bytes([1, *bytes(31)]),
        b"\xff" * 32,  # not below the prime
        bytes([2, *bytes(31)]),  # no point
    ],
)
def test_a_key_that_nobody_can_own_is_unreachable(key: bytes) -> None:
    _, a, _ = pair()
    a.send(Contact(key, ("203.0.113.1", 1)), b"x")
    assert a.out == []
    assert a.sessions.next_deadline() == 0.0
    a.run(0.0)
    assert a.events == [Unreachable(Contact(key, ("203.0.113.1", 1)))]
    assert a.sessions.counters.identity == 1


def test_a_node_does_not_speak_to_itself() -> None:
    world, a, _ = pair()
    a.send(a, b"x")
    world.run(0.0)
    assert a.events == [Unreachable(a.contact)]
    twin = world.node("a", "203.0.113.9")  # with the same seed, elsewhere
    twin.sessions._shaker.public = bytes(32)  # it would not notice
    twin.send(a, b"x")
    world.settle()
    assert (a.sessions.counters.itself, twin.established, a.established) == (2, [], [])


def test_another_key_answers_nothing() -> None:
    world, a, b = pair()
    other = world.node("other", "203.0.113.3")
    a.send(Contact(other.contact.key, b.place), b"x")
    world.settle()
    assert (b.sessions.counters.garbage, b.sessions.counters.sent) == (1, 0)
    assert a.established == []


def test_too_many_handshakes_under_way() -> None:
    world = World()
    a = world.node("a", "192.0.2.1", limits=Limits(pending=2))
    others = [world.node(f"{n}", f"198.51.100.{n}") for n in range(3)]
    for other in others:
        a.send(other, b"x")
    world.run(0.0)
    assert [event for event in a.events if isinstance(event, Unreachable)] == [
        Unreachable(others[2].contact)
    ]
    a.send(others[2], b"y")
    world.settle()
    assert others[2].bodies == [b"y"]


def test_a_key_that_is_not_proven() -> None:
    """The hello names a key that the static key does not belong to."""
    world, a, b = pair()
    a.sessions._hellos[False] = Hello(b"\x07" * 32, True, 0)
    a.send(b, b"x")
    world.settle()
    assert (b.sessions.counters.identity, b.sessions.counters.sent) == (1, 0)


def test_a_key_beside_the_main_subgroup() -> None:
    """Its owner can prove it, but nobody could begin a handshake with it: it is a key of (x, y)
    and the point of order 2, which is (-x, -y).
    """
    world, a, b = pair()
    prime = 2**255 - 19
    key = int.from_bytes(a.contact.key, "little")
    x_is_odd, y = key >> 255, prime - key % 2**255
    shaker = a.sessions._shaker
    shaker.public = (y | (1 - x_is_odd) << 255).to_bytes(32, "little")
    u = (1 + y) * pow(1 - y, -1, prime) % prime
    shaker._static_public = u.to_bytes(32, "little")
    a.sessions._parser = Parser(shaker.keys_of(shaker.public))
    a.sessions.say(Serving(), 0)
    a.send(b, b"x")
    world.settle()
    assert a.sessions.counters.established_out == 1
    assert (b.sessions.counters.answered, b.sessions.counters.identity) == (1, 1)
    assert b.events == []
    assert b.sessions.sizes.halves == 0  # it costs the check once


# --- losses ---


def test_a_lost_message_1_is_sent_again_and_does_not_look_the_same() -> None:
    world, a, b = pair()
    a.send(b, b"x")
    lost, _ = a.only()
    a.run(0.8)
    again = a.out[0][0]
    assert len(again) == len(lost)
    assert sum(x == y for x, y in zip(lost, again, strict=True)) < len(lost) / 16
    world.settle(0.8)
    assert b.bodies == [b"x"]


def test_a_lost_message_2_is_sent_again() -> None:
    world, a, b = pair()
    a.send(b, b"x")
    world.settle(lost=lambda source, _: source == b.place)
    assert a.established == []
    world.run(0.8)
    assert b.bodies == [b"x"]
    assert (b.sessions.counters.answered, b.sessions.counters.reanswered) == (1, 1)


def test_a_lost_first_packet_leaves_a_half_session_that_the_next_one_proves() -> None:
    world, a, b = pair()
    a.send(b, b"lost")
    world.settle(lost=lambda _, datagram: datagram[1] == b.place and b.sessions.sizes.halves == 1)
    assert (b.events, b.sessions.sizes.halves) == ([], 1)
    a.send(b, b"kept", 3.0)
    world.settle(3.0)
    assert b.bodies == [b"kept"]


def test_half_sessions_expire() -> None:
    world, a, b = pair()
    a.send(b, b"x")
    world.settle(lost=lambda source, _: source == b.place)
    assert b.sessions.next_deadline() == Limits().half_s
    b.run(Limits().half_s - 0.1)
    assert b.sessions.sizes.halves == 1
    b.run(Limits().half_s)
    assert b.sessions.sizes.halves == 0
    assert b.sessions.next_deadline() is None


# --- newer sessions ---


def test_a_doubted_session_is_still_read() -> None:
    world, a, b = met()
    a.sessions.doubt(b.contact)
    a.send(b, b"anew")
    b.send(a, b"in the old one")
    assert len(a.out[0][0]) >= 300
    world.settle()
    assert (a.bodies, b.bodies[-1]) == ([b"in the old one"], b"anew")
    b.send(a, b"in the new one")
    world.settle()
    assert a.bodies[-1] == b"in the new one"
    assert a.sessions.counters.initiated == 2


def test_doubt_ends_when_the_contact_speaks_in_the_newest_session() -> None:
    world, a, b = met()
    a.sessions.doubt(b.contact)
    b.send(a, b"here I am")
    world.settle()
    a.send(b, b"then all is well")
    world.settle()
    assert (b.bodies[-1], a.sessions.counters.initiated) == (b"then all is well", 1)


def test_doubt_of_somebody_unknown_is_nothing() -> None:
    _, a, b = pair()
    a.sessions.doubt(b.contact)
    assert a.sessions.sizes == Sizes(0, 0, 0, 0)


def test_the_key_of_a_contact_is_converted_once() -> None:
    """It costs as much as a third of the handshake."""
    _, a, b = met()
    converted = handshakes._static_public.cache_info().misses
    a.sessions.doubt(b.contact)
    a.send(b, b"again")
    assert a.sessions.counters.initiated == 2
    assert handshakes._static_public.cache_info().misses == converted


def test_a_contact_that_lost_its_sessions_is_reached_by_doubt() -> None:
    world, a, b = met()
    world.node("b", b.place[0])  # started again
    fresh = world.ends[b.place]
    a.send(b, b"nobody understands")
    world.settle()
    assert (fresh.bodies, fresh.sessions.counters.unknown) == ([], 1)
    a.sessions.doubt(b.contact)
    a.send(b, b"again")
    world.settle()
    assert fresh.bodies == [b"again"]


def test_a_pair_keeps_no_more_sessions_than_may() -> None:
    world, a, b = met()
    for turn in range(5):
        a.sessions.doubt(b.contact)
        a.send(b, b"%d" % turn)
        world.settle()
    assert len(b.bodies) == 6
    assert a.sessions.sizes.sessions == b.sessions.sizes.sessions == 3


def test_a_session_that_is_old_is_not_sent_on_and_then_not_read() -> None:
    limits = Limits()
    world, a, b = met(b=Limits(lifetime_s=2 * limits.lifetime_s))
    now = limits.lifetime_s
    for at in range(600, int(now), 600):
        a.send(b, b"busy", at)
        b.send(a, b"busy", at)
        world.run(at)
    b.send(a, b"just in time", now + 59)
    world.settle(now + 59)
    assert a.bodies[-1] == b"just in time"
    b.send(a, b"too late", now + 60)
    world.settle(now + 60)
    assert (a.bodies[-1], a.sessions.counters.outlived) == (b"just in time", 1)
    a.send(b, b"new keys", now + 61)
    world.settle(now + 61)
    assert (b.bodies[-1], a.sessions.counters.initiated) == (b"new keys", 2)


def test_idle_sessions_are_forgotten() -> None:
    world, a, b = met()
    assert a.sessions.next_deadline() == Limits().idle_s
    world.run(Limits().idle_s)
    assert a.sessions.sizes.sessions == b.sessions.sizes.sessions == 0
    assert a.sessions._pairs == {}
    assert a.sessions.next_deadline() is None


def test_who_was_heard_longest_ago_leaves_first() -> None:
    world = World()
    hub = world.node("hub", "192.0.2.1", limits=Limits(sessions=3))
    nodes = [world.node(f"{n}", f"198.51.{n}.1") for n in range(4)]
    for node in nodes[:3]:
        node.send(hub, b"x")
        world.settle()
    nodes[0].send(hub, b"still here")
    world.settle()
    nodes[3].send(hub, b"new")
    world.settle()
    nodes[1].send(hub, b"forgotten")
    nodes[0].send(hub, b"known")
    world.settle()
    assert hub.bodies[-2:] == [b"new", b"known"]
    assert (hub.sessions.counters.sessions_evicted, hub.sessions.counters.unknown) == (1, 1)


def test_one_network_has_only_its_share_of_sessions() -> None:
    world = World()
    limits = Limits(sessions_of_network=2)
    hub = world.node("hub", "192.0.2.1", limits=limits)
    honest = world.node("honest", "198.51.100.1")
    honest.send(hub, b"x")
    world.settle()
    for n in range(1, 9):
        world.node(f"{n}", f"203.0.113.{n}").send(hub, b"x")
        world.settle()
    assert hub.sessions.sizes.sessions == 3
    honest.send(hub, b"still")
    world.settle()
    assert hub.bodies[-1] == b"still"
