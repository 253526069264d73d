"""Caps and traffic of the whole node: between those who ask, those who reckon, and the shards.

Sends to shards through the fabric; decides nothing by itself (``rates``, ``traffic``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from dp2p import bus, config, control, ids
from dp2p.bus import Cap
from dp2p.coordinator.fabric import Fabric
from dp2p.coordinator.rates import Rates
from dp2p.coordinator.registry import Registry
from dp2p.coordinator.traffic import (
    ASKED_MAX,
    Questions,
    Seen,
    Totals,
    Watches,
    memory,
    summary,
)
from dp2p.errors import RequestError

EVENT_ROWS = 1000  # of a ``traffic`` event
KEY_PREFIX = "dp2p://"

Answer = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class _Asked:
    """Who waits for an answer: a request, or a session that watches."""

    answer: Answer | None = None
    session: str = ""


class Metering:
    """One node's. ``now`` is monotonic (s)."""

    def __init__(
        self,
        settings: config.Config,
        fabric: Fabric,
        registry: Registry,
        tell: Callable[[str, control.TrafficSeen], None],
        wall: Callable[[], float],
    ) -> None:
        """``tell`` gives an event to a session; ``wall`` says seconds since 1970."""
        self._buffer_bytes = settings.limits.buffer_bytes
        self._fabric = fabric
        self._registry = registry
        self._tell = tell
        self._wall = wall
        self._settled = False
        self._rates = Rates(config.caps(settings))
        self._totals = Totals()
        self._questions = Questions(self._totals)
        self._watches = Watches()
        self._asked: dict[int, _Asked] = {}
        self._next = 1

    @property
    def caps(self) -> bus.Caps:
        """All that are in force."""
        return self._rates.caps

    # --- shards ---

    def hello(self, hello: bus.ShardHello, *, fresh: bool) -> None:
        """A shard has said who it is; ``fresh``: another life of it than was known, if any was."""
        self._totals.hello(hello.shard)
        if fresh:
            self._rates.shard_up(hello.shard)
        if hello.caps.generation > self._rates.generation:
            if self._settled:
                self._rates.outgrow(hello.caps.generation)
            else:
                self._rates.restore(hello.caps)
        self._publish()

    def settled(self) -> None:
        """All shards that there are have said which caps they know."""
        self._settled = True
        self._rates.outgrow(self._rates.generation)
        self._publish()

    def shard_down(self, index: int) -> None:
        """A shard is gone."""
        self._totals.shard_down(index)
        self._rates.shard_down(index)
        self._give(self._questions.shard_down(index))
        self._share()

    def said(
        self, index: int, message: bus.Totals | bus.Usage | bus.TrafficTold, now: float
    ) -> None:
        """A shard has said something of rates or traffic."""
        match message:
            case bus.Totals():
                self._totals.said(index, message)
            case bus.Usage():
                self._rates.used(index, message, now)
            case bus.TrafficTold():
                self._give(self._questions.told(index, message))

    def _publish(self) -> None:
        if self._settled:
            self._fabric.broadcast(bus.SetCaps(caps=self._rates.caps))
            self._share()

    def _share(self) -> None:
        if self._settled:
            for shard in self._fabric.shards:
                self._fabric.send(shard.index, self._rates.shares(shard.index))

    # --- time ---

    def run(self, now: float) -> None:
        """Divide caps again, answer what is late, ask for those who watch."""
        if self._rates.run(now):
            self._share()
        self._give(self._questions.run(now))
        self._watches.keep(self._registry.tokens)
        for session in self._watches.due(now):
            if self._questions.full:
                self._watches.answered(session)  # busy: it hears the next time
                continue
            wanted = bus.AskTraffic(
                id=0, protocols=self._registry.names_of(session), limit=EVENT_ROWS
            )
            self._ask(wanted, _Asked(session=session), now)

    def next_deadline(self) -> float:
        """When to call ``run`` next."""
        return min(
            self._rates.next_deadline(),
            self._questions.next_deadline(),
            self._watches.next_deadline(),
        )

    # --- requests ---

    def limit(self, request: control.Limit) -> dict[str, Any]:
        """Change a cap, and say what it is now.  Raises: RequestError."""
        name = _name(request)
        before = self._rates.cap_of(request.scope, name)
        up = before.up if request.up is msgspec.UNSET else request.up
        down = before.down if request.down is msgspec.UNSET else request.down
        self._rates.set(Cap(scope=request.scope, name=name, up=up, down=down))
        self._publish()
        return _shown(self._rates.cap_of(request.scope, name))

    def limits(self) -> list[dict[str, Any]]:
        """All caps, the node's first."""
        caps = sorted(self._rates.caps.caps, key=lambda cap: (_ORDER[cap.scope], cap.name))
        return [_shown(cap) for cap in caps]

    def traffic(self, request: control.Traffic, answer: Answer, now: float) -> None:
        """How flows stand; ``answer`` gets it when the shards have said so.

        Raises: RequestError ``busy``.
        """
        if self._questions.full:
            raise RequestError("busy", f"{ASKED_MAX} questions are under way")
        wanted = bus.AskTraffic(
            id=0,
            protocols=None if request.protocol is None else [request.protocol],
            peer=None if request.peer is None else _node_id(request.peer),
            limit=request.limit,
        )
        self._ask(wanted, _Asked(answer), now)

    def watch(self, session: str, every_s: float | None, now: float) -> None:
        """Tell a session of its flows from now on, this often; None: no longer."""
        self._watches.set(session, every_s, now)

    def _ask(self, wanted: bus.AskTraffic, asked: _Asked, now: float) -> None:
        token, self._next = self._next, self._next + 1
        self._asked[token] = asked
        indices = [shard.index for shard in self._fabric.shards]
        question, seen = self._questions.ask(token, wanted, indices, now)
        for index in indices:
            self._fabric.send(index, question)
        self._give(seen)

    def _give(self, answers: list[Seen]) -> None:
        for seen in answers:
            asked = self._asked.pop(seen.token)
            rows = [msgspec.to_builtins(row) for row in seen.rows]
            if asked.answer is not None:
                asked.answer({"rows": rows, "left_out": seen.left_out, "silent": seen.silent})
            elif self._watches.answered(asked.session):
                event = control.TrafficSeen(
                    at=self._wall(), rows=rows, left_out=seen.left_out, silent=seen.silent
                )
                self._tell(asked.session, event)

    # --- for ``status`` ---

    def summary(self) -> dict[str, Any]:
        """Each protocol in short, and what buffers hold."""
        shards = list(self._fabric.shards)
        found = summary({shard.index: shard.load for shard in shards}, self._totals.by_protocol())
        rows = [{"name": name, **found[name], **self._cap_of(name)} for name in sorted(found)]
        stats = memory(shard.stats for shard in shards)
        return {
            "traffic": rows,
            "limits": self.limits(),
            "memory": {"buffer_bytes": self._buffer_bytes, **stats},
        }

    def _cap_of(self, protocol: str) -> dict[str, int | None]:
        cap = self._rates.cap_of("protocol", protocol)
        return {"limit_up": cap.up, "limit_down": cap.down}


_ORDER = {"node": 0, "protocol": 1, "peer": 2}


def _shown(cap: Cap) -> dict[str, Any]:
    return {"scope": cap.scope, "name": cap.name, "up": cap.up, "down": cap.down}


def _name(request: control.Limit) -> str:
    """What a cap is for, as it is kept.  Raises: RequestError ``bad_request``."""
    name = request.name
    try:
        match request.scope:
            case "peer":
                return _node_id(msgspec.convert(name, control.PeerText))
            case "protocol":
                return msgspec.convert(name, control.Name)
    except msgspec.ValidationError:
        what = _NAMED[request.scope]
        raise RequestError("bad_request", f"{name!r} is not {what}") from None
    if name:
        raise RequestError("bad_request", f"the node's limit has no name, but {name!r} was given")
    return name


_NAMED = {"protocol": "the name of a protocol", "peer": "a node-ID, or dp2p:// and a key"}


def _node_id(peer: str) -> str:
    if peer.startswith(KEY_PREFIX):
        return ids.to_text(ids.node_id(ids.from_text(peer.removeprefix(KEY_PREFIX))))
    return peer
