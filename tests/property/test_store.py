"""The peer store beside a model of plain dictionaries: any order of calls, commits and losses."""

from __future__ import annotations

import copy
import sqlite3
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dp2p import ids
from dp2p.coordinator import store_nearest
from dp2p.coordinator.known import Direction, Evidence, Ticket
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_bounds import Limits
from stored import DAY, NOW, endpoint, key, record, ticket

LIMITS = Limits(endpoints=3, introductions=4, dial_tickets=2, accept_tickets=2)
PEERS = st.integers(0, 4)
PLACES = st.integers(0, 5)
NETWORKS = [f"192.0.{n}.0/24" for n in range(3)]


@dataclass
class Place:
    """An endpoint of a peer."""

    success: float | None = None
    failure: float | None = None
    failures: int = 0
    recorded: float | None = None

    def heard(self) -> float:
        return max(self.success or 0.0, self.recorded or 0.0)


@dataclass
class Word:
    """An introduction."""

    network: str
    at: float
    wrong: bool
    seq: int


@dataclass
class Peer:
    seq: int = 0
    places: dict[str, Place] = field(default_factory=dict)
    words: dict[bytes, Word] = field(default_factory=dict)

    def place(self, name: str) -> Place:
        return self.places.setdefault(name, Place())

    def trim(self) -> None:
        ranked = sorted(
            self.places,
            key=lambda one: (self.places[one].failures, -self.places[one].heard(), one),
        )
        for name in ranked[LIMITS.endpoints :]:
            del self.places[name]
        if len(self.words) > LIMITS.introductions:
            del self.words[max(self.words, key=self.expendable)]

    def expendable(self, introducer: bytes) -> tuple[bool, bool, float]:
        word = self.words[introducer]
        said_again = any(
            other.network == word.network and other.wrong == word.wrong and other.at > word.at
            for other in self.words.values()
        )
        return said_again, not word.wrong, -word.at


@dataclass
class World:
    """All that the store may remember."""

    peers: dict[bytes, Peer] = field(default_factory=dict)
    tickets: dict[bytes, tuple[Ticket, Direction, float, int]] = field(default_factory=dict)

    def of(self, peer: bytes, direction: Direction) -> list[bytes]:
        """Names, oldest first."""
        found = [
            (serial, name)
            for name, (one, way, _, serial) in self.tickets.items()
            if one.key == peer and way == direction
        ]
        return [name for _, name in sorted(found)]


