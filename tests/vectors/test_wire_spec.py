"""The examples of docs/spec/wire.md, against a second implementation and against the code.

Blocks marked ``vector`` and ``segment`` are read from the text. Each value is computed anew here,
from the text's formulas with hashlib and the package ``cryptography`` alone (``wire_noise``), and
where the extension can show the same bytes, it must. So neither text nor code can move without the
other. The handshake has a file of its own, ``test_wire_handshake``.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable

import msgspec
import pytest

import wire_handshake
from dp2p import hello, ids, introduction, noise, records
from dp2p.coordinator import conversations
from dp2p.errors import TransportError
from dp2p.shards.links import FORWARDED_MAX
from dp2p.transport import Event, EventKind, FlowConfig, LinkState, Status, lib
from vectors.runs import RUNS, Run, ours, theirs
from vectors.spec import LIST, ROOT, VECTORS, blocks, section, table, value
from wire_noise import P, blake2b, ed25519_of, public_of, static_of, to_x25519, y_of


class Peer:
    """The second implementation as initiator, on an open link to a node of the extension."""

    def __init__(self, run: Run = RUNS["xx"]) -> None:
        made = theirs(run)
        self.tx, self.rx = made.i.tx, made.i.rx
        self.ours = ours(run, initiator=False)
        self.ours.hear(made.messages[0])
        assert self.ours.say() == made.messages[1]
        (ready,) = self.ours.hear(made.messages[2])
        assert ready.kind == EventKind.READY
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


def test_network() -> None:
    name = VECTORS["network"].encode()
    assert value("prologue") == b"dp2p/1\0" + name
    expected = blake2b(name, 32, b"dp2p network")
    assert expected == value("network-key") == noise.blake2b(name, 32, b"dp2p network")


# --- frames ---


def test_frame() -> None:
    i = theirs(RUNS["xx"]).i.tx
    assert blake2b(b"dp2p length mask", 32, i.key) == value("mask-key")
    assert i.mask() == value("frame-mask")
    assert i.frame(value("frame-plaintext")) == value("frame")
    assert value("frame-plaintext") == control(LIST)
    i.n = 32
    assert i.mask() == value("frame-mask-32")
    i.rekey()
    assert i.key == value("i-key-2")


def test_the_first_frame_behind_a_message_3_that_was_a_transport_message() -> None:
    i = theirs(RUNS["ik"]).i.tx
    assert (i.n, i.mask()) == (1, value("ik-frame-mask"))
    assert i.frame(value("frame-plaintext")) == value("ik-frame")


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_masks_of_many_frames(run: Run) -> None:
    peer = Peer(run)
    for token in range(70):
        peer.send(struct.pack("<BQ", 5, token))
        assert peer.heard() == [struct.pack("<BQ", 6, token)]


# --- segments ---

SEGMENTS = {name: bytes.fromhex(body) for name, body in blocks("segment")}
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
    "EPOCH": struct.pack("<BBQQQ", 9, 5, 0x1122334455667788, 2, 45),
    "BLOCKED": struct.pack("<BBQ", 10, 5, 100_016),
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


def test_an_epoch_arrives_before_data() -> None:
    peer = Peer()
    assert peer.send(SEGMENTS["EPOCH"] + SEGMENTS["DATAGRAM"]) == []
    (epoch, body), (data, _) = peer.received()
    assert (epoch, data) == (records.Kind.EPOCH, records.Kind.DATA)
    assert body == bytes(4) + SEGMENTS["EPOCH"][2:]
    (down,) = peer.send(SEGMENTS["EPOCH"])
    assert (down.kind, down.status) == (EventKind.DOWN, Status.DATAGRAM)


def test_an_epoch_is_sent() -> None:
    peer = Peer()
    said = records.Epoch(0x1122334455667788, 2, 45)
    message = records.encode_epoch(peer.flow, said) + records.encode_data(peer.flow, [b"hello"], 1)
    peer.ours.node.ingest(peer.sink, 1, message)
    expected = b"\x09\x09" + SEGMENTS["EPOCH"][2:] + struct.pack("<BBHH", 1, 9, 1, 5) + b"hello"
    assert peer.heard() == [expected]


def test_blocked_opens_the_window() -> None:
    """All is consumed, so only the window holds the sender up; what is said twice counts once."""
    peer = Peer()
    assert peer.send(SEGMENTS["BLOCKED"]) == []
    assert peer.heard() == [struct.pack("<BBIQQ", 4, 5, 200_032, 0, 0)]
    assert peer.send(SEGMENTS["BLOCKED"]) == []
    assert peer.heard() == []


def test_blocked_is_said_once_for_each_limit() -> None:
    peer = Peer()
    largest = records.encode_data(peer.flow, [bytes(100_000)], 1)
    for token in range(10):  # 48416 are left, and the largest costs 100016
        peer.ours.node.ingest(peer.sink, token, largest)
    said = b""
    while plains := peer.heard():
        said = plains[-1]
    assert said[-10:] == struct.pack("<BBQ", 10, 9, 1 << 20)
    empty = records.encode_data(peer.flow, [b""], 1)
    peer.ours.node.ingest(peer.sink, 11, empty)
    assert peer.heard() == [struct.pack("<BBHH", 1, 9, 1, 0)]


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
    "kind": lambda _: b"\x0b",
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
    "epoch": lambda _: SEGMENTS["DATAGRAM"] + SEGMENTS["EPOCH"],
    "control-large": lambda _: first(lib.DP_CONTROL_MAX + 1, 10, channel=255),
    "credit": lambda _: first(100_000, 10) + struct.pack("<BBH", 3, 5, 9) + bytes(9),
    "confirmed": lambda _: SEGMENTS["CREDIT"],
    "blocked": lambda _: struct.pack("<BBQ", 10, 5, 100_017),
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


# --- JSON between nodes ---


def test_hello_example() -> None:
    ((_, example),) = blocks("hello")
    found = hello.decode_hello(example.encode())
    assert found == hello.Hello(
        instance="0123456789abcdef",
        listen=["tcp4://192.0.2.2:4617"],
        protocols=["chat"],
    )
    record = base64.b64encode(b"signed").decode()
    extended = example.rstrip()[:-1] + f',"record":"{record}"}}'
    assert hello.decode_hello(extended.encode()).record == b"signed"


@pytest.mark.parametrize(("name", "example"), blocks("control"), ids=lambda part: part[:5])
def test_introduction_examples(name: str, example: str) -> None:
    """The code reads the text's examples and writes the same bytes."""
    kind = hello.ControlType[name]
    said = introduction.decode(kind, example.encode())
    assert said is not None
    assert introduction.encode(said) == (kind, example.rstrip().encode())


