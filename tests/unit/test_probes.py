"""Probes: a link lives when anything comes in time; what is gone is not answered for."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace
from typing import cast

import pytest

from dp2p.errors import TransportError
from dp2p.hello import ControlType
from dp2p.shards.probes import PROBE_S, Probes
from dp2p.transport import EventKind, Node, Status
from wire import Pair

NOW = 100.0


class Probed:
    """B probes its link to A."""

    def __init__(self) -> None:
        self.pair = Pair().open()
        self.link = self.pair.b.link
        self.probes = Probes(self.pair.b.node)
        self.probes.begin(self.link, NOW)

    def answers(self, later_s: float) -> list[tuple[int, bool]]:
        return list(self.probes.answers(NOW + later_s))


@pytest.fixture
def probed() -> Probed:
    return Probed()


def test_a_peer_that_answers_lives(probed: Probed) -> None:
    assert probed.answers(0) == []
    probed.pair.run()
    assert probed.answers(0) == [(probed.link, True)]
    assert (len(probed.probes), probed.probes.due) == (0, inf)
    assert probed.answers(PROBE_S) == []


def test_silence_counts_when_the_time_is_up(probed: Probed) -> None:
    assert (len(probed.probes), probed.probes.due) == (1, NOW + PROBE_S)
    assert probed.answers(PROBE_S - 0.001) == []
    assert probed.answers(PROBE_S) == [(probed.link, False)]
    assert len(probed.probes) == 0


def test_an_answer_that_is_seen_late_is_still_one(probed: Probed) -> None:
    """The shard was busy, not the peer."""
    probed.pair.run()
    assert probed.answers(10 * PROBE_S) == [(probed.link, True)]


def test_whatever_comes_is_a_sign_of_life(probed: Probed) -> None:
    """The ping may still be on its way to a peer that says something else."""
    a = probed.pair.a
    a.node.control(a.link, ControlType.RECORD, b"{}")
    assert probed.pair.carry(a, probed.pair.b)
    assert probed.answers(0.1) == [(probed.link, True)]


def test_what_came_before_is_none() -> None:
    pair = Pair().open()
    pair.run()
    probes = Probes(pair.b.node)
    probes.begin(pair.b.link, NOW)
    assert list(probes.answers(NOW)) == []


def test_asked_twice_it_is_answered_once(probed: Probed) -> None:
    """And not later for that."""
    probed.probes.begin(probed.link, NOW + 1)
    assert probed.answers(PROBE_S) == [(probed.link, False)]
    assert probed.answers(PROBE_S + 1) == []


def test_a_link_that_was_probed_can_be_probed_again(probed: Probed) -> None:
    probed.pair.run()
    assert probed.answers(0) == [(probed.link, True)]
    probed.probes.begin(probed.link, NOW + 5)
    assert probed.answers(5) == []
    assert probed.probes.due == NOW + 5 + PROBE_S


def test_a_link_whose_end_is_told_is_not_answered_for(probed: Probed) -> None:
    probed.probes.forget(probed.link)
    probed.probes.forget(probed.link)
    assert probed.answers(PROBE_S) == []


def test_a_link_that_the_engine_has_freed(probed: Probed) -> None:
    """Its DOWN event says all that there is to say."""
    probed.pair.b.node.end_link(probed.link, Status.IO)
    probed.pair.b.gather()
    assert probed.pair.b.of(EventKind.DOWN)
    assert probed.answers(PROBE_S) == []
    assert len(probed.probes) == 0


def test_a_link_that_is_not_open_is_not_probed() -> None:
    pair = Pair()
    pair.run()
    probes = Probes(pair.b.node)
    probes.begin(pair.b.link, NOW)
    probes.begin(pair.b.link + 1, NOW)
    assert (len(probes), probes.due) == (0, inf)


@dataclass
class FakeNode:
    """Links by handle, with what has come on each; one that is missing is gone."""

    bytes_in: dict[int, int] = field(default_factory=dict)
    pinged: list[int] = field(default_factory=list)

    def ping(self, link: int) -> None:
        self.link(link)
        self.pinged.append(link)

    def link(self, link: int) -> SimpleNamespace:
        if link not in self.bytes_in:
            raise TransportError(1, "DP_E_LINK", "looking at a link")
        return SimpleNamespace(bytes_in=self.bytes_in[link])


def test_each_link_has_its_own_time() -> None:
    node = FakeNode({1: 10, 2: 10, 3: 10, 4: 10})
    probes = Probes(cast(Node, node))
    for link in (1, 2, 3, 4):
        probes.begin(link, NOW + link)
    assert node.pinged == [1, 2, 3, 4]
    assert probes.due == NOW + 1 + PROBE_S
    node.bytes_in[3] += 1
    del node.bytes_in[4]
    assert list(probes.answers(NOW + 1 + PROBE_S)) == [(1, False), (3, True)]
    assert probes.due == NOW + 2 + PROBE_S
    assert list(probes.answers(NOW + 2 + PROBE_S)) == [(2, False)]
