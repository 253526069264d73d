"""A shard as an application sees it: what is to go to it."""

from __future__ import annotations

from typing import Protocol

SLICE_BYTES = 260 << 10
"""Credit that goes into one DATA record, if a single datagram does not need more. Ours: four
datagrams of 64 KiB; beyond that a message costs no less.
"""
FLUSH_BYTES = SLICE_BYTES // 2
_SHARE_BYTES = 8 << 10


class Sender(Protocol):
    """What has datagrams to go: a flow."""

    def take_records(self) -> list[bytes]:
        """What goes to the socket now."""


class Announcer(Protocol):
    """What has a consumed position to tell: the receiving half of a flow."""

    def take_consumed(self) -> bytes:
        """The CONSUMED record that is due; empty when there is nothing new to say."""


class Port:
    """What is to go to one shard."""

    __slots__ = ("attached", "backlog", "consumed", "endpoint", "index", "ready", "urgent")

    def __init__(self, index: int, endpoint: str) -> None:
        self.index = index
        self.endpoint = endpoint
        self.attached = False
        self.urgent: list[bytes] = []
        "Records that go before all others."
        self.ready: list[Sender] = []
        "Flows with datagrams to go, in the order in which they began."
        self.consumed: dict[Announcer, None] = {}
        "Who has a consumed position that the shard has not been told."
        self.backlog = 0
        "Bytes in finished DATA records; from ``FLUSH_BYTES`` on it is time to flush."

    def take_messages(self) -> list[bytes]:
        """All that is to go, as ZeroMQ messages: small records share one of limited size, large
        ones are not copied again.
        """
        messages: list[bytes] = []
        shared, size = self.urgent, 0
        shared += filter(None, [arrivals.take_consumed() for arrivals in self.consumed])
        for flow in self.ready:
            for record in flow.take_records():
                small = len(record) < _SHARE_BYTES
                if shared and (size >= FLUSH_BYTES or not small):
                    messages.append(b"".join(shared))
                    shared, size = [], 0
                if small:
                    shared.append(record)
                    size += len(record)
                else:
                    messages.append(record)
        if shared:
            messages.append(b"".join(shared))
        self.urgent, self.ready, self.consumed, self.backlog = [], [], {}, 0
        return messages


NOWHERE = Port(-1, "")
"Where flows are whose peer is away. Nothing is ever put there."
