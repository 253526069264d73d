"""Control messages: bounds of what applications may ask for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dp2p import control

requests: msgspec.json.Decoder[control.AnyRequest] = msgspec.json.Decoder(control.AnyRequest)

SESSION = "0123456789abcdef" * 2

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
    ({"op": "disconnect", "peer": "x"}, control.Disconnect),
]


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
