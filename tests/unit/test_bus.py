"""Fabric messages: what is written is read, everything else is a BusError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus
from dp2p.control import ProtocolSpec

SPEC = ProtocolSpec(name="chat", versions=[1, 2], window=4 << 20, shared=True)
ENTRY = bus.ProtocolEntry(number=3, spec=SPEC, session="0" * 32)
APP = bus.AppReport(session="0" * 32, name="app")
LINK = bus.LinkReport(
    link=1,
    key="a" * 52,
    direction="in",
    endpoint="tcp6://[::1]:4617",
    instance="i",
    trust="none",
    listen=["tcp4://192.0.2.1:4617"],
    seen=None,
    dial=7,
)

FROM_SHARD: list[bus.FromShard] = [
    bus.ShardHello(
        shard=1,
        incarnation="abc",
        pid=2,
        aead="openssl",
        data_endpoint="ipc:///x",
        listening=[],
        links=[LINK],
        generation=9,
        apps=[APP],
        protocols=[ENTRY],
    ),
    bus.ShardHeartbeat(shard=1, stats={"links": 1, "rate": 0.5}),
    bus.LinkReady(report=LINK),
    bus.LinkUp(link=1),
    bus.LinkDown(link=1, reason="eof", remote=True),
    bus.DialFailed(dial=7, reason="timeout"),
    bus.AppGone(session="0" * 32),
]
TO_SHARD: list[bus.ToShard] = [
    bus.Welcome(coordinator="life"),
    bus.WhoAreYou(coordinator="life"),
    bus.Registry(generation=1, apps=[APP], protocols=[ENTRY]),
    bus.Admit(link=1),
    bus.Close(link=1, reason="full"),
    bus.DialLink(dial=7, host="::1", port=4617, key="a" * 52),
    bus.Stop(),
]


@pytest.mark.parametrize("message", FROM_SHARD, ids=lambda message: type(message).__name__)
def test_from_shard(message: bus.FromShard) -> None:
    assert bus.decode_from_shard(bus.encode(message)) == message


@pytest.mark.parametrize("message", TO_SHARD, ids=lambda message: type(message).__name__)
def test_to_shard(message: bus.ToShard) -> None:
    assert bus.decode_to_shard(bus.encode(message)) == message


@pytest.mark.parametrize("message", TO_SHARD, ids=lambda message: type(message).__name__)
def test_each_side_reads_only_what_the_other_sends(message: bus.ToShard) -> None:
    with pytest.raises(bus.BusError):
        bus.decode_from_shard(bus.encode(message))


@pytest.mark.parametrize("frame", [b"", b"{}", b"2 {}", b"1{}", b"1 ", b"1 {}", b"1 []", b"1 \xff"])
def test_malformed(frame: bytes) -> None:
    with pytest.raises(bus.BusError):
        bus.decode_from_shard(frame)


def test_another_version_is_named() -> None:
    with pytest.raises(bus.BusError, match="version b'2', this is 1"):
        bus.decode_to_shard(b"2 " + bus.encode(bus.Stop())[2:])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(frame: bytes) -> None:
    for data in (frame, b"1 " + frame):
        with pytest.raises(bus.BusError):
            bus.decode_from_shard(data)
