"""What a session tells whoever drives it. What it tells the application is in ``types``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.flow import Flow
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.port import Port
from dp2p.sdk.registration import Registration
from dp2p.sdk.types import Event


@dataclass(frozen=True, slots=True)
class Replied(Event):
    """A request is answered; exactly one of ``ok`` and ``error`` counts."""

    id: int
    ok: Any
    error: RequestError | None


@dataclass(frozen=True, slots=True)
class Began(Event):
    """A session has begun: its heartbeats are due."""

    attached: control.Attached


@dataclass(frozen=True, slots=True)
class Subscribed(Event):
    """The node sends notices: heartbeats are to renew that."""

    traffic_s: float | None = None
    "How often it tells of traffic, if it does."


@dataclass(frozen=True, slots=True)
class Connect(Event):
    """Open a data socket to a shard; ``port`` holds what to send first."""

    port: Port


@dataclass(frozen=True, slots=True)
class Disconnect(Event):
    """Close the data socket to a shard."""

    port: Port


@dataclass(frozen=True, slots=True)
class AttachAgain(Event):
    """A shard does not know the session yet: call ``attach_port`` a little later."""

    port: Port


@dataclass(frozen=True, slots=True)
class RegisterAgain(Event):
    """The node is too busy to put a protocol on the air in a new session: call ``register_again`` a
    little later.
    """

    registration: Registration


@dataclass(frozen=True, slots=True)
class Received(Event):
    """Something is in the inbox."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class CreditGrown(Event):
    """``flow.pump`` may move something."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class ConsumedAgain(Event):
    """Datagrams came that had come before: their peer waits to hear that they are consumed."""

    port: Port


@dataclass(frozen=True, slots=True)
class Unsendable(Event):
    """Calls that ended with an error because their flow went down."""

    outgoing: list[Outgoing]
