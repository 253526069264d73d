"""The examples of docs/spec/wire.md, against a second implementation and against the code.

Blocks marked ``vector`` and ``segment`` are read from the text. Each value is computed anew here,
from the text's formulas with hashlib and the package ``cryptography`` alone, and where the
extension can show the same bytes, it must. So neither text nor code can move without the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dp2p import hello, ids, noise, records
from dp2p.errors import TransportError
from dp2p.transport import (
    PRODUCE_MIN,
    Event,
    EventKind,
    FlowConfig,
    LinkState,
    Node,
    Place,
    Status,
    lib,
)

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "docs" / "spec" / "wire.md").read_text(encoding="utf-8")
P = 2**255 - 19  # the field of Curve25519
HELLO = b'{"instance":"0123456789abcdef"}'
LIST = b'{"generation":1,"protocols":[]}'
REPLY = b'{"generation":1}'


# --- reading the text ---


def blocks(mark: str) -> list[tuple[str, str]]:
    """What stands behind the mark, and the body, of each fenced block with that mark."""
    return re.findall(rf"^```{mark} ?(.*)\n((?:.*\n)*?)```$", SPEC, re.MULTILINE)


def read_vectors() -> dict[str, str]:
    """Name -> value; lines that begin with a space go on with the value before."""
    found: dict[str, str] = {}
    name = ""
    for _, body in blocks("vector"):
        for line in body.splitlines():
            rest = line
            if not line.startswith(" "):
                name, rest = line.split(maxsplit=1)
                assert name not in found
            found[name] = found.get(name, "") + rest.replace(" ", "")
    return found


def table(heading: str) -> list[list[str]]:
    """Cells of the first table behind a heading, without its head and without backticks."""
    section = SPEC.split(f"\n{heading}\n", 1)[1]
    lines = section[section.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines[2:]]


VECTORS = read_vectors()
SEGMENTS = {name: bytes.fromhex(body) for name, body in blocks("segment")}


def value(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


# --- the second implementation: the text's formulas ---


def blake2b(data: bytes, size: int = 64, key: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=size, key=key).digest()


def to_x25519(public: bytes) -> bytes:
    """(1 + y) / (1 - y); the sign of x, which the highest bit holds, is lost."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def static_of(seed: bytes) -> bytes:
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def header_mask(network_key: bytes, number: int, ephemerals: bytes) -> bytes:
    return blake2b(bytes([number]) + ephemerals, 16, network_key)[:3]


class Cipherstate:
    """Noise section 5.1."""

    def __init__(self, key: bytes) -> None:
        self.key, self.n = key, 0

    def nonce(self) -> bytes:
        self.n += 1
        return bytes(4) + struct.pack("<Q", self.n - 1)

    def seal(self, text: bytes, ad: bytes = b"") -> bytes:
        return ChaCha20Poly1305(self.key).encrypt(self.nonce(), text, ad)

    def open(self, text: bytes, ad: bytes = b"") -> bytes:
        return ChaCha20Poly1305(self.key).decrypt(self.nonce(), text, ad)

    def rekey(self) -> None:
        nonce = bytes(4) + b"\xff" * 8
        self.key = ChaCha20Poly1305(self.key).encrypt(nonce, bytes(32), b"")[:32]


class Frames(Cipherstate):
    """One direction of a link."""

    def mask(self) -> bytes:
        key = blake2b(b"dp2p length mask", 32, self.key)
        nonce = bytes(4) + bytes(4) + struct.pack("<Q", self.n // 32)  # counter 0, then 12 bytes
        stream = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))
        return stream[2 * (self.n % 32) :][:2]

    def frame(self, plain: bytes) -> bytes:
        header = xor(struct.pack("<H", len(plain) + 16), self.mask())
        return header + self.seal(plain)

    def plain(self, wire: bytes) -> tuple[bytes, bytes]:
        """The first frame's plaintext, and what follows it."""
        (size,) = struct.unpack("<H", xor(wire[:2], self.mask()))
        return self.open(wire[2 : 2 + size]), wire[2 + size :]


