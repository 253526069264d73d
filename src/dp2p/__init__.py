"""A peer-to-peer node: one encrypted network of peers, shared by any number of applications.

What applications use is here: ``attach`` for asyncio, ``blocking.attach`` for everything else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dp2p.errors import RequestError

if TYPE_CHECKING:
    from dp2p.sdk import blocking
    from dp2p.sdk.aio import attach
    from dp2p.sdk.types import (
        Batch,
        Dialled,
        EventsLost,
        Introduced,
        Message,
        Notice,
        Peer,
        PeerAway,
        PeerDown,
        PeerUp,
        SendError,
        Traffic,
    )

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Dialled",
    "EventsLost",
    "Introduced",
    "Message",
    "Notice",
    "Peer",
    "PeerAway",
    "PeerDown",
    "PeerUp",
    "RequestError",
    "SendError",
    "Traffic",
    "attach",
    "blocking",
]

# Imported when first used: a shard has no need of the SDK.
_WHERE = dict.fromkeys(__all__, "dp2p.sdk.types") | {"attach": "dp2p.sdk.aio"}


def __getattr__(name: str) -> Any:
    if name == "blocking":
        return import_module("dp2p.sdk.blocking")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
