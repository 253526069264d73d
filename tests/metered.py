"""An engine that has flows and meters and nothing else: what a shard measures, on its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dp2p.errors import TransportError

Position = tuple[int, int]
ZERO: Position = (0, 0)


@dataclass(frozen=True, slots=True)
class Info:
    """See ``struct dp_flow_info``."""

    accepted: Position = ZERO
    sent: Position = ZERO
    received: Position = ZERO
    consumed: Position = ZERO
    send_limit: int = 1 << 20
    receive_limit: int = 1 << 20
    window: int = 1 << 20
    peer_window: int = 1 << 20
    wait_ms: int = 0
    waited_max_ms: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """See ``struct dp_usage``."""

    up_bytes: int = 0
    down_bytes: int = 0
    up_short: bool = False
    down_short: bool = False


@dataclass
class FakeEngine:
    """Flows and meters as tests set them; limits as they were set last."""

    flows: dict[int, Info] = field(default_factory=dict)
    node: Usage = Usage()
    groups: dict[int, Usage] = field(default_factory=dict)
    node_limit: tuple[int, int] = (0, 0)
    group_limits: dict[int, tuple[int, int]] = field(default_factory=dict)
    link_limits: dict[int, tuple[int, int]] = field(default_factory=dict)
    dead_links: set[int] = field(default_factory=set)

    def flow(self, handle: int) -> Info:
        info = self.flows.get(handle, Info())
        self.flows[handle] = replace(info, waited_max_ms=0)
        return info

    def limit(self, up: int, down: int) -> None:
        self.node_limit = up, down

    def group_limit(self, group: int, up: int, down: int) -> None:
        self.group_limits[group] = up, down

    def link_limit(self, link: int, up: int, down: int) -> None:
        if link in self.dead_links:
            raise TransportError(-1, "link", "limiting a link")
        self.link_limits[link] = up, down

    def usage(self) -> Usage:
        usage, self.node = self.node, replace(self.node, up_short=False, down_short=False)
        return usage

    def group_usage(self, group: int) -> Usage:
        usage = self.groups.get(group, Usage())
        self.groups[group] = replace(usage, up_short=False, down_short=False)
        return usage
