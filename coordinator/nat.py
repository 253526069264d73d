"""Has the router let others in, for as long as the node runs.

Asks in a thread, since routers answer slowly or not at all, and renews in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from dp2p.addresses import DATAGRAMS, Endpoint, family_of, is_numeric
from dp2p.coordinator.own_endpoints import WILDCARDS, Mapped
from dp2p.coordinator.routers import Router, RouterError, Transport, find_router
from dp2p.logs import Log
from dp2p.networks import is_local

LEASE_S = 3600
RENEW_S = LEASE_S / 2
RETRY_S = 600.0  # after a failure
CLOSE_S = 3.0  # for the router to forget what it was told

log = Log("coordinator.nat")


class Nat:
    """The mappings of one node."""

    def __init__(
        self,
        listening: Iterable[Endpoint],
        changed: Callable[[Mapped | None], None],
        find: Callable[[], Router] = find_router,
    ) -> None:
        """``changed`` is told what is let in, None when nothing is any more."""
        self._listening = [one for one in listening if _behind(one)]
        self._changed = changed
        self._find = find
        self._router: Router | None = None
        self._mapped: Mapped | None = None
        self._failed = False

    async def run(self) -> None:
        """Work, for ever."""
        pause_s = 0.0 if self._listening else float("inf")
        while pause_s < float("inf"):
            await asyncio.sleep(pause_s)
            pause_s = await self.renew()

    async def renew(self) -> float:
        """Ask once; when to ask again (s)."""
        try:
            mapped = await asyncio.to_thread(self._ask)
        except RouterError as error:
            if not self._failed:
                log.warning("the router lets nobody in", why=str(error))
            self._failed, self._router = True, None
            self._tell(None)
            return RETRY_S
        if self._failed or self._mapped is None:
            assert self._router is not None, "a router has answered"
            log.info("the router lets others in", how=self._router.name, address=mapped.host)
        self._failed = False
        self._tell(mapped)
        return RENEW_S

    def _tell(self, mapped: Mapped | None) -> None:
        if mapped != self._mapped:
            self._mapped = mapped
            self._changed(mapped)

    def _ask(self) -> Mapped:
        """In a thread.  Raises: RouterError."""
        router = self._router = self._router or self._find()
        host = router.address()
        if not is_numeric(host) or is_local(host) or host in WILDCARDS:
            raise RouterError(f"its outer address is {host or 'unknown'}: behind another router")
        ports = {one: router.open(_transport(one), one.port, LEASE_S) for one in self._listening}
        return Mapped(host, ports)

    async def close(self) -> None:
        """Have the router forget, if it answers soon."""
        if self._router is None or self._mapped is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.to_thread(self._forget, self._router, self._mapped)
        except (RouterError, TimeoutError) as error:
            log.info("the router was not told of the end", why=str(error) or "no answer")

    @staticmethod
    def _forget(router: Router, mapped: Mapped) -> None:
        """In a thread.  Raises: RouterError."""
        for one, outer in mapped.ports.items():
            router.close(_transport(one), one.port, outer)


def _transport(endpoint: Endpoint) -> Transport:
    return "udp" if endpoint.scheme in DATAGRAMS else "tcp"


def _behind(endpoint: Endpoint) -> bool:
    """Whether a router may stand between this endpoint and the others."""
    if family_of(endpoint.scheme) != 4 or not is_numeric(endpoint.host):
        return False
    host = endpoint.host
    return host in WILDCARDS or (is_local(host) and not host.startswith("127."))
