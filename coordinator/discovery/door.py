"""Who may have a handshake answered: so many, from so many, and under load against a cookie. Pure.

Anybody can write any address on a datagram. So while few ask, all are answered; beyond that an
address has to show that it receives what is sent to it, by bringing back a cookie, and has a share
of its own. A flood under false addresses uses up what is free of proof and nothing else.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache

from dp2p import noise, packets
from dp2p.allowance import Allowance, Shares
from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.session_types import Limits
from dp2p.networks import is_local, network_of

HOSTS_MAX = 4096
SITE_PREFIX = 64  # of an IPv6 address: who has one of these has them all


class Verdict(Enum):
    """What becomes of a message 1."""

    ANSWER = auto()
    COOKIE = auto()
    SILENCE = auto()


@lru_cache(HOSTS_MAX)
def groups_of(host: str) -> tuple[str, str, bool]:
    """The address by which ``host`` is counted, its network, and whether it is of this site.

    The address is an IPv4 address or a /64. Reading addresses costs as much as unmasking, hence the
    memory of those seen lately.
    """
    address = ipaddress.ip_address(host)
    if address.version == 6:
        counted = str(ipaddress.ip_network((address, SITE_PREFIX), strict=False))
    else:
        counted = host
    return counted, network_of(host), is_local(host)


class Door:
    """Counts message 1's, and makes and knows cookies."""

    def __init__(
        self, limits: Limits, random_bytes: Callable[[int], bytes], names: int = 4096
    ) -> None:
        self._limits = limits
        self._random_bytes = random_bytes
        self._calm = Shares(limits.calm_network, limits.calm, names)
        self._by_address = Shares(limits.proven_address, limits.proven, names)
        self._by_network = Shares(limits.proven_network, limits.proven, names)
        self._cookies = Allowance(*limits.cookies)
        self._secrets = [random_bytes(noise.KEY_BYTES)]
        "Of cookies: the one in use, and the one before."
        self._changed_at: float | None = None

    def groups(self, host: str) -> tuple[str | None, str | None]:
        """The address and the network by which ``host`` is counted; None: not at all."""
        address, network, local = groups_of(host)
        return (None, None) if local and not self._limits.local else (address, network)

    def ask(self, cookie: bytes, source: Place, now: float) -> Verdict:
        """What to do with a message 1 that came from ``source``.

        A flood is told from others before its addresses are read, which costs more than the rest.
        """
        if cookie != packets.NO_COOKIE and self._knows(cookie, source, now):
            return Verdict.ANSWER if self._share(source, now) else Verdict.SILENCE
        if self._calm.left(now) and self._calm.take(self.groups(source[0])[1], now):
            return Verdict.ANSWER
        return Verdict.COOKIE if self._cookies.take(now) else Verdict.SILENCE

    def _share(self, source: Place, now: float) -> bool:
        """One handshake for who brought a cookie. Whoever gets none takes nothing from others: a
        network has more addresses than what is for all lasts for.
        """
        address, network = self.groups(source[0])
        if not self._by_network.left_for(network, now) or not self._by_address.take(address, now):
            return False
        return self._by_network.take(network, now)

    def cookie(self, place: Place, now: float) -> bytes:
        """What ``place`` has to bring back."""
        self._change(now)
        return self._cookie(self._secrets[0], place)

    def _knows(self, cookie: bytes, place: Place, now: float) -> bool:
        self._change(now)
        made = [self._cookie(secret, place) for secret in self._secrets]
        return any(hmac.compare_digest(cookie, one) for one in made)

    @staticmethod
    def _cookie(secret: bytes, place: Place) -> bytes:
        host, port = place
        where = port.to_bytes(2, "little") + host.encode()
        return noise.blake2b(where, packets.COOKIE_BYTES, secret)

    def _change(self, now: float) -> None:
        """A new secret when it is time; after two times none of the old ones counts."""
        if self._changed_at is None:
            self._changed_at = now
        age = now - self._changed_at
        if age >= self._limits.cookie_s:
            kept = self._secrets[:1] if age < 2 * self._limits.cookie_s else []
            self._secrets = [self._random_bytes(noise.KEY_BYTES), *kept]
            self._changed_at = now
