"""All that a shard measures and caps: rates, flows, books. The rest of the shard says what happens,
and passes on what the coordinator wants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dp2p import bus
from dp2p.shards.rates import Groups, Meters, Rates
from dp2p.shards.traffic import Flows, Opened, Sums, Traffic


class Engine(Meters, Flows, Protocol):
    """What is needed of the engine."""


class Metering:
    """One shard's. ``now`` is monotonic (s)."""

    def __init__(self, node: Engine, shard: int, now: float) -> None:
        self._groups = Groups()
        self._rates = Rates(node, self._groups, now)
        self._traffic = Traffic(node, shard)

    # --- what happens ---

    def set_protocols(self, names: Iterable[str], now: float) -> None:
        """These are on the air; to be said before a flow of a new one comes up."""
        self._rates.set_protocols(names, now)

    def group(self, protocol: str) -> int:
        """The number that all flows of a protocol share."""
        return self._groups.number(protocol)

    def link_up(self, link: int, peer: str) -> None:
        """A link's handshake is done; ``peer`` is a node-ID."""
        self._rates.link_up(link, peer)

    def link_down(self, link: int) -> None:
        """A link is gone, and its flows were told to be."""
        self._rates.link_down(link)

    def flow_up(self, flow: Opened, now: float) -> None:
        """A flow has come up."""
        self._traffic.opened(flow, now)

    def flow_closing(self, handle: int, now: float) -> None:
        """A flow that the engine still has is about to be closed."""
        self._traffic.closing(handle, now)

    def flow_gone(self, handle: int) -> None:
        """A flow that the engine has ended."""
        self._traffic.gone(handle)

    # --- the coordinator ---

    @property
    def caps(self) -> bus.Caps:
        """Those in force."""
        return self._rates.caps

    @property
    def due(self) -> float:
        """When ``usage`` is to be called next."""
        return self._rates.due

    def set_caps(self, caps: bus.Caps, now: float) -> None:
        """All caps of the node."""
        self._rates.set_caps(caps, now)

    def set_shares(self, rates: bus.Rates) -> None:
        """This shard's shares of them."""
        self._rates.set_shares(rates)

    def usage(self, now: float) -> bus.Usage:
        """What was used of the shares since it was last said."""
        return self._rates.said(now)

    def told(self, asked: bus.AskTraffic, now: float) -> Iterable[bus.Totals | bus.TrafficTold]:
        """The answer to a question, behind the totals that go with it."""
        answer = self._traffic.told(asked, now)
        changed = self._traffic.accounts.changed()
        return [answer] if changed is None else [changed, answer]

    def everything(self) -> bus.Totals:
        """All totals, for a coordinator that is new."""
        return self._traffic.accounts.everything()

    def beat(self, now: float) -> tuple[list[bus.ProtocolLoad], bus.Totals | None]:
        """A second has passed: each protocol in short, and the totals that have changed."""
        self._traffic.sweep(now)
        load = [self._load(name, now) for name in sorted(self._groups.names)]
        return load, self._traffic.accounts.changed()

    def _load(self, name: str, now: float) -> bus.ProtocolLoad:
        up, down = self._rates.speed(name, now)
        sums = self._traffic.sums.get(name, Sums())
        return bus.ProtocolLoad(
            name=name,
            flows=sums.flows,
            rate_up=up,
            rate_down=down,
            queued_bytes=sums.queued_bytes,
            unread_bytes=sums.unread_bytes,
        )
