"""The handshakes of docs/spec/wire.md: text, second implementation and code against each other.

``RUNS`` are those of section 16. The code draws what the second implementation was given, so that
both must write the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.errors import TransportError
from dp2p.transport import Event, EventKind, LinkState, Status, status_name
from vectors.runs import RUNS, Outcome, Run, ours, theirs
from vectors.spec import HELLO, LIST, REMOTE, Ours, table, value
from wire_handshake import (
    LEAST,
    REST_MOST,
    Draws,
    Initiator,
    Known,
    Mode,
    Responder,
    Setting,
    WrongKey,
    header_mask,
    ticket,
)
from wire_noise import P, Silence, ed25519_of, public_of, to_x25519, xor

every_run = pytest.mark.parametrize("name", RUNS)


def exchange(run: Run) -> tuple[tuple[bytes, bytes, bytes], Ours, Ours, list[Event]]:
    """The code with itself: the messages, both sides, and what they say of being ready."""
    i, r = ours(run, initiator=True), ours(run, initiator=False)
    first = i.say()
    assert r.hear(first) == []
    second = r.say()
    (ready,) = i.hear(second)
    third = i.say()
    (other,) = r.hear(third)
    return (first, second, third), i, r, [ready, other]


# --- section 16 ---


def test_header_masks() -> None:
    for who, top in (("i", 0x80), ("r", 0)):
        public, wire = value(f"{who}-e-public"), value(f"{who}-e-wire")
        assert public == public_of(value(f"{who}-e"))
        assert wire == public[:31] + bytes([public[31] | top])
    i, both = value("i-e-wire"), value("i-e-wire") + value("r-e-wire")
    for number, ephemerals in ((1, i), (2, both), (3, both)):
        mask = header_mask(value("network-key"), number, ephemerals)
        assert mask == value(f"header-mask-{number}")


def test_payloads() -> None:
    for side in (Initiator(RUNS["xx"].i), Responder(RUNS["xx"].r)):
        side.mode, who = Mode.XX, "i" if side.initiator else "r"
        extra = side.setting.draws.extra
        assert side.payload() == value(f"{who}-payload") + bytes(extra)
        side.mode = Mode.IK
        assert side.payload() == value(f"{who}-payload") + bytes(48 + extra)


def vectors_of(name: str) -> list[bytes]:
    first = "resume" if name == "resume-fallback" else name
    rest = ("message-2", "message-3", "i-key", "r-key", "secret", "ticket-1", "ticket-2")
    return [value(f"{first}-message-1"), *(value(f"{name}-{part}") for part in rest)]


@every_run
def test_vectors(name: str) -> None:
    made = theirs(RUNS[name])
    i, r = made.i, made.r
    assert [*made.messages, i.tx.key, i.rx.key, i.r, i.dial_ticket, i.accept_ticket] == vectors_of(
        name
    )
    assert (r.rx.key, r.tx.key, r.r) == (i.tx.key, i.rx.key, i.r)
    assert (r.accept_ticket, r.dial_ticket) == (i.dial_ticket, i.accept_ticket)
    assert [i.dial_ticket, i.accept_ticket] == [ticket(i.r, way) for way in (1, 2)]


@every_run
def test_the_code(name: str) -> None:
    run, expected = RUNS[name], vectors_of(name)
    messages, i, r, ready = exchange(run)
    assert list(messages) == expected[:3]
    assert [(event.kind, event.data) for event in ready] == [(EventKind.READY, HELLO)] * 2
    for side, who, other in ((i, "i", "r"), (r, "r", "i")):
        info = side.node.link(side.link)
        assert (info.key, info.seen) == (value(f"{other}-public"), REMOTE[who])
        assert (int(info.mode), info.fell_back) == (int(run.mode), "fallback" in name)
        assert side.draws.draws == []
    assert i.node.tickets(i.link) == tuple(expected[6:])
    assert r.node.tickets(r.link) == tuple(reversed(expected[6:]))


@every_run
def test_first_frames(name: str) -> None:
    """In both directions, by both implementations."""
    made, (_, i, r, _) = theirs(RUNS[name]), exchange(RUNS[name])
    for side, link in ((i, made.i), (r, made.r)):
        side.node.admit(side.link, LIST)
        plain = struct.pack("<BBHH", 1, 255, 1, len(LIST)) + LIST
        assert side.say() == link.tx.frame(plain)


# --- any others ---

keys = st.binary(min_size=32, max_size=32)
hellos = st.binary(max_size=3000)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any handshake; about half of those that rely on something fall back."""
    sides = []
    noise = draw(st.integers(0, 255))
    for seen in (REMOTE["r"], REMOTE["i"]):
        draws = Draws(
            draw(keys),
            top=draw(st.booleans()),
            extra=draw(st.integers(0, 255)),
            rest=draw(st.integers(96, 607)),
            padding=lambda size: bytes((noise + 7 * at) % 256 for at in range(size)),
        )
        host = bytes(map(int, seen.host.split(".")))
        place = b"\x04" + host.ljust(16, b"\0") + struct.pack("<H", seen.port)
        sides.append(Setting(draw(keys), draws, place, draw(hellos)))
    i, r = sides
    if i.seed == r.seed:
        r = replace(r, seed=bytes(31) + bytes([i.seed[0] ^ 1]))
    mode = draw(st.sampled_from([Mode.XX, Mode.IK, Mode.RESUME]))
    if mode == Mode.XX:
        return Run(i, r)
    right = ed25519_of(r.seed)
    if mode == Mode.IK:
        return Run(i, r, Known(right if draw(st.booleans()) else ed25519_of(draw(keys))))
    secret = draw(st.binary(min_size=48, max_size=48))
    psk = draw(st.sampled_from([secret[16:], bytes(32)]))
    held = {secret[:16]: (psk, ed25519_of(i.seed))} if draw(st.booleans()) else {}
    return Run(i, r, Known(right, secret), held)


