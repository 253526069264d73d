"""What real nodes make of each other when they meet: how they shake hands, whom they trust."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dp2p import control, keys
from dp2p.errors import RequestError
from process.middle import Way, between
from process.nodes import Node, fresh, notices, part, running

NO_TRUST = ("fallbacks", "identity_errors", "doubted", "warnings", "introductions_refused")
"Counters of trust that was lost or did not come."


def row(node: Node, other: Node) -> dict[str, Any]:
    """What ``peers`` says of one."""
    (found,) = (one for one in node.peers() if one["peer"] == other.id)
    return found


def seen(how: dict[str, Any]) -> tuple[str, bool, str, int]:
    return how["mode"], how["fell_back"], how["trust"], how["introducers"]


def meet(a: Node, b: Node, address: str = "") -> tuple[Any, ...]:
    """``a`` dials ``b``: how they shook hands, and what each thinks of the other."""
    dialled = a.dial(address or b.bare)
    mine, theirs = row(a, b), row(b, a)
    assert (dialled["peer"], dialled["key"]) == (b.id, b.identity.key)
    assert seen(dialled) == seen(mine)
    assert (theirs["key"], theirs["mode"]) == (a.identity.key, mine["mode"])
    assert theirs["fell_back"] == mine["fell_back"]
    assert (mine["direction"], theirs["direction"]) == ("out", "in")
    mode = "fallback" if mine["fell_back"] else mine["mode"]
    return mode, mine["trust"], theirs["trust"]


def by_key(node: Node) -> str:
    """Its address without a place, for who knows where it is."""
    return f"dp2p://{node.identity.key}"


def counted(node: Node, *names: str) -> tuple[int, ...]:
    found = node.status()["trust"]
    return tuple(found[name] for name in names)


# --- first and later meetings ---


def test_strangers_meet_and_meet_again(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b), notices(a, b) as told:
        assert meet(a, b) == ("xx", "none", "none")
        assert a.tickets(b) == b.tickets(a) == (1, 1)
        for had in range(1, 4):  # each time a dial ticket is used up, and one of each kind made
            part(a, b)
            assert meet(a, b) == ("resume", "resumed", "resumed")
            assert a.tickets(b) == (1, min(had + 1, 4))
        b.until(lambda: b.known(a)["record"], "a's record")
        part(b, a)
        assert meet(b, a, by_key(a)) == ("resume", "resumed", "resumed")
        assert a.dial(b.address)["trust"] == "resumed"  # it is open, and stays what it is
        for node in (a, b):
            names = ("handshakes_xx", "handshakes_ik", "handshakes_resume", "tickets_missing")
            assert counted(node, *names) == (1, 0, 4, 0)
            assert counted(node, *NO_TRUST) == (0,) * len(NO_TRUST)
        assert counted(a, "tickets_dialled", "tickets_accepted") == (3, 1)
        assert counted(b, "tickets_dialled", "tickets_accepted") == (1, 3)
        assert [one.kinds() for one in told] == [[], []]


def test_a_dial_that_reaches_nobody_keeps_its_ticket(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b):
        meet(a, b)
        part(a, b)
        b.stop()
        for _ in range(3):
            assert a.refusal(by_key(b)).code == "dial_failed"
        assert a.tickets(b)[0] == 1
        b.restart()
        assert meet(a, b) == ("resume", "resumed", "resumed")
        assert counted(a, "tickets_dialled", "tickets_unused") == (4, 3)


def test_an_address_with_a_key_is_an_introduction(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b), notices(a, b) as told:
        assert meet(a, b, b.address) == ("ik", "introduced", "none")
        assert (row(a, b)["introducers"], row(b, a)["introducers"]) == (0, 0)
        assert counted(a, "handshakes_ik") == counted(b, "handshakes_ik") == (1,)
        b.until(lambda: b.known(a)["record"], "a's record")
        part(a, b)
        assert meet(a, b, b.address) == ("resume", "resumed", "resumed")
        part(a, b)
        # What an inbound stranger says of his places is no reason to think that he is there.
        assert meet(b, a, a.bare) == ("xx", "none", "none")
        assert [one.kinds() for one in told] == [[], []]


# --- introductions ---

PLACES = ("127.0.0.1", "127.0.0.2", "127.0.1.1")
"Of introducers: two of them are in one network."


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, list[Node]]]:
    """A node, and three that know it."""
    nodes = [
        Node(tmp_path_factory.mktemp("n"), listen=(f"tcp4://{place}:0",))
        for place in (PLACES[0], *PLACES)
    ]
    with running(*nodes):
        target, *introducers = nodes
        for one in introducers:
            target.dial(one.address)
            one.until(lambda one=one: one.known(target)["record"], "its record")  # type: ignore[misc]
        yield target, introducers


def introduced(node: Node, other: Node, *by: Node) -> list[str]:
    """Have it introduced by these; the networks that they are in."""
    for one in by:
        node.dial(one.address)
    keys_of = {one.identity.key for one in by}

    def found() -> list[dict[str, Any]]:
        try:
            return [one for one in node.known(other)["introductions"] if one["key"] in keys_of]
        except RequestError:
            return []

    node.until(lambda: len(found()) == len(by), "introductions")
    return sorted(one["network"] for one in found())


@pytest.mark.parametrize(
    ("introducers", "count"), [((0,), 1), ((0, 1), 1), ((0, 2), 2), ((0, 1, 2), 2)]
)
def test_introducers_count_by_network(
    tmp_path: Path,
    company: tuple[Node, list[Node]],
    introducers: tuple[int, ...],
    count: int,
) -> None:
    target, known = company
    by = [known[n] for n in introducers]
    with fresh(tmp_path, "a") as (a,), notices(a) as (told,):
        networks = introduced(a, target, *by)
        assert networks == sorted(f"{PLACES[n].rpartition('.')[0]}.0/24" for n in introducers)
        assert a.known(target)["introducers"] == count
        answer = a.request(control.Find(id=1))
        assert answer["asked"] == len(by)
        records = {one["key"]: one for one in answer["records"]}
        listed = records[target.identity.key]["endpoints"]
        assert [one for one in listed if one.startswith("tcp4")] == list(target.listening)
        dialled = a.dial(by_key(target))
        assert seen(dialled) == ("ik", False, "introduced", count)
        assert seen(row(target, a)) == ("ik", False, "none", 0)
        part(a, target)
        assert seen(a.dial(target.bare)) == ("resume", False, "resumed", count)
        assert told.kinds() == []


def test_a_bare_endpoint_of_an_introduced_peer(
    tmp_path: Path, company: tuple[Node, list[Node]]
) -> None:
    """The record says that it is there, and somebody who was not wrong so far vouches for it."""
    target, known = company
    with fresh(tmp_path, "a") as (a,):
        introduced(a, target, known[0])
        assert seen(a.dial(target.bare)) == ("ik", False, "introduced", 1)


def test_nobody_knows_where_it_is(company: tuple[Node, list[Node]]) -> None:
    stranger = keys.identity(bytes(32))
    for address in (f"dp2p://{stranger.key}", stranger.node):
        with pytest.raises(RequestError) as refused:
            company[0].dial(address)
        assert refused.value.code in ("dial_failed", "unknown_peer")


# --- what was remembered is lost ---


def test_a_lost_ticket_costs_the_trust_once(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b):
        for _ in range(3):
            meet(a, b)
            part(a, b)
        assert a.tickets(b) == (1, 3)
        b.restart(forget=True)
        with notices(a, b) as (at_a, at_b):
            assert meet(a, b) == ("fallback", "none", "none")
            assert row(a, b)["mode"] == row(b, a)["mode"] == "resume"  # as it began
            (mine,), (theirs,) = at_a.new(), at_b.new()
            assert mine.kind == theirs.kind == "fallback"
            assert mine.fields == {
                "peer": b.id,
                "endpoint": b.listening[0],
                "direction": "out",
                "mode": "resume",
                "relied": b.identity.key,
                "answered": b.identity.key,
            }
            assert (theirs.fields["direction"], theirs.fields["relied"]) == ("in", None)
            assert theirs.fields["answered"] == a.identity.key
            assert a.tickets(b) == b.tickets(a) == (1, 1)  # those of this session alone
            assert counted(a, *NO_TRUST) == (1, 0, 0, 0, 0)
            assert counted(b, "fallbacks", "tickets_missing") == (1, 1)
            part(a, b)
            assert meet(a, b) == ("resume", "resumed", "resumed")
            assert [at_a.kinds(), at_b.kinds()] == [[], []]
            part(a, b)
        a.restart(forget=True)  # it relies on nothing, so nothing falls back
        assert meet(a, b) == ("xx", "none", "none")


def test_an_introduction_outlives_a_lost_ticket(
    tmp_path: Path, company: tuple[Node, list[Node]]
) -> None:
    """The same key answered, so nobody was wrong (docs/adr/0008)."""
    target, known = company
    with fresh(tmp_path, "a") as (a,), between(target.place) as middle, notices(a) as (told,):
        introduced(a, target, known[0])
        meet(a, target, middle.pinned(target.identity.key))
        part(a, target)
        middle.way, middle.flip = Way.BREAK, 8 * 35  # the name of its ticket
        assert seen(a.dial(middle.endpoint)) == ("resume", True, "none", 1)
        assert told.kinds() == ["fallback"]
        found = a.known(target)
        assert [one["wrong"] for one in found["introductions"]] == [False]
        part(a, target)
        assert seen(a.dial(target.bare)) == ("resume", False, "resumed", 1)


# --- restarts ---


TROUBLES = ("failures", "replaced")
"What is counted of a store that broke."


def committed(node: Node, count: int) -> None:
    """Wait until it has so many tickets in its file, where a kill leaves them."""

    def there() -> bool:
        path = node.directory / "key.peers.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            return bool(reader.execute("SELECT COUNT(*) FROM tickets").fetchone() == (count,))

    node.until(there, "its tickets in the file")


def test_both_restarted(tmp_path: Path) -> None:
    """One was stopped, one killed."""
    with fresh(tmp_path, "a", "b") as (a, b):
        meet(a, b)
        committed(b, 2)
        assert a.stop() == 0
        b.end_at_once()
        for node in (a, b):
            node.restart()
        assert meet(a, b) == ("resume", "resumed", "resumed")
        assert not any(node.status()["store"][what] for node in (a, b) for what in TROUBLES)


def kill_coordinators(a: Node, b: Node) -> None:
    """At the same time, and wait until both know of their link again."""
    for node in (a, b):
        node.kill("coordinator")
    for node, other in ((a, b), (b, a)):
        node.until(lambda n=node, o=other: n.connected(o.id), "the link")  # type: ignore[misc]


def test_killed_coordinators(tmp_path: Path) -> None:
    """Links outlive them, with the trust that they were given, and so do tickets once they are
    committed. One that is not can be lost on one side or both: that costs one resumption. Nobody is
    trusted more for it, nobody doubted, and the meeting after that is as ever.
    """
    possible = {
        ("resume", "resumed", "resumed"),
        ("fallback", "none", "none"),
        ("ik", "none", "none"),
        ("xx", "none", "none"),
    }
    with fresh(tmp_path, "a", "b") as (a, b):
        meet(a, b, b.address)
        for node in (a, b):
            committed(node, 2)
        kill_coordinators(a, b)
        assert seen(row(a, b)) == ("ik", False, "introduced", 0)
        assert seen(row(b, a)) == ("ik", False, "none", 0)
        part(a, b)
        assert meet(a, b) == ("resume", "resumed", "resumed")
        kill_coordinators(a, b)  # at once
        part(a, b)
        assert meet(a, b) in possible
        part(a, b)
        assert meet(a, b) == ("resume", "resumed", "resumed")
        assert counted(a, "doubted", "identity_errors", "warnings") == (0, 0, 0)
        assert not any(node.status()["store"][what] for node in (a, b) for what in TROUBLES)


# --- another key ---


def test_another_key_than_the_one_asked_for(tmp_path: Path) -> None:
    """No connection, and whoever is there learns nothing of who dialled, not even his key."""
    with fresh(tmp_path, "a", "b", "c") as (a, b, c), notices(a, b) as (at_a, at_b):
        place = b.address.partition("@")[2]
        for mode, before in (("ik", None), ("resume", c)):
            if before is not None:  # it is known from elsewhere, with a ticket
                meet(a, c)
                part(a, c)
            with pytest.raises(RequestError) as refused:
                a.dial(f"dp2p://{c.identity.key}@{place}")
            assert refused.value.code == "identity_mismatch"
            assert b.identity.key in refused.value.message
            (error,) = at_a.new()  # that it is not there is news to nobody but who gave the address
            assert (error.kind, error.fields) == (
                "identity_error",
                {
                    "endpoint": b.listening[0],
                    "mode": mode,
                    "asked": c.identity.key,
                    "answered": b.identity.key,
                },
            )
            assert a.peers() == b.peers() == []
        assert a.tickets(c) == (0, 1)  # the one that it showed is used up
        assert counted(a, *NO_TRUST) == (0, 2, 0, 0, 0)
        b.until(lambda: b.stat("handshakes_failed") == 2, "their count")
        assert counted(b, "handshakes_xx", "fallbacks", *NO_TRUST) == (0, 0, 0, 0, 0, 0, 0)
        assert b.status()["store"]["peers"] == 0
        assert at_b.kinds() == []
        assert a.identity.key not in b.log()
        assert a.id not in b.log()
        assert meet(a, c) == ("ik", "none", "none")  # by a place where that key did answer