def hkdf(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    def mac(with_key: bytes, text: bytes) -> bytes:
        return hmac.new(with_key, text, hashlib.blake2b).digest()

    first = mac(mac(key, data), b"\x01")
    return first, mac(mac(key, data), first + b"\x02")


class Symmetric:
    """Noise section 5.2."""

    def __init__(self, prologue: bytes) -> None:
        self.h = self.ck = b"Noise_XX_25519_ChaChaPoly_BLAKE2b".ljust(64, b"\0")
        self.cipher = Cipherstate(bytes(32))
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.h = blake2b(self.h + data)

    def mix_dh(self, private: bytes, public: bytes) -> None:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
        self.ck, key = hkdf(self.ck, shared)
        self.cipher = Cipherstate(key[:32])

    def seal(self, text: bytes) -> bytes:
        sealed = self.cipher.seal(text, self.h)
        self.mix_hash(sealed)
        return sealed


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def ed25519_of(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def address(host: bytes, port: int) -> bytes:
    return b"\x04" + host.ljust(16, b"\0") + struct.pack("<H", port)


def handshake() -> tuple[list[bytes], Frames, Frames]:
    """Messages 1 to 3 on the wire, and what each side sends frames with."""
    s, e = (static_of(value(f"{who}-seed")) for who in "ir"), (value(f"{who}-e") for who in "ir")
    (si, sr), (ei, er) = s, e
    network_key = value("network-key")
    noise_state = Symmetric(value("prologue"))

    def on_wire(number: int, lead: bytes, rest: bytes, ephemerals: bytes) -> bytes:
        header = bytes([0]) + struct.pack("<H", len(rest))
        return lead + xor(header, header_mask(network_key, number, ephemerals)) + rest

    epi, epr = public_of(ei), public_of(er)
    noise_state.mix_hash(epi)
    noise_state.mix_hash(value("padding"))
    messages = [on_wire(1, epi, value("padding"), epi)]
    noise_state.mix_hash(epr)
    noise_state.mix_dh(er, epi)
    rest = noise_state.seal(public_of(sr))
    noise_state.mix_dh(sr, epi)
    rest += noise_state.seal(value("r-payload"))
    messages.append(on_wire(2, epr, rest, epi + epr))
    rest = noise_state.seal(public_of(si))
    noise_state.mix_dh(si, epr)
    rest += noise_state.seal(value("i-payload"))
    messages.append(on_wire(3, b"", rest, epi + epr))
    keys = hkdf(noise_state.ck, b"")
    return messages, Frames(keys[0][:32]), Frames(keys[1][:32])


# --- the code ---


class Ours:
    """A node of the extension with one link, fed by hand."""

    def __init__(self, *, initiator: bool) -> None:
        who = "i" if initiator else "r"
        e, padding = value(f"{who}-e"), value("padding")
        draws = {2: bytes(2), len(padding): padding, 32: e}
        self.node = Node(value(f"{who}-seed"), random=draws.__getitem__)
        self.node.set_hello(HELLO)
        remote = Place("192.0.2.2", 4617) if initiator else Place("192.0.2.1", 50000)
        self.link = self.node.link_new(initiator=initiator, now_ms=0, remote=remote)

    def say(self) -> bytes:
        return self.node.produce(self.link, 4 * PRODUCE_MIN, 0)

    def hear(self, data: bytes) -> list[Event]:
        """The events that ``data`` makes; it must be taken whole unless it ends the link."""
        try:
            assert self.node.receive(self.link, bytearray(data), 0) == len(data)
        except TransportError:
            assert self.node.link(self.link).state >= LinkState.CLOSING
        events = self.node.events()
        self.node.events_done()
        return events


class Peer:
    """The second implementation as initiator, on an open link to a node of the extension."""

    def __init__(self) -> None:
        messages, self.tx, self.rx = handshake()
        self.ours = Ours(initiator=False)
        self.ours.hear(messages[0])
        assert self.ours.say() == messages[1]
        (ready,) = self.ours.hear(messages[2])
        assert (ready.kind, ready.data) == (EventKind.READY, HELLO)
        self.ours.node.admit(self.ours.link, LIST)
        assert self.heard() == [control(LIST)]
        (first,) = self.send(control(LIST))
        assert (first.kind, first.type, first.data) == (EventKind.CONTROL, 1, LIST)
        self.sink = self.ours.node.sink_open()
        self.flow = self.ours.node.flow_open(
            self.ours.link,
            FlowConfig(
                sink=self.sink,
                number=5,
                peer_number=9,
                max_datagram=100_000,
                types=1000,
                window=100_016,
                peer_window=1 << 20,
            ),
        )

    def send(self, plain: bytes) -> list[Event]:
        return self.ours.hear(self.tx.frame(plain))

    def heard(self) -> list[bytes]:
        """Plaintexts of the frames that our side has to send."""
        found, wire = [], self.ours.say()
        while wire:
            plain, wire = self.rx.plain(wire)
            found.append(plain)
        return found

    def received(self) -> list[tuple[int, bytes]]:
        """Kind and body of the records for the application."""
        self.ours.node.collect()
        return [
            (record.kind, bytes(record.body))
            for _, message in self.ours.node.outputs()
            for record in records.split(bytes(message))
        ]

    def datagrams(self) -> list[bytes]:
        found: list[bytes] = []
        for kind, body in self.received():
            assert kind == records.Kind.DATA
            found += records.decode_data(memoryview(body)).payloads
        return found


def control(data: bytes, kind: int = 1) -> bytes:
    return struct.pack("<BBHH", 1, 255, kind, len(data)) + data


# --- identity ---


@pytest.mark.parametrize("who", ["i", "r"])
def test_identity(who: str) -> None:
    seed, public = value(f"{who}-seed"), value(f"{who}-public")
    assert ed25519_of(seed) == public == noise.identity_public(seed)
    assert blake2b(public, 32) == value(f"{who}-node-id") == noise.node_id(public)
    assert ids.to_text(public) == VECTORS[f"{who}-public-text"]
    assert ids.to_text(value(f"{who}-node-id")) == VECTORS[f"{who}-node-id-text"]
    assert static_of(seed) == value(f"{who}-static") == noise.identity_static(seed)
    converted = to_x25519(public)
    assert converted == value(f"{who}-static-public") == public_of(static_of(seed))
    assert converted == noise.identity_static_public(public)


def test_a_key_and_its_negative_map_alike() -> None:
    public = value("i-public")
    negative = public[:31] + bytes([public[31] ^ 0x80])
    assert to_x25519(negative) == to_x25519(public)
    assert noise.identity_static_public(negative) == noise.identity_static_public(public)
    assert noise.node_id(negative) != noise.node_id(public)


# --- handshake ---


def test_network() -> None:
    name = VECTORS["network"].encode()
    assert value("prologue") == b"dp2p/1\0" + name
    expected = blake2b(name, 32, b"dp2p network")
    assert expected == value("network-key") == noise.blake2b(name, 32, b"dp2p network")


def test_header_masks() -> None:
    epi, epr = public_of(value("i-e")), public_of(value("r-e"))
    assert (epi, epr) == (value("i-e-public"), value("r-e-public"))
    for number, ephemerals in ((1, epi), (2, epi + epr), (3, epi + epr)):
        mask = header_mask(value("network-key"), number, ephemerals)
        assert mask == value(f"header-mask-{number}")


def test_payloads() -> None:
    seen_by_initiator = address(bytes([192, 0, 2, 2]), 4617)
    seen_by_responder = address(bytes([192, 0, 2, 1]), 50000)
    assert value("i-payload") == value("i-public") + seen_by_initiator + HELLO
    assert value("r-payload") == value("r-public") + seen_by_responder + HELLO


def test_handshake_messages() -> None:
    messages, i, r = handshake()
    assert messages == [value(f"message-{number}") for number in (1, 2, 3)]
    assert (i.key, r.key) == (value("i-key"), value("r-key"))
    initiator, responder = Ours(initiator=True), Ours(initiator=False)
    assert initiator.say() == messages[0]
    responder.hear(messages[0])
    assert responder.say() == messages[1]
    (ready,) = initiator.hear(messages[1])
    assert initiator.say() == messages[2]
    (other,) = responder.hear(messages[2])
    assert ready.data == other.data == HELLO
    assert responder.node.link(responder.link).key == value("i-public")
    assert responder.node.link(responder.link).seen == Place("192.0.2.2", 4617)
    initiator.node.admit(initiator.link, LIST)
    assert initiator.say() == value("frame")


def test_lengths_of_messages() -> None:
    extra = {1: len(value("padding")), 2: len(HELLO), 3: len(HELLO)}
    for row in table("### Lengths"):
        number, fixed = int(row[0]), int(row[1].split(" + ")[0])
        assert len(value(f"message-{number}")) == fixed + extra[number]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_longer_message_is_refused_by_its_header(number: int) -> None:
    """One byte more than the text allows ends the link before anything else is read."""
    most = {1: 512, 2: 32115, 3: 32115}[number]
    assert str(most) in table("### Lengths")[number - 1][2]
    messages, _, _ = handshake()
    ours = Ours(initiator=number == 2)
    if number == 2:
        ours.say()
    if number == 3:
        ours.hear(messages[0])
        ours.say()
    lead = 0 if number == 3 else 32
    mask = value(f"header-mask-{number}")
    for size, status in ((most, None), (most + 1, "size")):
        header = xor(b"\0" + struct.pack("<H", size), mask)
        data = bytearray(messages[number - 1][:lead] + header)
        if status is None:
            assert ours.node.receive(ours.link, data, 0) == 0
            continue
        with pytest.raises(TransportError) as error:
            ours.node.receive(ours.link, data, 0)
        assert error.value.name == status


# --- frames ---


def test_frame() -> None:
    _, i, _ = handshake()
    assert blake2b(b"dp2p length mask", 32, i.key) == value("mask-key")
    assert i.mask() == value("frame-mask")
    assert i.frame(value("frame-plaintext")) == value("frame")
    assert value("frame-plaintext") == control(LIST)
    i.n = 32
    assert i.mask() == value("frame-mask-32")
    i.rekey()
    assert i.key == value("i-key-2")


def test_masks_of_many_frames() -> None:
    peer = Peer()
    for token in range(70):
        peer.send(struct.pack("<BQ", 5, token))
        assert peer.heard() == [struct.pack("<BQ", 6, token)]


# --- segments ---

EXPECTED = {
    "PADDING": bytes(6),
    "DATAGRAM": struct.pack("<BBHH", 1, 5, 1, 5) + b"hello",
    "FIRST": struct.pack("<BBHIH", 2, 5, 1, 8, 5) + b"hello",
    "NEXT": struct.pack("<BBH", 3, 5, 3) + b"you",
    "CREDIT": struct.pack("<BBIQQ", 4, 9, 1 << 20, 2, 45),
    "PING": struct.pack("<BQ", 5, 0x1122334455667788),
    "PONG": struct.pack("<BQ", 6, 0x1122334455667788),
    "REKEY": b"\x07",
    "CLOSE": struct.pack("<BH", 8, 10),
}


def test_segment_examples() -> None:
    assert SEGMENTS == EXPECTED


def test_datagrams_arrive() -> None:
    peer = Peer()
    peer.send(SEGMENTS["DATAGRAM"] + SEGMENTS["FIRST"])
    peer.send(SEGMENTS["NEXT"] + SEGMENTS["PADDING"])
    assert peer.datagrams() == [b"hello", b"helloyou"]


def test_credit_arrives() -> None:
    peer = Peer()
    sent = records.encode_data(peer.flow, [b"hello", b"helloyou"], 1)
    peer.ours.node.ingest(peer.sink, 1, sent)
    expected = struct.pack("<BBHH", 1, 9, 1, 5) + b"hello"
    assert peer.heard() == [expected + struct.pack("<BBHH", 1, 9, 1, 8) + b"helloyou"]
    assert peer.send(SEGMENTS["CREDIT"]) == []
    assert peer.received() == [(records.Kind.CREDIT, struct.pack("<IQQ", 1 << 20, 2, 45))]


def test_credit_is_given() -> None:
    peer = Peer()
    peer.send(SEGMENTS["DATAGRAM"])
    assert peer.datagrams() == [b"hello"]
    position = records.Position(0, 1, 21)
    consumed = records.encode_position(records.Kind.CONSUMED, peer.flow, position)
    peer.ours.node.ingest(peer.sink, 1, consumed)
    assert peer.heard() == [struct.pack("<BBIQQ", 4, 5, 100_016, 1, 21)]


def test_ping_is_answered_and_a_key_renewed() -> None:
    peer = Peer()
    peer.send(SEGMENTS["PING"] + SEGMENTS["REKEY"])
    peer.tx.rekey()
    assert peer.heard() == [SEGMENTS["PONG"]]
    assert peer.send(SEGMENTS["PONG"]) == []
    peer.send(SEGMENTS["DATAGRAM"])
    assert peer.datagrams() == [b"hello"]


def test_close_ends_the_link() -> None:
    peer = Peer()
    (down,) = peer.send(SEGMENTS["CLOSE"])
    assert (down.kind, down.status) == (EventKind.DOWN, Status.CLOSED)
    assert down.reason == hello.CloseReason.SHUTDOWN


# --- what ends a link ---


def first(total: int, size: int, channel: int = 5) -> bytes:
    return struct.pack("<BBHIH", 2, channel, 0, total, size) + bytes(size)


BROKEN: dict[str, Callable[[Peer], bytes]] = {
    "kind": lambda _: b"\x09",
    "cut": lambda _: SEGMENTS["DATAGRAM"][:-1],
    "piece": lambda _: first(100, 0),
    "not-last": lambda _: SEGMENTS["REKEY"] + SEGMENTS["PING"],
    "control": lambda _: control(LIST) + SEGMENTS["PING"],
    "channel": lambda _: struct.pack("<BBHH", 1, 6, 0, 0),
    "orphan": lambda _: SEGMENTS["NEXT"],
    "within": lambda _: first(100, 10) + SEGMENTS["DATAGRAM"],
    "beyond": lambda _: first(100, 10) + struct.pack("<BBH", 3, 5, 91) + bytes(91),
    "large": lambda _: first(100_001, 10),
    "type": lambda _: struct.pack("<BBHH", 1, 5, 1000, 0),
    "control-large": lambda _: first(lib.DP_CONTROL_MAX + 1, 10, channel=255),
    "credit": lambda _: first(100_000, 10) + struct.pack("<BBH", 3, 5, 9) + bytes(9),
    "confirmed": lambda _: SEGMENTS["CREDIT"],
}


def test_every_breach_has_a_row() -> None:
    assert [row[0] for row in table("### What ends a link")] == list(BROKEN)


@pytest.mark.parametrize("row", table("### What ends a link"), ids=lambda row: row[0])
def test_breaches_end_the_link(row: list[str]) -> None:
    name, _, said = row
    peer = Peer()
    if name == "credit":  # the window is used up to the last byte
        whole = first(100_000, 30_000)
        assert peer.send(whole) == []
        for _ in range(2):
            peer.send(struct.pack("<BBH", 3, 5, 30_000) + bytes(30_000))
        assert peer.send(struct.pack("<BBH", 3, 5, 10_000) + bytes(10_000)) == []
        (down,) = peer.send(SEGMENTS["DATAGRAM"])
    else:
        (down,) = peer.send(BROKEN[name](peer))
    assert down.kind == EventKind.DOWN
    reason = hello.CloseReason[said]
    assert peer.heard() == [struct.pack("<BH", 8, reason)]


def test_what_cannot_be_authenticated_ends_in_silence() -> None:
    peer = Peer()
    wire = bytearray(peer.tx.frame(SEGMENTS["PING"]))
    wire[-1] ^= 1
    (down,) = peer.ours.hear(bytes(wire))
    assert down.kind == EventKind.DOWN
    with pytest.raises(TransportError):  # it is gone, without having said anything
        peer.ours.say()


# --- tables ---


def test_close_reasons() -> None:
    rows = {row[1]: int(row[0]) for row in table("## 11. Close reasons")}
    assert rows == {reason.name: reason.value for reason in hello.CloseReason}


def test_limits() -> None:
    limits = {row[0]: row[1] for row in table("## 14. Limits")}
    constants = {
        "frame": lib.DP_FRAME_MAX,
        "hello": lib.DP_HELLO_MAX,
        "control": lib.DP_CONTROL_MAX,
        "datagram": lib.DP_DATAGRAM_MAX,
        "cost": lib.DP_DATAGRAM_COST,
        "channels": lib.DP_CHANNEL_COUNT,
        "control channel": lib.DP_CONTROL_CHANNEL,
        "types": 65536,
        "protocols": hello.PROTOCOLS_MAX,
        "network name": 64,
        "padding": 512,
        "key bytes": 1 << 36,
        "key frames": 1 << 32,
    }
    assert {name: int(limits[name]) for name in constants} == constants


def test_states_of_a_link() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.split("\n## States of a link\n", 1)[1].split("\n## ", 1)[0]
    diagram = section.split("```")[1]
    assert set(re.findall(r"\b[A-Z]{4,}\b", diagram)) == {state.name for state in LinkState}
