"""Reserving listen addresses: held, exclusive, and no obstacle to the node's own shards."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from dp2p import listening
from dp2p.addresses import Endpoint, datagram_endpoint_of
from dp2p.errors import ConfigError

ANY4, ANY6 = Endpoint("tcp4", "127.0.0.1", 0), Endpoint("tcp6", "::1", 0)
Reserve = Callable[..., listening.Reservation]


@pytest.fixture
def reserve() -> Iterator[Reserve]:
    with ExitStack() as held:

        def make(*endpoints: Endpoint) -> listening.Reservation:
            made = listening.reserve(endpoints)
            held.callback(made.close)
            return made

        yield make


def listener(endpoint: Endpoint) -> socket.socket:
    """What a shard opens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((endpoint.host, endpoint.port))
    made.listen()
    return made


def test_port_zero_becomes_one_number_that_all_shards_can_listen_on(reserve: Reserve) -> None:
    (endpoint,) = reserve(ANY4).endpoints
    assert endpoint.port != 0
    with listener(endpoint), listener(endpoint):
        pass


def test_both_families_get_the_same_number_when_it_is_free(reserve: Reserve) -> None:
    four, six = reserve(ANY4, ANY6).endpoints
    assert four.port == six.port


def test_discovery_has_the_same_number() -> None:
    with ExitStack() as held:
        taken = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("tcp4", "127.0.0.1", taken.getsockname()[1])
        where = f"discovery.listen: {datagram_endpoint_of(endpoint)}: .* in use"
        with pytest.raises(ConfigError, match=where):
            listening.reserve([endpoint], datagrams=True)
        reservation = listening.reserve([ANY4], datagrams=True)
        held.callback(reservation.close)
        found = listening.free_datagrams([datagram_endpoint_of(reservation.endpoints[0])])
        assert found[0].port == reservation.endpoints[0].port


def test_a_udp_port_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("udp4", "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigError, match=f"discovery.listen: {endpoint}: .* in use"):
            listening.free_datagrams([endpoint])


def test_a_reserved_port_is_in_use_before_anybody_listens(reserve: Reserve) -> None:
    (endpoint,) = reserve(ANY4).endpoints
    with pytest.raises(ConfigError, match="in use"):
        reserve(endpoint)


def test_a_reservation_takes_no_connection(reserve: Reserve) -> None:
    (endpoint,) = reserve(ANY4).endpoints
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.host, endpoint.port))
    place = (endpoint.host, endpoint.port)
    with listener(endpoint) as shard, socket.create_connection(place):
        shard.accept()[0].close()


def test_connections_of_an_earlier_run_are_no_obstacle(reserve: Reserve) -> None:
    earlier = listening.reserve([ANY4])
    (endpoint,) = earlier.endpoints
    with listener(endpoint) as shard:
        client = socket.create_connection((endpoint.host, endpoint.port))
        accepted = shard.accept()[0]
        accepted.close()  # this side closes first and is left in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    earlier.close()
    reserve(endpoint)


def test_a_failure_lets_go_of_what_was_reserved_before(reserve: Reserve) -> None:
    (free,) = reserve(ANY4).endpoints
    reserve_all = listening.Reservation()
    reserve_all.add(ANY4)
    (first,) = reserve_all.endpoints
    with pytest.raises(ConfigError):
        reserve_all.add(free)
    reserve(first)


def test_names_are_resolved_and_unknown_ones_refused(reserve: Reserve) -> None:
    assert reserve(Endpoint("tcp4", "localhost", 0)).endpoints[0].host == "127.0.0.1"
    with pytest.raises(ConfigError, match="no such address"):
        reserve(Endpoint("tcp4", "name.invalid", 0))
