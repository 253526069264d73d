"""Discovery's packets over real sockets of this machine: what strangers send, and what they get.

The node under test answers to ``Sessions`` and ``Sockets``; who attacks it has a plain socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import keys
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.sessions import Delivered, Established, Event, Limits, Sessions
from dp2p.coordinator.discovery.udp import INFO4, IP_PKTINFO, TURN_MAX, Sockets, Way, _canonical

PATIENCE_S = 10.0


class Node:
    """A node with sockets; it answers each body with its capitals."""

    def __init__(
        self, place: Place, *, network: str = "dp2p", limits: Limits | None = None
    ) -> None:
        self.identity = keys.identity(os.urandom(32))
        self.sessions = Sessions(
            self.identity, network, random_bytes=os.urandom, limits=limits or Limits()
        )
        self.events: list[Event] = []
        self.sockets = Sockets([place], self._take)
        self.contact = Contact(self.identity.public, self.sockets.places[0])
        self.answers = True

    def _take(self, data: bytes, source: Place) -> None:
        datagrams, events = self.sessions.received(data, source, time.monotonic())
        self.events += events
        for datagram in datagrams:
            self.sockets.send(datagram)
        for event in events:
            if isinstance(event, Delivered) and self.answers:
                self.say(event.contact, event.body.upper())

    def say(self, contact: Contact, body: bytes) -> None:
        for datagram in self.sessions.send(contact, body, time.monotonic()):
            self.sockets.send(datagram)

    @property
    def bodies(self) -> list[bytes]:
        return [event.body for event in self.events if isinstance(event, Delivered)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


class Stranger:
    """A plain socket that sends what it likes to one node."""

    def __init__(self, node: Node, host: str) -> None:
        self.node = node
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.socket.bind((host, 0))
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.node.contact.place)

    async def all_taken(self, count: int) -> None:
        """The node has received ``count`` datagrams in all; what it answers is sent by then."""
        await until(lambda: self.node.sessions.counters.received >= count)

    def answers(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(2048))
            except BlockingIOError:
                return found


@asynccontextmanager
async def node(
    host: str = "127.0.0.1", *, network: str = "dp2p", limits: Limits | None = None
) -> AsyncIterator[Node]:
    made = Node((host, 0), network=network, limits=limits)
    try:
        yield made
    finally:
        made.sockets.close()


@asynccontextmanager
async def stranger(to: Node, host: str = "127.0.0.9") -> AsyncIterator[Stranger]:
    made = Stranger(to, host)
    try:
        yield made
    finally:
        made.socket.close()


def first_to(victim: Node, network: str = "dp2p") -> tuple[Sessions, bytes]:
    """Somebody's genuine message 1, and who has made it."""
    sessions = Sessions(keys.identity(os.urandom(32)), network, random_bytes=os.urandom)
    ((data, _),) = sessions.send(victim.contact, b"x", time.monotonic())
    return sessions, data


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_question_and_answer(host: str) -> None:
    async with node(host) as a, node(host) as b:
        a.answers = False
        a.say(b.contact, b"question")
        await until(lambda: a.bodies == [b"QUESTION"])
        (event,) = (event for event in a.events if isinstance(event, Established))
        assert event.seen == a.contact.place
        assert b.bodies == [b"question"]


async def test_garbage_of_every_length_is_met_with_silence() -> None:
    async with node() as victim, stranger(victim) as one:
        lengths = [*range(200), *range(1270, 1300), 5000]
        for turn, length in enumerate(lengths, 1):
            one.send(os.urandom(length))
            await one.all_taken(turn)
        counters = victim.sessions.counters
        assert (one.answers(), counters.sent, counters.answered) == ([], 0, 0)
        dropped = counters.garbage + counters.unknown + counters.unasked
        assert dropped == len(lengths)


async def test_every_truncation_of_message_1_is_met_with_silence() -> None:
    async with node() as victim, stranger(victim) as one:
        _, first = first_to(victim)
        for length in range(len(first)):
            one.send(first[:length])
            await one.all_taken(length + 1)
        assert one.answers() == []
        one.send(first)
        await one.all_taken(len(first) + 1)
        (answer,) = one.answers()
        assert len(answer) < len(first)


