"""The ways to shake hands: what is relied on, what comes of it, what it leaves.

What becomes of changed bytes in each of them stands in ``cext/tests/test_shake.c``.
"""

from __future__ import annotations

import pytest

from dp2p import noise
from dp2p.errors import TransportError
from dp2p.transport import (
    TICKET_LEN,
    TICKET_NAME_LEN,
    Event,
    EventKind,
    Known,
    LinkState,
    Mode,
    Node,
    Status,
)
from wire import SEED_A, SEED_B, Pair, Side

KEY_A = noise.identity_public(SEED_A)
KEY_B = noise.identity_public(SEED_B)
TICKET = bytes(range(100, 100 + TICKET_LEN))
NAME, PSK = TICKET[:TICKET_NAME_LEN], TICKET[TICKET_NAME_LEN:]
COUNTERS = ("handshakes_xx", "handshakes_ik", "handshakes_resume", "handshakes_fallback")

WAYS = {
    "nothing known": (None, {}, Mode.XX, False),
    "its key": (Known(KEY_B), {}, Mode.IK, False),
    "its key, pinned": (Known(KEY_B, pinned=True), {}, Mode.IK, False),
    "another's key": (Known(KEY_A), {}, Mode.IK, True),
    "a ticket": (Known(KEY_B, TICKET), {NAME: (PSK, KEY_A)}, Mode.RESUME, False),
    "a ticket that is lost": (Known(KEY_B, TICKET, pinned=True), {}, Mode.RESUME, True),
    "a ticket of another name": (
        Known(KEY_B, TICKET),
        {NAME[::-1]: (PSK, KEY_A)},
        Mode.RESUME,
        True,
    ),
    "a ticket of another psk": (Known(KEY_B, TICKET), {NAME: (NAME * 2, KEY_A)}, Mode.RESUME, True),
}


def shaken(known: Known | None, tickets: dict[bytes, tuple[bytes, bytes]]) -> Pair:
    """A pair after its handshake, however that went."""
    pair = Pair(known=known)
    pair.b.tickets = dict(tickets)
    return pair.collapse()


def down(side: Side) -> Event:
    (event,) = side.of(EventKind.DOWN)
    return event


@pytest.mark.parametrize("way", WAYS)
def test_what_is_relied_on_and_what_comes_of_it(way: str) -> None:
    known, tickets, mode, fell_back = WAYS[way]
    pair = shaken(known, tickets)
    for side, key in ((pair.a, KEY_B), (pair.b, KEY_A)):
        info = side.node.link(side.link)
        assert (info.state, info.mode, info.fell_back) == (LinkState.READY, mode, fell_back)
        assert info.key == key
        stats = side.node.stats()
        made = "handshakes_fallback" if fell_back else f"handshakes_{mode.name.lower()}"
        assert {name: stats[name] for name in COUNTERS} == {name: name == made for name in COUNTERS}
    asked = [event.data for event in pair.b.of(EventKind.TICKET)]
    assert asked == ([NAME] if mode == Mode.RESUME else [])
    pair.open()
    assert pair.a.node.link(pair.a.link).state == LinkState.OPEN


def test_a_pinned_key_and_another_that_answers() -> None:
    """Ends before A shows who it is; the application can be told who was there."""
    pair = shaken(Known(KEY_A, pinned=True), {})
    assert (down(pair.a).status, down(pair.a).data) == (Status.IDENTITY, KEY_B)
    assert not pair.b.of(EventKind.READY)
    assert not pair.b.inbox


def test_a_ticket_that_was_made_with_another_key() -> None:
    """Who resumes must be who the ticket was made with, on both sides."""
    pair = shaken(Known(KEY_A, TICKET), {NAME: (PSK, KEY_A)})
    assert (down(pair.a).status, down(pair.a).data) == (Status.IDENTITY, b"")
    pair = shaken(Known(KEY_B, TICKET), {NAME: (PSK, KEY_B)})
    assert (down(pair.b).status, down(pair.b).data) == (Status.IDENTITY, b"")


def test_tickets_are_the_same_on_both_sides() -> None:
    """Each dials with what the other accepts; they are given out once, and only while READY."""
    pair = Pair()
    for side in (pair.a, pair.b):
        with pytest.raises(TransportError, match="state"):
            side.node.tickets(side.link)
    pair.run()
    ours, theirs = pair.a.node.tickets(pair.a.link), pair.b.node.tickets(pair.b.link)
    assert ours == theirs[::-1]
    assert ours[0] != ours[1]
    assert [len(ticket) for ticket in ours] == [TICKET_LEN] * 2
    with pytest.raises(TransportError, match="state"):
        pair.a.node.tickets(pair.a.link)
    again = Pair(known=Known(KEY_B, ours[0], pinned=True))
    again.b.tickets[theirs[1][:TICKET_NAME_LEN]] = (theirs[1][TICKET_NAME_LEN:], KEY_A)
    again.run()
    assert again.a.node.link(again.a.link).mode == Mode.RESUME
    assert not again.b.tickets
    assert again.a.node.tickets(again.a.link)[0] not in ours


