"""Fabric messages: what is written is read, everything else is a BusError."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus
from dp2p.control import ProtocolSpec
from dp2p.hello import CloseReason, ControlType

SPEC = ProtocolSpec(name="chat", versions=[1, 2], window=4 << 20, shared=True)
ENTRY = bus.ProtocolEntry(number=3, spec=SPEC, session="0" * 32, instance="1" * 16)
APP = bus.AppReport(session="0" * 32, name="app", instance="1" * 16)
LINK = bus.LinkReport(
    link=1,
    key="a" * 52,
    direction="in",
    endpoint="tcp6://[::1]:4617",
    instance="i",
    listen=["tcp4://192.0.2.1:4617"],
    mode="resume",
    fell_back=True,
    trust="introduced",
    introducers=3,
    record=bytes(range(256)),
    seen="tcp4://192.0.2.9:1024",
    dial=7,
)
LEAST = bus.LinkReport(
    link=2,
    key="a" * 52,
    direction="out",
    endpoint="tcp4://192.0.2.1:1",
    instance="",
    listen=[],
    mode="xx",
)
TICKET = bytes(range(200, 248))
PSK = bytes(range(32))

CAPS = bus.Caps(generation=3, caps=[bus.Cap(scope="protocol", name="chat", up=1024)])
ROW = bus.FlowRow(
    peer="q" * 52,
    protocol="chat",
    shard=1,
    priority="bulk",
    weight=1,
    window=2,
    peer_window=3,
    credit_up=4,
    credit_down=5,
    queued_datagrams=6,
    queued_bytes=7,
    unread_datagrams=8,
    unread_bytes=9,
    wait_ms=10,
    waited_max_ms=11,
    rate_up=12,
    rate_down=13,
)
LOAD = bus.ProtocolLoad(
    name="chat", flows=1, rate_up=2, rate_down=3, queued_bytes=4, unread_bytes=5
)

FROM_SHARD: list[bus.FromShard] = [
    bus.ShardHello(
        shard=1,
        incarnation="abc",
        pid=2,
        aead="openssl",
        data_endpoint="ipc:///x",
        listening=[],
        links=[LINK, LEAST],
        generation=9,
        apps=[APP],
        protocols=[ENTRY],
        caps=CAPS,
    ),
    bus.ShardHeartbeat(shard=1, stats={"links": 1, "rate": 0.5}, load=[LOAD]),
    bus.Totals(totals=[bus.Total("q" * 52, "chat", 1, 2, 3, 4)], folded=[("", "chat")]),
    bus.Usage(generation=3, node=None, protocols={"chat": bus.Used(1.5, 2, True, False)}),
    bus.TrafficTold(id=1, rows=[ROW], left_out=2),
    bus.TicketAsked(link=1, name=TICKET[:16]),
    bus.LinkReady(report=LINK),
    bus.LinkReady(report=LEAST, dial_ticket=TICKET, accept_ticket=TICKET[::-1]),
    bus.LinkUp(link=1),
    bus.LinkDown(link=1, reason="eof", remote=True),
    bus.DialFailed(dial=7, reason="timeout"),
    bus.DialFailed(dial=7, reason="identity", answered="q" * 52),
    bus.PeerSaid(link=1, type=ControlType.FOUND, body=b"\0\xff any bytes"),
    bus.Probed(link=1, alive=False),
    bus.AppGone(session="0" * 32),
]
TO_SHARD: list[bus.ToShard] = [
    bus.Welcome(coordinator="life"),
    bus.WhoAreYou(coordinator="life"),
    bus.Registry(generation=1, apps=[APP], protocols=[ENTRY]),
    bus.NodeRecord(record=bytes(range(256))),
    bus.Ticket(link=1),
    bus.Ticket(link=1, psk=PSK, key="a" * 52),
    bus.Admit(link=1, trust="resumed", introducers=2),
    bus.Admit(link=1, trust="none", introducers=0, wait=True),
    bus.Close(link=1, reason="full"),
    bus.Probe(link=1),
    bus.TellPeer(link=1, type=ControlType.FIND, body=b"\xff"),
    bus.DialLink(dial=7, host="::1", port=4617),
    bus.DialLink(dial=7, host="::1", port=4617, key="a" * 52, pinned=True, ticket=TICKET),
    bus.SetCaps(caps=CAPS),
    bus.Rates(generation=3, node=bus.Share(), protocols={"chat": bus.Share(512, 0)}),
    bus.AskTraffic(id=1, limit=10),
    bus.AskTraffic(id=1, protocols=["chat"], peer="q" * 52, limit=10),
    bus.Stop(),
]


def kinds(messages: list[bus.FromShard] | list[bus.ToShard]) -> set[type]:
    return {type(message) for message in messages}


def test_every_message_has_a_row_here() -> None:
    assert kinds(FROM_SHARD) == set(get_args(bus.FromShard))
    assert kinds(TO_SHARD) == set(get_args(bus.ToShard))


@pytest.mark.parametrize("message", FROM_SHARD, ids=lambda message: type(message).__name__)
def test_from_shard(message: bus.FromShard) -> None:
    assert bus.decode_from_shard(bus.encode(message)) == message


@pytest.mark.parametrize("message", TO_SHARD, ids=lambda message: type(message).__name__)
def test_to_shard(message: bus.ToShard) -> None:
    assert bus.decode_to_shard(bus.encode(message)) == message


@pytest.mark.parametrize("message", TO_SHARD, ids=lambda message: type(message).__name__)
def test_a_shard_sends_nothing_of_the_coordinator(message: bus.ToShard) -> None:
    with pytest.raises(bus.BusError):
        bus.decode_from_shard(bus.encode(message))


@pytest.mark.parametrize("message", FROM_SHARD, ids=lambda message: type(message).__name__)
def test_the_coordinator_sends_nothing_of_a_shard(message: bus.FromShard) -> None:
    with pytest.raises(bus.BusError):
        bus.decode_to_shard(bus.encode(message))


VERSION = b"%d" % bus.BUS_VERSION
MALFORMED = [b"", b"{}", b"3 {}", b"1 {}", VERSION + b"{}"]
MALFORMED += [VERSION + b" " + body for body in (b"", b"{}", b"[]", b"\xff", b"null")]


@pytest.mark.parametrize("frame", MALFORMED)
def test_malformed(frame: bytes) -> None:
    with pytest.raises(bus.BusError):
        bus.decode_from_shard(frame)


# a message, and what a word in it becomes
WRONG = [
    (bus.LinkReady(report=LINK), b'"resume"', b'"nnpsk0"'),
    (bus.LinkReady(report=LINK), b'"introduced"', b'"trusted"'),
    (bus.PeerSaid(link=1, type=5, body=b"a"), b'"YQ=="', b'"!"'),
    (bus.Probed(link=1, alive=True), b"true", b'"yes"'),
    (bus.TicketAsked(link=1, name=b"a"), b'"YQ=="', b"[1]"),
]


@pytest.mark.parametrize(("message", "word", "other"), WRONG)
def test_values_out_of_range(message: bus.FromShard, word: bytes, other: bytes) -> None:
    frame = bus.encode(message)
    assert word in frame
    with pytest.raises(bus.BusError):
        bus.decode_from_shard(frame.replace(word, other))


def test_another_version_is_named() -> None:
    of_another = b"1 " + bus.encode(bus.Stop())[2:]
    with pytest.raises(bus.BusError, match=f"version b'1', this is {bus.BUS_VERSION}"):
        bus.decode_to_shard(of_another)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(frame: bytes) -> None:
    for data in (frame, VERSION + b" " + frame):
        with pytest.raises(bus.BusError):
            bus.decode_from_shard(data)


def test_reasons_of_the_wire_have_names_here() -> None:
    """What a shard does with ``Close``, whose reason is a word."""
    for reason in CloseReason:
        message = bus.Close(link=1, reason=reason.name.lower())
        assert CloseReason.__members__[message.reason.upper()] is reason


SECRET = [
    bus.LinkReady(report=LEAST, dial_ticket=TICKET, accept_ticket=TICKET[::-1]),
    bus.TicketAsked(link=1, name=TICKET[:16]),
    bus.Ticket(link=1, psk=PSK, key="a" * 52),
    bus.DialLink(dial=7, host="::1", port=4617, key="a" * 52, pinned=True, ticket=TICKET),
]


@pytest.mark.parametrize("message", SECRET, ids=lambda message: type(message).__name__)
def test_tickets_are_not_shown(message: bus.Message) -> None:
    """A message may end in a log or in a traceback."""
    for secret in (TICKET, TICKET[::-1], PSK):
        for part in (secret[:16], secret[-16:]):
            assert repr(part)[2:-1] not in repr(message)
    assert " bytes>" in repr(message)
