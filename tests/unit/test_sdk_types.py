"""What replies and UP records become for an application, whichever version the node has."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import dp2p
from dp2p import records
from dp2p.records import Kind
from dp2p.sdk.types import Dialled, Introduced, Peer
from scripted import Node

LEAST = {"peer": "anna", "key": "k", "endpoint": "tcp4://192.0.2.1:1"}
UP: dict[str, Any] = LEAST | {
    "protocol": "chat", "version": 1, "trust": "resumed", "introducers": 3, "direction": "out",
    "max_datagram": 500, "types": 10, "window": 1000,
}  # fmt: skip


def peer_of(up: dict[str, Any]) -> Peer:
    """The peer that an UP record tells of."""
    node = Node()
    registration = node.register()
    node.receive(records.encode_json(Kind.UP, 1, up))
    return registration.flow("anna").peer


# what the UP record says more -> mode, introducers
MODES = [
    ({}, "xx", 3),  # of a node that knows no other
    ({"mode": "ik"}, "ik", 3),
    ({"mode": "resume", "introducers": 0, "mood": "good"}, "resume", 0),
]


@pytest.mark.parametrize(("more", "mode", "introducers"), MODES)
def test_how_a_peer_is_connected(more: dict[str, Any], mode: str, introducers: int) -> None:
    peer = peer_of(UP | more)
    assert (peer.mode, peer.trust, peer.introducers) == (mode, "resumed", introducers)
    assert peer == Peer(
        id="anna",
        protocol="chat",
        version=1,
        key="k",
        trust="resumed",
        introducers=introducers,
        endpoint="tcp4://192.0.2.1:1",
        direction="out",
        max_datagram=500,
        types=10,
        mode=mode,
    )


def test_a_dial_s_reply() -> None:
    assert msgspec.convert(LEAST, Dialled) == Dialled("anna", "k", "tcp4://192.0.2.1:1")
    how = {"mode": "ik", "fell_back": True, "trust": "introduced", "introducers": 2}
    made = msgspec.convert({**LEAST, **how, "mood": "good"}, Dialled)
    assert msgspec.structs.asdict(made) == LEAST | how


def test_an_introduction() -> None:
    said = {"key": "k", "node": "anna", "seq": 7, "endpoints": ["a"], "protocols": [], "text": "r"}
    (made,) = msgspec.convert([said], list[Introduced])
    assert (made.endpoints, made.protocols, made.record) == (("a",), (), "r")
    assert hash(made) == hash(msgspec.structs.replace(made))


def test_the_public_names_are_there() -> None:
    for name in dp2p.__all__:
        assert getattr(dp2p, name).__name__.split(".")[-1] == name
    with pytest.raises(AttributeError, match="no attribute 'Rumour'"):
        dp2p.Rumour  # noqa: B018
