"""Which protocols two sides join, and that no flow is ever mistaken for another."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dp2p.bus import ProtocolEntry
from dp2p.control import ProtocolSpec
from dp2p.hello import Offer, Protocols
from dp2p.records import DATAGRAM_COST
from dp2p.shards.negotiation import (
    PRESSURE_MAX,
    Change,
    Join,
    Negotiation,
    choose,
    join,
    pressure,
)

PEER = bytes(32)
OURS, THEIRS = "0" * 16, "1" * 16  # lives of applications


def entry(name: str = "chat", number: int = 0, session: str = "s", **spec: Any) -> ProtocolEntry:
    options: dict[str, Any] = {"versions": [1], "max_datagram": 1000, "window": 5000}
    made = ProtocolSpec(name=name, **(options | spec))
    return ProtocolEntry(number=number, spec=made, session=session, instance=OURS)


def offered(name: str = "chat", number: int = 7, **more: Any) -> Offer:
    options: dict[str, Any] = {
        "versions": [1],
        "max_datagram": 2000,
        "types": 100,
        "window": 9000,
        "application": THEIRS,
    }
    return Offer(name=name, number=number, **(options | more))


def settled(negotiation: Negotiation, *offers: Offer) -> Change:
    negotiation.set_theirs(Protocols(generation=1, protocols=list(offers)))
    return negotiation.settle()


# --- joining one protocol: ours, theirs, version or None ---

VERSIONS = [
    ([1], [1], 1),
    ([1, 2, 3], [2, 3, 4], 3),
    ([5, 1], [1, 4], 1),
    ([1], [2], None),
    ([0], [0], 0),
]


@pytest.mark.parametrize(("ours", "theirs", "version"), VERSIONS)
def test_the_highest_common_version(
    ours: list[int], theirs: list[int], version: int | None
) -> None:
    joined = join(entry(versions=ours), offered(versions=theirs))
    assert (joined.version if joined else None) == version


def test_what_both_can_do() -> None:
    joined = join(entry(number=3, priority="bulk", weight=9, types=300), offered(number=7))
    assert joined == Join(
        name="chat",
        session="s",
        number=3,
        peer_number=7,
        version=1,
        max_datagram=1000,
        types=100,
        window=5000,
        peer_window=9000,
        priority="bulk",
        weight=9,
        application=THEIRS,
    )


@pytest.mark.parametrize(("window", "fits"), [(1000 + DATAGRAM_COST, True), (1015, False)])
def test_a_window_that_cannot_hold_the_largest_datagram(window: int, fits: bool) -> None:
    assert (join(entry(), offered(window=window)) is not None) is fits


# --- which application serves which peer ---


def test_peers_are_spread_over_the_applications_that_share() -> None:
    entries = [entry(number=i, session=f"session-{i}", shared=True) for i in range(4)]
    peers = [bytes([i % 256, i // 256]) * 16 for i in range(1000)]
    chosen = Counter(choose(entries, peer)["chat"].session for peer in peers)
    assert len(chosen) == 4
    assert min(chosen.values()) > 150
    again = [choose(reversed(entries), peer)["chat"].session for peer in peers]
    assert Counter(again) == chosen


def test_only_the_peers_of_one_that_goes_move() -> None:
    entries = [entry(number=i, session=f"session-{i}", shared=True) for i in range(4)]
    for i in range(200):
        peer = bytes([i]) * 32
        before, after = choose(entries, peer)["chat"], choose(entries[1:], peer)["chat"]
        assert before == after or before == entries[0]


# --- lists ---


def test_the_first_list_is_sent_even_when_empty() -> None:
    negotiation = Negotiation(PEER)
    first = negotiation.set_ours([])
    assert first == Protocols(generation=1, protocols=[])
    assert negotiation.set_ours([]) is None
    assert negotiation.acknowledged(1) == []
    second = negotiation.set_ours([entry()])
    assert second is not None
    assert (second.generation, second.protocols[0].name) == (2, "chat")
    assert negotiation.set_ours([entry()]) is None


def test_one_list_is_under_way_at_a_time() -> None:
    """What changes meanwhile goes into one list behind the acknowledgement: registering many
    protocols in a row must not queue as many lists. What is withdrawn stops at once.
    """
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry(number=3), entry("files", number=4)])
    assert len(settled(negotiation, *map(offered, ("chat", "files", "late"), (7, 8, 9))).open) == 2
    ours = [entry("files", number=4)]
    for number in range(5, 50):
        ours.append(entry("late" if number == 5 else f"protocol-{number}", number=number))
        assert negotiation.set_ours(ours) is None
        change = negotiation.settle()
        assert not change.open  # the peer must know of it first
        assert change.tombstone == ([3] if number == 5 else [])
        assert [one.name for one, _ in change.close] == (["chat"] if number == 5 else [])
    assert negotiation.acknowledged(1) == []  # the peer has not heard yet that 3 is gone
    told = negotiation.set_ours(ours)
    assert told is not None
    assert (told.generation, len(told.protocols)) == (2, 46)
    assert [one.name for one in negotiation.settle().open] == ["late"]
    assert negotiation.set_ours([*ours, entry("more", number=100)]) is None
    assert negotiation.acknowledged(2) == [3]


def test_an_acknowledgement_of_what_was_never_said_is_one_of_the_last_list() -> None:
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry(number=3)])
    negotiation.acknowledged(1 << 50)
    assert negotiation.set_ours([entry(number=3), entry("files", number=4)]) is not None
    assert negotiation.set_ours([entry(number=3)]) is None


def test_nothing_changes_twice() -> None:
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry()])
    assert len(settled(negotiation, offered()).open) == 1
    assert settled(negotiation, offered()) == Change()
    assert negotiation.settle() == Change()


def test_the_peer_withdraws() -> None:
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry()])
    (joined,) = settled(negotiation, offered()).open
    assert settled(negotiation) == Change(close=[(joined, False)])
    (again,) = settled(negotiation, offered(number=8)).open
    assert again.peer_number == 8


def test_the_peer_changes_what_it_offers() -> None:
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry()])
    (old,) = settled(negotiation, offered()).open
    change = settled(negotiation, offered(number=8))
    assert [close for close, _ in change.close] == [old]
    assert [new.peer_number for new in change.open] == [8]


def test_this_side_withdraws() -> None:
    """The name and the number stay out of use until the peer has acknowledged."""
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry(number=3)])
    (joined,) = settled(negotiation, offered()).open
    negotiation.set_ours([])  # generation 2
    assert negotiation.settle() == Change(tombstone=[3], close=[(joined, True)])
    wanted = [entry(number=4), entry("other", number=3)]
    negotiation.set_ours(wanted)
    assert settled(negotiation, offered(), offered("other", 8)) == Change()
    assert negotiation.acknowledged(1) == []
    assert negotiation.settle() == Change()
    assert negotiation.acknowledged(2) == [3]
    negotiation.set_ours(wanted)
    assert {(one.name, one.number) for one in negotiation.settle().open} == {
        ("chat", 4),
        ("other", 3),
    }
    assert negotiation.acknowledged(3) == []


def test_withdrawn_before_it_was_joined_here() -> None:
    """The peer may have joined and sent already: its number is as dead as if it had been in use."""
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry(number=3)])
    assert not negotiation.settle().open
    negotiation.set_ours([])
    assert settled(negotiation, offered()).tombstone == [3]
    assert negotiation.acknowledged(2) == [3]


@pytest.mark.parametrize(
    "changed",
    [
        entry(number=3, max_datagram=500),
        entry(number=3, priority="urgent"),
        entry(number=3, session="another"),
    ],
    ids=["limits", "priority", "session"],
)
def test_a_protocol_that_changes_under_one_number(changed: ProtocolEntry) -> None:
    """The peer might not even see a difference, so it is told that the number is free first."""
    negotiation = Negotiation(PEER)
    negotiation.set_ours([entry(number=3)])
    (joined,) = settled(negotiation, offered()).open
    negotiation.acknowledged(1)
    protocols = negotiation.set_ours([changed])
    assert protocols is not None
    assert not protocols.protocols
    assert negotiation.settle() == Change(tombstone=[3], close=[(joined, True)])
    assert negotiation.acknowledged(2) == [3]
    again = negotiation.set_ours([changed])
    assert again is not None
    assert [one.number for one in again.protocols] == [3]
    assert [one.session for one in negotiation.settle().open] == [changed.session]


# used of 1024, how often windows are halved
PRESSURE = [
    (0, 0),
    (511, 0),
    (512, 1),
    (767, 1),
    (768, 2),
    (896, 3),
    (1024, PRESSURE_MAX),
    (5000, 28),
]


@pytest.mark.parametrize(("used", "shift"), PRESSURE)
def test_pressure_halves_the_windows_of_new_links(used: int, shift: int) -> None:
    assert pressure(used, 1024) == shift


@pytest.mark.parametrize(
    ("shift", "window"), [(0, 1 << 20), (1, 1 << 19), (4, 1 << 16), (12, 1016), (28, 1016)]
)
def test_windows_under_pressure_hold_a_largest_datagram(shift: int, window: int) -> None:
    """The offer and the flow have the same; the properties of the protocol stay as they are."""
    spec = ProtocolSpec(name="chat", versions=[1], window=1 << 20, max_datagram=1000)
    one = ProtocolEntry(number=3, spec=spec, session="s", instance="0" * 16)
    negotiation = Negotiation(PEER)
    negotiation.shift = shift
    told = negotiation.set_ours([one])
    assert told is not None
    assert told.protocols[0].window == window
    negotiation.set_theirs(told)
    negotiation.acknowledged(told.generation)
    (joined,) = negotiation.settle().open
    assert (joined.window, joined.max_datagram) == (window, 1000)
    assert negotiation.set_ours([one]) is None
