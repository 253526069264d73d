"""Virtual time and simulated packets."""

from dataclasses import dataclass, field
from random import Random

from dp2p.coordinator.discovery.contact import Contact, Place
from dp2p.coordinator.discovery.messages import Message, Ping
from dp2p.sim.engine import Engine
from dp2p.sim.network import HANDSHAKE_WAITS_S, MAPPED_S, Hello, Line, Network, Weather


@dataclass
class Recorder:
    """A station that writes down what it hears."""

    line: Line
    engine: Engine
    heard: list[tuple[str, float]] = field(default_factory=list)

    def hello(self) -> Hello:
        return Hello()

    def established(
        self, contact: Contact, hello: Hello, initiated: bool, seen: Place | None
    ) -> None:
        self.heard.append(("established here" if initiated else "established", self.engine.now))

    def received(self, contact: Contact, message: Message) -> None:
        self.heard.append(("received", self.engine.now))

    def unreachable(self, contact: Contact) -> None:
        self.heard.append(("unreachable", self.engine.now))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.heard]


class Pair:
    """Two recorders, a tenth of a second apart."""

    def __init__(self, loss: float = 0.0, nat: bool = False) -> None:
        self.engine = Engine()
        weather = Weather(base_s=0.1, across_s=0.0, jitter_s=0.0, loss=loss)
        self.network = Network(self.engine, Random(1), weather)
        self.here, self.there = self._recorder(0, False), self._recorder(1, nat)
        self.network.add(self.here)
        self.network.add(self.there)

    def _recorder(self, number: int, nat: bool) -> Recorder:
        contact = Contact(bytes([number]) * 32, (f"20.0.{number}.1", 4617))
        return Recorder(Line(contact, nat=nat), self.engine)

    def send(self) -> None:
        self.network.send(self.here, self.there.line.contact, Ping(1, 0))


def test_calls_are_made_in_the_order_of_their_times_and_then_of_their_asking() -> None:
    engine, made = Engine(), list[str]()
    engine.at(2.0, made.append, "second")
    engine.at(1.0, made.append, "first")
    engine.at(2.0, made.append, "third")
    engine.at(9.0, made.append, "never")
    engine.run(until=5.0)
    assert made == ["first", "second", "third"]
    assert (engine.now, engine.calls, len(engine)) == (5.0, 3, 1)


def test_a_time_that_has_passed_is_now() -> None:
    engine, times = Engine(), list[float]()
    engine.at(3.0, lambda: engine.at(1.0, lambda: times.append(engine.now)))
    engine.run(until=4.0)
    assert times == [3.0]


def test_a_run_ends_when_there_is_enough() -> None:
    engine, made = Engine(), list[int]()
    for number in range(5):
        engine.at(float(number), made.append, number)
    engine.run(until=9.0, enough=lambda: len(made) == 2)
    assert (made, engine.now) == ([0, 1], 1.0)


def test_a_first_message_takes_a_round_trip_more() -> None:
    pair = Pair()
    pair.send()
    pair.engine.run(1.0)
    assert pair.here.heard == [("established here", 0.2)]
    assert pair.there.words == ["established", "received"]
    assert abs(pair.there.heard[-1][1] - 0.3) < 1e-9
    pair.send()
    pair.engine.run(2.0)
    assert abs(pair.there.heard[-1][1] - 1.1) < 1e-9
    assert pair.network.packets == {"handshake": 2, "Ping": 2}


def test_who_does_not_answer_is_unreachable_after_the_last_wait() -> None:
    pair = Pair()
    pair.there.line.up = False
    pair.send()
    pair.engine.run(60.0)
    assert pair.here.heard == [("unreachable", sum(HANDSHAKE_WAITS_S))]


def test_another_key_at_the_place_hears_nothing() -> None:
    pair = Pair()
    stranger = Contact(bytes([7]) * 32, pair.there.line.contact.place)
    pair.network.send(pair.here, stranger, Ping(1, 0))
    pair.engine.run(60.0)
    assert (pair.here.words, pair.there.words) == (["unreachable"], [])


def test_a_restarted_node_reads_nothing_of_old_sessions_until_the_other_doubts() -> None:
    pair = Pair()
    pair.send()
    pair.engine.run(1.0)
    pair.there.line.restart()
    pair.there.heard.clear()
    pair.send()
    pair.engine.run(2.0)
    assert pair.there.words == []
    pair.network.doubt(pair.here, pair.there.line.contact)
    pair.send()
    pair.engine.run(3.0)
    assert pair.there.words == ["established", "received"]


def test_a_nat_lets_in_only_whom_packets_went_to_and_not_for_long() -> None:
    pair = Pair(nat=True)
    pair.send()
    pair.engine.run(60.0)
    assert pair.there.words == []
    pair.network.send(pair.there, pair.here.line.contact, Ping(1, 0))
    pair.engine.run(61.0)
    pair.send()
    pair.engine.run(62.0)
    assert pair.there.words == ["established here", "received"]
    pair.engine.run(63.0 + MAPPED_S)
    pair.send()
    pair.engine.run(70.0 + MAPPED_S)
    assert pair.there.words == ["established here", "received"]


def test_lost_handshakes_are_repeated() -> None:
    pair = Pair(loss=0.5)
    for _ in range(20):
        pair.network.doubt(pair.here, pair.there.line.contact)
        pair.send()
        pair.engine.run(pair.engine.now + 10.0)
    assert pair.network.packets["handshake"] > 40
    assert 0 < pair.there.words.count("received") < 20
