"""The control socket and those who do not read it, or read it late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from dp2p import bus
from dp2p.coordinator.backlog import EACH_BYTES
from process.fakes import Coordinator, FakeApp, FakeShard


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """One of which sessions are not lost by being silent."""
    made = Coordinator(tmp_path, apps={"heartbeat_expiry_s": 30.0})
    with closing(made):
        yield made.start()


@pytest.fixture
def shard(coordinator: Coordinator) -> Iterator[FakeShard]:
    """Its only shard."""
    with closing(FakeShard(coordinator.run_dir)) as made:
        yield made.hello()


def test_an_application_that_never_reads_is_given_up(
    coordinator: Coordinator, shard: FakeShard
) -> None:
    """What it is sent may not fill the coordinator; who reads notices nothing."""
    with closing(FakeApp(coordinator.run_dir)) as staying, greedy_app(coordinator) as greedy:
        staying.attach()
        greedy.attach("greedy").register("hoard")
        shard.expect(bus.Registry, lambda one: bool(one.protocols))
        hoard(coordinator, shard, staying, greedy)


@contextmanager
def greedy_app(coordinator: Coordinator) -> Iterator[FakeApp]:
    """One whose ZeroMQ reads a message at a time."""
    with closing(FakeApp(coordinator.run_dir)) as app:
        endpoint = app.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        app.socket.disconnect(endpoint)
        app.socket.setsockopt(zmq.RCVHWM, 1)  # of connections from now on
        app.socket.connect(endpoint)
        yield app


def hoard(coordinator: Coordinator, shard: FakeShard, staying: FakeApp, greedy: FakeApp) -> None:
    """Let one ask for more than is kept for it, and see who is gone then."""
    for number in range(500):
        staying.call("limit", scope="protocol", name=f"{number:064}", up=1024)
    size = len(msgspec.json.encode(staying.call("limits")))
    for _ in range((EACH_BYTES + (16 << 20)) // size):
        greedy.ask("limits")
    gone = shard.expect(bus.Registry, lambda one: not one.protocols)
    assert [one.name for one in gone.apps] == ["app"]
    staying.heartbeat()
    counters = staying.call("status")["counters"]["control"]
    assert (counters["given_up"], counters["unroutable"]) == (1, 0)
    assert "does not read" in coordinator.log.read_text()


def test_many_events_at_once_reach_a_slow_reader_in_order(
    coordinator: Coordinator, shard: FakeShard
) -> None:
    """Far more than ZeroMQ and the kernel hold, and read only when all were said."""
    with closing(FakeApp(coordinator.run_dir)) as app:
        read_late(shard, app.attach())


def read_late(shard: FakeShard, app: FakeApp) -> None:
    """Say much, then read it."""
    lives = [f"life-{number}" for number in range(3000)]
    for life in lives:
        shard.incarnation, shard.data_endpoint = life, f"ipc:///{life}/{'x' * 200}"
        shard.hello()
    found = [app.event("shard_up")["endpoint"] for _ in lives]
    assert found == [f"ipc:///{life}/{'x' * 200}" for life in lives]
    app.heartbeat()
    assert app.call("status")["counters"]["control"]["given_up"] == 0
