"""Sessions of applications and the protocols that they put on the air.

Pure: time comes in as ``now`` (s, monotonic), session tokens from an injected source. Each change
raises ``generation``; whoever drives this publishes a snapshot to the shards when it has risen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from dp2p import bus
from dp2p.control import ProtocolSpec
from dp2p.errors import RequestError
from dp2p.records import DATAGRAM_COST

HEARTBEAT_S = 1.0  # how often applications send one
SUSPECT_S = 2.5  # what is left to a session whose data socket is gone
PROTOCOLS_MAX = 250  # docs/spec/wire.md, "Channels"
# Ours: what a class has under way without being asked. Bulk pays with memory for rate.
CLASSES = ("urgent", "normal", "bulk")  # the most urgent first
WINDOW_MIN = {"urgent": 1 << 20, "normal": 1 << 20, "bulk": 8 << 20}


@dataclass(slots=True)
class Session:
    """One attached application."""

    token: str = field(repr=False)
    "Secret: whoever has it is the application."
    name: str
    heard: float
    "When the application last gave a sign of life."
    deadline: float
    "When the session ends without another one."
    instance: str
    "The application's life; peers hear it."


@dataclass(slots=True)
class Protocol:
    """One protocol on the air."""

    spec: ProtocolSpec
    "With ``window`` filled in."
    numbers: dict[str, int]
    "By session. Each has a number of its own: when a session ends, only its peers renegotiate."


def filled(spec: ProtocolSpec) -> ProtocolSpec:
    """``spec`` with its window chosen and its versions in order, each once.

    Raises: RequestError when the window cannot hold the largest datagram, or a lift is none.
    """
    _check_lifts(spec)
    largest = spec.max_datagram + DATAGRAM_COST
    window = spec.window or max(WINDOW_MIN[spec.priority], 2 * largest)
    if window < largest:
        raise RequestError(
            "bad_request",
            f"window of {window} bytes cannot hold a largest datagram, which takes {largest}",
            protocol=spec.name,
        )
    return msgspec.structs.replace(spec, window=window, versions=sorted(set(spec.versions)))


def _check_lifts(spec: ProtocolSpec) -> None:
    for lift in spec.lifts:
        types = f"types {lift.first} to {lift.last}"
        if lift.first > lift.last:
            raise RequestError("bad_request", f"a lift of {types} has none", protocol=spec.name)
        if CLASSES.index(lift.priority) >= CLASSES.index(spec.priority):
            raise RequestError(
                "bad_request",
                f"a lift of {types} to {lift.priority} is not above {spec.priority}",
                protocol=spec.name,
            )


def _instance(token: str) -> str:
    """The life of an application that knows of no other session than this one. Peers hear it, so it
    says nothing of the token.
    """
    return hashlib.blake2b(token.encode(), digest_size=8).hexdigest()


class Registry:
    """All sessions and protocols of the node."""

    def __init__(self, expiry_s: float, new_token: Callable[[], str]) -> None:
        self._expiry_s = expiry_s
        self._new_token = new_token
        self._sessions: dict[str, Session] = {}
        self._protocols: dict[str, Protocol] = {}
        self._next_number = 0
        self.generation = 0

    # --- sessions ---

    def attach(self, name: str, now: float, instance: str | None = None) -> Session:
        """Begin a session. Without ``instance`` it is a life of its own."""
        token = self._new_token()
        session = Session(token, name, now, now + self._expiry_s, instance or _instance(token))
        self._sessions[session.token] = session
        self.generation += 1
        return session

    def touch(self, token: str, now: float) -> Session:
        """The session is alive.  Raises: RequestError ``unknown_session``."""
        session = self._sessions.get(token)
        if session is None:
            raise RequestError("unknown_session", "the session is over or was never begun")
        session.heard = now
        session.deadline = now + self._expiry_s
        return session

    def suspect(self, token: str, now: float) -> None:
        """A shard has lost the session: it ends soon unless the application says otherwise."""
        if session := self._sessions.get(token):
            session.deadline = min(session.deadline, now + min(SUSPECT_S, self._expiry_s))

    def end(self, token: str) -> bool:
        """End a session and take its protocols off the air; False when there is none."""
        if self._sessions.pop(token, None) is None:
            return False
        for name in [name for name, one in self._protocols.items() if token in one.numbers]:
            self._leave(name, token)
        self.generation += 1
        return True

    def expire(self, now: float) -> list[Session]:
        """End the sessions whose time is up, and return them."""
        over = [session for session in self._sessions.values() if session.deadline <= now]
        for session in over:
            self.end(session.token)
        return over

    @property
    def tokens(self) -> Iterable[str]:
        """Tokens of all sessions."""
        return self._sessions.keys()

    def name_of(self, token: str) -> str | None:
        """What the application of a session calls itself; None when there is no such session."""
        session = self._sessions.get(token)
        return None if session is None else session.name

    # --- protocols ---

    @property
    def names(self) -> list[str]:
        """Protocols on the air, sorted."""
        return sorted(self._protocols)

    def names_of(self, token: str) -> list[str]:
        """Protocols of one session, sorted."""
        return sorted(name for name, one in self._protocols.items() if token in one.numbers)

    def register(self, token: str, spec: ProtocolSpec) -> Protocol:
        """Put ``spec`` on the air for a session; again with the same spec changes nothing.

        Raises: RequestError ``protocol_taken``, ``too_many_protocols``, ``bad_request``.
        """
        wanted = filled(spec)
        there = self._protocols.get(wanted.name)
        if there is None:
            there = Protocol(wanted, {})
        elif there.spec != wanted or not (wanted.shared or token in there.numbers):
            raise RequestError("protocol_taken", self._why_taken(there, wanted), protocol=spec.name)
        if token not in there.numbers:
            there.numbers[token] = self._take_number(wanted.name)
            self._protocols[wanted.name] = there
            self.generation += 1
        return there

    def withdraw(self, token: str, name: str) -> None:
        """Take a protocol of a session off the air.  Raises: RequestError."""
        there = self._protocols.get(name)
        if there is None or token not in there.numbers:
            raise RequestError(
                "unknown_protocol", "this session has not registered it", protocol=name
            )
        self._leave(name, token)
        self.generation += 1

    def _take_number(self, name: str) -> int:
        """The next free number after the last one given, so that a freed one is used last."""
        taken = self._taken()
        if len(taken) >= PROTOCOLS_MAX:
            raise RequestError(
                "too_many_protocols", f"{PROTOCOLS_MAX} are on the air", protocol=name
            )
        while self._next_number in taken:
            self._next_number = (self._next_number + 1) % PROTOCOLS_MAX
        number = self._next_number
        self._next_number = (number + 1) % PROTOCOLS_MAX
        return number

    def _taken(self) -> set[int]:
        return {number for one in self._protocols.values() for number in one.numbers.values()}

    def _leave(self, name: str, token: str) -> None:
        protocol = self._protocols[name]
        del protocol.numbers[token]
        if not protocol.numbers:
            del self._protocols[name]

    @staticmethod
    def _why_taken(there: Protocol, wanted: ProtocolSpec) -> str:
        if there.spec.shared and wanted.shared:
            return "on the air as shared, with other properties than these"
        return "on the air for another session; it can be shared only when both ask for that"

    # --- the shards' view ---

    def snapshot(self) -> bus.Registry:
        """All of it, for the shards."""
        return bus.Registry(
            generation=self.generation,
            apps=[
                bus.AppReport(session=one.token, name=one.name, instance=one.instance)
                for one in self._sessions.values()
            ],
            protocols=[
                bus.ProtocolEntry(
                    number=number,
                    spec=one.spec,
                    session=token,
                    instance=self._sessions[token].instance,
                )
                for one in self._protocols.values()
                for token, number in one.numbers.items()
            ],
        )

    def outgrow(self, generation: int) -> None:
        """Make sure that what is published next is newer than ``generation``."""
        self.generation = max(self.generation, generation + 1)

    def restore(self, known: bus.Registry, now: float) -> None:
        """Take over what a shard knows, in a coordinator that has just begun."""
        for app in known.apps:
            self._sessions[app.session] = Session(
                app.session, app.name, now, now + self._expiry_s, app.instance
            )
        for entry in known.protocols:
            if entry.session in self._sessions:
                there = self._protocols.setdefault(entry.spec.name, Protocol(entry.spec, {}))
                there.numbers[entry.session] = entry.number
        self._next_number = (max(self._taken(), default=-1) + 1) % PROTOCOLS_MAX
        self.outgrow(known.generation)

    def describe_apps(self, now: float) -> list[dict[str, object]]:
        """For ``status``: no tokens."""
        return [
            {
                "name": session.name,
                "heard_s": round(now - session.heard, 3),
                "protocols": [
                    n for n, one in self._protocols.items() if session.token in one.numbers
                ],
            }
            for session in self._sessions.values()
        ]

    def describe_protocols(self) -> list[dict[str, object]]:
        """For ``status``."""
        return [
            {
                "name": name,
                "numbers": sorted(one.numbers.values()),
                "sessions": len(one.numbers),
                **{key: getattr(one.spec, key) for key in _SHOWN},
            }
            for name, one in self._protocols.items()
        ]


_SHOWN = ("versions", "max_datagram", "types", "priority", "weight", "slots", "window", "shared")
