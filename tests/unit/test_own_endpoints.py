"""Which endpoints a record lists, row by row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dp2p import bus, config, ids
from dp2p.addresses import Endpoint
from dp2p.coordinator.own_endpoints import Mapped, OwnEndpoints

EVERYWHERE = ["tcp4://0.0.0.0:4617"]
LAN = ["tcp4://192.168.0.7:4617"]


def made(
    listen: list[str], advertise: list[str] | None = None, discovery: Any = None
) -> OwnEndpoints:
    body = {
        "listen": {"addresses": listen, "advertise": advertise or []},
        "discovery": discovery or {},
    }
    return OwnEndpoints(msgspec.convert(body, config.Config))


ROWS = [  # listen.addresses, listen.advertise, [discovery], endpoints
    (["tcp4://198.51.100.7:1"], [], {}, ["tcp4://198.51.100.7:1", "udp4://198.51.100.7:1"]),
    (["tcp4://198.51.100.7:1"], [], {"enabled": False}, ["tcp4://198.51.100.7:1"]),
    (EVERYWHERE, [], {}, []),
    (LAN, [], {}, ["tcp4://192.168.0.7:4617", "udp4://192.168.0.7:4617"]),
    ([*LAN, "tcp4://198.51.100.7:1"], [], {}, ["tcp4://198.51.100.7:1", "udp4://198.51.100.7:1"]),
    ([*LAN, *EVERYWHERE], [], {}, []),
    (
        EVERYWHERE,
        ["tcp4://203.0.113.9:80"],
        {},
        ["tcp4://203.0.113.9:80", "udp4://203.0.113.9:80"],
    ),
    (EVERYWHERE, ["tcp4://node.example:80"], {}, ["tcp4://node.example:80"]),
    (
        EVERYWHERE,
        ["tcp4://203.0.113.9:80"],
        {"advertise": ["udp4://203.0.113.9:81"]},
        ["tcp4://203.0.113.9:80", "udp4://203.0.113.9:81"],
    ),
    (
        ["tcp6://[2001:db8::7]:1"],
        [],
        {"listen": ["udp6://[2001:db8::7]:2"]},
        ["tcp6://[2001:db8::7]:1", "udp6://[2001:db8::7]:2"],
    ),
]


@pytest.mark.parametrize(("listen", "advertise", "discovery", "listed"), ROWS)
def test_configured(
    listen: list[str], advertise: list[str], discovery: dict[str, Any], listed: list[str]
) -> None:
    assert made(listen, advertise, discovery).listed() == listed


def report(number: int, seen: str | None, direction: str = "out") -> bus.LinkReport:
    return bus.LinkReport(
        link=number,
        key=ids.to_text(bytes([number]) * 32),
        direction=direction,
        endpoint=f"tcp4://198.51.{number}.1:4617",
        instance="0" * 16,
        listen=[],
        mode="xx",
        seen=seen,
    )


def test_a_wildcard_is_listed_as_several_networks_see_it() -> None:
    own = made(EVERYWHERE)
    for number in range(1, 3):
        own.link_up(report(number, "tcp4://203.0.113.9:51234"), 0.0)
    assert own.listed() == []  # two are not enough
    own.link_up(report(3, "tcp4://203.0.113.9:51999"), 0.0)  # ports of outgoing links differ
    assert own.listed() == ["tcp4://203.0.113.9:4617", "udp4://203.0.113.9:4617"]


def test_of_inbound_links_the_port_counts_too() -> None:
    """It is the one that the peer dialled, which a router may forward from another."""
    own = made(EVERYWHERE)
    for number in range(1, 4):
        own.link_up(report(number, "tcp4://203.0.113.9:80", "in"), 0.0)
    assert own.listed()[0] == "tcp4://203.0.113.9:80"


def test_discoverys_contacts_say_where_packets_come_from() -> None:
    own = made(EVERYWHERE)
    own.agreed(("203.0.113.9", 40000))
    assert own.listed() == ["tcp4://203.0.113.9:4617", "udp4://203.0.113.9:40000"]


@pytest.mark.parametrize(
    "seen", [None, "", "nonsense", "tcp4://node.example:1", "udp4://1.2.3.4:1"]
)
def test_what_cannot_be_read_says_nothing(seen: str | None) -> None:
    own = made(EVERYWHERE)
    for number in range(1, 9):
        own.link_up(report(number, seen), 0.0)
    assert own.listed() == []


def test_a_place_of_this_site_is_not_listed_for_a_wildcard() -> None:
    own = made(EVERYWHERE)
    own.agreed(("192.168.0.7", 4617))
    assert own.listed() == []


def test_what_the_router_lets_in_comes_first() -> None:
    own = made(LAN)
    stream, datagram = Endpoint("tcp4", "192.168.0.7", 4617), Endpoint("udp4", "192.168.0.7", 4617)
    own.mapped(Mapped("203.0.113.9", {stream: 4617, datagram: 4618}))
    assert own.listed() == ["tcp4://203.0.113.9:4617", "udp4://203.0.113.9:4618"]
    own.mapped(None)
    assert own.listed() == ["tcp4://192.168.0.7:4617", "udp4://192.168.0.7:4617"]