def test_tickets_are_gone_once_the_link_is_admitted() -> None:
    pair = Pair().open()
    for side in (pair.a, pair.b):
        with pytest.raises(TransportError, match="state"):
            side.node.tickets(side.link)


def test_a_link_that_waits_for_a_ticket_rests() -> None:
    """What is there must be offered again once it is told, and nothing else is needed."""
    pair = Pair(known=Known(KEY_B, TICKET))
    side, first = pair.message(1)
    for _ in range(3):
        assert side.node.receive(side.link, bytearray(first), pair.now) == 0
    (event,) = side.node.events()
    assert (event.kind, event.link, event.data) == (EventKind.TICKET, side.link, NAME)
    side.node.events_done()
    assert side.node.stats()["handshakes_pending"] == 1
    side.node.ticket(side.link, PSK, KEY_A)
    with pytest.raises(TransportError, match="state"):
        side.node.ticket(side.link, PSK, KEY_A)
    assert side.node.receive(side.link, bytearray(first), pair.now) == len(first)
    pair.run()
    assert side.node.link(side.link).key == KEY_A


@pytest.mark.parametrize("known", [None, Known(KEY_B)])
def test_nobody_waits_who_names_no_ticket(known: Known | None) -> None:
    pair = Pair(known=known)
    side, _ = pair.message(1)
    with pytest.raises(TransportError, match="state"):
        side.node.ticket(side.link, None, None)


def test_a_ticket_is_answered_for_whole_or_not_at_all() -> None:
    pair = Pair(known=Known(KEY_B, TICKET))
    side, first = pair.message(1)
    side.node.receive(side.link, bytearray(first), pair.now)
    for psk, key in ((PSK, None), (None, KEY_A)):
        with pytest.raises(TransportError, match="argument"):
            side.node.ticket(side.link, psk, key)
    for psk, key in ((PSK[1:], KEY_A), (PSK, KEY_A + b"x")):
        with pytest.raises(ValueError, match="32 bytes"):
            side.node.ticket(side.link, psk, key)
    side.node.ticket(side.link, None, None)


def test_what_is_known_has_the_right_size_and_is_not_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Known(KEY_A[1:])
    with pytest.raises(ValueError, match="48 bytes"):
        Known(KEY_A, TICKET[1:])
    assert repr(TICKET)[2:-1] not in repr(Known(KEY_A, TICKET))


def test_a_key_that_cannot_be_one() -> None:
    """It is refused before anything is sent; with a ticket it need not be a point."""
    node = Node(SEED_A)
    with pytest.raises(TransportError, match="key"):
        node.link_new(initiator=True, now_ms=0, known=Known(bytes(32)))
    assert node.stats()["links"] == 0
    node.link_new(initiator=True, now_ms=0, known=Known(bytes(32), TICKET))
    with pytest.raises(TransportError, match="argument"):
        node.link_new(initiator=False, now_ms=0, known=Known(KEY_B))


# --- admission ---


def test_it_reads_the_first_control_datagram_before_it_is_admitted() -> None:
    """And no further."""
    pair = Pair()
    pair.run()
    pair.a.node.admit(pair.a.link, b"first")
    pair.a.node.control(pair.a.link, 9, b"second")
    pair.run()
    assert [event.data for event in pair.b.of(EventKind.CONTROL)] == [b"first"]
    assert pair.b.node.link(pair.b.link).state == LinkState.READY
    assert pair.b.node.stats()["handshakes_done"] == 0
    pair.b.node.admit(pair.b.link, b"third")
    assert pair.b.node.stats()["handshakes_done"] == 1
    pair.run()
    assert [event.data for event in pair.b.of(EventKind.CONTROL)] == [b"first", b"second"]
    assert [event.data for event in pair.a.of(EventKind.CONTROL)] == [b"third"]


def test_a_refusal_is_heard_before_admission() -> None:
    pair = Pair()
    pair.run()
    pair.a.node.close_link(pair.a.link, 4)
    pair.collapse()
    assert (down(pair.b).status, down(pair.b).reason) == (Status.CLOSED, 4)


def test_ping() -> None:
    pair = Pair()
    pair.run()
    with pytest.raises(TransportError, match="state"):
        pair.a.node.ping(pair.a.link)
    pair.open()
    before = pair.a.node.link(pair.a.link).bytes_in
    pair.a.node.ping(pair.a.link)
    pair.run()
    assert pair.a.node.link(pair.a.link).bytes_in > before
