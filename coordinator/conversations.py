"""Who may ask whom how much: questions and answers on the channel that nodes have of their own.

Source: docs/spec/wire.md, "Introductions". Every question of a peer costs this node work, so each
link has an allowance, and what exceeds it is left unanswered; who goes on and on misbehaves. This
node keeps to the same allowance when it asks: what would be too fast waits.

Pure; ``now`` is monotonic (s). All state is bounded for each link and goes with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from dp2p.allowance import Allowance
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import LinkId
from dp2p.introduction import Check, Find, Record, Said

ANSWERED_AT_ONCE = 16  # FIND, CHECK and RECORD; docs/spec/wire.md, "Introductions"
ANSWER_EVERY_S = 2.0  # and one more each; as above
ASKED_AT_ONCE = 12  # ours: below the peer's 16, as messages bunch on the way
ASK_EVERY_S = 2.1
TOLERATED = 64  # messages that should not have come, and one more each ANSWER_EVERY_S
WAITING_MAX = 32  # own questions of one kind that wait to be sent on a link
OPEN_PER_LINK = 64  # own questions that were sent and are not answered
OPEN_IN_ALL = 16_384

Question = Find | Check
About = TypeVar("About")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A connected peer that has said something."""

    link: LinkId
    key: bytes
    network: str
    "The IP network it is in, ``192.0.2.0/24``: peers of one network count as one."


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this on the link."""

    link: LinkId
    message: Said


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The peer broke the rules: the link is to be closed."""

    link: LinkId
    why: str


@dataclass(slots=True)
class _Conversation:
    """What passes on one link."""

    theirs: Allowance = field(default_factory=lambda: Allowance(ANSWERED_AT_ONCE, ANSWER_EVERY_S))
    patience: Allowance = field(default_factory=lambda: Allowance(TOLERATED, ANSWER_EVERY_S))
    ours: Allowance = field(default_factory=lambda: Allowance(ASKED_AT_ONCE, ASK_EVERY_S))
    record: Record | None = None
    "This node's newest, not yet sent."
    checks: deque[tuple[Question, object]] = field(default_factory=deque)
    finds: deque[tuple[Question, object]] = field(default_factory=deque)
    next_id: int = 1

    @property
    def waits(self) -> bool:
        return bool(self.record or self.checks or self.finds)


class Conversations:
    """All links' conversations. A question carries what it is about until its answer comes."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._links: dict[LinkId, _Conversation] = {}
        self._waiting: set[LinkId] = set()
        self._open: dict[tuple[LinkId, int], object] = {}
        "What was sent and is not answered, oldest first."
        self._open_of: dict[LinkId, dict[int, None]] = {}

    # --- what this node asks ---

    def ask(self, link: LinkId, message: Question, about: object, now: float) -> list[Tell]:
        """Ask now or soon, with a number put in. What finds no room is left out.

        What this node itself wants to know for its safety goes before all else: checks first.
        """
        conversation = self._of(link)
        if isinstance(message, Check):
            self._queue(conversation.checks, message, about)
        else:
            self._queue(conversation.finds, message, about)
        return self._send(link, conversation, now)

    def announce(self, links: Iterable[LinkId], record: bytes, now: float) -> list[Tell]:
        """Tell peers this node's new record; on each link the newest replaces one that waits."""
        told: list[Tell] = []
        for link in links:
            conversation = self._of(link)
            conversation.record = Record(record=record)
            told += self._send(link, conversation, now)
        return told

    def may_find(self, link: LinkId) -> bool:
        """Whether one more FIND would be sent in the end."""
        found = self._links.get(link)
        return found is None or len(found.finds) < WAITING_MAX

    def run(self, now: float) -> list[Tell]:
        """Send what had to wait."""
        return [tell for link in list(self._waiting) for tell in self._send(link, None, now)]

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        return min((self._links[link].ours.next_at() for link in self._waiting), default=None)

    def answered(self, link: LinkId, number: int, kind: type[About]) -> About | None:
        """What the question was about, once; None when none with that number and kind is open."""
        about = self._open.get((link, number))
        if not isinstance(about, kind):
            return None
        self._close(link, number)
        return about

    # --- what peers ask ---

    def may_ask(self, link: LinkId, now: float) -> bool:
        """Whether a peer's message that makes work is to be looked at: takes from its allowance."""
        return self._of(link).theirs.take(now)

    def bear(self, link: LinkId, why: str, now: float) -> list[Misbehaved]:
        """A message that should not have come: nothing to be done, unless there were many."""
        return [] if self._of(link).patience.take(now) else self.end(link, why)

    def end(self, link: LinkId, why: str) -> list[Misbehaved]:
        """A message that no honest peer sends."""
        self._counters.misbehaved += 1
        return [Misbehaved(link, why)]

    def down(self, link: LinkId) -> None:
        """The link is gone, and with it all that was asked on it."""
        self._links.pop(link, None)
        self._waiting.discard(link)
        for number in self._open_of.pop(link, ()):
            del self._open[link, number]

    @property
    def links(self) -> Iterable[LinkId]:
        """Those on which something was said or is to be."""
        return self._links.keys()

    def __len__(self) -> int:
        """Own questions that are not answered."""
        return len(self._open)

    def _of(self, link: LinkId) -> _Conversation:
        found = self._links.get(link)
        if found is None:
            found = self._links[link] = _Conversation()
        return found

    def _queue(
        self, queue: deque[tuple[Question, object]], message: Question, about: object
    ) -> None:
        if len(queue) < WAITING_MAX:
            queue.append((message, about))
        else:
            self._counters.unsent += 1

    def _send(self, link: LinkId, conversation: _Conversation | None, now: float) -> list[Tell]:
        conversation = conversation or self._links[link]
        told: list[Tell] = []
        while conversation.waits and conversation.ours.take(now):
            told.append(Tell(link, self._next(link, conversation)))
        if conversation.waits:
            self._waiting.add(link)
        else:
            self._waiting.discard(link)
        return told

    def _next(self, link: LinkId, conversation: _Conversation) -> Said:
        if conversation.record is not None and not conversation.checks:
            record, conversation.record = conversation.record, None
            return record
        message, about = (conversation.checks or conversation.finds).popleft()
        number, conversation.next_id = conversation.next_id, conversation.next_id + 1
        self._keep_open(link, number, about)
        if isinstance(message, Check):
            self._counters.checks_asked += 1
        else:
            self._counters.finds_asked += 1
        return msgspec.structs.replace(message, id=number)

    def _keep_open(self, link: LinkId, number: int, about: object) -> None:
        """Wait for an answer; the oldest are given up: one on this link, one of all."""
        numbers = self._open_of.setdefault(link, {})
        if len(numbers) >= OPEN_PER_LINK:
            self._counters.unsent += 1
            self._close(link, next(iter(numbers)))
        if len(self._open) >= OPEN_IN_ALL:
            self._counters.unsent += 1
            self._close(*next(iter(self._open)))
        self._open_of.setdefault(link, numbers)[number] = None
        self._open[link, number] = about

    def _close(self, link: LinkId, number: int) -> None:
        del self._open[link, number]
        numbers = self._open_of[link]
        del numbers[number]
        if not numbers:
            del self._open_of[link]
