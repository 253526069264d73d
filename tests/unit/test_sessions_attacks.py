"""What strangers try against sessions: what they get, cost and see; in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest

from dp2p import packets
from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.door import Door, Verdict
from dp2p.coordinator.discovery.sessions import Limits, Unreachable
from packet_world import End, World, met, pair

# Thresholds of chi-square with 255 degrees of freedom: exceeded by uniform bytes once in a million.
CHI_SQUARE_255 = 372.0


def first_of(world: World, name: str, to: End, place: Place) -> bytes:
    """The message 1 of a new node, which is not there when it is answered."""
    end = world.node(name, *place[:1], port=place[1])
    end.send(to, b"x")
    del world.ends[place]
    return end.only()[0]


# --- changed, cut, repeated, reflected ---


def test_no_changed_or_cut_message_1_is_answered() -> None:
    _, a, b = pair()
    a.send(b, b"x")
    data, _ = a.only()
    for at in range(len(data)):
        for bit in (1, 128):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            assert b.take(changed, a.place) == []
        assert b.take(data[:at], a.place) == []
    assert b.take(data + b"\0", a.place) == []
    assert (b.sessions.counters.answered, b.events) == (0, [])
    assert len(b.take(data, a.place)) == 1


def test_no_changed_or_cut_message_2_is_believed() -> None:
    _, a, b = pair()
    a.send(b, b"x")
    ((second, _),) = b.take(a.only()[0], a.place)
    for at in range(len(second)):
        changed = second[:at] + bytes([second[at] ^ 1]) + second[at + 1 :]
        assert a.take(changed, b.place) == []
        assert a.take(second[:at], b.place) == []
    assert a.events == []
    assert len(a.take(second, b.place)) == 1
    assert a.established[0].contact == b.contact


def test_no_changed_or_cut_packet_is_delivered() -> None:
    _, a, b = met()
    a.send(b, b"secret")
    sealed, _ = a.only()
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert b.take(changed, a.place) == b.take(sealed[:at], a.place) == []
    assert b.bodies == [b"first"]
    assert b.take(sealed, a.place) == []
    assert b.bodies == [b"first", b"secret"]


def test_all_that_was_ever_sent_sent_again_changes_nothing() -> None:
    world, a, b = met()
    b.send(a, b"back")
    world.settle()
    before = (len(a.events), len(b.events), a.sessions.sizes, b.sessions.sizes)
    for source, (data, to) in world.seen:
        assert world.ends[to].take(data, source) == []  # to whom it was for
        assert world.ends[source].take(data, to) == []  # reflected
        assert world.ends[to].take(data, ("203.0.113.66", 1)) == []  # from elsewhere
    assert (len(a.events), len(b.events), a.sessions.sizes, b.sessions.sizes) == before
    assert b.sessions.counters.repeated_first == 2


def test_message_1_again_is_answered_so_often_and_to_its_place_alone() -> None:
    _, a, b = pair()
    a.send(b, b"x")
    data, _ = a.only()
    answers = [b.take(data, a.place) for _ in range(10)]
    assert [len(one) for one in answers] == [1] * 4 + [0] * 6
    assert all(len(out) < len(data) and to == a.place for one in answers for out, to in one)
    assert b.take(data, ("203.0.113.66", 1)) == []
    assert b.sessions.sizes.halves == 1
    assert b.sessions.counters.answered == 1  # one of them was worked on


def test_any_of_the_repeated_answers_makes_the_same_session() -> None:
    _, a, b = pair()
    a.send(b, b"x")
    data, _ = a.only()
    answers = [b.take(data, a.place)[0][0] for _ in range(3)]
    assert len(set(answers)) == 3
    ((sealed, _),) = a.take(answers[2], b.place)
    assert a.take(answers[0], b.place) == []
    assert a.sessions.counters.unasked == 1
    b.take(sealed, a.place)
    assert b.bodies == [b"x"]


def test_an_answer_from_another_place_is_not_taken() -> None:
    _, a, b = pair()
    a.send(b, b"x")
    ((second, _),) = b.take(a.only()[0], a.place)
    assert a.take(second, ("198.51.100.2", 4618)) == []
    assert (a.events, a.sessions.counters.moved) == ([], 1)


def test_the_memory_of_message_1_is_bounded_and_so_is_what_forgetting_costs() -> None:
    world = World()
    victim = world.node("v", "192.0.2.1", limits=Limits(ephemerals=2, halves=2))
    firsts = [(first_of(world, f"{n}", victim, (f"198.51.{n}.1", 9)), n) for n in range(4)]
    for data, n in firsts * 2:
        victim.take(data, (f"198.51.{n}.1", 9))
    sizes = victim.sessions.sizes
    assert (sizes.ephemerals, sizes.halves, sizes.sessions) == (2, 2, 0)
    assert (
        victim.sessions.counters.answered == 8
    )  # forgotten, answered again, and nothing made of it
    assert victim.events == []


def test_packets_come_late_but_not_too_late() -> None:
    _, a, b = met()
    for turn in range(packets.REPLAY_WINDOW + 1):
        a.send(b, b"%d" % turn)
    late, *rest = [data for data, _ in a.out]
    for data in reversed(rest):
        b.take(data, a.place)
    b.take(late, a.place)
    assert len(b.bodies) == 1 + len(rest)
    assert b.sessions.counters.repeated == 1


# --- floods ---


def flood(world: World, victim: End, hosts: list[str], now: float = 0.0) -> int:
    """Message 1's from each host; how many cost the victim a handshake's work."""
    before = victim.sessions.counters.answered
    for n, host in enumerate(hosts):
        place = (host, 1024 + n)
        data = first_of(world, f"{host} {n} {now}", victim, place)
        out = victim.take(data, place, now)
        assert sum(len(one) for one, _ in out) < len(data)
        assert all(to == place for _, to in out)
    return victim.sessions.counters.answered - before


FLOODS = [
    ("one address", ["203.0.113.1"] * 60, 16),
    ("one /24", [f"203.0.113.{n}" for n in range(60)], 16),
    ("one /64", [f"2001:db8::{n:x}" for n in range(1, 61)], 16),
    ("many networks", [f"203.{n}.113.1" for n in range(150)], 64),
]


@pytest.mark.parametrize(("hosts", "work"), [row[1:] for row in FLOODS], ids=[r[0] for r in FLOODS])
def test_a_flood_costs_bounded_work_and_others_go_on(hosts: list[str], work: int) -> None:
    world, friend, victim = met()
    assert flood(world, victim, hosts) in (work, work - 1)
    assert victim.sessions.counters.cookies_sent >= len(hosts) - work
    assert victim.sessions.sizes.halves <= work
    friend.send(victim, b"still here")
    newcomer = world.node("newcomer", "100.64.1.1")
    newcomer.send(victim, b"me too")
    world.settle()
    assert victim.bodies[-2:] == [b"still here", b"me too"]
    assert victim.sessions.sizes.sessions == 2


def test_who_brings_cookies_has_a_share_of_its_own() -> None:
    """A flooder that does receive what is sent to it takes nothing from others."""
    world = World()
    victim = world.node("v", "192.0.2.1", limits=Limits(calm=(1, 1e9), calm_network=(1, 1e9)))
    nodes = [world.node(f"flood {n}", "203.0.113.1", port=1024 + n) for n in range(40)]
    nodes.append(world.node("honest", "198.51.100.1"))
    for node in nodes:
        node.send(victim, b"x")
    world.settle()
    counters = victim.sessions.counters
    assert counters.established_in == 1 + 8 + 1  # without a cookie, with one, and the honest one
    assert counters.limited == 31
    assert nodes[-1].established


def test_a_network_full_of_addresses_that_bring_cookies_takes_nothing_from_others() -> None:
    """Who has a /48 has more addresses than there are handshakes for everybody."""
    door = Door(Limits(calm=(1, 1e9)), World().random.randbytes)
    others = Counter(answers_to(door, [f"2001:db8:0:{n:x}::1" for n in range(1, 600)]))
    assert others == {Verdict.ANSWER: 1 + 32, Verdict.SILENCE: 599 - 33}
    assert answers_to(door, ["198.51.100.1"]) == [Verdict.ANSWER]


def answers_to(door: Door, hosts: list[str], now: float = 0.0) -> list[Verdict]:
    """What each gets, bringing a cookie where it is asked for one."""
    verdicts = []
    for place in ((host, 4617) for host in hosts):
        verdict = door.ask(packets.NO_COOKIE, place, now)
        if verdict == Verdict.COOKIE:
            verdict = door.ask(door.cookie(place, now), place, now)
        verdicts.append(verdict)
    return verdicts


def test_in_a_flood_no_address_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would cost more than all that is done for a cookie."""
    door = Door(Limits(calm=(1, 1e9), cookies=(3, 1e9)), World().random.randbytes)
    assert door.ask(packets.NO_COOKIE, ("203.0.113.1", 1), 0.0) == Verdict.ANSWER
    monkeypatch.setattr(door, "groups", None)
    for n in range(1, 9):
        place = (f"203.0.113.{n}", 1)
        assert door.ask(bytes(16 - n) + bytes(range(1, n + 1)), place, 0.0) != Verdict.ANSWER
        assert len(door.cookie(place, 0.0)) == packets.COOKIE_BYTES


