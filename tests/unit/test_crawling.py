"""A crawl over made networks: everybody is found, in few questions, and what fails is said."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dp2p import control, ids
from dp2p.cli.crawling import FULL, TRIES_MAX, Crawl
from dp2p.errors import RequestError


def contact(node: bytes) -> dict[str, Any]:
    text = ids.to_text(node)
    return {"node": text, "key": text, "endpoint": "udp4://192.0.2.1:1"}


class Network:
    """Nodes with the tables that Kademlia would have, which answer honestly."""

    def __init__(self, count: int) -> None:
        draw = random.Random(count)
        self.nodes = [draw.randbytes(32) for _ in range(count)]
        self.tables = {ids.to_text(node): self._table(node) for node in self.nodes}
        self.questions = 0

    def _table(self, node: bytes) -> list[bytes]:
        buckets: dict[int, list[bytes]] = {}
        for other in self.nodes:
            if other != node:
                bucket = buckets.setdefault(ids.distance(node, other).bit_length(), [])
                bucket.append(other)
        return [other for bucket in buckets.values() for other in bucket[:FULL]]

    def answer(self, request: control.AskContact) -> dict[str, Any]:
        self.questions += 1
        if request.near is None:
            return {"seconds": 0.1, "record": {"seq": 1}}
        near = ids.from_text(request.near)
        known = sorted(self.tables[request.key], key=lambda one: ids.distance(one, near))
        return {"seconds": 0.1, "contacts": [contact(one) for one in known[:FULL]]}

    def begin(self, **options: Any) -> Crawl:
        own = ids.to_text(self.nodes[0])
        crawl = Crawl(**{"records": False, "limit": 10**6, **options})
        entries = [contact(node) for node in self.tables[own]]
        crawl.begin({"node": own, "key": own, "buckets": [{"entries": entries}]})
        return crawl

    def walk(self, crawl: Crawl, at_once: int = 8) -> dict[str, Any]:
        waiting: list[control.AskContact] = []
        while not crawl.over:
            while len(waiting) < at_once and (question := crawl.ask()) is not None:
                waiting.append(question)
            question = waiting.pop()
            crawl.answered(question.id, self.answer(question))
        return crawl.report()


@pytest.mark.parametrize("count", [2, 10, 60, 300])
def test_everybody_and_all_they_know_is_found(count: int) -> None:
    network = Network(count)
    found = network.walk(network.begin())
    assert found["complete"]
    nodes = [one["node"] for one in found["nodes"]]
    assert set(nodes) == set(network.tables)
    edges = {(nodes[a], nodes[b]) for a, b in found["edges"]}
    whole = {
        (node, ids.to_text(other)) for node, table in network.tables.items() for other in table
    }
    assert edges == whole
    assert network.questions <= count * 8  # about log2(300 / 16), and the last


def test_records_are_asked_for_once_of_each() -> None:
    network = Network(20)
    found = network.walk(network.begin(records=True))
    asked = [one for one in found["nodes"] if one["node"] != ids.to_text(network.nodes[0])]
    assert all(one["record"] == {"seq": 1} for one in asked)


def test_a_node_that_is_silent_is_not_asked_again() -> None:
    network = Network(3)
    crawl = network.begin()
    first = crawl.ask()
    assert first is not None
    crawl.answered(first.id, RequestError("timeout", "no answer"))
    found = network.walk(crawl)
    (silent,) = (one for one in found["nodes"] if one["key"] == first.key)
    assert not silent["answered"]
    assert "no answer" in silent["error"]
    assert found["complete"]


def test_what_the_node_was_too_busy_for_is_asked_again_but_not_for_ever() -> None:
    crawl = Network(2).begin()
    for _ in range(TRIES_MAX):
        question = crawl.ask()
        assert question is not None
        crawl.answered(question.id, RequestError("busy", "512 are under way"))
    assert crawl.over
    assert "512" in crawl.report()["nodes"][1]["error"]


def test_nodes_beyond_the_limit_are_counted() -> None:
    network = Network(60)
    found = network.walk(network.begin(limit=10))
    assert len(found["nodes"]) == 10
    assert found["left_out"] > 0
    assert not found["complete"]


def test_an_interrupted_crawl_says_so() -> None:
    crawl = Network(10).begin()
    crawl.ask()
    found = crawl.report()
    assert not found["complete"]
    assert len(found["nodes"]) == 10


def test_an_answer_that_was_not_asked_for_changes_nothing() -> None:
    crawl = Network(2).begin()
    before = crawl.report()
    crawl.answered(99, {"seconds": 1.0, "contacts": [contact(bytes(32))]})
    assert crawl.report() == before
