"""Nodes that find each other: over UDP, from an address in the configuration or from memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dp2p import control, keys
from dp2p.cli import run
from dp2p.cli.root import cli
from dp2p.errors import RequestError
from process.nodes import Node, app, running

FORMED_S = 60.0  # for a few nodes to know each other; they do within seconds on an idle machine


def bootstrap(address: str) -> tuple[str, ...]:
    return ("--set", f"discovery.bootstrap={address}")


@contextmanager
def network(directory: Path, count: int) -> Iterator[list[Node]]:
    """The first node, and others that know its address and nothing else."""
    for number in range(count):
        (directory / str(number)).mkdir()
    with ExitStack() as stack:
        (first,) = stack.enter_context(running(Node(directory / "0")))
        join = bootstrap(first.address)
        others = (Node(directory / str(number), *join) for number in range(1, count))
        yield [first, *stack.enter_context(running(*others))]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Four nodes of one network."""
    with network(tmp_path_factory.mktemp("network"), 4) as made:
        for node in made:
            node.until(lambda n=node: contacts(n) == 3, "all contacts", FORMED_S)  # type: ignore[misc]
        yield made


def contacts(node: Node) -> int:
    """In its table."""
    return int(node.request(control.Table(id=1))["contacts"])


def lookup(node: Node, target: str) -> dict[str, Any]:
    return dict(node.request(control.Lookup(id=1, target=target)))


def commanded(node: Node, *arguments: str) -> int:
    """A command of the CLI, on this node; its exit code."""
    return run(cli, ["--run-dir", str(node.run_dir), *arguments])


def test_each_finds_each_through_one_address(nodes: list[Node]) -> None:
    for node in nodes:
        for other in nodes:
            if other is not node:
                found = lookup(node, other.id)
                assert found["found"], (found, node.log()[-4000:])
                assert found["contacts"][0]["node"] == other.id
                assert found["contacts"][0]["key"] == other.identity.key


def test_a_node_that_is_nowhere_is_not_found(nodes: list[Node]) -> None:
    stranger = keys.identity(b"\x07" * 32)
    assert not lookup(nodes[1], f"dp2p://{stranger.key}")["found"]
    refused = nodes[1].refusal(stranger.node)
    assert refused.code == "unknown_peer"
    assert "discovery asked" in refused.message


@pytest.mark.parametrize("by", ["node-ID", "key"])
def test_a_peer_is_dialled_without_a_place(nodes: list[Node], by: str) -> None:
    dialling, dialled = (nodes[1], nodes[2]) if by == "key" else (nodes[3], nodes[2])
    address = f"dp2p://{dialled.identity.key}" if by == "key" else dialled.id
    assert dialling.dial(address)["peer"] == dialled.id


def test_who_serves_a_rare_protocol_is_found(nodes: list[Node]) -> None:
    serving, searching = nodes[3], nodes[1]
    with app(serving) as session:
        session.register("rare/one")

        def found() -> bool:
            session.peers()
            request = control.Find(id=1, protocol="rare/one", timeout_s=2.0)
            records = searching.request(request)["records"]
            return [one["key"] for one in records] == [serving.identity.key]

        serving.until(found, "the provider", FORMED_S)


def test_a_contact_answers_for_itself(nodes: list[Node]) -> None:
    asking, asked = nodes[0], nodes[1]
    (contact,) = lookup(asking, asked.id)["contacts"][:1]

    def ask(**question: Any) -> dict[str, Any]:
        request = control.AskContact(
            id=1, key=contact["key"], endpoint=contact["endpoint"], **question
        )
        return dict(asking.request(request))

    near = ask(near=nodes[2].id)
    assert near["contacts"][0]["node"] == nodes[2].id
    assert 0 < near["seconds"] < FORMED_S
    record = ask()["record"]
    assert record["key"] == asked.identity.key
    assert f"udp4://127.0.0.1:{asked.place[1]}" in record["endpoints"]
    assert ask(protocol="nobody/serves/this")["contacts"] == []


