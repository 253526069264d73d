"""Which connections to open, when, and through which shard.

Pure: time comes in as ``now`` (s, monotonic), jitter from an injected source, names are resolved
by whoever drives this. Static peers are kept connected; peers lost with a shard are dialled again a
few times; applications ask for single dials and wait for their outcome.

A target is an address somebody wants connected. What it goes through:

    IDLE -> RESOLVING -> DIALLING -> OPENING -> HELD
     ^                      |           |         |      HELD: connected, watched
     +------ backoff -------+-----------+---------+      a target nobody wants is forgotten
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from dp2p import bus
from dp2p.addresses import Address, Endpoint, PeerAddress, parse_endpoint
from dp2p.coordinator.peers import Link, LinkId
from dp2p.coordinator.targets import (
    Action,
    Connect,
    Connected,
    Failed,
    Phase,
    Place,
    Resolve,
    Target,
    View,
)
from dp2p.errors import AddressError
from dp2p.hello import CloseReason

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0
REDIALS = 6  # how often a peer lost with its shard is tried
ALTERNATES_MAX = 4
RESOLVE_S = 10.0
OPEN_S = 10.0  # for the peer to admit a link, or for the other of two links to open
GRACE_S = 5.0  # what a shard may need beyond its own handshake deadline


class Dialer:
    """All targets. Every method returns what is to be done about them."""

    def __init__(
        self, view: View, random: Callable[[], float], handshake_s: float, first_dial: int = 1
    ) -> None:
        """``random`` is uniform in [0, 1). ``first_dial`` differs from life to life of the
        coordinator, so that a shard's answer to an earlier one is not taken for one to this.
        """
        self._view = view
        self._random = random
        self._dial_s = handshake_s + GRACE_S
        self._next_dial = first_dial
        self._next_target = 1
        self._targets: dict[int, Target] = {}
        self._by_address: dict[Address, Target] = {}

    # --- what is wanted ---

    def keep(self, addresses: Iterable[Address], now: float) -> None:
        """Keep static peers connected from now on."""
        for address in addresses:
            target = self._target(address, now)
            target.static = True

    def request(self, token: int, address: Address, timeout_s: float, now: float) -> list[Action]:
        """Connect once; the outcome is told with ``token``."""
        if link := self._open_link(address, None):
            return [Connected(token, link)]
        target = self._target(address, now)
        target.waiters[token] = now + timeout_s
        return self._begin(target, now) if target.phase in (Phase.IDLE, Phase.HELD) else []

    def lost(self, links: Iterable[Link], now: float) -> None:
        """These links went down with their shard: dial their peers again."""
        for link in links:
            self.peer_down(link.peer, now)
            if any(target.peer == link.peer for target in self._targets.values()):
                continue  # a static peer
            if places := _dialable(link):
                target = self._target(PeerAddress(link.report.key, *places[0]), now)
                target.peer, target.tries, target.alternates = link.peer, REDIALS, places[1:]
                target.deadline = now + self._random() * BACKOFF_FIRST_S

    # --- what happens ---

    def resolved(self, number: int, places: list[Place], now: float) -> list[Action]:
        """A host name's addresses."""
        target = self._targets.get(number)
        if target is None or target.phase is not Phase.RESOLVING:
            return []
        target.places = list(dict.fromkeys(places))
        return self._next_place(target, now)

    def resolve_failed(self, number: int, why: str, now: float) -> list[Action]:
        """A host name has no address."""
        target = self._targets.get(number)
        if target is None or target.phase is not Phase.RESOLVING:
            return []
        return self._fail(target, "dial_failed", why, now)

    def dial_failed(self, dial: int, reason: str, now: float) -> list[Action]:
        """A shard could not connect: try the next address."""
        target = self._dialling(dial)
        if target is None:
            return []
        code = {"identity": "identity_mismatch", "timeout": "timeout"}.get(reason, "dial_failed")
        self._note(target, code, f"{_place_text(target.place)}: {_EXPLAINED.get(reason, reason)}")
        return self._next_place(target, now)

    def ready(self, dial: int | None, link: LinkId, peer: str, now: float) -> None:
        """A dial's handshake is done. Tell this before what admission has made of the link."""
        target = self._dialling(dial)
        if target is not None:
            target.link, target.peer, target.dial = link, peer, None
            self._enter(target, Phase.OPENING, now + OPEN_S)

    def link_up(self, link: Link) -> list[Action]:
        """A peer is connected, by whatever link."""
        actions: list[Action] = []
        for target in list(self._targets.values()):
            if link.peer == (target.peer or _peer(target.address)):
                actions += self._hold(target, link)
        return actions

    def link_down(self, link: LinkId, reason: str, now: float) -> list[Action]:
        """A link is gone, or was refused by either side."""
        target = next((one for one in self._targets.values() if one.link == link), None)
        if target is None or target.phase is not Phase.OPENING:
            return []
        target.link = None
        if reason == "duplicate":  # the other link to this peer counts as well
            found = self._view.connected(target.peer or "")
            return self._hold(target, found) if found else []
        code = f"refused:{reason}" if reason in SAID else "dial_failed"
        return self._fail(
            target, code, _EXPLAINED.get(reason, f"the link was closed: {reason}"), now
        )

    def peer_down(self, peer: str, now: float) -> None:
        """A peer is no longer connected: a static one is dialled again."""
        for target in self._targets.values():
            if target.phase is Phase.HELD and target.peer == peer:
                self._enter(target, Phase.IDLE, now + self._random() * BACKOFF_FIRST_S)

    def shard_down(self, shard: int, now: float) -> list[Action]:
        """What was under way in a shard goes through another one."""
        actions: list[Action] = []
        for target in list(self._targets.values()):
            dialling = target.phase is Phase.DIALLING and target.shard == shard
            opening = target.phase is Phase.OPENING and target.shard == shard
            if (dialling or opening) and target.place is not None:
                target.places.insert(0, target.place)
                target.link = None
                actions += self._next_place(target, now)
        return actions

    def run(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        for target in list(self._targets.values()):
            actions += self._expire_waiters(target, now)
            if target.number in self._targets and target.deadline <= now:
                actions += self._overdue(target, now)
        return actions

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        times = [
            time
            for target in self._targets.values()
            for time in (target.deadline, *target.waiters.values())
            if time != float("inf")
        ]
        return min(times, default=None)

    # --- a target's way ---

    def _target(self, address: Address, now: float) -> Target:
        target = self._by_address.get(address)
        if target is None:
            target = Target(self._next_target, address, deadline=now)
            self._next_target += 1
            self._targets[target.number] = self._by_address[address] = target
        return target

    def _begin(self, target: Target, now: float) -> list[Action]:
        if link := self._open_link(target.address, target.peer):
            return self._hold(target, link)
        target.error, target.link = None, None
        host, port = target.address.host, target.address.port
        if _is_numeric(host):
            target.places = [(host, port), *target.alternates]
            return self._next_place(target, now)
        self._enter(target, Phase.RESOLVING, now + RESOLVE_S)
        family = int(target.address.scheme[-1]) if isinstance(target.address, Endpoint) else None
        return [Resolve(target.number, host, port, family)]

    def _next_place(self, target: Target, now: float) -> list[Action]:
        target.dial = None
        if not target.places:
            return self._fail(target, *(target.error or ("dial_failed", "no address")), now)
        shard = self._view.least_loaded()
        if shard is None:
            return self._fail(target, "dial_failed", "no shard is running", now)
        target.place = target.places.pop(0)
        target.dial, target.shard = self._next_dial, shard
        self._next_dial += 1
        self._enter(target, Phase.DIALLING, now + self._dial_s)
        key = target.address.key if isinstance(target.address, PeerAddress) else None
        host, port = target.place
        return [Connect(shard, bus.DialLink(dial=target.dial, host=host, port=port, key=key))]

    def _hold(self, target: Target, link: Link) -> list[Action]:
        """The peer is connected: tell who waits, and watch it or forget it."""
        actions: list[Action] = [Connected(token, link) for token in target.waiters]
        target.waiters.clear()
        target.failures, target.tries, target.peer = 0, 0, link.peer
        target.link = target.dial = None
        self._enter(target, Phase.HELD, float("inf"))
        self._forget_unwanted(target)
        return actions

    def _fail(self, target: Target, code: str, message: str, now: float) -> list[Action]:
        """This round has failed: tell who waits, and try later or forget it."""
        self._note(target, code, message)
        code, message = target.error or (code, message)
        actions: list[Action] = [Failed(token, code, message) for token in target.waiters]
        target.waiters.clear()
        target.places, target.dial, target.link = [], None, None
        delay = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(target.failures, 30))
        target.failures += 1
        self._enter(target, Phase.IDLE, now + delay * (0.5 + self._random()))
        if target.tries:
            target.tries -= 1
        self._forget_unwanted(target)
        return actions

    def _overdue(self, target: Target, now: float) -> list[Action]:
        match target.phase:
            case Phase.IDLE:
                return self._begin(target, now)
            case Phase.DIALLING:
                self._note(
                    target, "timeout", f"{_place_text(target.place)}: no answer of the shard"
                )
                return self._next_place(target, now)
        return self._fail(target, "timeout", f"nothing came while {target.phase.name.lower()}", now)

    def _expire_waiters(self, target: Target, now: float) -> list[Action]:
        over = [token for token, deadline in target.waiters.items() if deadline <= now]
        for token in over:
            del target.waiters[token]
        if over:
            self._forget_unwanted(target)
        doing = f"not connected in time; was {target.phase.name.lower()}"
        return [Failed(token, "timeout", doing) for token in over]

    def _forget_unwanted(self, target: Target) -> None:
        if not (target.static or target.waiters or target.tries):
            self._targets.pop(target.number, None)
            self._by_address.pop(target.address, None)

    def _enter(self, target: Target, phase: Phase, deadline: float) -> None:
        target.phase, target.deadline = phase, deadline

    def _note(self, target: Target, code: str, message: str) -> None:
        """Keep the failure that says most: a wrong key before everything else, else the last."""
        if target.error is None or target.error[0] != "identity_mismatch":
            target.error = (code, message)

    def _dialling(self, dial: int | None) -> Target | None:
        if dial is None:
            return None
        return next((one for one in self._targets.values() if one.dial == dial), None)

    def _open_link(self, address: Address, peer: str | None) -> Link | None:
        if known := peer or _peer(address):
            return self._view.connected(known)
        return self._view.open_to(str(address))


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


def _peer(address: Address) -> str | None:
    return address.peer if isinstance(address, PeerAddress) else None


def _place_text(place: Place | None) -> str:
    return "?" if place is None else f"{place[0]} port {place[1]}"


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _dialable(link: Link) -> list[Place]:
    """Where a peer that was connected can be found: where it was dialled, or what it said."""
    report = link.report
    texts = [report.endpoint] if report.direction == "out" else report.listen
    found: list[Place] = []
    for text in texts[:ALTERNATES_MAX]:
        try:
            endpoint = parse_endpoint(text)
        except AddressError:
            continue
        if _is_numeric(endpoint.host):
            found.append((endpoint.host, endpoint.port))
    return found