class Remembering(RuleBasedStateMachine):
    """No call fails; the store says what the model says; what is lost is what was not committed."""

    @initialize()
    def begin(self) -> None:
        self.store = PeerStore(None, max_peers=1000, limits=LIMITS)
        self.now = NOW
        self.world = World()
        self.kept = World()
        self.serial = 0
        self.given: set[bytes] = set()
        self.sequences: list[int] = []

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def peer(self, number: int) -> Peer:
        return self.world.peers.setdefault(key(number), Peer())

    # --- batches ---

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.kept = copy.deepcopy(self.world)
        assert not self.store.dirty

    @rule()
    def lose_the_batch(self) -> None:
        self.store._db.failed(sqlite3.OperationalError("disk I/O error"))
        self.world = copy.deepcopy(self.kept)
        for name in self.given:
            self.world.tickets.pop(name, None)

    # --- peers ---

    @rule(number=PEERS, place=st.none() | PLACES)
    def connect(self, number: int, place: int | None) -> None:
        now = self.tick()
        self.store.connected(key(number), None if place is None else endpoint(place), now)
        peer = self.peer(number)
        if place is not None:
            known = peer.place(endpoint(place))
            known.success, known.failures = now, 0
        peer.trim()

    @rule(number=PEERS, seq=st.integers(1, 6), places=st.lists(PLACES, max_size=5, unique=True))
    def add_record(self, number: int, seq: int, places: list[int]) -> None:
        now = self.tick()
        peer = self.peer(number)
        listed = tuple(endpoint(one) for one in places)
        newer = self.store.add_record(record(number, seq=seq, endpoints=listed), now)
        assert newer == (seq > peer.seq)
        if newer:
            peer.seq = seq
            for name in list(peer.places):
                if peer.places[name].recorded is not None and name not in listed:
                    del peer.places[name]
            for name in listed[: LIMITS.endpoints]:
                peer.place(name).recorded = now
            peer.trim()

    @rule(place=PLACES)
    def dial_failed(self, place: int) -> None:
        now = self.tick()
        self.store.dial_failed(endpoint(place), now)
        for peer in self.world.peers.values():
            if known := peer.places.get(endpoint(place)):
                known.failure = now
                known.failures += 1

    @rule(number=PEERS, introducer=st.integers(10, 16), network=st.sampled_from(NETWORKS))
    def introduce(self, number: int, introducer: int, network: str) -> None:
        now = self.tick()
        self.store.introduced(key(number), key(introducer), network, now)
        peer = self.peer(number)
        old = peer.words.get(key(introducer))
        wrong = old is not None and old.wrong and peer.seq <= old.seq
        peer.words[key(introducer)] = Word(network, now, wrong, peer.seq)
        peer.trim()

    @rule(number=PEERS, place=PLACES)
    def doubt(self, number: int, place: int) -> None:
        self.store.doubt(key(number), endpoint(place), self.tick())
        if peer := self.world.peers.get(key(number)):
            peer.places.pop(endpoint(place), None)
            for word in peer.words.values():
                word.wrong, word.seq = True, peer.seq

    # --- tickets ---

    @rule(number=PEERS, direction=st.sampled_from(Direction), lasts=st.integers(1, 40))
    def put_ticket(self, number: int, direction: Direction, lasts: int) -> None:
        self.serial += 1
        made = ticket(number, self.serial)
        self.store.put_ticket(made, direction, self.now + lasts)
        self.peer(number)
        self.world.tickets[made.name] = (made, direction, self.now + lasts, self.serial)
        most = LIMITS.dial_tickets if direction == Direction.DIAL else LIMITS.accept_tickets
        for name in self.world.of(key(number), direction)[:-most]:
            self.spend(name)

    @rule(number=PEERS)
    def take_dial(self, number: int) -> None:
        now = self.tick()
        names = self.world.of(key(number), Direction.DIAL)
        valid = [name for name in names if self.world.tickets[name][2] > now]
        taken = self.store.take_dial_ticket(key(number), now)
        assert (taken.name if taken else None) == (valid[-1] if valid else None)
        if taken:
            self.give(taken)

    @rule(number=PEERS, serial=st.integers(0, 40))
    def take_accept(self, number: int, serial: int) -> None:
        now = self.tick()
        name = ticket(number, serial).name
        entry = self.world.tickets.get(name)
        taken = self.store.take_accept_ticket(name, now)
        if entry is None or entry[1] != Direction.ACCEPT or entry[2] <= now:
            assert taken is None
        else:
            assert taken == entry[0]
            self.give(entry[0])

    @rule(number=PEERS)
    def drop(self, number: int) -> None:
        self.store.drop_tickets(key(number))
        for direction in Direction:
            for name in self.world.of(key(number), direction):
                self.spend(name)

    @rule()
    def expire(self) -> None:
        now = self.tick()
        old = [name for name, entry in self.world.tickets.items() if entry[2] <= now]
        assert self.store.expire(now) == len(old)
        for name in old:
            del self.world.tickets[name]

    def give(self, taken: Ticket) -> None:
        assert taken.name not in self.given
        self.spend(taken.name)

    def spend(self, name: bytes) -> None:
        self.given.add(name)
        del self.world.tickets[name]

    # --- the rest ---

    @rule(back=st.integers(0, 5))
    def next_sequence(self, back: int) -> None:
        self.sequences.append(self.store.next_sequence(self.now - back))
        assert self.sequences == sorted(set(self.sequences))

    @invariant()
    def it_says_what_the_model_says(self) -> None:
        for number in range(5):
            known = self.store.peer(key(number))
            model = self.world.peers.get(key(number))
            assert (known is None) == (model is None)
            if known is None or model is None:
                continue
            assert (known.record.seq if known.record else 0) == model.seq
            assert {
                one.endpoint: (one.last_success, one.last_failure, one.failures)
                for one in known.endpoints
            } == {
                name: (one.success, one.failure, one.failures) for name, one in model.places.items()
            }
            assert {
                one.introducer: (one.network, one.at, one.wrong) for one in known.introductions
            } == {name: (one.network, one.at, one.wrong) for name, one in model.words.items()}
            right = {one.network for one in model.words.values() if not one.wrong}
            assert known.introducers == len(right)

    @invariant()
    def claims_are_ranked(self) -> None:
        for place in range(6):
            claims = {
                peer: known
                for peer, one in self.world.peers.items()
                if (known := one.places.get(endpoint(place)))
            }
            said = self.store.at_endpoint(endpoint(place))
            assert {one.key for one in said} == set(claims)
            dialled = [one.at for one in said if one.evidence == Evidence.DIALLED]
            listed = [one.at for one in said if one.evidence == Evidence.RECORD]
            assert [*dialled, *listed] == [one.at for one in said]
            assert dialled == sorted(dialled, reverse=True)
            assert listed == sorted(listed, reverse=True)

    @invariant()
    def rows_are_counted(self) -> None:
        counts = self.store.counts()
        for table in ("peers", "endpoints", "introductions", "tickets", "bans"):
            assert self.store._db.row(f"SELECT COUNT(*) FROM {table}") == (counts[table],)
        assert counts["peers"] == len(self.world.peers)
        assert counts["records"] == sum(one.seq > 0 for one in self.world.peers.values())


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


