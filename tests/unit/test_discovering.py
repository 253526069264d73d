"""Sessions and discovery joined, between nodes in memory: with real packets, in virtual time."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from dp2p import ids, keys, node_record
from dp2p.coordinator.discovering import Answer, Discovering, Located, describe
from dp2p.coordinator.discovery.actions import Own, Settings
from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import AskRecord, Find, Ping
from dp2p.coordinator.discovery.service import Discovery
from dp2p.coordinator.discovery.sessions import Datagram, Sessions
from dp2p.coordinator.store import PeerStore
from dp2p.node_record import NodeRecord

WALL = 1.7e9
PROTOCOL = "rare/one"


class Node:
    """One node; its packets go through the world."""

    def __init__(self, world: World, number: int) -> None:
        self.identity = keys.identity(bytes([number]) * 32)
        self.place: Place = (f"198.51.{number}.1", 4617)
        self.contact = Contact(self.identity.public, self.place)
        self.store = PeerStore(world.directory / f"{number}.db", max_peers=100)
        self.agreed: list[Place] = []
        draw = random.Random(number)
        self.discovering = Discovering(
            Sessions(self.identity, "test", random_bytes=draw.randbytes),
            Discovery(Own(self.identity.public, (self.place,)), Settings(), random=draw),
            self.store,
            transmit=lambda datagram: world.packets.append((self.place, datagram)),
            place_agreed=self.agreed.append,
            wall=lambda: WALL,
        )

    def record(self, *protocols: str) -> NodeRecord:
        return node_record.sign(
            self.identity.seed,
            seq=1,
            endpoints=[f"udp4://{self.place[0]}:{self.place[1]}"],
            protocols=protocols,
        )


class World:
    """Nodes, and packets under way between them."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.now = 100.0
        self.packets: deque[tuple[Place, Datagram]] = deque()
        self.nodes = [Node(self, number) for number in range(1, count + 1)]
        self._by_place = {node.place: node for node in self.nodes}

    def clock(self) -> float:
        return self.now

    def run(self, seconds: float) -> None:
        """Deliver at once what is sent, for a while."""
        end = self.now + seconds
        while self.now < end:
            for node in self.nodes:
                node.discovering.run(self.now)
            self.deliver()
            deadlines = [node.discovering.next_deadline() or end for node in self.nodes]
            self.now = min(end, max(self.now + 0.05, min(deadlines)))

    def deliver(self) -> None:
        while self.packets:
            source, (data, place) = self.packets.popleft()
            node = self._by_place.get(place)
            if node is not None:
                node.discovering.datagram(data, source, self.now)

    def join(self) -> None:
        """All through the first."""
        for node in self.nodes:
            node.discovering.own_record(node.record(), self.now)
        for node in self.nodes[1:]:
            node.discovering.candidates([self.nodes[0].contact], self.now)
        self.run(60.0)
        for node in self.nodes:
            node.discovering.fetch_missing(8, self.now)
        self.run(1.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, 5)
    made.join()
    return made


def test_all_know_all_and_have_their_records(world: World) -> None:
    for node in world.nodes:
        assert node.discovering.contacts == 4
        known = [node.store.peer(other.identity.public) for other in world.nodes]
        records = [one for one in known if one is not None and one.record is not None]
        assert len(records) == 4
        assert node.discovering.malformed == node.discovering.records_refused == 0


def test_others_agree_on_where_a_node_is(world: World) -> None:
    """Of those that it has pinged, at least; there are few."""
    assert world.nodes[0].agreed == [world.nodes[0].place]


def test_a_node_is_located_with_its_record(world: World) -> None:
    told: list[Located] = []
    seeking, sought = world.nodes[1], world.nodes[3]
    node_id = ids.from_text(sought.identity.node)
    seeking.discovering.locate(node_id, told.append, world.clock)
    world.run(5.0)
    (located,) = told
    assert located.contact == sought.contact
    assert located.record == sought.record()
    assert located.asked > 0


def test_who_is_nowhere_is_not_located(world: World) -> None:
    told: list[Located] = []
    world.nodes[1].discovering.locate(bytes(32), told.append, world.clock)
    world.run(10.0)
    assert [one.contact for one in told] == [None]


def test_questions_and_silence(world: World) -> None:
    asking, asked = world.nodes[0], world.nodes[1]
    absent = Contact(keys.identity(b"\x77" * 32).public, ("198.51.99.1", 1))
    told: list[Answer] = []
    for contact, question in (
        (asked.contact, Ping(0, 0)),
        (asked.contact, AskRecord(0)),
        (asked.contact, Find(0, ids.from_text(world.nodes[2].identity.node))),
        (absent, Ping(0, 0)),
    ):
        asking.discovering.ask(contact, question, told.append, world.now)
        world.run(15.0)
    pong, record, near, silence = told
    assert pong == ()
    assert record == asked.record().signed
    assert isinstance(near, tuple)
    assert near[0] == world.nodes[2].contact
    assert silence is None


def test_who_serves_a_protocol_is_found(world: World) -> None:
    found: list[tuple[Contact, ...]] = []
    world.nodes[4].discovering.serve([PROTOCOL], world.now)
    world.run(60.0)
    world.nodes[1].discovering.search(PROTOCOL, 8, found.append, world.now)
    world.run(10.0)
    assert found == [(world.nodes[4].contact,)]


def test_a_record_of_another_key_is_refused(world: World) -> None:
    """A node hands over somebody else's record, well signed, as its own."""
    liar, asking = world.nodes[2], world.nodes[1]
    liar.discovering.own_record(world.nodes[3].record("lie"), world.now)
    told: list[NodeRecord | None] = []
    asking.discovering.fetch(liar.contact, told.append, world.now)
    world.run(5.0)
    assert told == [None]
    assert asking.discovering.records_refused >= 1
    known = asking.store.peer(world.nodes[3].identity.public)
    assert known is not None
    assert known.record == world.nodes[3].record()


def test_what_is_shown_of_a_contact(world: World) -> None:
    node = world.nodes[0]
    shown = {"node": node.identity.node, "key": node.identity.key}
    assert describe(node.contact) == {**shown, "endpoint": "udp4://198.51.1.1:4617"}
    status = node.discovering.status()
    assert status["contacts"] == 4
    assert [status[one] for one in ("serves", "serves4", "serves6")] == [True, True, False]
    assert status["sessions"]["delivered"] > 0