async def test_another_network_is_met_with_silence() -> None:
    async with node() as victim, stranger(victim) as one:
        _, first = first_to(victim, network="elsewhere")
        one.send(first)
        await one.all_taken(1)
        assert (one.answers(), victim.sessions.counters.garbage) == ([], 1)


async def test_a_repeated_message_1_from_elsewhere_is_met_with_silence() -> None:
    async with node() as victim, stranger(victim) as one, stranger(victim, "127.0.0.10") as other:
        _, first = first_to(victim)
        one.send(first)
        await one.all_taken(1)
        other.send(first)
        await other.all_taken(2)
        assert (len(one.answers()), other.answers()) == (1, [])
        assert victim.sessions.counters.repeated_first == 1


async def test_a_session_belongs_to_its_address() -> None:
    async with node() as victim, stranger(victim) as one, stranger(victim, "127.0.0.10") as other:
        sessions, first = first_to(victim)
        one.send(first)
        await one.all_taken(1)
        (second,) = one.answers()
        ((sealed, _),), _ = sessions.received(second, victim.contact.place, time.monotonic())
        other.send(sealed)
        await one.all_taken(2)
        assert (victim.events, victim.sessions.counters.moved) == ([], 1)
        one.send(sealed)
        await one.all_taken(3)
        assert victim.bodies == [b"x"]
        one.send(sealed)
        await one.all_taken(4)
        assert (victim.bodies, victim.sessions.counters.repeated) == ([b"x"], 1)
        assert other.answers() == []


async def test_reflected_packets_are_nothing() -> None:
    """A plain socket that sends everything back to where it came from."""
    async with node() as victim, stranger(victim) as mirror:
        place = mirror.socket.getsockname()[:2]
        victim.say(Contact(keys.identity(os.urandom(32)).public, place), b"x")
        await until(lambda: bool(mirror.socket in _readable(mirror.socket)))
        (first,) = mirror.answers()
        mirror.send(first)
        await mirror.all_taken(1)
        assert (mirror.answers(), victim.sessions.counters.garbage) == ([], 1)


def _readable(one: socket.socket) -> list[socket.socket]:
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return []
    return [one]


async def test_a_flood_does_not_end_sessions() -> None:
    """Handshakes from one address beyond its share, while two nodes go on talking."""
    limits = Limits(local=True, calm_network=(4, 60.0), proven_address=(2, 60.0))
    async with node(limits=limits) as victim, node() as friend, stranger(victim) as one:
        friend.answers = False
        friend.say(victim.contact, b"before")
        await until(lambda: friend.bodies == [b"BEFORE"])
        taken = victim.sessions.counters.received
        for turn in range(1, 60):
            one.send(first_to(victim)[1])
            await one.all_taken(taken + turn)
        counters = victim.sessions.counters
        assert counters.answered <= 4
        assert counters.cookies_sent >= 50
        assert victim.sessions.sizes.halves <= 4
        friend.say(victim.contact, b"after")
        await until(lambda: friend.bodies[-1] == b"AFTER")


async def test_a_cookie_opens_the_door() -> None:
    limits = Limits(local=True, calm_network=(1, 60.0))
    async with node(limits=limits) as victim, node() as first, node() as second:
        for one in (first, second):
            one.answers = False
            one.say(victim.contact, b"let me in")
            await until(lambda one=one: one.bodies == [b"LET ME IN"])  # type: ignore[misc]
        assert victim.sessions.counters.cookies_sent == 1
        assert second.sessions.counters.cookies_taken == 1


# --- the sockets themselves ---


