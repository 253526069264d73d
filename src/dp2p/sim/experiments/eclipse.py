"""Attempts to surround one node with adversaries, with limits by IP network and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import log

from dp2p.coordinator import coverage
from dp2p.coordinator.discovery.actions import Settings
from dp2p.coordinator.discovery.bucket import UNLIMITED, NetworkLimits
from dp2p.coordinator.discovery.contact import Contact
from dp2p.sim.adversaries import Adversary, Coalition
from dp2p.sim.nodes import BOOTSTRAPS, Node, World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Row, Run

OUTGOING = 25  # of the victim's 50 peers: those that it picks itself
OFFERS = 160  # contacts of which an honest node's bucket takes 16
HALF = 0.5
HOUR_S = 3600.0
LIFE_S, AWAY_S = 3600.0, 1200.0  # medians, of honest nodes in the long siege


@dataclass(frozen=True, slots=True)
class Attack:
    """What the adversaries have, and how long they try."""

    name: str
    published: str
    networks: int
    "/24s."
    hosts: int
    "Addresses in each."
    identities: int
    "In all."
    every_s: float
    "Each identity pings the victim as often."
    seconds: float
    churn: bool = False
    "Honest nodes come and go."
    limited: bool = True
    "Its addresses are of so few networks that limits can be expected to help."


def attacks(run: Run) -> tuple[Attack, ...]:
    many, hour = run.pick(200, 2000), run.pick(120.0, HOUR_S)
    day = run.pick(300.0, 24 * HOUR_S)
    return (
        Attack("two hosts, many identities", "eclipsed (Marcus 2018)", 2, 1, many, 300.0, hour),
        Attack("two /24s", "eclipsed (false friends, 2019)", 2, 254, many, 300.0, hour),
        Attack("pings at boot", "eclipsed (Marcus 2018)", 4, 68, many, 30.0, run.pick(60.0, 600.0)),
        Attack(
            "272 nodes, 24 h",
            "table 95 % hostile (Shi 2026, no limits)",
            4, 68, run.pick(200, 8 * 272), 600.0, day, churn=True,
        ),
        Attack(
            "272 nodes of 272 networks, 24 h",
            "",
            run.pick(25, 272), 1, run.pick(25, 272), 600.0, day, churn=True, limited=False,
        ),
    )  # fmt: skip


def eclipse(run: Run) -> Outcome:
    """Each attack, with limits on and off: what the victim's table and its peers become."""
    outcome = Outcome()
    honest = run.pick(100, 1000)
    plans = [(attack, on) for attack in attacks(run) for on in (True, False)]
    for number, (attack, on) in enumerate(plans):
        siege = Siege(run.seed, attack, NetworkLimits() if on else UNLIMITED, honest)
        table, outgoing = siege.run()
        row: Row = {
            "attack": attack.name,
            "limits": on,
            "table_hostile": table,
            "outgoing_honest": outgoing,
            "contacts": len(siege.victim.discovery.table),
        }
        outcome.rows.append(row)
        state = "limits on" if on else "limits off"
        what = f"eclipse, {attack.name}, {state}: honest outgoing peers"
        published = attack.published
        outcome.bars.append(
            Bar.least(what, outgoing, HALF, published)
            if on and attack.limited
            else Bar(what, outgoing, published)
        )
        outcome.bars.append(Bar(f"eclipse, {attack.name}, {state}: hostile share of table", table))
        run.progress((number + 1) / len(plans))
    outcome.notes.append(
        f"{honest} honest nodes of as many networks. Their own tables hold the adversaries as if "
        f"they had always been there. Outgoing peers: {OUTGOING}, picked by coverage; with limits, "
        f"{NetworkLimits().bucket} of a network at most."
    )
    return outcome


class Siege:
    """A victim that boots among honest nodes and adversaries."""

    def __init__(self, seed: int, attack: Attack, limits: NetworkLimits, honest: int) -> None:
        self._attack = attack
        self._of_network = limits.bucket
        self._world = world = World(seed, settings=Settings(limits=limits))
        hostile = [Contact(world.random.randbytes(32), place) for place in self._places()]
        self.coalition = Coalition(hostile)
        self._adversaries = [
            Adversary(world.network, world.line(one), self.coalition) for one in hostile
        ]
        for one in self._adversaries:
            world.network.add(one)
        self._honest = [world.add() for _ in range(honest)]
        for node in self._honest:
            node.passive = True
        everybody = [*hostile, *(node.contact for node in self._honest)]
        world.know(everybody, self._honest, OFFERS)
        self.victim: Node = world.add()

    def _places(self) -> Iterator[tuple[str, int]]:
        """Places for all identities: on the same hosts they differ by their ports."""
        world, attack = self._world, self._attack
        networks = [world.free_network() for _ in range(attack.networks)]
        hosts = [
            world.contact(network, host).place[0]
            for host in range(1, attack.hosts + 1)
            for network in networks
        ]
        for number in range(attack.identities):
            yield hosts[number % len(hosts)], 1024 + number // len(hosts)

    def run(self) -> tuple[float, float]:
        """The hostile share of the victim's table in the end, and the honest one of its peers."""
        world, attack = self._world, self._attack
        for one in self._adversaries:
            world.engine.after(world.random.random() * attack.every_s, self._besiege, one)
        if attack.churn:
            for node in self._honest:
                self._lives(node)
        self.victim.candidates(
            node.contact for node in world.random.sample(self._honest, BOOTSTRAPS)
        )
        world.run(attack.seconds)
        contacts = self.victim.discovery.table.contacts()
        peers = self._outgoing(contacts)
        honest = 1.0 - self.coalition.share(peers) if peers else 0.0
        return self.coalition.share(contacts), honest

    def _outgoing(self, contacts: list[Contact]) -> list[Contact]:
        """Whom the victim connects to: those that cover most, not too many of one network."""
        known = [(one.id, one) for one in contacts]
        networks: Counter[str] = Counter()
        peers: list[Contact] = []
        for one in coverage.choose(self.victim.contact.id, known, len(known)):
            if len(peers) < OUTGOING and networks[one.network] < self._of_network:
                networks[one.network] += 1
                peers.append(one)
        return peers

    def _besiege(self, one: Adversary) -> None:
        one.ping(self.victim.contact)
        self._world.engine.after(self._attack.every_s, self._besiege, one)

    def _lives(self, node: Node) -> None:
        self._world.engine.after(self._span(LIFE_S), self._goes, node)

    def _goes(self, node: Node) -> None:
        node.line.up = False
        node.line.restart()
        self._world.engine.after(self._span(AWAY_S), self._returns, node)

    def _returns(self, node: Node) -> None:
        node.line.up = True
        self._lives(node)

    def _span(self, median_s: float) -> float:
        return self._world.random.expovariate(log(2) / median_s)


EXPERIMENTS = (
    Experiment("eclipse", "attempts to surround a node, with IP limits and without", eclipse),
)
