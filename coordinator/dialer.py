"""Which connections to open, when, and through which shard.

Pure: time comes in as ``now`` (s, monotonic), jitter from an injected source, names are resolved
by whoever drives this. Static peers are kept connected; peers lost with a shard are dialled again a
few times; applications ask for single dials and wait for their outcome.

A target is what somebody wants connected. In a round it is tried at each of its places in turn:

    IDLE -> RESOLVING -> QUEUED -> DIALLING -> OPENING -> HELD
     ^                     ^          |           |         |   HELD: connected, watched
     |                     +- place --+           |         |
     +------ backoff -----------------+-----------+---------+   unwanted targets are forgotten

Two things are left alone for a while when they have failed: a place where nobody answered, and a
peer that did answer, but not as it was asked to. That a place is dead says nothing against the
peer, and that a wrong key answers says nothing against who is there. Applications do not wait for
this, but their failures count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dp2p import bus, ids
from dp2p.addresses import Endpoint, PeerAddress, PeerOnly, is_numeric
from dp2p.coordinator.backoff import FIRST_S, Backoff
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.pending import Attempt, Pending
from dp2p.coordinator.places import Place, endpoint_text, places_of
from dp2p.coordinator.targets import (
    Action,
    Connect,
    Connected,
    Failed,
    Knowledge,
    Phase,
    Resolve,
    Target,
    Targets,
    View,
    Wanted,
)
from dp2p.hello import CloseReason

PLACE_BACKOFF_MAX_S = 60.0
PEER_BACKOFF_MAX_S = 600.0
PAUSE_MIN_S = FIRST_S / 2  # between rounds, whatever the backoff says
NO_SHARD_S = 1.0  # until a shard is looked for again
REDIALS = 6  # how often a peer lost with its shard is tried
PLACES_MAX = 8  # in one round
MAX_DIALS = 64  # under way at a time
RESOLVE_S = 10.0
OPEN_S = 10.0  # for the peer to admit a link, or for the other of two links to open
GRACE_S = 5.0  # what a shard may need beyond its own handshake deadline


class Dialer:
    """All targets. Every method returns what is to be done about them."""

    def __init__(
        self,
        view: View,
        random: Callable[[], float],
        handshake_s: float,
        first_dial: int = 1,
        max_dials: int = MAX_DIALS,
    ) -> None:
        """``random`` is uniform in [0, 1). ``first_dial`` differs from life to life of the
        coordinator, so that a shard's answer to an earlier one is not taken for one to this.
        """
        self._view = view
        self._random = random
        self._dial_s = handshake_s + GRACE_S
        self._next_dial = first_dial
        self._targets = Targets()
        self._pending = Pending(max_dials)
        self._places = Backoff(random, PLACE_BACKOFF_MAX_S)
        self._peers = Backoff(random, PEER_BACKOFF_MAX_S)

    # --- what is wanted ---

    def keep(self, addresses: Iterable[Wanted], now: float) -> None:
        """Keep static peers connected from now on."""
        for address in addresses:
            self._targets.of(address, now).static = True

    def request(self, token: int, address: Wanted, timeout_s: float, now: float) -> list[Action]:
        """Connect once; the outcome is told with ``token``."""
        target = self._targets.of(address, now)
        target.waiters[token] = now + timeout_s
        if target.phase not in (Phase.IDLE, Phase.HELD):
            return []
        return self._begin(target, now) + self._start_queued(now)

    def lost(self, links: Iterable[Link], now: float) -> None:
        """These links went down with their shard: dial their peers again."""
        for link in links:
            self.peer_down(link.peer, now)
            same = [one for one in self._targets if one.peer == link.peer]
            if any(one.static or one.tries for one in same):
                continue
            if places := places_of(link):
                target = self._targets.of(PeerAddress(link.report.key, *places[0]), now)
                target.tries, target.alternates = REDIALS, places[1:]
                if target.phase is Phase.IDLE:
                    target.deadline = now + self._random() * FIRST_S

    # --- what happens ---

    def resolved(self, number: int, places: list[Place], now: float) -> list[Action]:
        """A host name's addresses."""
        target = self._targets.get(number)
        if target is None or target.phase is not Phase.RESOLVING:
            return []
        if target.place is None or not places:
            return self.resolve_failed(number, "the name has no address", now)
        name = endpoint_text(target.place)
        self._places.forget(name)
        target.met.discard(name)
        target.places = [*self._in_order(places), *target.places]
        return self._next_place(target, now) + self._start_queued(now)

    def resolve_failed(self, number: int, why: str, now: float) -> list[Action]:
        """A host name has no address."""
        target = self._targets.get(number)
        if target is None or target.phase is not Phase.RESOLVING:
            return []
        return self._unresolved(target, "dial_failed", why, now) + self._start_queued(now)

    def dial_failed(
        self, dial: int, reason: str, now: float, answered: str | None = None
    ) -> list[Action]:
        """A shard could not connect: try the next place. ``answered``: the key that did, base32,
        when the reason is ``identity``.
        """
        attempt = self._pending.failed(dial)
        if attempt is None:
            return []
        return self._attempt_failed(attempt, reason, answered, now) + self._start_queued(now)

    def ready(self, link: LinkId, report: bus.LinkReport, now: float) -> list[Action]:
        """A handshake is done. Tell this before what admission has made of the link."""
        if report.dial is None:
            return []
        attempt = self._pending.opening(report.dial, link, now + OPEN_S)
        if attempt is None:
            return []
        target = self._targets.get(attempt.target)
        if target is not None and target.dial == attempt.dial:
            target.link, target.dial = link, None
            target.peer = ids.node_id_text(report.key)
            target.enter(Phase.OPENING, now + OPEN_S)
        return [attempt.tried(answered=report.key)]

    def link_up(self, link: Link, now: float) -> list[Action]:
        """A peer is connected, by whatever link."""
        for attempt in self._pending.end_link(link.id):
            self._places.succeeded(attempt.endpoint)
        self._peers.succeeded(link.report.key)
        actions: list[Action] = []
        for target in self._targets:
            if link.peer == target.peer:
                actions += self._hold(target, link)
        return actions + self._start_queued(now)

    def link_down(self, link: LinkId, reason: str, now: float) -> list[Action]:
        """A link is gone, or was refused by either side."""
        self._pending.end_link(link)
        target = self._targets.of_link(link)
        actions: list[Action] = []
        if target is not None and target.phase is Phase.OPENING:
            actions = self._not_admitted(target, reason, now)
        return actions + self._start_queued(now)

    def peer_down(self, peer: str, now: float) -> None:
        """A peer is no longer connected: a static one is dialled again."""
        for target in self._targets:
            if target.phase is Phase.HELD and target.peer == peer:
                target.enter(Phase.IDLE, now + self._random() * FIRST_S)

    def shard_down(self, shard: int, now: float) -> list[Action]:
        """What was under way in a shard goes through another one."""
        over = self._pending.end_shard(shard)
        actions: list[Action] = [
            attempt.tried(reason="shard_down") for attempt in over if attempt.link is None
        ]
        for target in self._targets:
            under_way = target.phase in (Phase.DIALLING, Phase.OPENING)
            if under_way and target.shard == shard and target.place is not None:
                target.places.insert(0, target.place)
                target.left += 1
                actions += self._next_place(target, now)
        return actions + self._start_queued(now)

    def run(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        for attempt in self._pending.overdue(now):
            if attempt.link is None:
                actions += self._attempt_failed(attempt, "timeout", None, now)
        for target in self._targets:
            actions += self._expire_waiters(target, now)
            if target in self._targets and target.deadline <= now:
                actions += self._overdue(target, now)
        return actions + self._start_queued(now)

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        first = min(self._pending.next_deadline(), self._targets.next_deadline())
        return None if first == float("inf") else first

    # --- a target's way ---

    def _begin(self, target: Target, now: float) -> list[Action]:
        """A round begins, unless it is too early for one."""
        if link := self._open_link(target):
            return self._hold(target, link)
        early = self._peers.allowed_at(target.key) if target.key else now
        if early > now and not target.waiters:
            target.enter(Phase.IDLE, early)
            return []
        if isinstance(target.address, PeerOnly):
            places = self._view.places(target.address.key)
        else:
            places = [(target.address.host, target.address.port), *target.alternates]
        target.places, target.left = self._in_order(places), PLACES_MAX
        target.error, target.link = None, None
        target.met.clear()
        return self._next_place(target, now)

    def _in_order(self, places: Iterable[Place]) -> list[Place]:
        """Each once: where it worked last, then where it failed least."""
        once = dict.fromkeys(places)
        return sorted(once, key=lambda place: self._places.preference(endpoint_text(place)))

    def _next_place(self, target: Target, now: float) -> list[Action]:
        target.dial = None
        place = target.place = self._take_place(target, now)
        if place is None:
            return self._end_round(target, now)
        if is_numeric(place[0]):
            target.turn = self._targets.next_number()
            target.enter(Phase.QUEUED)
            return []
        target.enter(Phase.RESOLVING, now + RESOLVE_S)
        family = int(target.address.scheme[-1]) if isinstance(target.address, Endpoint) else None
        return [Resolve(target.number, *place, family)]

    def _take_place(self, target: Target, now: float) -> Place | None:
        """The first that may be tried now. When somebody waits, any may."""
        for place in target.places if target.left > 0 else ():
            name = endpoint_text(place)
            target.met.add(name)
            if target.waiters or self._places.allowed_at(name) <= now:
                target.left -= 1
                target.places.remove(place)
                return place
        return None

    def _start_queued(self, now: float) -> list[Action]:
        """Use the room there is. The only way to a dial, so that nobody overtakes who waits."""
        actions: list[Action] = []
        for target in self._targets.queued():
            if self._pending.full:
                break
            if target.place is not None and self._pending.room(target.place):
                actions += self._start(target, target.place, now)
        return actions

    def _start(self, target: Target, place: Place, now: float) -> list[Action]:
        shard = self._view.least_loaded()
        if shard is None:
            return self._put_off(target, "dial_failed", "no shard is running", NO_SHARD_S, now)
        known = self._view.knowledge(target.key, endpoint_text(place))
        if target.key not in (None, known.key):  # pinned, whatever else is known
            known = Knowledge(target.key)
        dial, self._next_dial = self._next_dial, self._next_dial + 1
        pinned, until = target.key is not None, now + self._dial_s
        self._pending.begin(
            Attempt(dial, target.number, shard, place, known, pinned=pinned, until=until)
        )
        target.dial, target.shard = dial, shard
        target.enter(Phase.DIALLING)
        host, port = place
        message = bus.DialLink(
            dial=dial, host=host, port=port, key=known.key, pinned=pinned, ticket=known.ticket
        )
        return [Connect(shard, message)]

    def _attempt_failed(
        self, attempt: Attempt, reason: str, answered: str | None, now: float
    ) -> list[Action]:
        actions: list[Action] = [attempt.tried(reason=reason, answered=answered)]
        if reason != "identity":
            self._places.failed(attempt.endpoint, now)
        target = self._targets.get(attempt.target)
        if target is None or target.dial != attempt.dial:
            return actions
        code = {"identity": "identity_mismatch", "timeout": "timeout"}.get(reason, "dial_failed")
        why = f"{attempt.endpoint}: {_EXPLAINED.get(reason, reason)}"
        target.note(code, f"{why}: {answered}" if answered else why)
        return actions + self._next_place(target, now)

    def _unresolved(self, target: Target, code: str, why: str, now: float) -> list[Action]:
        target.note(code, why)
        if target.place is not None:
            self._places.failed(endpoint_text(target.place), now)
        return self._next_place(target, now)

    def _not_admitted(self, target: Target, reason: str, now: float) -> list[Action]:
        """The link of a target in OPENING is gone."""
        target.link = None
        if reason == "duplicate":  # the other link to this peer counts as well
            found = self._view.connected(target.peer or "")
            return self._hold(target, found) if found else []
        code = f"refused:{reason}" if reason in SAID else "dial_failed"
        why = _EXPLAINED.get(reason, f"the link was closed: {reason}")
        return self._refused(target, code, why, now)

    def _refused(self, target: Target, code: str, message: str, now: float) -> list[Action]:
        """The peer was there and would not open."""
        if target.key:
            self._peers.failed(target.key, now)
        elif target.place:
            self._places.failed(endpoint_text(target.place), now)
        return self._fail(target, code, message, now)

    def _hold(self, target: Target, link: Link) -> list[Action]:
        """The peer is connected: tell who waits, and watch it or forget it."""
        actions: list[Action] = [Connected(token, link) for token in target.waiters]
        target.waiters.clear()
        target.tries, target.peer = 0, link.peer
        target.link = target.dial = None
        target.enter(Phase.HELD)
        self._targets.forget_unwanted(target)
        return actions

    def _end_round(self, target: Target, now: float) -> list[Action]:
        """No place is left."""
        left_alone = target.error is None and target.met
        if left_alone and not target.waiters:
            self._pause(target, PAUSE_MIN_S, now)
            return []
        code, message = target.error or ("dial_failed", "no place is known where it could be")
        if target.key and (not target.met or code == "identity_mismatch"):
            self._peers.failed(target.key, now)
        return self._fail(target, code, message, now)

    def _fail(self, target: Target, code: str, message: str, now: float) -> list[Action]:
        """This round has failed."""
        target.tries = max(0, target.tries - 1)
        return self._put_off(target, code, message, PAUSE_MIN_S, now)

    def _put_off(
        self, target: Target, code: str, message: str, least_s: float, now: float
    ) -> list[Action]:
        """Tell who waits, and try later or forget it."""
        target.note(code, message)
        code, message = target.error or (code, message)
        actions: list[Action] = [Failed(token, code, message) for token in target.waiters]
        target.waiters.clear()
        target.dial = target.link = None
        self._pause(target, least_s, now)
        self._targets.forget_unwanted(target)
        return actions

    def _pause(self, target: Target, least_s: float, now: float) -> None:
        """Until one of the places met may be tried again, and the peer too."""
        allowed = min(map(self._places.allowed_at, target.met), default=now)
        if target.key:
            allowed = max(allowed, self._peers.allowed_at(target.key))
        target.enter(Phase.IDLE, max(allowed, now + least_s))

    def _overdue(self, target: Target, now: float) -> list[Action]:
        message = f"nothing came while {target.phase.name.lower()}"
        match target.phase:
            case Phase.IDLE:
                return self._begin(target, now)
            case Phase.RESOLVING:
                return self._unresolved(target, "timeout", message, now)
        return self._refused(target, "timeout", message, now)

    def _expire_waiters(self, target: Target, now: float) -> list[Action]:
        over = [token for token, deadline in target.waiters.items() if deadline <= now]
        for token in over:
            del target.waiters[token]
        if over:
            self._targets.forget_unwanted(target)
        doing = f"not connected in time; was {target.phase.name.lower()}"
        return [Failed(token, "timeout", doing) for token in over]

    def _open_link(self, target: Target) -> Link | None:
        if target.peer:
            return self._view.connected(target.peer)
        return self._view.open_to(str(target.address))


SAID = frozenset(reason.name.lower() for reason in CloseReason if reason.name != "TIMEOUT")
"Reasons that one side gave; any other is how a connection broke."

_EXPLAINED = {
    "auth": "it is of another network, or speaks another protocol",
    "identity": "another key answered than the one asked for",
    "timeout": "no answer in time",
    "eof": "the connection was closed before it was open",
    "limit": "this node is at its limit of connections",
    "self": "the address leads to this node itself",
    "full": "the peer set is full",
}
