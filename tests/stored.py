"""Peers and records for tests of the store: cheap ones, whose signatures nobody checks."""

from __future__ import annotations

import hashlib

from dp2p.coordinator.known import Ticket
from dp2p.node_record import NodeRecord

NOW = 1_700_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def key(number: int) -> bytes:
    """The key of peer ``number``."""
    return hashlib.sha256(b"peer %d" % number).digest()


def endpoint(number: int) -> str:
    return f"tcp4://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4617"


def record(
    number: int,
    seq: int = 1,
    endpoints: tuple[str, ...] | None = None,
    protocols: tuple[str, ...] = ("chat",),
) -> NodeRecord:
    """Peer ``number``'s record; it lists ``endpoint(number)`` unless told otherwise."""
    return NodeRecord(
        key=key(number),
        seq=seq,
        endpoints=(endpoint(number),) if endpoints is None else endpoints,
        protocols=protocols,
        more=False,
        signed=b"signature of %d, %d" % (number, seq),
    )


def ticket(number: int, serial: int = 0) -> Ticket:
    """One of peer ``number``'s tickets."""
    secret = hashlib.sha512(b"ticket %d of %d" % (serial, number)).digest()
    return Ticket(key(number), secret[:48])