def test_half_sessions_are_bounded_by_address_network_and_in_all() -> None:
    world = World()
    limits = Limits(halves=6, halves_of_address=2, halves_of_network=4)
    victim = world.node("v", "192.0.2.1", limits=limits)
    for hosts, most in (
        (["203.0.113.1"] * 5, 2),
        ([f"203.0.113.{n}" for n in range(2, 9)], 4),
        ([f"100.64.{n}.1" for n in range(9)], 6),
    ):
        flood(world, victim, hosts)
        assert victim.sessions.sizes.halves == most
    assert len(victim.sessions._numbered) == 6
    assert victim.sessions.counters.halves_evicted > 0


def test_a_cookie_that_looks_like_another_packet() -> None:
    """As random bytes do, one time in a hundred."""
    world, a, b = pair()
    a.send(b, b"x")
    a.out = []
    (pending,) = a.sessions._under_way.with_place(b.place)
    kinds = set()
    for n in range(10_000):
        nonce = world.random.randbytes(packets.NONCE_BYTES)
        retry = packets.retry(pending.keys, pending.ephemeral, nonce, bytes([n % 256] * 16), 0)
        found = a.sessions._parser.parse(retry)
        if found is not None and type(found) not in kinds:
            kinds.add(type(found))
            assert len(a.take(retry, b.place)) == 1
            assert pending.cookie == bytes([n % 256] * 16)
    assert packets.Sealed in kinds
    assert a.sessions.counters.unknown == 0