@given(runs())
def test_both_implementations_say_the_same(run: Run) -> None:
    """Byte for byte: so each understands the other."""
    made = theirs(run)
    messages, i, r, ready = exchange(run)
    assert messages == made.messages
    assert [event.data for event in ready] == [run.r.hello, run.i.hello]
    for side, link, other in ((i, made.i, run.r), (r, made.r, run.i)):
        info = side.node.link(side.link)
        assert info.key == link.peer.key == ed25519_of(other.seed)
        assert (int(info.mode), info.fell_back) == (int(run.mode), link.mode == Mode.FALLBACK)
        assert side.node.tickets(side.link) == (link.dial_ticket, link.accept_ticket)
        side.node.admit(side.link, LIST)
        plain, rest = (made.r if side is i else made.i).rx.plain(side.say())
        assert (plain[6:], rest) == (LIST, b"")


# --- lengths and modes ---

LENGTHS = [tuple(map(int, row)) for row in table("### Lengths")]


def test_lengths_of_the_second_implementation() -> None:
    assert [row[2] for row in LENGTHS if row[0] == 1] == list(LEAST.values())
    assert all(row[3] == REST_MOST[row[0]] for row in LENGTHS)


@every_run
def test_lengths_on_the_wire(name: str) -> None:
    run = RUNS[name]
    h = len(HELLO)
    for rest, extra, lengths in (
        (96, 0, (131, 152 + h, 120 + h)),
        (607, 255, (642, 152 + h + 255, 120 + h + 255)),
    ):
        i = replace(run.i, draws=replace(run.i.draws, rest=rest, extra=extra, padding=bytes))
        r = replace(run.r, draws=replace(run.r.draws, extra=extra))
        messages, _, _, _ = exchange(replace(run, i=i, r=r))
        assert tuple(map(len, messages)) == lengths


def awaiting(number: int, run: Run) -> tuple[Ours, Outcome]:
    """Our side, which awaits message ``number`` of a run."""
    made = theirs(run)
    side = ours(run, initiator=number == 2)
    if number == 2:
        assert side.say() == made.messages[0]
    if number == 3:
        side.hear(made.messages[0])
        assert side.say() == made.messages[1]
    return side, made


def header(number: int, made: Outcome, mode: int, size: int) -> bytes:
    """The begin of a message, up to and with its header."""
    lead = made.messages[number - 1][:32] if number < 3 else b""
    mask = value(f"header-mask-{number}")
    return lead + xor(struct.pack("<BH", mode, size), mask)


def is_refused(side: Ours, head: bytes) -> bool:
    """Whether a header ends the link, before anything behind it is there."""
    downs = [event for event in side.take(bytearray(head)) if event.kind == EventKind.DOWN]
    assert all(status_name(down.status) == "size" for down in downs)
    return bool(downs)


RUN_OF_MODE = {0: "xx", 1: "ik", 2: "resume", 3: "ik-fallback"}


