"""Which number stands for a protocol in the engine, and what reaches it of caps and lifts."""

from __future__ import annotations

from dp2p.bus import ProtocolEntry
from dp2p.control import Lift, ProtocolSpec
from dp2p.hello import Offer
from dp2p.shards.groups import OTHERS, Groups
from dp2p.shards.negotiation import join
from dp2p.transport import GROUP_COUNT


def test_a_name_keeps_its_number() -> None:
    groups = Groups()
    numbers = [groups.number(f"p{i}") for i in range(OTHERS)]
    assert sorted(numbers) == list(range(GROUP_COUNT - 1))
    assert [groups.number(f"p{i}") for i in range(OTHERS)] == numbers


def test_names_beyond_share_one() -> None:
    groups = Groups()
    for i in range(OTHERS):
        groups.number(f"p{i}")
    assert groups.number("more") == groups.number("and more") == OTHERS
    assert groups.names() == {f"p{i}": i for i in range(OTHERS)}


def test_lifts_are_joined() -> None:
    """They are this side's own affair: the peer's offer says nothing of them."""
    lifts = [Lift(0, 9, "urgent"), Lift(40, 40, "normal")]
    spec = ProtocolSpec(
        name="files", versions=[1], max_datagram=100, window=500, priority="bulk", lifts=lifts
    )
    theirs = Offer(name="files", number=3, versions=[1], max_datagram=100, types=300, window=500)
    joined = join(ProtocolEntry(number=0, spec=spec, session="s"), theirs)
    assert joined is not None
    assert joined.lifts == tuple(lifts)