def test_cookies_are_for_one_place_and_for_a_while() -> None:
    world = World()
    limits = Limits(calm=(1, 1e9), cookie_s=100.0)
    door = Door(limits, world.random.randbytes)
    here, there = ("203.0.113.1", 7), ("203.0.113.1", 8)
    assert door.ask(packets.NO_COOKIE, here, 0.0) == Verdict.ANSWER
    assert door.ask(packets.NO_COOKIE, here, 0.0) == Verdict.COOKIE
    cookie = door.cookie(here, 0.0)
    assert door.ask(cookie, here, 0.0) == Verdict.ANSWER
    assert door.ask(cookie, there, 0.0) == Verdict.COOKIE
    assert door.ask(bytes([cookie[0] ^ 1]) + cookie[1:], here, 0.0) == Verdict.COOKIE
    assert door.ask(cookie, here, 150.0) == Verdict.ANSWER  # the secret before still counts
    assert door.ask(cookie, here, 250.0) == Verdict.COOKIE
    fresh = door.cookie(here, 250.0)
    assert door.ask(fresh, here, 1000.0) == Verdict.COOKIE  # long silence: neither counts


def test_cookies_are_given_out_so_often() -> None:
    door = Door(Limits(calm=(1, 1e9), cookies=(3, 1e9)), World().random.randbytes)
    verdicts = Counter(door.ask(packets.NO_COOKIE, ("203.0.113.1", n), 0.0) for n in range(1, 9))
    assert verdicts == {Verdict.ANSWER: 1, Verdict.COOKIE: 3, Verdict.SILENCE: 4}


