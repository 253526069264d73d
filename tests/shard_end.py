"""One end of a connection between two shards, in memory: the real engine and the real links."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dp2p import ids, records
from dp2p.bus import Admit, LinkReport, ProtocolEntry
from dp2p.control import ProtocolSpec
from dp2p.records import Kind
from dp2p.shards.applications import Applications
from dp2p.shards.links import Links
from dp2p.shards.metering import Metering
from dp2p.transport import Event, EventKind, NodeConfig
from metered import FakeEngine
from wire import Side

SESSION = "s"


class ShardEnd(Side):
    """A node with its links and one application, whose records go to ``hear``."""

    def __init__(self, seed: bytes, *, initiator: bool, config: NodeConfig) -> None:
        super().__init__(seed, initiator=initiator, config=config, draw=1 + initiator)
        self.by_session = {SESSION: SimpleNamespace(session=SESSION, name="app", sink=self.sink)}
        metering = Metering(FakeEngine(), 0, 0.0)
        self.links = Links(self.node, cast(Applications, self), metering, lambda: 0.0)

    def tell(self, app: Any, kind: Kind, flow: int, body: Any) -> None:
        """What links ask of ``Applications``."""
        self.node.sink_push(app.sink, records.encode_json(kind, flow, body))

    def hear(self, message: bytes) -> None:
        """A message for the application."""

    def ready(self) -> None:
        """The handshake of ``link`` is done."""

    def down(self, event: Event) -> None:
        """The engine has ended a link."""
        raise AssertionError(event)

    def admit(self) -> None:
        """The coordinator wants ``link``, whose handshake is done."""
        report = LinkReport(
            link=self.link,
            key=ids.to_text(self.node.link(self.link).key),
            direction="out" if self.initiator else "in",
            endpoint="tcp4://192.0.2.1:1",
            instance="0" * 16,
            mode="xx",
            listen=[],
        )
        self.links.add(self.link, report)
        self.links.admit(self.link, Admit(link=self.link, trust="none", introducers=0))

    def gather(self) -> None:
        """As a shard does in each turn."""
        for event in self.node.events():
            if event.kind == EventKind.CONTROL:
                self.links.control(event.link, event.type, event.data, 0.0)
            elif event.kind == EventKind.READY:
                self.ready()
            else:
                self.down(event)
        self.node.events_done()
        for token in self.node.released():
            del self.kept[token]
        self.node.collect()
        for _, message in self.node.outputs():
            self.hear(bytes(message))


def entry(number: int, spec: ProtocolSpec, instance: str = "0" * 16) -> ProtocolEntry:
    """A protocol of the application."""
    return ProtocolEntry(number=number, spec=spec, session=SESSION, instance=instance)