@pytest.mark.parametrize("row", LENGTHS, ids=lambda row: f"message {row[0]}, mode {row[1]}")
def test_lengths_are_judged_by_the_header(row: tuple[int, int, int, int]) -> None:
    number, mode, least, most = row
    for size in {least - 1, least, most, most + 1, 65535} - {-1}:
        side, made = awaiting(number, RUNS[RUN_OF_MODE[mode]])
        allowed = least <= size <= most
        assert is_refused(side, header(number, made, mode, size)) is not allowed


@pytest.mark.parametrize("number", [1, 2, 3])
@every_run
def test_modes_are_judged_by_the_header(name: str, number: int) -> None:
    first = int(RUNS[name].mode)
    allowed = {
        1: {0, 1, 2},
        2: {first, 3} if first else {0},
        3: {3 if "fallback" in name else first},
    }[number]
    for mode in range(6):
        side, made = awaiting(number, RUNS[name])
        assert is_refused(side, header(number, made, mode, 500)) is not (mode in allowed)


# --- who speaks ---


def test_another_key_than_the_only_one_that_will_do() -> None:
    """The link ends in front of message 3, and whoever dialled is told who was there."""
    run = RUNS["ik-fallback"]
    assert run.known
    pinned = replace(run, known=replace(run.known, pinned=True))
    with pytest.raises(WrongKey) as wrong:
        theirs(pinned)
    assert wrong.value.key == value("r-public")
    side = ours(pinned, initiator=True)
    assert side.say() == value("ik-fallback-message-1")
    (down,) = side.hear(value("ik-fallback-message-2"))
    assert (down.kind, down.status) == (EventKind.DOWN, Status.IDENTITY)
    assert down.data == value("r-public")
    assert silent(side)


def silent(side: Ours) -> bool:
    """Whether a side has nothing to say, or is gone."""
    try:
        return side.say() == b""
    except TransportError:
        return True


def hear_payload(run: Run, payload: bytes, *, initiator: bool) -> tuple[Ours, list[Event]]:
    """Our side, as initiator or not, hears a peer with that payload in message 2 or 3."""
    side, i, r = ours(run, initiator=initiator), Initiator(run.i), Responder(run.r)
    if initiator:
        r.payload = lambda: payload  # type: ignore[method-assign]
        return side, side.hear(r.message_2(side.say(), dict(run.tickets)))
    i.payload = lambda: payload  # type: ignore[method-assign]
    side.hear(i.message_1(run.known))
    return side, side.hear(i.message_3(side.say())[0])


def negative(key: bytes) -> bytes:
    return key[:31] + bytes([key[31] ^ 0x80])


FALSE_KEYS = {
    "another": lambda _: value("x-public"),
    "zeros": lambda _: bytes(32),
    "one": lambda _: b"\1" + bytes(31),
    "not-reduced": lambda _: (P + 3).to_bytes(32, "little"),
    "flipped": lambda key: bytes([key[0] ^ 1]) + key[1:],
}
both_sides = pytest.mark.parametrize("initiator", [True, False], ids=["i", "r"])


@both_sides
@pytest.mark.parametrize("false", FALSE_KEYS.values(), ids=FALSE_KEYS)
@every_run
def test_a_key_that_was_not_proved(name: str, false: object, initiator: bool) -> None:
    assert callable(false)
    right = value("r-payload" if initiator else "i-payload")
    side, (down,) = hear_payload(RUNS[name], false(right[:32]) + right[32:], initiator=initiator)
    assert (down.kind, down.status, down.data) == (EventKind.DOWN, Status.IDENTITY, b"")
    assert silent(side)


@both_sides
@every_run
def test_the_negative_of_a_key(name: str, initiator: bool) -> None:
    """Its owner may appear under it, but not to who relied on the other one."""
    right = value("r-payload" if initiator else "i-payload")
    false = negative(right[:32])
    assert to_x25519(false) == to_x25519(right[:32])
    side, (event,) = hear_payload(RUNS[name], false + right[32:], initiator=initiator)
    if name == "resume" or (name == "ik" and initiator):
        assert event.status == Status.IDENTITY
        assert silent(side)
    else:
        assert event.kind == EventKind.READY
        assert side.node.link(side.link).key == false


