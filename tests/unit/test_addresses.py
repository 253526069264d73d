"""Addresses: what is read, what is refused and why, and that writing undoes reading."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import ids
from dp2p.addresses import Endpoint, PeerAddress, join_host_port, parse, parse_endpoint
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
    ("dp2p://a:1", "no public key"),
    ("dp2p://xyz@a:1", "52 characters"),
    (f"dp2p://{KEY.upper()}@a:1", "52 characters"),
    (f"dp2p://{KEY}@a", "no port"),
]


@pytest.mark.parametrize(("text", "address"), READ)
def test_read(text: str, address: Endpoint | PeerAddress) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


def test_a_listener_may_leave_the_port_open_or_out() -> None:
    assert parse_endpoint("tcp4://0.0.0.0:0", lowest_port=0).port == 0
    assert parse_endpoint("tcp6://[::]", default_port=4617) == Endpoint("tcp6", "::", 4617)


def test_a_peer_address_knows_its_node() -> None:
    address = PeerAddress(KEY, "a", 1)
    assert address.peer == ids.to_text(ids.node_id(bytes(range(32))))


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_numeric_endpoint_survives_writing_and_reading(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"tcp{host.version}://{join_host_port(str(host), port)}"
    assert str(parse(text)) == text


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", "tcp4://", "tcp6://", f"dp2p://{KEY}@"):
        try:
            address = parse(prefix + text)
        except AddressError:
            continue
        assert parse(str(address)) == address
