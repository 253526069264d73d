"""Codes and small values of the C extension: what ``transport`` is written with, and hands on.

Import them from ``dp2p.transport``.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any, NamedTuple

from dp2p._transport import ffi, lib
from dp2p.errors import TransportError

KEY_LEN: int = lib.DP_KEY_LEN
TICKET_LEN: int = lib.DP_TICKET_LEN


class Status(IntEnum):
    """Status codes that decisions depend on; ``status_name`` knows the rest."""

    OK = lib.DP_OK
    STATE = lib.DP_E_STATE
    IDENTITY = lib.DP_E_IDENTITY
    CHANNEL = lib.DP_E_CHANNEL
    CREDIT = lib.DP_E_CREDIT
    DATAGRAM = lib.DP_E_DATAGRAM
    TIMEOUT = lib.DP_E_TIMEOUT
    LIMIT = lib.DP_E_LIMIT
    IO = lib.DP_E_IO
    EOF = lib.DP_E_EOF
    CLOSED = lib.DP_E_CLOSED
    BATCH = lib.DP_E_BATCH


class EventKind(IntEnum):
    """See ``enum dp_event_kind``."""

    READY = lib.DP_EVENT_READY
    CONTROL = lib.DP_EVENT_CONTROL
    DOWN = lib.DP_EVENT_DOWN
    REFUSED = lib.DP_EVENT_REFUSED
    TICKET = lib.DP_EVENT_TICKET


class LinkState(IntEnum):
    """See ``enum dp_link_state``."""

    HANDSHAKE = lib.DP_LINK_HANDSHAKE
    READY = lib.DP_LINK_READY
    OPEN = lib.DP_LINK_OPEN
    CLOSING = lib.DP_LINK_CLOSING
    DEAD = lib.DP_LINK_DEAD


class Mode(IntEnum):
    """See ``enum dp_mode``."""

    XX = lib.DP_MODE_XX
    IK = lib.DP_MODE_IK
    RESUME = lib.DP_MODE_RESUME


class Priority(IntEnum):
    """See ``enum dp_priority``."""

    URGENT = lib.DP_URGENT
    NORMAL = lib.DP_NORMAL
    BULK = lib.DP_BULK


class Refused(TransportError):
    """A call was refused by the operating system; ``errno`` says why."""

    def __init__(self, doing: str, errno: int) -> None:
        super().__init__(lib.DP_E_IO, os.strerror(errno), doing)
        self.errno = errno


class Lift(NamedTuple):
    """Types ``first`` to ``last`` are more urgent than their flow; see ``struct dp_lift``."""

    first: int
    last: int
    priority: Priority


class Usage(NamedTuple):
    """Bytes of credit cost that applications' datagrams took; see ``struct dp_usage``."""

    up_bytes: int
    down_bytes: int
    up_short: bool
    "The cap held something back since this was last asked."
    down_short: bool


def usage_of(usage: Any) -> Usage:
    """From a ``struct dp_usage``."""
    return Usage(usage.up_bytes, usage.down_bytes, usage.up_short, usage.down_short)


def status_name(status: int) -> str:
    """The name of a status code in lower case."""
    return str(ffi.string(lib.dp_status_name(status)).decode("ascii"))


def check(status: int, doing: str) -> None:
    """Raises: TransportError unless ``status`` is DP_OK; Refused, with errno, for DP_E_IO."""
    if status == lib.DP_E_IO:
        raise Refused(doing, ffi.errno)
    if status != lib.DP_OK:
        raise TransportError(status, status_name(status), doing)
