"""Control messages: bounds of what applications may ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from dp2p import control

requests: msgspec.json.Decoder[control.AnyRequest] = msgspec.json.Decoder(control.AnyRequest)

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "app-api.md"
SESSION = "0123456789abcdef" * 2
NODE = "b" * 51 + "q"

READ: list[tuple[dict[str, Any], type[control.Request]]] = [
    ({"op": "attach", "name": "app"}, control.Attach),
    ({"op": "heartbeat", "session": SESSION}, control.Heartbeat),
    (
        {"op": "register", "session": SESSION, "protocol": {"name": "chat", "versions": [1]}},
        control.Register,
    ),
    ({"op": "withdraw", "session": SESSION, "name": "chat"}, control.Withdraw),
    ({"op": "detach", "session": SESSION}, control.Detach),
    ({"op": "status"}, control.Status),
    ({"op": "peers"}, control.Peers),
    ({"op": "dial", "address": "tcp4://a:1"}, control.Dial),
    ({"op": "dial", "address": f"dp2p://{NODE}"}, control.Dial),
    ({"op": "known", "peer": NODE}, control.Known),
    ({"op": "known", "peer": f"dp2p://{NODE}"}, control.Known),
    ({"op": "find"}, control.Find),
    ({"op": "lookup", "target": NODE, "timeout_s": 5}, control.Lookup),
    ({"op": "table"}, control.Table),
    ({"op": "ask_contact", "key": NODE, "endpoint": "udp4://a:1"}, control.AskContact),
    (
        {"op": "ask_contact", "key": NODE, "endpoint": "udp4://a:1", "near": NODE},
        control.AskContact,
    ),
    ({"op": "find", "near": NODE, "protocol": "chat", "limit": 256}, control.Find),
    ({"op": "subscribe", "session": SESSION}, control.Subscribe),
    ({"op": "subscribe", "session": SESSION, "traffic_s": 0.2}, control.Subscribe),
    ({"op": "limit", "scope": "node", "up": 10_000_000, "down": None}, control.Limit),
    ({"op": "limit", "scope": "peer", "name": NODE, "up": 1024}, control.Limit),
    ({"op": "limits"}, control.Limits),
    ({"op": "traffic"}, control.Traffic),
    ({"op": "traffic", "protocol": "chat", "peer": NODE, "limit": 10_000}, control.Traffic),
    ({"op": "disconnect", "peer": "x"}, control.Disconnect),
]


def test_every_request_has_a_row_here() -> None:
    assert {kind for _, kind in READ} == set(get_args(control.AnyRequest))


@pytest.mark.parametrize(("body", "kind"), READ)
def test_read(body: dict[str, Any], kind: type[control.Request]) -> None:
    request = requests.decode(msgspec.json.encode({"id": 5, **body}))
    assert type(request) is kind
    assert request.id == 5


@pytest.mark.parametrize(("body", "kind"), READ)
def test_an_unknown_field_is_refused(body: dict[str, Any], kind: type[control.Request]) -> None:
    with pytest.raises(msgspec.ValidationError):
        requests.decode(msgspec.json.encode({"id": 5, **body, "more": 1}))


REFUSED: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "-chat"},
    {"name": "chat\n"},
    {"name": "c" * 65},
    {"name": "schön"},
    {"versions": []},
    {"versions": list(range(17))},
    {"versions": [-1]},
    {"versions": [65536]},
    {"max_datagram": 0},
    {"max_datagram": (16 << 20) + 1},
    {"types": 0},
    {"types": 65537},
    {"priority": "fast"},
    {"weight": 0},
    {"weight": 256},
    {"slots": -1},
    {"window": -1},
    {"window": (256 << 20) + 1},
    {"colour": "red"},
]


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_protocols_out_of_bounds(change: dict[str, Any]) -> None:
    good = {"name": "chat", "versions": [1]}
    assert msgspec.convert(good, control.ProtocolSpec).max_datagram == 1 << 20
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | change, control.ProtocolSpec)


@pytest.mark.parametrize("session", ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "G" * 32, "A" * 32])
def test_malformed_sessions(session: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        requests.decode(msgspec.json.encode({"id": 1, "op": "detach", "session": session}))


OUT_OF_BOUNDS: list[dict[str, Any]] = [
    {"op": "dial", "address": "a" * 513},
    {"op": "dial", "address": "tcp4://a:1", "timeout_s": 0},
    {"op": "dial", "address": "tcp4://a:1", "timeout_s": 120.5},
    {"op": "dial", "address": None},
    {"op": "known"},
    {"op": "known", "peer": NODE[:-1]},
    {"op": "known", "peer": NODE + "\n"},
    {"op": "known", "peer": NODE[:-1] + "b"},
    {"op": "known", "peer": f"dp2p://{NODE}@a:1"},
    {"op": "known", "peer": "tcp4://a:1"},
    {"op": "find", "near": "somebody"},
    {"op": "find", "protocol": ""},
    {"op": "find", "limit": 0},
    {"op": "find", "limit": 257},
    {"op": "find", "limit": 1.5},
    {"op": "find", "timeout_s": 0},
    {"op": "find", "timeout_s": 60.5},
    {"op": "subscribe"},
    {"op": "subscribe", "session": "0"},
]


@pytest.mark.parametrize("body", OUT_OF_BOUNDS, ids=str)
def test_requests_out_of_bounds(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        requests.decode(msgspec.json.encode({"id": 1, **body}))


def test_what_is_not_said_has_a_default() -> None:
    find = requests.decode(b'{"id":1,"op":"find"}')
    assert find == control.Find(id=1, protocol=None, near=None, limit=16, timeout_s=5.0)
    dial = requests.decode(b'{"id":1,"op":"dial","address":"x"}')
    assert dial == control.Dial(id=1, address="x", timeout_s=10.0)


def test_replies_leave_out_what_is_not_there() -> None:
    error = control.ErrorBody("busy", "later")
    assert msgspec.json.encode(control.Reply(id=1, error=error)) == (
        b'{"id":1,"error":{"code":"busy","message":"later"}}'
    )
    assert msgspec.json.encode(control.Reply(id=1, ok={})) == b'{"id":1,"ok":{}}'


def test_events_carry_their_name() -> None:
    event = control.ShardUp(index=1, endpoint="ipc:///x")
    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        "event": "shard_up",
        "index": 1,
        "endpoint": "ipc:///x",
    }


def test_notices_are_read_as_they_are_written() -> None:
    fields: dict[str, str | bool | None] = {"endpoint": "tcp4://a:1", "reporter": None}
    raw = msgspec.json.encode(control.Notice("mitm_warning", 1.5, fields))
    assert msgspec.json.decode(raw) == {
        "event": "notice",
        "kind": "mitm_warning",
        "at": 1.5,
        "fields": fields,
    }
    assert msgspec.json.decode(raw, type=control.AnyEvent) == control.Notice(
        "mitm_warning", 1.5, fields
    )


# --- the specification ---


def examples() -> Iterator[dict[str, Any]]:
    """All JSON objects in blocks of the specification, in their order."""
    for block in re.findall(r"```json\n(.*?)```", SPEC.read_text(), re.DOTALL):
        rest = block.strip()
        while rest:
            found, end = json.JSONDecoder().raw_decode(rest)
            yield found
            rest = rest[end:].lstrip()


def test_the_examples_in_the_specification_are_messages() -> None:
    told: list[str] = []
    for example in examples():
        if "op" in example:
            told.append(type(msgspec.convert(example, control.AnyRequest)).__name__)
        elif "event" in example:
            told.append(type(msgspec.convert(example, control.AnyEvent)).__name__)
        else:
            reply = msgspec.convert(example, control.Reply)
            told.append("ok" if reply.error is None else reply.error.code)
    assert told == [
        "Attach", "ok", "protocol_taken", "ShardDown", "Register", "Dial", "ok", "Find", "ok",
        "Limit", "ok", "Notice",
    ]  # fmt: skip


def test_the_specification_has_every_request_and_event() -> None:
    text = SPEC.read_text()
    for kind in get_args(control.AnyRequest):
        assert f"\n**{kind.__struct_config__.tag}** " in text
    for kind in get_args(control.AnyEvent):
        assert f"\n| `{kind.__struct_config__.tag}` |" in text
