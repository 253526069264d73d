"""What goes on in all shards together: totals of peers and protocols, and flows as they stand.

Pure; ``now`` is monotonic (s). Shards say totals as they stand, never increments, so that nothing
is counted twice or lost when somebody is started again. Flows are asked about only while somebody
wants to see them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dp2p import bus
from dp2p.bus import FlowRow, Total

ANSWER_S = 1.0  # for all shards to answer
ASKED_MAX = 256  # at a time
PAST_MAX = 65_536  # peers and protocols of shards that are gone

Key = tuple[str, str]
"Peer and protocol."
OTHERS = ""
"The peer that stands for all those that are not kept apart."


def added(one: Total, other: Total) -> Total:
    """Both together, under the name of the first."""
    return Total(
        one.peer,
        one.protocol,
        one.up_datagrams + other.up_datagrams,
        one.up_bytes + other.up_bytes,
        one.down_datagrams + other.down_datagrams,
        one.down_bytes + other.down_bytes,
    )


class Totals:
    """By peer and protocol, over all shards there are and were since the coordinator began, and
    since they began themselves.
    """

    def __init__(self, past_max: int = PAST_MAX) -> None:
        self._past_max = past_max
        self._shards: dict[int, dict[Key, Total]] = {}
        self._past: dict[Key, Total] = {}
        "Of shards that are gone; those that came last come last."

    def hello(self, index: int) -> None:
        """A shard is about to say all of its totals once more."""
        self._shards.pop(index, None)

    def said(self, index: int, message: bus.Totals) -> None:
        """What has changed on a shard."""
        known = self._shards.setdefault(index, {})
        for peer, protocol in message.folded:
            known.pop((peer, protocol), None)
        for one in message.totals:
            known[one.peer, one.protocol] = one

    def shard_down(self, index: int) -> None:
        """A shard is gone: what it said last is kept."""
        for key, one in self._shards.pop(index, {}).items():
            self._keep(key, one)
        while len(self._past) > self._past_max:
            oldest = next(key for key in self._past if key != (OTHERS, OTHERS))
            self._keep((OTHERS, OTHERS), self._past.pop(oldest))

    def _keep(self, key: Key, one: Total) -> None:
        before = self._past.pop(key, Total(*key))
        self._past[key] = added(before, one)

    def of(self, peer: str, protocol: str) -> Total:
        """What a peer and a protocol have exchanged."""
        total = Total(peer, protocol)
        for book in (self._past, *self._shards.values()):
            if one := book.get((peer, protocol)):
                total = added(total, one)
        return total

    def by_protocol(self) -> dict[str, Total]:
        """All peers of each protocol together; under no name what is not kept apart."""
        sums: dict[str, Total] = {}
        for book in (self._past, *self._shards.values()):
            for one in book.values():
                before = sums.get(one.protocol, Total(OTHERS, one.protocol))
                sums[one.protocol] = added(before, one)
        return sums


# --- asking shards ---


@dataclass(frozen=True, slots=True)
class Seen:
    """How flows stand: the answer to a question, by its token."""

    token: int
    rows: list[FlowRow]
    left_out: int
    "Flows beyond the limit."
    silent: list[int]
    "Shards that did not answer in time."


@dataclass(slots=True)
class _Question:
    token: int
    limit: int
    deadline: float
    waiting: set[int]
    rows: list[FlowRow] = field(default_factory=list)
    left_out: int = 0


class Questions:
    """Questions to all shards about their flows, by number."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._next = 1
        self._open: dict[int, _Question] = {}

    @property
    def full(self) -> bool:
        """No other can be asked now."""
        return len(self._open) >= ASKED_MAX

    def ask(
        self, token: int, wanted: bus.AskTraffic, shards: Iterable[int], now: float
    ) -> tuple[bus.AskTraffic, list[Seen]]:
        """What to ask of each of ``shards``, and the answer when there are none."""
        number, self._next = self._next, self._next + 1
        question = _Question(token, wanted.limit, now + ANSWER_S, set(shards))
        self._open[number] = question
        return msgspec.structs.replace(wanted, id=number), self._finished(number, question)

    def told(self, index: int, told: bus.TrafficTold) -> list[Seen]:
        """A shard has answered."""
        question = self._open.get(told.id)
        if question is None or index not in question.waiting:
            return []
        question.waiting.discard(index)
        question.rows += told.rows
        question.left_out += told.left_out
        return self._finished(told.id, question)

    def shard_down(self, index: int) -> list[Seen]:
        """A shard will not answer."""
        seen: list[Seen] = []
        for number, question in list(self._open.items()):
            question.waiting.discard(index)
            seen += self._finished(number, question)
        return seen

    def run(self, now: float) -> list[Seen]:
        """Answer with what there is where time is up."""
        late = [number for number, one in self._open.items() if one.deadline <= now]
        return [self._seen(self._open.pop(number)) for number in late]

    def next_deadline(self) -> float:
        """When to call ``run`` next (s)."""
        return min((one.deadline for one in self._open.values()), default=float("inf"))

    def _finished(self, number: int, question: _Question) -> list[Seen]:
        if question.waiting or self._open.pop(number, None) is None:
            return []
        return [self._seen(question)]

    def _seen(self, question: _Question) -> Seen:
        """The longest queues first, then what moves most."""
        rows = sorted(
            question.rows,
            key=lambda row: (-row.queued_bytes, -(row.rate_up + row.rate_down), row.peer),
        )
        left_out = question.left_out + max(0, len(rows) - question.limit)
        shown = [self._with_total(row) for row in rows[: question.limit]]
        return Seen(question.token, shown, left_out, sorted(question.waiting))

    def _with_total(self, row: FlowRow) -> FlowRow:
        """What the shard said of itself, or more if other shards had this peer too."""
        total = self._totals.of(row.peer, row.protocol)
        return msgspec.structs.replace(
            row,
            up_datagrams=total.up_datagrams,
            up_bytes=total.up_bytes,
            down_datagrams=total.down_datagrams,
            down_bytes=total.down_bytes,
        )


