"""Requests that are under way: their numbers, how long they wait, what counts as an answer.

A request is sent once, and once more when it stays unanswered; before that the session is doubted,
since the other node may have lost it. A request that has to wait for a session first waits for the
sessions' verdict, and its time begins when the session stands. That happens once for each attempt:
who keeps making sessions and says nothing else holds no request up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dp2p.coordinator.discovery.actions import Action, Counters, Doubt, Send
from dp2p.coordinator.discovery.chance import Random
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Advertised,
    Answer,
    AskRecord,
    Find,
    FindProtocol,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
    Request,
)

TIMEOUT_MIN_S, TIMEOUT_MAX_S = 0.3, 2.0
HANDSHAKE_S = 5.0  # at most, for a session; the sessions usually say sooner that there is none
SESSIONS_MAX = 4096  # contacts with whom there is thought to be one

ANSWERS: dict[type, type] = {
    Ping: Pong,
    Find: Nodes,
    AskRecord: RecordIs,
    FindProtocol: Providers,
    Advertise: Advertised,
}

Then = Callable[[Contact, list[Answer], float], list[Action]]
"Goes on with an answer's parts, in order, and the time; with none when there was no answer."
Make = Callable[[int], Request]
"A request with this number."


class RoundTrip:
    """How long answers take, smoothed (RFC 6298), over all contacts."""

    def __init__(self) -> None:
        self._mean_s = 0.5
        self._deviation_s = 0.25

    def took(self, seconds: float) -> None:
        """One answer came."""
        self._deviation_s += (abs(seconds - self._mean_s) - self._deviation_s) / 4
        self._mean_s += (seconds - self._mean_s) / 8

    @property
    def timeout_s(self) -> float:
        """When an answer is late."""
        late = self._mean_s + 4 * self._deviation_s
        return min(TIMEOUT_MAX_S, max(TIMEOUT_MIN_S, late))


@dataclass(slots=True, eq=False)
class _Waiting:
    contact: Contact
    request: Request
    then: Then
    sent_at: float
    due: float
    "When to try again, or to give up."
    shaking: bool
    "It waits for a session, in which it is sent."
    retried: bool = False
    parts: dict[int, Answer] = field(default_factory=dict)
    of: int = 0
    "How many parts there will be; 0 before the first."


class Requests:
    """All of them, by number."""

    def __init__(self, counters: Counters, random: Random) -> None:
        self._counters = counters
        self._random = random
        self._round_trip = RoundTrip()
        self._waiting: dict[int, _Waiting] = {}
        self._of: dict[Contact, list[_Waiting]] = {}
        self._due: list[tuple[float, int]] = []
        "A heap. What was answered, or waits longer by now, is passed over when its turn comes."
        self._sessions: dict[Contact, None] = {}
        "Those used last come last."

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, contact: Contact, make: Make, then: Then, now: float) -> list[Action]:
        """Send a request, and go on with ``then`` when it is answered or given up."""
        number = self._random.getrandbits(63)
        while number in self._waiting:
            number = self._random.getrandbits(63)
        request = make(number)
        shaking = contact not in self._sessions
        wait = HANDSHAKE_S if shaking else self._round_trip.timeout_s
        one = self._waiting[number] = _Waiting(contact, request, then, now, now + wait, shaking)
        self._of.setdefault(contact, []).append(one)
        heapq.heappush(self._due, (one.due, number))
        self._counters.requests += 1
        return [Send(contact, request)]

    def established(self, contact: Contact, now: float) -> None:
        """There is a session: what waited for it has been sent just now."""
        self._sessions.pop(contact, None)
        self._sessions[contact] = None
        if len(self._sessions) > SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        for one in self._of.get(contact, ()):
            if not one.shaking:
                continue
            one.shaking = False
            one.sent_at, one.due = now, now + self._round_trip.timeout_s
            heapq.heappush(self._due, (one.due, one.request.id))

    def forget_session(self, contact: Contact) -> None:
        """The next request will have to wait for a session."""
        self._sessions.pop(contact, None)

    def take(self, contact: Contact, answer: Answer, now: float) -> list[Action]:
        """An answer came; what does not fit is counted, and the request waits on."""
        one = self._waiting.get(answer.id)
        if one is None or one.contact != contact:
            self._counters.unasked += 1
            return []
        if type(answer) is not ANSWERS[type(one.request)] or not _fits(one, answer):
            self._counters.odd += 1
            return []
        if len(one.parts) < one.of:
            return []
        self._counters.answers += 1
        self._round_trip.took(now - one.sent_at)
        return self._end(one, now)

    def unreachable(self, contact: Contact, now: float) -> list[Action]:
        """There is no session to be had: nothing that waits for one will be answered."""
        self._sessions.pop(contact, None)
        return [act for one in list(self._of.get(contact, ())) for act in self._give_up(one, now)]

    def run(self, now: float) -> list[Action]:
        """Try again, or give up, what is late."""
        return [act for one in self._late(now) for act in self._on_late(one, now)]

    def next_deadline(self) -> float:
        """When ``run`` has something to do, or a little earlier; infinity when nothing waits."""
        return self._due[0][0] if self._due else float("inf")

    def _late(self, now: float) -> Iterator[_Waiting]:
        while self._due and self._due[0][0] <= now:
            due, number = heapq.heappop(self._due)
            one = self._waiting.get(number)
            if one is not None and one.due == due:
                yield one

    def _on_late(self, one: _Waiting, now: float) -> list[Action]:
        if one.parts:
            self._counters.incomplete += 1
            return self._end(one, now)
        if one.retried or one.shaking:
            return self._give_up(one, now)
        doubted = one.contact not in self._sessions  # for another request, just now
        self._sessions.pop(one.contact, None)
        self._counters.retries += 1
        one.retried = one.shaking = True
        one.due = now + HANDSHAKE_S
        heapq.heappush(self._due, (one.due, one.request.id))
        again = Send(one.contact, one.request)
        return [again] if doubted else [Doubt(one.contact), again]

    def _give_up(self, one: _Waiting, now: float) -> list[Action]:
        one.parts.clear()
        self._counters.failures += 1
        return self._end(one, now)

    def _end(self, one: _Waiting, now: float) -> list[Action]:
        del self._waiting[one.request.id]
        together = self._of[one.contact]
        together.remove(one)
        if not together:
            del self._of[one.contact]
        return one.then(one.contact, [one.parts[part] for part in sorted(one.parts)], now)


def _fits(one: _Waiting, answer: Answer) -> bool:
    """Whether a part is one that was missing; it is kept then."""
    part, of = (answer.part, answer.parts) if isinstance(answer, Nodes | Providers) else (0, 1)
    if part >= of or part in one.parts or one.of not in (0, of):
        return False
    one.parts[part], one.of = answer, of
    return True