def test_whoever_does_not_answer_is_named(nodes: list[Node]) -> None:
    stranger = keys.identity(b"\x08" * 32)
    endpoint = f"udp4://127.0.0.1:{nodes[1].place[1]}"  # where another key answers
    request = control.AskContact(id=1, key=stranger.key, endpoint=endpoint)
    with pytest.raises(RequestError, match=endpoint) as caught:
        nodes[0].request(request)
    assert caught.value.code == "timeout"
    request = control.AskContact(id=1, key=stranger.key, endpoint="tcp4://127.0.0.1:1")
    with pytest.raises(RequestError, match="expected udp4://") as caught:
        nodes[0].request(request)
    assert caught.value.code == "bad_address"


def test_status_counts(nodes: list[Node]) -> None:
    found = nodes[1].status()["discovery"]
    assert found["contacts"] == 3
    assert found["discovery"]["answers"] > 0
    assert found["sessions"]["received"] > 0
    assert found["bootstrap"] == [{"address": nodes[0].address, "error": None}]


def test_the_command_line(
    nodes: list[Node], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = nodes[2]
    assert commanded(node, "lookup", nodes[3].id) == 0
    assert "found it" in capsys.readouterr().out
    assert commanded(node, "table", "--all") == 0
    out = capsys.readouterr().out
    assert "3 contacts" in out
    assert nodes[0].id[:16] in out
    output = tmp_path / "crawl.json"
    assert commanded(node, "crawl", "--records", "--output", str(output)) == 0
    walked = json.loads(output.read_text())
    assert walked["complete"]
    assert walked["from"] == node.id
    assert {one["node"] for one in walked["nodes"]} == {one.id for one in nodes}
    others = [one for one in walked["nodes"] if one["node"] != node.id]
    assert all(one["answered"] and one["record"]["key"] == one["key"] for one in others)
    assert len(walked["edges"]) >= 6


def test_a_killed_coordinator_is_back_without_bootstrap(nodes: list[Node]) -> None:
    """The first node knows nobody from its configuration: what it has, it remembers."""
    first = nodes[0]
    assert first.status()["discovery"]["bootstrap"] == []
    first.until(lambda: first.status()["store"]["records"] >= 3, "records", FORMED_S)
    first.kill("coordinator")

    def back() -> bool:
        try:
            return contacts(first) >= 1
        except Exception:  # noqa: BLE001 - whatever its end does to a request
            return False

    first.until(back, "contacts again", FORMED_S)
    assert lookup(first, nodes[3].id)["found"]


def test_bootstrap_from_a_bare_endpoint(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        running(Node(tmp_path / "a")) as (first,),
        running(Node(tmp_path / "b", *bootstrap(first.bare))) as (second,),
    ):
        second.until(lambda: contacts(second) == 1, "a contact", FORMED_S)
        assert lookup(second, first.id)["found"]


def test_a_wrong_bootstrap_address_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running(Node(tmp_path / "a")) as (first,):
        stranger = keys.identity(b"\x09" * 32)
        wrong = f"dp2p://{stranger.key}@{first.place[0]}:{first.place[1]}"
        with running(Node(tmp_path / "b", *bootstrap(wrong))) as (second,):

            def error() -> str | None:
                (row,) = second.status()["discovery"]["bootstrap"]
                return row["error"]  # type: ignore[no-any-return]

            second.until(error, "an error", FORMED_S)
            assert "another key" in (error() or "")
            assert "bootstrap address is of no use" in second.log()
            assert contacts(second) == 0


def test_a_node_without_discovery_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with running(Node(tmp_path / "a", "--set", "discovery.enabled=false")) as (node,):
        assert node.status()["discovery"] is None
        with pytest.raises(RequestError, match=r"discovery\.enabled") as caught:
            contacts(node)
        assert caught.value.code == "no_discovery"