# --- sessions that want to see their flows again and again ---


@dataclass(slots=True)
class _Watch:
    every_s: float
    due: float
    asked: bool = False
    "The answer to the last question has not come."


class Watches:
    """Sessions that want ``traffic`` events, by token."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}

    def set(self, session: str, every_s: float | None, now: float) -> None:
        """How often a session wants to hear of its flows, None: not at all. Again with the same
        changes nothing.
        """
        if every_s is None:
            self._watches.pop(session, None)
            return
        watch = self._watches.setdefault(session, _Watch(every_s, now))
        if watch.every_s != every_s:
            watch.every_s, watch.due = every_s, now

    def keep(self, sessions: Iterable[str]) -> None:
        """These are the sessions there are."""
        self._watches = {one: self._watches[one] for one in sessions if one in self._watches}

    def due(self, now: float) -> list[str]:
        """Sessions to ask for now. Who is not answered yet is not asked for again."""
        found = []
        for session, watch in self._watches.items():
            if watch.due > now:
                continue
            watch.due = max(watch.due + watch.every_s, now)
            if not watch.asked:
                watch.asked = True
                found.append(session)
        return found

    def answered(self, session: str) -> bool:
        """The answer has come; True while it is wanted."""
        watch = self._watches.get(session)
        if watch is None:
            return False
        watch.asked = False
        return True

    def next_deadline(self) -> float:
        """When to call ``due`` next (s)."""
        return min((one.due for one in self._watches.values()), default=float("inf"))


# --- for ``status`` ---


def summary(
    loads: Mapping[int, list[bus.ProtocolLoad]], totals: Mapping[str, Total]
) -> dict[str, dict[str, int]]:
    """Each protocol in short, over all shards; ``loads`` is what they said last."""
    found: dict[str, dict[str, int]] = {}
    for load in loads.values():
        for one in load:
            mine = found.setdefault(one.name, dict.fromkeys(_SUMMED.values(), 0))
            for name, shown in _SUMMED.items():
                mine[shown] += getattr(one, name)
    for name, mine in found.items():
        total = totals.get(name, Total(OTHERS, name))
        mine |= {"up_bytes": total.up_bytes, "down_bytes": total.down_bytes}
    return found


_SUMMED = {
    "flows": "peers",
    "rate_up": "rate_up",
    "rate_down": "rate_down",
    "queued_bytes": "queued_bytes",
    "unread_bytes": "unread_bytes",
}

MEMORY = ("window_bytes", "peer_window_bytes", "unread_bytes", "queued_bytes", "windows_grown")


def memory(stats: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """What buffers hold and may hold, over all shards."""
    every = list(stats)
    return {name: sum(int(one.get(name, 0)) for one in every) for name in MEMORY}
