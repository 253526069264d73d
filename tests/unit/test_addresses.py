"""Addresses: what is read, what is refused and why, and that writing undoes reading."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import ids
from dp2p.addresses import (
    Endpoint,
    NodeId,
    PeerAddress,
    PeerOnly,
    Target,
    join_host_port,
    parse,
    parse_endpoint,
    parse_listed,
    parse_peer,
    parse_target,
)
from dp2p.errors import AddressError

KEY = ids.to_text(bytes(range(32)))

READ = [
    ("tcp4://127.0.0.1:1", Endpoint("tcp4", "127.0.0.1", 1)),
    ("tcp4://Example.ORG:65535", Endpoint("tcp4", "example.org", 65535)),
    ("tcp6://[::1]:4617", Endpoint("tcp6", "::1", 4617)),
    ("tcp6://[2001:DB8:0:0::7]:4617", Endpoint("tcp6", "2001:db8::7", 4617)),
    ("tcp6://host-1.example:4617", Endpoint("tcp6", "host-1.example", 4617)),
    (f"dp2p://{KEY}@example.org:4617", PeerAddress(KEY, "example.org", 4617)),
    (f"dp2p://{KEY}@[::1]:4617", PeerAddress(KEY, "::1", 4617)),
    (f"dp2p://{KEY}@10.0.0.1:4617", PeerAddress(KEY, "10.0.0.1", 4617)),
    (f"dp2p://{KEY}@Node-1.Example.ORG:1", PeerAddress(KEY, "node-1.example.org", 1)),
    (f"dp2p://{KEY}@[2001:0DB8::0007]:65535", PeerAddress(KEY, "2001:db8::7", 65535)),
    (f"dp2p://{KEY}@localhost:4617", PeerAddress(KEY, "localhost", 4617)),
]

NO_ADDRESS = [  # though parse_target may know more
    ("dp2p://a:1", "no @ between"),
    (f"dp2p://{KEY}", "no @ between"),
    (KEY, "expected dp2p"),
]

WITHOUT_A_PLACE = [
    (f"dp2p://{KEY}", PeerOnly(KEY)),
    (KEY, NodeId(KEY)),
]

REFUSED = [
    ("", "expected dp2p"),
    ("127.0.0.1:4617", "expected dp2p"),
    ("http://a:1", "expected dp2p"),
    ("tcp4://a", "no port"),
    ("tcp4://a:", "no number"),
    ("tcp4://a:0", "not within 1 to 65535"),
    ("tcp4://a:65536", "not within 1 to 65535"),
    ("tcp4://a:-1", "no number"),
    ("tcp4://a:٣", "no number"),
    ("tcp4://:1", "no host"),
    ("tcp4://1.2.3:1", "no IPv4 address"),
    ("tcp4://256.1.1.1:1", "no IPv4 address"),
    ("tcp4://[::1]:1", "not an IPv4 address"),
    ("tcp6://127.0.0.1:1", "not an IPv6 address"),
    ("tcp6://::1:1", "brackets"),
    ("tcp6://[::1:1", "no IPv6 address in brackets"),
    ("tcp6://[127.0.0.1]:1", "no IPv6 address in brackets"),
    ("tcp6://[::1]1", "may follow the bracket"),
    ("tcp6://[::1]", "no port"),
    ("tcp4://-a.example:1", "no host name"),
    ("tcp4://a..b:1", "no host name"),
    ("tcp4://a b:1", "no host name"),
    ("tcp4://a/b:1", "no host name"),
    (f"tcp4://{'a' * 64}:1", "no host name"),
    (f"tcp4://{'.'.join(['abcdefg'] * 40)}:1", "no host name"),
    ("dp2p://xyz@a:1", "52 characters"),
    (f"dp2p://{KEY.upper()}@a:1", "52 characters"),
    (f"dp2p://{KEY}@a", "no port"),
    (f"dp2p://{KEY}@", "no host"),
    (f"dp2p://{KEY}@:1", "no host"),
    (f"dp2p://{KEY}@{KEY}@a:1", "no host name"),
    (f"dp2p://{KEY}@a:00001234", "no number"),
    (f"dp2p://{KEY}@[fe80::1%eth0]:1", "no zone"),
    ("dp2p://@a:1", "52 characters"),
    ("tcp6://[fe80::1%eth0]:1", "no zone"),
    ("tcp6://[fe80::1%25]:1", "no zone"),
    ("tcp6://[::1%]:1", "no zone"),
    ("tcp6://fe80::1%eth0:1", "brackets"),
    ("TCP4://a:1", "expected dp2p"),
    (f"DP2P://{KEY}@a:1", "expected dp2p"),
    ("tcp4://a:1 ", "no number"),
    (" tcp4://a:1", "expected dp2p"),
    ("tcp4://a:1\n", "no number"),
    ("udp4://192.0.2.7:4617", "takes discovery's packets and no connections"),
    ("udp6://[::1]:4617", "takes discovery's packets and no connections"),
]

NO_TARGET = [  # beside all of REFUSED
    ("dp2p://", "52 characters"),
    (f"dp2p://{KEY[:-1]}", "52 characters"),
    (f"dp2p://{KEY}:4617", "52 characters"),
    (f"dp2p://{KEY}/", "52 characters"),
    (f"dp2p://{KEY.upper()}", "52 characters"),
    (f"dp2p://{KEY}\n", "52 characters"),
    (f"tcp4://{KEY}", "no port"),
    (KEY.upper(), "52 characters"),
    (KEY[:-1] + "b", "the last is a or q"),
    (KEY[:-1], "or a node-ID"),
    (KEY + "a", "or a node-ID"),
    (KEY + "\n", "or a node-ID"),
    (f" {KEY}", "or a node-ID"),
]


@pytest.mark.parametrize(("text", "address"), READ)
def test_read(text: str, address: Endpoint | PeerAddress) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize("text", ["udp4://192.0.2.7:1", "udp6://[::1]:1", "tcp4://example.org:1"])
def test_records_list_endpoints_of_any_scheme(text: str) -> None:
    assert str(parse_listed(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [("udp6://127.0.0.1:1", "not an IPv6 address"), ("udp://a:1", "udp4://HOST:PORT or udp6://")],
)
def test_what_records_may_not_list(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        parse_listed(text)


@pytest.mark.parametrize(("text", "why"), REFUSED + NO_ADDRESS)
def test_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "address"), READ)
def test_every_address_is_a_target(text: str, address: Endpoint | PeerAddress) -> None:
    assert parse_target(text) == address


@pytest.mark.parametrize(("text", "target"), WITHOUT_A_PLACE)
def test_a_peer_without_a_place_is_a_target_only(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(("text", "why"), REFUSED + NO_TARGET)
def test_no_target(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        parse_target(text)
    assert repr(text) in str(caught.value)


def test_a_listener_may_leave_the_port_open_or_out() -> None:
    assert parse_endpoint("tcp4://0.0.0.0:0", lowest_port=0).port == 0
    assert parse_endpoint("tcp6://[::]", default_port=4617) == Endpoint("tcp6", "::", 4617)


def test_who_has_a_key_has_a_node_id() -> None:
    node = ids.to_text(ids.node_id(bytes(range(32))))
    for target in (PeerAddress(KEY, "a", 1), PeerOnly(KEY), NodeId(node)):
        assert target.peer == node
        assert parse_peer(str(target)) == node


def test_an_endpoint_names_no_peer() -> None:
    with pytest.raises(AddressError, match="names no peer"):
        parse_peer("tcp4://a:1")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_numeric_endpoint_survives_writing_and_reading(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"tcp{host.version}://{join_host_port(str(host), port)}"
    assert str(parse(text)) == text


@given(st.binary(min_size=32, max_size=32))
def test_every_key_is_a_peer_and_a_node(value: bytes) -> None:
    text = ids.to_text(value)
    assert parse_target(f"dp2p://{text}") == PeerOnly(text)
    assert parse_target(text) == NodeId(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", "dp2p://", "tcp4://", "tcp6://", f"dp2p://{KEY}@", f"dp2p://{KEY}"):
        try:
            target = parse_target(prefix + text)
        except AddressError:
            with pytest.raises(AddressError):
                parse(prefix + text)
            continue
        assert parse_target(str(target)) == target
