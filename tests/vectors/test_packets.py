"""Packets of docs/spec/discovery.md: text, second implementation and code against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire_packets as wire
from dp2p import keys, packets
from dp2p.coordinator.discovery import session_types as types
from dp2p.coordinator.discovery.contact import Contact, Serving
from dp2p.coordinator.discovery.sessions import Delivered, Established, Limits, Sessions
from vectors.spec import ROOT, Script, read_vectors, table
from wire_noise import Silence, ed25519_of, public_of
from wire_packets import First, Sealed, Second

TEXT = (ROOT / "docs" / "spec" / "discovery.md").read_text(encoding="utf-8")
VECTORS = read_vectors(TEXT)
NETWORK = VECTORS["network"]
I_PLACE, R_PLACE = ("192.0.2.1", 50000), ("192.0.2.2", 4617)


def value(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def index(who: str) -> int:
    return int.from_bytes(value(f"{who}-index"), "little")


# --- the second implementation, from the text ---


def shaken() -> tuple[wire.Session, wire.Session]:
    """The handshake of the vectors, checked on the way; sessions of initiator and responder."""
    network = NETWORK.encode()
    i = wire.noise(network, True, value("i-seed"), value("i-e"), value("r-public"))
    r = wire.noise(network, False, value("r-seed"), value("r-e"), None)
    opening = wire.msgpack([index("i"), wire.hello(value("i-seed"), True, 7)])
    assert opening == value("opening")
    first = i.write(wire.padded(opening, len(value("noise-1")) - 96))
    assert first == value("noise-1")
    assert wire.unpadded(r.read(first)) == opening
    assert wire.proves(value("i-public"), r)
    answer = wire.msgpack([index("r"), wire.hello(value("r-seed"), False, 9), wire.place(*I_PLACE)])
    assert answer == value("answer")
    second = r.write(wire.padded(answer, len(value("noise-2")) - 48))
    assert second == value("noise-2")
    assert wire.unpadded(i.read(second)) == answer
    (tx, rx, _), (back, forth, _) = i.split(), r.split()
    assert (tx, rx) == (forth, back) == (value("i-key"), value("r-key"))
    return (
        wire.Session(tx, rx, value("r-keys"), index("r")),
        wire.Session(rx, tx, value("i-keys"), index("i")),
    )


def test_keys() -> None:
    assert wire.network_key(NETWORK.encode()) == value("network-key")
    assert b"dp2p-udp/1\0" + NETWORK.encode() == value("prologue")
    for who in "ir":
        assert ed25519_of(value(f"{who}-seed")) == value(f"{who}-public")
        assert wire.keys_of(NETWORK.encode(), value(f"{who}-public")) == value(f"{who}-keys")


def test_handshake_packets() -> None:
    keys_r, keys_i, noise_1 = value("r-keys"), value("i-keys"), value("noise-1")
    none, cookie = bytes(16), value("cookie")
    assert wire.first_packet(keys_r, value("nonce-1"), none, noise_1) == value("first")
    assert wire.read(keys_r, value("first")) == First(none, noise_1)
    e = noise_1[:32]
    assert e == public_of(value("i-e"))
    assert wire.retry_packet(keys_r, e, value("nonce-retry"), cookie, 10) == value("retry")
    assert wire.retry_cookie(keys_r, e, value("retry")) == cookie
    again = wire.first_packet(keys_r, value("nonce-1-again"), cookie, noise_1)
    assert again == value("first-again")
    second = wire.second_packet(keys_i, value("nonce-2"), index("i"), value("noise-2"))
    assert second == value("second")
    assert wire.read(keys_i, second) == Second(index("i"), value("noise-2"))


ROWS = [
    ("i", "nonce-3", b"ping", 5, "sealed-0"),
    ("i", "nonce-4", b"", 0, "sealed-1"),
    ("r", "nonce-5", b"pong", 0, "sealed-back"),
]


def test_sealed_packets() -> None:
    i, r = shaken()
    for who, nonce, body, padding, name in ROWS:
        here, there = (i, r) if who == "i" else (r, i)
        assert here.seal(value(nonce), body, padding) == value(name)
        packet = wire.read(here.keys, value(name))
        assert isinstance(packet, Sealed)
        assert packet.index == here.index
        assert there.open(packet) == body
        with pytest.raises(Silence):
            there.open(packet)


# --- the code ---


def side(who: str, draws: list[bytes]) -> Sessions:
    """A node that draws what the vectors say."""
    script = Script([bytes(32), *draws])  # the secret of its cookies, first
    return Sessions(
        keys.identity(value(f"{who}-seed")),
        NETWORK,
        random_bytes=script,
        limits=Limits(),
        ephemeral=lambda: value(f"{who}-e"),
    )


def drawn(number: int, least: int) -> bytes:
    """The draw that makes ``number`` of a range from ``least`` on."""
    return (number - least).to_bytes(2, "little")


def test_the_code_makes_the_vectors() -> None:
    i = side(
        "i",
        [
            value("i-index"),
            drawn(320, types.FIRST_LENGTHS[0]),
            value("nonce-1"),
            value("nonce-1-again"),
            value("nonce-3"),
            drawn(5, 0),
        ],
    )
    r = side(
        "r",
        [
            value("r-index"),
            drawn(220, types.SECOND_LENGTHS[0]),
            value("nonce-2"),
            value("nonce-5"),
            drawn(0, 0),
        ],
    )
    i.say(Serving(v4=True), seq=7)
    r.say(Serving(), seq=9)
    at_r, at_i = Contact(value("r-public"), R_PLACE), Contact(value("i-public"), I_PLACE)
    assert i.send(at_r, b"ping", 0.0) == [(value("first"), R_PLACE)]
    assert i.received(value("retry"), R_PLACE, 0.0) == ([(value("first-again"), R_PLACE)], [])
    assert r.received(value("first"), I_PLACE, 0.0) == ([(value("second"), I_PLACE)], [])
    out, (established,) = i.received(value("second"), R_PLACE, 0.0)
    assert out == [(value("sealed-0"), R_PLACE)]
    assert isinstance(established, Established)
    assert (established.seen, established.hello.seq) == (I_PLACE, 9)
    _, (_, delivered) = r.received(value("sealed-0"), I_PLACE, 0.0)
    assert delivered == Delivered(at_i, b"ping")
    assert r.received(value("sealed-1"), I_PLACE, 0.0) == ([], [])  # empty: nothing is said
    assert r.counters.repeated == r.counters.forged == 0
    assert r.send(at_i, b"pong", 0.0) == [(value("sealed-back"), I_PLACE)]
    assert i.received(value("sealed-back"), R_PLACE, 0.0) == ([], [Delivered(at_r, b"pong")])


def test_a_cookie_comes_before_or_after() -> None:
    r = side("r", [value("r-index"), drawn(220, types.SECOND_LENGTHS[0]), value("nonce-2")])
    r.say(Serving(), seq=9)
    assert r.received(value("first-again"), I_PLACE, 0.0) == ([(value("second"), I_PLACE)], [])


def test_sizes() -> None:
    rows = {row[0]: row[1:] for row in table("## 1. Packets", TEXT)}
    assert {kind: (int(row[0]), int(row[1])) for kind, row in rows.items()} == {
        "FIRST": (packets.FIRST_MIN, packets.PACKET_MAX),
        "SECOND": (packets.SECOND_OVERHEAD + 48, packets.ANSWER_MAX),
        "SEALED": (packets.SEALED_OVERHEAD, packets.PACKET_MAX),
    }
    lengths = {row[0]: row[1] for row in table("## 4. What an observer sees", TEXT)}
    for kind, most in (
        ("FIRST", types.FIRST_LENGTHS),
        ("SECOND", types.SECOND_LENGTHS),
        ("retry", types.RETRY_LENGTHS),
    ):
        assert lengths[kind].startswith(f"{most[0]} to {most[1]},")
    assert (
        f"{packets.SEALED_OVERHEAD}, the body and 0 to {types.SEALED_PADDING}" in lengths["SEALED"]
    )


def test_limits() -> None:
    """What the text says of ours."""
    one_line, ours = " ".join(TEXT.split()), Limits()
    first, second, _ = ours.resend_s
    for said in (
        f"at 0, {first:g} and {first + second:g} s and gives up at {sum(ours.resend_s):g} s",
        f"(ours: {ours.half_s:g} s)",
        (
            f"(ours: {ours.halves:,}, of one network {ours.halves_of_network}, "
            f"of one address {ours.halves_of_address};"
        ),
        f"(ours: the last {ours.ephemerals:,})",
        f"changes each {ours.cookie_s:g} s",
        (
            f"without a cookie {ours.calm[0]} at once and {1 / ours.calm[1]:g} a second, "
            f"of one network {ours.calm_network[0]} and {1 / ours.calm_network[1]:g} a second"
        ),
        (
            f"with one {ours.proven[0]} at once and {1 / ours.proven[1]:g} a second, "
            f"of an address {ours.proven_address[0]} and one a second, "
            f"of a network {ours.proven_network[0]} and {1 / ours.proven_network[1]:g} a second"
        ),
        f"sends {ours.cookies[0]} cookies at once and {1 / ours.cookies[1]:,g} a second",
        (
            f"sent on after {ours.lifetime_s:,g} s, nor read after "
            f"{ours.lifetime_s + ours.grace_s:,g} s"
        ),
        (
            f"for {ours.idle_s:g} s, and keeps at most {ours.sessions:,}, of which one network has "
            f"{ours.sessions_of_network} and one contact {ours.sessions_of_contact}"
        ),
    ):
        assert said in one_line
    assert ours.proven_address[1] == 1.0


# --- any others ---


@given(st.binary(min_size=64, max_size=64), st.binary(max_size=1300))
def test_both_read_alike(its_keys: bytes, packet: bytes) -> None:
    try:
        theirs: object = wire.read(its_keys, packet)
    except Silence:
        theirs = None
    ours = packets.Parser(its_keys).parse(packet)
    match ours:
        case packets.First():
            assert theirs == First(ours.cookie, ours.noise)
        case packets.Second():
            assert theirs == Second(ours.index, ours.noise)
        case packets.Sealed():
            assert isinstance(theirs, Sealed)
            assert (theirs.index, theirs.counter) == (ours.index, ours.counter)
            assert theirs.header + theirs.sealed == ours.unmasked
        case None:
            assert theirs is None


@given(
    st.binary(min_size=64, max_size=64),
    st.binary(min_size=12, max_size=12),
    st.integers(0, (1 << 32) - 1),
    st.binary(min_size=300, max_size=900),
)
def test_both_write_alike(its_keys: bytes, nonce: bytes, number: int, data: bytes) -> None:
    cookie, message, short = data[:16], data[16:], data[16:260]
    assert packets.first(its_keys, nonce, cookie, message) == wire.first_packet(
        its_keys, nonce, cookie, message
    )
    assert packets.second(its_keys, nonce, number, short) == wire.second_packet(
        its_keys, nonce, number, short
    )
    ephemeral = data[20:52]
    sent = packets.retry(its_keys, ephemeral, nonce, cookie, number % 200)
    assert sent == wire.retry_packet(its_keys, ephemeral, nonce, cookie, number % 200)
    assert packets.retry_open(its_keys, ephemeral, sent) == cookie
