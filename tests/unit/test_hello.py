"""What peers say in JSON: every field has bounds, whatever breaks them is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import hello, introduction
from dp2p.hello import ControlType, Hello, HelloError

GOOD: dict[str, Any] = {"instance": "0123456789abcdef"}
OFFER: dict[str, Any] = {
    "number": 0,
    "name": "chat",
    "versions": [1],
    "max_datagram": 1,
    "types": 1,
    "window": 1,
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def offers(*changes: dict[str, Any]) -> bytes:
    return encoded({"generation": 1, "protocols": [OFFER | change for change in changes]})


# --- hello: fields beside the good ones, whether it is accepted ---

HELLOS = [
    ({}, True),
    ({"instance": "0123456789ABCDEF"}, False),
    ({"instance": "0123456789abcde"}, False),
    ({"instance": "0123456789abcdef0"}, False),
    ({"instance": "0123456789abcdef\n"}, False),
    ({"instance": 1}, False),
    ({"listen": ["tcp4://192.0.2.1:1"] * 16}, True),
    ({"listen": ["tcp4://192.0.2.1:1"] * 17}, False),
    ({"listen": ["x" * 272]}, True),
    ({"listen": ["x" * 273]}, False),
    ({"protocols": ["chat"] * 250}, True),
    ({"protocols": ["chat"] * 251}, False),
    ({"protocols": [""]}, False),
    ({"protocols": ["a" * 64]}, True),
    ({"protocols": ["a" * 65]}, False),
    ({"protocols": ["chat\n"]}, False),
    ({"protocols": None}, False),
    ({"of a later version": {"nested": []}}, True),
]


@pytest.mark.parametrize(("more", "accepted"), HELLOS)
def test_hellos(more: dict[str, Any], accepted: bool) -> None:
    data = encoded(GOOD | more)
    if accepted:
        assert hello.decode_hello(data).instance == GOOD["instance"]
    else:
        with pytest.raises(HelloError, match=r"^hello: "):
            hello.decode_hello(data)


# --- protocol lists ---

LISTS = [
    ([], True),
    ([{}], True),
    ([{"number": 249}], True),
    ([{"number": 250}], False),
    ([{"number": -1}], False),
    ([{"number": 0.5}], False),
    ([{"name": ".hidden"}], False),
    ([{"name": "a/b-c_d.e"}], True),
    ([{"versions": []}], False),
    ([{"versions": [65535]}], True),
    ([{"versions": [65536]}], False),
    ([{"versions": list(range(16))}], True),
    ([{"versions": list(range(17))}], False),
    ([{"max_datagram": 0}], False),
    ([{"max_datagram": 16 << 20}], True),
    ([{"max_datagram": (16 << 20) + 1}], False),
    ([{"types": 0}], False),
    ([{"types": 65536}], True),
    ([{"types": 65537}], False),
    ([{"window": 0}], False),
    ([{"window": 256 << 20}], True),
    ([{"window": (256 << 20) + 1}], False),
    ([{"application": "0123456789abcdef"}], True),
    ([{"application": None}], True),
    ([{"application": "0123456789abcdef0"}], False),
    ([{"application": "0123456789ABCDEF"}], False),
    ([{"application": 1}], False),
    ([{}, {"number": 1, "name": "other"}], True),
    ([{}, {"number": 1}], False),
    ([{}, {"name": "other"}], False),
    ([{"number": i, "name": f"p{i}"} for i in range(250)], True),
    ([{"number": i % 250, "name": f"p{i}"} for i in range(251)], False),
]


@pytest.mark.parametrize(("changes", "accepted"), LISTS)
def test_protocol_lists(changes: list[dict[str, Any]], accepted: bool) -> None:
    data = offers(*changes)
    if accepted:
        assert len(hello.decode_protocols(data).protocols) == len(changes)
    else:
        with pytest.raises(HelloError, match=r"^protocol list: "):
            hello.decode_protocols(data)


GENERATIONS = [(0, True), ((1 << 53) - 1, True), (1 << 53, False), (-1, False), ("1", False)]


@pytest.mark.parametrize(("generation", "accepted"), GENERATIONS)
def test_generations(generation: Any, accepted: bool) -> None:
    decoders = [
        (hello.decode_ack, {"generation": generation}),
        (hello.decode_protocols, {"generation": generation, "protocols": []}),
    ]
    for decode, body in decoders:
        if accepted:
            decode(encoded(body))
        else:
            with pytest.raises(HelloError):
                decode(encoded(body))


DEEP = b"[" * 100_000
DECODERS = [hello.decode_hello, hello.decode_protocols, hello.decode_ack]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b'{"instance":"\xff"}', b"null", b"[]", b"{}", b"{", DEEP, b'{"a":' + DEEP],
)
def test_what_is_no_message(decode: Any, data: bytes) -> None:
    with pytest.raises(HelloError):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except HelloError:
            continue


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=5))
def test_any_values(value: Any) -> None:
    for field in ("instance", "listen", "protocols", "generation"):
        for decode in DECODERS:
            try:
                decode(encoded(GOOD | {field: value}))
            except HelloError:
                continue


def test_of_a_listening_list_only_endpoints_are_kept_and_few() -> None:
    junk = ["\x1b[2J", "\n" * 272, "tcp4://198.51.100.1", "tcp4://198.51.100.1:4617\n"]
    places = [f"tcp6://[2001:DB8::{n}]:4617" for n in range(1, 12)]
    found = hello.dialable(Hello(instance="0" * 16, listen=[*junk, places[0], *places]))
    assert found == [place.lower() for place in places[: hello.LISTEN_KEPT]]


@pytest.mark.parametrize("text", ["z" * 100_000, "\n2026 error a line of its own", "\x1b[2J"])
def test_an_error_repeats_little_of_what_a_peer_sent(text: str) -> None:
    claim = {"key": "a" * 52, "evidence": text}
    body = msgspec.json.encode({"id": 1, "keys": [claim]})
    with pytest.raises(HelloError) as raised:
        introduction.decode(ControlType.KEYS, body)
    said = str(raised.value)
    assert said.isprintable()
    assert len(said) < 2 * hello.WHY_MAX