async def test_several_places_and_the_way_back() -> None:
    heard: list[tuple[bytes, Place]] = []
    sockets = Sockets(
        [("127.0.0.1", 0), ("127.0.0.2", 0), ("::1", 0)], lambda *one: heard.append(one)
    )
    try:
        for place in sockets.places:
            family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as plain:
                plain.connect(place)
                plain.settimeout(PATIENCE_S)
                count = len(heard)
                plain.send(b"hello")
                await until(lambda count=count: len(heard) > count)  # type: ignore[misc]
                data, source = heard[-1]
                assert (data, source) == (b"hello", plain.getsockname()[:2])
                sockets.send((b"back", source))  # a connected socket takes it from there alone
                assert await asyncio.to_thread(plain.recv, 100) == b"back"
    finally:
        sockets.close()


@pytest.mark.parametrize(("everywhere", "written_to"), [("0.0.0.0", "127.0.7.7"), ("::", "::1")])
async def test_an_answer_leaves_from_the_address_that_was_written_to(
    everywhere: str, written_to: str
) -> None:
    async with node(everywhere) as a, node("::1" if ":" in everywhere else "127.0.0.1") as b:
        b.answers = False
        b.say(Contact(a.identity.public, (written_to, a.contact.place[1])), b"question")
        await until(lambda: b.bodies == [b"QUESTION"])
        assert not a.sockets.errors


async def test_an_address_that_this_machine_has_lost_is_sent_from_once() -> None:
    sockets = Sockets([("0.0.0.0", 0)], lambda *_: None)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.bind(("127.0.0.1", 0))
            plain.settimeout(PATIENCE_S)
            place = plain.getsockname()
            info = INFO4.pack(0, socket.inet_aton("192.0.2.1"), bytes(4))
            way = Way(sockets._sockets[0], [(socket.IPPROTO_IP, IP_PKTINFO, info)])
            sockets._remember(place, way)
            sockets.send((b"first", place))
            sockets.send((b"second", place))
            assert await asyncio.to_thread(plain.recv, 100) == b"second"
            assert sockets.errors.total() == 1
    finally:
        sockets.close()


@given(st.lists(st.sampled_from([0, 1, 0x64, 0xFF9B, 0xFFFF]), min_size=8, max_size=8))
def test_an_address_has_one_spelling(groups: list[int]) -> None:
    """That which contacts in messages have, whatever the operating system writes."""
    packed = b"".join(group.to_bytes(2, "big") for group in groups)
    written = socket.inet_ntop(socket.AF_INET6, packed)
    assert _canonical(written) == str(ipaddress.ip_address(packed))


async def test_what_the_operating_system_refuses_is_counted() -> None:
    sockets = Sockets([("127.0.0.1", 0)], lambda *_: None)
    try:
        sockets.send((bytes(70_000), ("127.0.0.1", 9)))
        sockets.send((b"x", ("127.0.0.1", 0)))
        sockets.send((b"x", ("2001:db8::1", 9)))
        sockets.send((b"x", ("192.0.2.1", 9)))  # from a loopback address
        assert sockets.errors["EMSGSIZE"] == sockets.errors["EAFNOSUPPORT"] == 1
        assert sockets.errors["EINVAL"] == 2
    finally:
        sockets.close()


async def test_a_flood_leaves_the_loop_its_turns() -> None:
    """One turn of the loop takes so many datagrams and no more."""
    taken: list[int] = [0]
    turns: list[int] = []

    def take(_data: bytes, _source: Place) -> None:
        taken[0] += 1

    sockets = Sockets([("127.0.0.1", 0)], take)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for _ in range(3 * TURN_MAX):
                plain.sendto(b"x", sockets.places[0])
        while taken[0] < 3 * TURN_MAX:
            before = taken[0]
            await asyncio.sleep(0)
            turns.append(taken[0] - before)
        assert max(turns) == TURN_MAX
    finally:
        sockets.close()


async def test_a_place_that_cannot_be_had_leaves_none_behind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            Sockets([("127.0.0.2", 0), holder.getsockname()], lambda *_: None)


async def test_closing_twice_is_closing() -> None:
    sockets = Sockets([("127.0.0.1", 0)], lambda *_: None)
    sockets.close()
    sockets.close()
    sockets.send((b"x", ("127.0.0.1", 9)))
    assert sockets.errors["EAFNOSUPPORT"] == 1