def test_cookies_without_end_are_not_followed() -> None:
    """A responder that asks for a cookie each time."""
    world = World()
    never = Limits(calm=(1, 1e9), proven=(1, 1e9))
    victim = world.node("v", "192.0.2.1", limits=never)
    flood(world, victim, ["203.0.113.1"])
    a = world.node("a", "198.51.100.1")
    a.send(victim, b"x")
    victim.sessions._door._knows = lambda *_: False  # type: ignore[method-assign]
    world.settle()
    assert a.sessions.counters.cookies_taken == Limits().retries
    while a.events == []:
        deadline = a.sessions.next_deadline()
        assert deadline is not None
        world.run(deadline)
    assert a.events == [Unreachable(victim.contact)]
    sent_by_a = [data for source, (data, _) in world.seen if source == a.place]
    assert len(sent_by_a) == len(Limits().resend_s) + Limits().retries


# --- what an observer sees ---


def test_first_packets_are_uniform_bytes() -> None:
    world = World()
    b = world.node("b", "198.51.100.2")
    seen: Counter[int] = Counter()
    firsts = []
    for n in range(400):
        a = world.node(f"{n}", "192.0.2.1", port=1024 + n)
        a.send(b, b"x")
        firsts.append(a.only()[0])
        seen.update(firsts[-1])
    assert chi_square(seen) < CHI_SQUARE_255
    assert len({len(data) for data in firsts}) > 150
    assert {len(data) // 100 for data in firsts} <= {3, 4, 5, 6}
    for at in range(packets.FIRST_MIN):
        assert len({data[at] for data in firsts}) > 128  # of 256, in 400 draws


def test_answers_and_sealed_packets_are_uniform_bytes() -> None:
    world = World()
    b = world.node("b", "198.51.100.2", limits=Limits(calm=(1000, 0.0), calm_network=(1000, 0.0)))
    kinds: dict[str, list[bytes]] = {"second": [], "sealed": []}
    for n in range(300):
        a = world.node(f"{n}", "192.0.2.1", port=1024 + n)
        a.send(b, b"ping")
        ((second, _),) = b.take(a.only()[0], a.place)
        ((sealed, _),) = a.take(second, b.place)
        kinds["second"].append(second)
        kinds["sealed"].append(sealed)
    for found in kinds.values():
        assert chi_square(Counter(b"".join(found))) < CHI_SQUARE_255
        assert len({len(data) for data in found}) > 50
        for at in range(min(map(len, found))):
            assert len({data[at] for data in found}) > 100


def test_cookies_are_uniform_bytes() -> None:
    world = World()
    victim = world.node("v", "192.0.2.1", limits=Limits(calm=(1, 1e9)))
    found = []
    for n in range(300):
        place = ("203.0.113.1", 1024 + n)
        out = victim.take(first_of(world, f"{n}", victim, place), place)
        found += [data for data, _ in out][-1:] if n else []
    assert len(found) == 299
    assert chi_square(Counter(b"".join(found))) < CHI_SQUARE_255
    for at in range(min(map(len, found))):
        assert len({data[at] for data in found}) > 100


def chi_square(seen: Counter[int]) -> float:
    """How far from uniform bytes are."""
    expected = seen.total() / 256
    return sum((seen[byte] - expected) ** 2 / expected for byte in range(256))