PAYLOADS = {
    "no-padding": (lambda said: said, True),
    "other-padding": (lambda said: said + b"\xff" * 1000, True),
    "most": (lambda said: said + bytes(32000 + 303 - len(HELLO)), True),
    "no-hello": (lambda said: said[:51] + bytes(2), True),
    "cut": (lambda said: said[:-1], False),
    "short": (lambda said: said[:52], False),
    "empty": (lambda _: b"", False),
    "long-hello": (lambda said: said[:51] + struct.pack("<H", 32001) + bytes(32001), False),
}


@both_sides
@pytest.mark.parametrize(("change", "allowed"), PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("name", ["xx", "ik"])
def test_forms_of_payloads(name: str, change: object, allowed: bool, initiator: bool) -> None:
    assert callable(change)
    payload = change(value("r-payload" if initiator else "i-payload"))
    side, (event,) = hear_payload(RUNS[name], payload, initiator=initiator)
    assert event.kind == (EventKind.READY if allowed else EventKind.DOWN)
    assert allowed or silent(side)


# --- what is not new, and what is not whole ---

LOW_ORDER = [0, 1, P - 1, P, P + 1]


@pytest.mark.parametrize("top", [0, 0x80])
@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("mode", list(LEAST))
def test_keys_of_low_order(mode: Mode, point: int, top: int) -> None:
    lead = bytearray(point.to_bytes(32, "little"))
    lead[31] |= top
    mask = header_mask(value("network-key"), 1, bytes(lead))
    head = bytes(lead) + xor(struct.pack("<BH", mode, 100), mask)
    side = ours(RUNS["xx"], initiator=False)
    (down,) = side.hear(head + bytes(100))
    assert (down.kind, down.data) == (EventKind.DOWN, b"")
    assert silent(side)


def test_repeated_messages() -> None:
    """What the text says is answered, and nothing further comes of it."""
    rows = {int(row[0]): row[1] for row in table("### Repeated messages")}
    for name, run in RUNS.items():
        made, again = theirs(run), replace(run, tickets={})
        side = ours(again, initiator=False)
        assert side.hear(made.messages[0]) == []
        mask = value("header-mask-2")
        answer = xor(side.say()[32:35], mask)[0]
        if "fallback" not in name:
            assert f"a message 2 in mode {answer}" in rows[run.mode]
        other = theirs(replace(again, r=replace(run.r, draws=replace(run.r.draws, e=bytes(32)))))
        (down,) = side.hear(other.messages[2])  # of a handshake with another ephemeral key
        assert down.kind == EventKind.DOWN
        assert silent(side)


@every_run
def test_a_changed_first_message(name: str) -> None:
    """In both implementations: its sealed part falls back, its key and plain padding never end in
    a link.
    """
    run, first = RUNS[name], theirs(RUNS[name]).messages[0]
    for at in (3, 31, 40, 51, 60, len(first) - 1):
        changed = bytearray(first)
        changed[at] ^= 1
        initiator, responder = Initiator(run.i), Responder(run.r)
        side = ours(run, initiator=False)
        initiator.message_1(run.known)
        events = side.hear(bytes(changed))
        try:
            second = responder.message_2(bytes(changed), dict(run.tickets))
        except Silence:
            assert side.ended or events == []
            continue
        assert side.say() == second
        if at >= 35 and run.mode != Mode.XX:
            third, link = initiator.message_3(second)
            assert link.mode == Mode.FALLBACK
            (ready,) = side.hear(third)
            assert ready.kind == EventKind.READY
            assert side.node.link(side.link).fell_back
        else:
            with pytest.raises(Silence):
                initiator.message_3(second)


# --- section 12 ---


@every_run
def test_a_link_that_is_not_decided_reads_one_list(name: str) -> None:
    """The peer's first list, and nothing behind it until the link is admitted."""
    made = theirs(RUNS[name])
    side, _ = awaiting(3, RUNS[name])
    plain = struct.pack("<BBHH", 1, 255, 1, len(LIST)) + LIST
    frames = made.i.tx.frame(plain), made.i.tx.frame(struct.pack("<BQ", 5, 7))
    ready, control = side.hear(made.messages[2] + frames[0])
    assert (ready.kind, control.kind, control.data) == (EventKind.READY, EventKind.CONTROL, LIST)
    assert side.node.receive(side.link, bytearray(frames[1]), 0) == 0
    assert side.node.link(side.link).state == LinkState.READY
    side.node.admit(side.link, LIST)
    assert side.hear(frames[1]) == []
    said, wire = b"", side.say()
    while wire:
        plain, wire = made.i.rx.plain(wire)
        said += plain
    assert LIST in said
    assert struct.pack("<BQ", 6, 7) in said
