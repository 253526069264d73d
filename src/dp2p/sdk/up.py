"""What a shard says of a peer that is there."""

from __future__ import annotations

import msgspec

from dp2p.sdk.types import Peer


class Up(msgspec.Struct, frozen=True):
    """Body of an UP record."""

    protocol: str
    version: int
    peer: str
    key: str
    trust: str
    endpoint: str
    direction: str
    max_datagram: int
    types: int
    window: int
    introducers: int = 0
    mode: str = "xx"
    application: str | None = None
    "The life of the peer's application; None: it does not say."
    since: int = 0
    "When the flow came up, by a clock that all shards of the node share."

    def goes_on(self, before: Up) -> bool:
        """Whether it is the same application under the same terms as ``before``."""
        return (
            self.application is not None
            and self.application == before.application
            and self.version == before.version
            and self.max_datagram == before.max_datagram
            and self.types == before.types
        )

    def described(self) -> Peer:
        """For the application."""
        return Peer(
            self.peer, self.protocol, self.version, self.key, self.trust, self.introducers,
            self.endpoint, self.direction, self.max_datagram, self.types, self.mode,
        )  # fmt: skip
