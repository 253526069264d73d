"""Routers that let others in, with libraries that are none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dp2p.addresses import Endpoint
from dp2p.coordinator import nat, routers
from dp2p.coordinator.nat import LEASE_S, RENEW_S, RETRY_S, Nat
from dp2p.coordinator.own_endpoints import Mapped
from dp2p.coordinator.routers import RouterError, find_router

OUTER = "203.0.113.9"
STREAM, DATAGRAM = Endpoint("tcp4", "0.0.0.0", 4617), Endpoint("udp4", "0.0.0.0", 4617)


class FakeDevice:
    """``miniupnpc.UPnP``, as far as it is used."""

    lanaddr = "192.168.0.7"
    taken: tuple[int, ...] = ()
    there = True

    def __init__(self) -> None:
        self.mapped: dict[tuple[int, str], tuple[Any, ...]] = {}

    def discover(self) -> int:
        return 1 if self.there else 0

    def selectigd(self) -> str:
        if not self.there:
            raise Exception("No UPnP device discovered")
        return "http://192.168.0.1"

    def externalipaddress(self) -> str:
        return OUTER

    def addportmapping(self, outer: int, kind: str, *rest: Any) -> bool:
        if outer in self.taken:
            raise Exception("ConflictInMappingEntry")
        self.mapped[outer, kind] = rest
        return True

    def deleteportmapping(self, outer: int, kind: str) -> bool:
        del self.mapped[outer, kind]
        return True


def upnp(device: FakeDevice) -> routers.Upnp:
    return routers.Upnp(SimpleNamespace(UPnP=lambda: device))


def test_upnp_maps_the_same_port_or_one_near_it() -> None:
    device = FakeDevice()
    device.taken = (4617, 4618)
    router = upnp(device)
    assert router.open("udp", 4617, 60) == 4619
    assert device.mapped == {(4619, "UDP"): ("192.168.0.7", 4617, "dp2p", "", 60)}
    router.close("udp", 4617, 4619)
    assert device.mapped == {}


def test_upnp_that_refuses_every_port_says_why() -> None:
    device = FakeDevice()
    device.taken = tuple(range(4617, 4700))
    with pytest.raises(RouterError, match="Conflict"):
        upnp(device).open("tcp", 4617, 60)


class FakeNatPmp:
    """The module ``natpmp``."""

    NATPMP_PROTOCOL_UDP, NATPMP_PROTOCOL_TCP = 1, 2

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def get_gateway_addr(self) -> str:
        return "192.168.0.1"

    def get_public_address(self, gateway_ip: str, retry: int) -> str:
        return OUTER

    def map_port(
        self, kind: int, outer: int, port: int, lease: int, *, gateway_ip: str, retry: int
    ) -> Any:
        self.asked.append((kind, outer, port, lease))
        return SimpleNamespace(public_port=outer and outer + 1)


def test_nat_pmp_takes_the_port_that_it_is_given() -> None:
    library = FakeNatPmp()
    router = routers.NatPmp(library)
    assert router.address() == OUTER
    assert router.open("tcp", 4617, 60) == 4618
    router.close("tcp", 4617, 4618)
    assert library.asked == [(2, 4617, 4617, 60), (2, 0, 4617, 0)]


def load(**modules: Any) -> Any:
    def one(name: str) -> Any:
        if name not in modules:
            raise ImportError(name)
        return modules[name]

    return one


def test_the_first_router_that_answers_is_taken() -> None:
    absent = FakeDevice()
    absent.there = False
    library = SimpleNamespace(UPnP=lambda: absent)
    assert find_router(load(miniupnpc=library, natpmp=FakeNatPmp())).name == "NAT-PMP"
    there = SimpleNamespace(UPnP=FakeDevice)
    assert find_router(load(miniupnpc=there, natpmp=FakeNatPmp())).name == "UPnP"


def test_without_router_and_libraries_all_that_was_tried_is_said() -> None:
    absent = FakeDevice()
    absent.there = False
    with pytest.raises(RouterError, match=r"No UPnP device.*natpmp is not installed"):
        find_router(load(miniupnpc=SimpleNamespace(UPnP=lambda: absent)))


# --- as long as the node runs ---


class FakeRouter:
    """One that does what the test says."""

    name = "fake"

    def __init__(self) -> None:
        self.outer = OUTER
        self.broken = False
        self.open_ports: dict[tuple[str, int], int] = {}

    def address(self) -> str:
        if self.broken:
            raise RouterError("it was switched off")
        return self.outer

    def open(self, transport: str, port: int, lease_s: int) -> int:
        assert lease_s == LEASE_S
        self.open_ports[transport, port] = port + 1
        return port + 1

    def close(self, transport: str, port: int, outer: int) -> None:
        assert self.open_ports.pop((transport, port)) == outer


def made(router: FakeRouter, told: list[Mapped | None], *listening: Endpoint) -> Nat:
    return Nat(listening or (STREAM, DATAGRAM), told.append, lambda: router)


def test_mappings_are_told_renewed_and_removed() -> None:
    router, told = FakeRouter(), list[Mapped | None]()

    async def life() -> None:
        one = made(router, told)
        assert await one.renew() == RENEW_S
        assert await one.renew() == RENEW_S
        assert told == [Mapped(OUTER, {STREAM: 4618, DATAGRAM: 4618})]  # told once
        await one.close()

    asyncio.run(life())
    assert router.open_ports == {}


def test_a_failure_is_logged_once_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    router, told = FakeRouter(), list[Mapped | None]()

    async def life() -> None:
        one = made(router, told)
        await one.renew()
        router.broken = True
        assert await one.renew() == RETRY_S
        assert await one.renew() == RETRY_S
        assert told[1:] == [None]
        router.broken = False
        assert await one.renew() == RENEW_S
        assert told[-1] is not None

    asyncio.run(life())
    assert [row.getMessage() for row in caplog.records].count("the router lets nobody in") == 1


@pytest.mark.parametrize("outer", ["192.168.1.1", "0.0.0.0", "", "nonsense"])
def test_a_router_behind_another_is_of_no_use(outer: str) -> None:
    router, told = FakeRouter(), list[Mapped | None]()
    router.outer = outer
    assert asyncio.run(made(router, told).renew()) == RETRY_S
    assert told == []


def test_no_router_is_asked_for_what_none_stands_before() -> None:
    def never() -> Any:
        raise AssertionError("asked")

    hosts = ("198.51.100.7", "127.0.0.1", "node.example")
    endpoints = [Endpoint("tcp4", host, 1) for host in hosts] + [Endpoint("tcp6", "::", 1)]
    one = Nat(endpoints, lambda _: None, never)
    asyncio.run(asyncio.wait_for(one.run(), 5.0))


def test_a_router_that_is_slow_at_the_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router, told = FakeRouter(), list[Mapped | None]()
    monkeypatch.setattr(nat, "CLOSE_S", 0.0)

    async def life() -> None:
        one = made(router, told)
        await one.renew()
        await one.close()

    asyncio.run(life())