def test_every_type_of_control_datagram_has_a_row_and_an_example() -> None:
    rows = {row[1]: int(row[0]) for row in table("## 8. Channels")}
    assert rows == {kind.name: kind.value for kind in hello.ControlType}
    assert [name for name, _ in blocks("control")] == list(rows)[2:]


# --- what an observer sees ---


def test_how_many_random_headers_are_valid() -> None:
    rows = [tuple(map(int, row)) for row in table("### Lengths")]
    valid = sum(most - least + 1 for number, _, least, most in rows if number == 1)
    assert 7550 < 2**24 / valid < 7650
    assert "one try in about 7,600" in section(13)


def is_in_subgroup(u: int) -> bool:
    """Whether the order of the group takes the point with that u to zero; RFC 7748, 5."""
    order = 2**252 + 27742317777372353535851937790883648493
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in f"{order:b}":
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
    return z2 == 0


def test_how_many_random_strings_pass_as_keys() -> None:
    """One in 16; and all ephemeral keys do."""
    strings = (y_of(blake2b(number.to_bytes(2, "little"), 32)) for number in range(480))
    assert 20 <= sum(map(is_in_subgroup, strings)) <= 40
    public = [int.from_bytes(value(f"{who}-e-public"), "little") for who in "ir"]
    assert all(map(is_in_subgroup, public))
    assert "of random strings one in 16 is" in section(13)


# --- tables ---


def test_close_reasons() -> None:
    rows = {row[1]: int(row[0]) for row in table("## 11. Close reasons")}
    assert rows == {reason.name: reason.value for reason in hello.CloseReason}


def test_the_protocol_list() -> None:
    """The example of section 9 is a list, and names every field that an offer has."""
    text = section(9)
    body = text[text.index("PROTOCOLS {") + len("PROTOCOLS ") : text.index(" ACK {")]
    (offered,) = hello.decode_protocols(body.encode()).protocols
    assert msgspec.to_builtins(offered) == json.loads(body)["protocols"][0]
    fields = {row[0] for row in table("## 9. Protocol lists")}
    assert fields - {"generation"} == set(hello.Offer.__struct_fields__)


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
        "first": wire_handshake.REST_MOST[1],
        "message": wire_handshake.REST_MOST[2],
        "ticket": lib.DP_TICKET_LEN,
        "record": introduction.RECORD_MAX,
        "found": introduction.FOUND_MAX,
        "keys": introduction.KEYS_MAX,
        "introduction": FORWARDED_MAX,
        "asked at once": conversations.ANSWERED_AT_ONCE,
        "asked every": int(conversations.ANSWER_EVERY_S),
        "key bytes": 1 << 36,
        "key frames": 1 << 32,
    }
    assert {name: int(limits[name]) for name in constants} == constants


def test_states_of_a_link() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    states = text.split("\n## States of a link\n", 1)[1].split("\n## ", 1)[0]
    diagram = states.split("```")[1]
    assert set(re.findall(r"\b[A-Z]{4,}\b", diagram)) == {state.name for state in LinkState}