EVENTS = st.tuples(
    st.sampled_from(["connect", "record", "introduce", "ticket", "fail", "anchor"]),
    st.integers(0, 60),
    st.integers(0, 20),
)


@settings(max_examples=60, deadline=None)
@given(most=st.integers(1, 40), events=st.lists(EVENTS, min_size=20, max_size=120))
def test_a_full_store_keeps_the_valuable(most: int, events: list[tuple[str, int, int]]) -> None:
    store = PeerStore(None, max_peers=most)
    now, anchors = NOW, set[bytes]()
    for what, number, days in events:
        now += days * DAY
        before = worths(store)
        match what:
            case "connect":
                store.connected(key(number), endpoint(number), now)
            case "record":
                store.add_record(record(number, seq=int(now)), now)
            case "introduce":
                store.introduced(key(number), key(99), NETWORKS[0], now)
            case "ticket":
                store.put_ticket(ticket(number, int(now)), Direction.DIAL, now)
            case "fail":
                store.dial_failed(endpoint(number), now)
            case "anchor":
                anchors = {key(number)}
                store.set_anchors(anchors)
        after = worths(store)
        left = [worth for one, worth in before.items() if one not in after]
        stayed = [worth for one, worth in before.items() if one in after and one not in anchors]
        assert len(after) == store.counts()["peers"] <= most
        assert max(left, default=0) <= min(stayed, default=1 << 60)
        if what not in ("fail", "anchor"):
            assert key(number) in after
        if most > 1:
            assert not (anchors & set(before)) - set(after)


def worths(store: PeerStore) -> dict[bytes, int]:
    return dict(store._db.rows("SELECT key, worth FROM peers"))


NODES = st.binary(min_size=32, max_size=32) | st.integers(0, 300).map(
    lambda number: b"\x17" * 30 + number.to_bytes(2, "big")
)


@settings(max_examples=200, deadline=None)
@given(
    crowd=st.sets(NODES, max_size=60),
    target=NODES,
    limit=st.integers(0, 20),
    depth=st.integers(-3, 300),
)
def test_nearest_is_what_sorting_all_gives(
    crowd: set[bytes], target: bytes, limit: int, depth: int
) -> None:
    def members(low: bytes, high: bytes, most: int) -> list[bytes]:
        return sorted(one for one in crowd if low <= one <= high)[:most]

    found = store_nearest.nearest(target, limit, depth, members)
    assert found == sorted(crowd, key=lambda one: ids.distance(one, target))[:limit]
