"""Real nodes with somebody in the middle: what he can do, what he cannot, and how he is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dp2p.errors import RequestError
from process.middle import Middle, Way, between, marks
from process.nodes import PATIENCE_S, Node, app, fresh, notices, part, running, seen, talking


@contextmanager
def advertised(directory: Path, *names: str) -> Iterator[tuple[Middle, tuple[Node, ...]]]:
    """Nodes, of which the first says that it is where a middle is, which stands before it."""
    with between() as middle:
        for name in names:
            (directory / name).mkdir()
        place = ("--set", f"listen.advertise={middle.endpoint}")
        flags = [place, *[()] * (len(names) - 1)]
        made = [Node(directory / name, *more) for name, more in zip(names, flags, strict=True)]
        with running(*made) as nodes:
            middle.target = nodes[0].place
            yield middle, nodes


def until_knows(node: Node, other: Node) -> None:
    """Wait until it has the other's record."""

    def known() -> bool:
        try:
            return node.known(other)["record"] is not None
        except RequestError:
            return False

    node.until(known, "a record")


def drop(node: Node, middle: Middle) -> None:
    """Close the connection to the middle itself."""
    node.disconnect(middle.id)
    node.until(lambda: middle.key not in node.trusts(), "the link's end")


# --- in the place of a peer that is known ---


def test_he_cannot_answer_for_a_key_that_is_asked_for(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b), between(b.place) as middle, notices(a) as (told,):
        wanted = middle.pinned(b.identity.key)
        tries = ((Way.ANSWER, "ik"), (Way.RELAY, "ik"), (Way.ANSWER, "resume"))
        for way, mode in (*tries, (Way.RELAY, "resume")):
            if mode == "resume":
                middle.way = Way.PASS
                assert seen(a.dial(wanted)) == ("ik", False, "introduced")
                part(a, b)
            middle.way = way
            refused = a.refusal(wanted)
            assert refused.code == "identity_mismatch"
            assert middle.key in refused.message
            error, *doubted = told.new()
            assert (error.kind, error.fields["mode"]) == ("identity_error", mode)
            assert error.fields["asked"] == b.identity.key
            assert error.fields["answered"] == middle.key
            assert a.peers() == []
            if mode == "resume":  # this node had met it there itself
                assert [(one.kind, one.fields["key"]) for one in doubted] == [
                    ("doubted", b.identity.key)
                ]
                assert a.tickets(b) == (0, 0)
            else:
                assert doubted == []
        assert middle.met == []  # nobody showed him who it is
        assert a.identity.key not in b.trusts()


@pytest.mark.parametrize("introduced", [False, True])
def test_where_a_peer_was_thought_to_be_he_is_a_stranger(tmp_path: Path, introduced: bool) -> None:
    """Not asked for by key, he gets a link under his own; it costs all that was relied on."""
    with advertised(tmp_path, "b", "a", "c") as (middle, (b, a, c)), notices(a) as (told,):
        if introduced:
            c.dial(b.listening[0])
            until_knows(c, b)
            a.dial(c.address)
            a.until(lambda: b.identity.key in _introduced(a, b, c), "an introduction")
            part(a, c)
        else:
            assert seen(a.dial(middle.endpoint)) == ("xx", False, "none")
            part(a, b)
        mode = "ik" if introduced else "resume"
        middle.way = Way.ANSWER
        dialled = a.dial(middle.endpoint)
        assert (dialled["key"], seen(dialled)) == (middle.key, (mode, True, "none"))
        assert middle.met == [a.identity.key]
        fallback, doubted = told.new()
        assert (fallback.kind, fallback.fields["mode"]) == ("fallback", mode)
        assert (fallback.fields["relied"], fallback.fields["answered"]) == (
            b.identity.key,
            middle.key,
        )
        assert (doubted.kind, doubted.fields) == (
            "doubted",
            {"key": b.identity.key, "endpoint": middle.endpoint},
        )
        known = a.known(b)
        assert a.tickets(b) == (0, 0)
        assert known["introducers"] == 0
        assert [one["wrong"] for one in known["introductions"]] == [True] * introduced
        drop(a, middle)
        middle.way = Way.PASS  # he steps aside: now he is missed, and the peer is a stranger
        dialled = a.dial(middle.endpoint)
        assert (dialled["key"], seen(dialled)) == (b.identity.key, ("resume", True, "none"))
        assert told.kinds() == ["fallback", "doubted"]


def _introduced(node: Node, other: Node, by: Node) -> list[str]:
    try:
        found = node.known(other)
    except RequestError:
        return []
    return [found["key"] for one in found["introductions"] if one["key"] == by.identity.key]


# --- as a wire ---


def test_a_wire_learns_nothing_and_is_not_noticed(tmp_path: Path) -> None:
    with fresh(tmp_path, "a", "b") as (a, b), between(b.place) as middle, notices(a, b) as told:
        assert seen(a.dial(middle.pinned(b.identity.key))) == ("ik", False, "introduced")
        part(a, b)
        for _ in range(2):
            assert seen(a.dial(middle.endpoint)) == ("resume", False, "resumed")
            assert b.trusts() == {a.identity.key: "resumed"}
            with talking(a, b, "chat") as (ours, theirs):
                ours.send(b.id, b"nobody else reads this")
                assert theirs.recv(PATIENCE_S).payload == b"nobody else reads this"
                theirs.send(a.id, b"nor what is answered")
                assert ours.recv(PATIENCE_S).payload == b"nor what is answered"
            part(a, b)
        assert len(middle.passed) == 3
        assert middle.readable([b"nobody else", b"nor what is", *marks(a, b)]) == []
        assert [one.kinds() for one in told] == [[], []]


# --- before a stranger: he succeeds, until somebody is asked ---


def warned(node: Node) -> list[dict[str, Any]]:
    return [warning for row in node.peers() for warning in row["warnings"]]


def test_before_a_stranger_he_reads_everything_until_somebody_knows_better(tmp_path: Path) -> None:
    """He relays what both say. As soon as one who has met the real peer is there, it comes out."""
    with advertised(tmp_path, "b", "a", "c") as (middle, (b, a, c)), ExitStack() as stack:
        c.dial(b.listening[0])
        until_knows(c, b)
        (told,) = stack.enter_context(notices(a))
        middle.way = Way.RELAY
        dialled = a.dial(middle.endpoint)
        assert (dialled["key"], seen(dialled)) == (middle.key, ("xx", False, "none"))
        assert (middle.met, a.id in _ids(b)) == ([a.identity.key], False)
        near, far = (stack.enter_context(app(node)).register("chat") for node in (a, b))
        _meet_through(middle, near, far)
        near.send(middle.id, b"for b alone", type=3)
        assert far.recv(PATIENCE_S) == (middle.id, 3, b"for b alone")
        far.send(middle.id, b"for a alone")
        assert near.recv(PATIENCE_S) == (middle.id, 0, b"for a alone")
        assert middle.heard == [b"for b alone", b"for a alone"]
        assert told.kinds() == []  # nobody is there who could know

        a.dial(c.address)
        a.until(lambda: warned(a), "a warning")
        (notice,) = told.new()
        assert (notice.kind, notice.fields) == (
            "mitm_warning",
            {
                "peer": middle.id,
                "endpoint": middle.endpoint,
                "met": middle.key,
                "other": b.identity.key,
                "reporter": c.identity.key,
                "evidence": "record",
            },
        )
        ((suspect, warnings),) = [(r["key"], r["warnings"]) for r in a.peers() if r["warnings"]]
        assert (suspect, len(warnings)) == (middle.key, 1)
        assert warnings[0]["reporter"] == c.identity.key
        assert a.trusts() == {middle.key: "none", c.identity.key: "introduced"}
        drop(a, middle)
        assert warned(a) == []


def _ids(node: Node) -> list[str]:
    return [row["peer"] for row in node.peers()]


def _meet_through(middle: Middle, *ends: Any) -> None:
    for end in ends:
        end.wait_peer(middle.id, timeout=PATIENCE_S)


def test_who_is_connected_already_is_asked_at_once(tmp_path: Path) -> None:
    """What it says weighs more when the real peer answered it there itself. It has introduced that
    peer, too: so the dial relies on its key, and falls back.
    """
    with advertised(tmp_path, "b", "a", "c") as (middle, (b, a, c)), notices(a) as (told,):
        c.dial(middle.pinned(b.identity.key))
        until_knows(c, b)
        a.dial(c.address)
        a.until(lambda: _introduced(a, b, c), "an introduction")
        middle.way = Way.ANSWER
        assert seen(a.dial(middle.endpoint)) == ("ik", True, "none")
        a.until(lambda: warned(a), "a warning")
        found = told.new()
        assert [one.kind for one in found] == ["fallback", "doubted", "mitm_warning"]
        assert found[2].fields == {
            "peer": middle.id,
            "endpoint": middle.endpoint,
            "met": middle.key,
            "other": b.identity.key,
            "reporter": c.identity.key,
            "evidence": "dialled",
        }


def test_no_warning_when_the_real_peer_answers(tmp_path: Path) -> None:
    """One who knows it agrees; and at the next meeting nobody needs to be asked."""
    with advertised(tmp_path, "b", "a", "c") as (middle, (b, a, c)), notices(a) as (told,):
        c.dial(b.listening[0])
        until_knows(c, b)

        def agreed() -> int:
            return int(a.status()["trust"]["keys_agreed"])

        assert seen(a.dial(middle.endpoint)) == ("xx", False, "none")
        a.dial(c.address)
        a.until(lambda: agreed() == 1, "c's word")
        assert a.status()["trust"]["keys_disputed"] == 0
        part(a, b)
        assert seen(a.dial(middle.endpoint)) == ("resume", False, "resumed")
        assert (told.kinds(), warned(a)) == ([], [])
