"""The coordinator as a process, with stand-ins for shards and applications around it."""

from __future__ import annotations

import hashlib
import itertools
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from dp2p import bus, ids
from process.fakes import Coordinator, FakeApp, FakeShard

KEY = ids.to_text(bytes([7]) * 32)
PEER = ids.node_id_text(KEY)
OTHER_KEY = ids.to_text(bytes([8]) * 32)


def report(link: int, key: str = KEY, **more: Any) -> bus.LinkReport:
    fields: dict[str, Any] = {
        "direction": "in",
        "endpoint": "tcp4://192.0.2.1:4617",
        "instance": "i",
        "mode": "xx",
        "listen": [],
    }
    return bus.LinkReport(link=link, key=key, **(fields | more))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def run(tmp_path: Path, stack: ExitStack) -> Callable[..., Coordinator]:
    """Starts a coordinator with sections of the configuration."""

    def start(**sections: Any) -> Coordinator:
        made = stack.enter_context(closing(Coordinator(tmp_path, **sections)))
        return made.start()

    return start


@pytest.fixture
def coordinator(run: Callable[..., Coordinator]) -> Coordinator:
    return run(apps={"heartbeat_expiry_s": 30.0})


@pytest.fixture
def shard_of(stack: ExitStack) -> Callable[..., FakeShard]:
    def make(coordinator: Coordinator, *arguments: Any) -> FakeShard:
        made = FakeShard(coordinator.run_dir, *arguments)
        return stack.enter_context(closing(made)).hello()

    return make


@pytest.fixture
def app_of(stack: ExitStack) -> Callable[..., FakeApp]:
    def make(coordinator: Coordinator, name: str | None = "app") -> FakeApp:
        made = stack.enter_context(closing(FakeApp(coordinator.run_dir)))
        return made.attach(name) if name else made

    return make


@pytest.fixture
def shard(coordinator: Coordinator, shard_of: Callable[..., FakeShard]) -> FakeShard:
    return shard_of(coordinator)


@pytest.fixture
def app(coordinator: Coordinator, shard: FakeShard, app_of: Callable[..., FakeApp]) -> FakeApp:
    return app_of(coordinator)


# --- registration ---


def test_what_an_application_registers_reaches_the_shards(
    coordinator: Coordinator, shard: FakeShard, app_of: Callable[..., FakeApp]
) -> None:
    app = app_of(coordinator, None)
    attached = app.call("attach", name="app", instance="0123456789abcdef")
    assert attached["node"] == coordinator.identity.node
    assert attached["key"] == coordinator.identity.key
    assert attached["shards"] == [{"index": 0, "endpoint": shard.data_endpoint}]
    app.session = attached["session"]
    assert app.register("chat") == {"number": 0, "window": 2 * ((1 << 20) + 16)}
    registry = shard.expect(bus.Registry, lambda one: bool(one.protocols))
    report = bus.AppReport(session=app.session, name="app", instance="0123456789abcdef")
    assert registry.apps == [report]
    assert (registry.protocols[0].session, registry.protocols[0].instance) == (
        app.session,
        "0123456789abcdef",
    )
    app.call("withdraw", session=app.session, name="chat")
    later = shard.expect(bus.Registry, lambda one: not one.protocols)
    assert later.generation > registry.generation
    app.call("detach", session=app.session)
    assert shard.expect(bus.Registry, lambda one: not one.apps).generation > later.generation


def test_a_taken_protocol_is_refused_by_name(
    coordinator: Coordinator, app: FakeApp, app_of: Callable[..., FakeApp]
) -> None:
    other = app_of(coordinator, "other")
    app.register("chat")
    error = other.refused(
        "register", session=other.session, protocol={"name": "chat", "versions": [1]}
    )
    assert (error.code, error.protocol) == ("protocol_taken", "chat")
    app.register("shared", shared=True)
    assert other.register("shared", shared=True) == {"number": 2, "window": 2 * ((1 << 20) + 16)}


def test_an_application_that_dies_without_a_word(
    run: Callable[..., Coordinator],
    shard_of: Callable[..., FakeShard],
    app_of: Callable[..., FakeApp],
) -> None:
    coordinator = run(apps={"heartbeat_expiry_s": 0.5})
    shard = shard_of(coordinator)
    app = app_of(coordinator)
    app.register("chat")
    shard.expect(bus.Registry, lambda one: bool(one.protocols))
    shard.expect(bus.Registry, lambda one: not one.protocols and not one.apps)
    assert app.refused("heartbeat", session=app.session).code == "unknown_session"


def test_a_lost_data_socket_shortens_the_wait(
    coordinator: Coordinator, shard: FakeShard, app: FakeApp
) -> None:
    app.register("chat")
    shard.expect(bus.Registry, lambda one: bool(one.protocols))
    shard.send(bus.AppGone(session=app.session))
    shard.expect(bus.Registry, lambda one: not one.apps, seconds=10.0)


def test_a_version_of_tomorrow_is_refused(
    coordinator: Coordinator, shard: FakeShard, app_of: Callable[..., FakeApp]
) -> None:
    app = app_of(coordinator, None)
    assert app.refused("attach", name="app", version=2).code == "bad_version"


# --- links ---


def test_links_are_admitted_shown_and_closed(
    coordinator: Coordinator, shard: FakeShard, app: FakeApp
) -> None:
    shard.send(bus.LinkReady(report=report(1)))
    assert shard.expect(bus.Admit).link == 1
    shard.send(bus.LinkReady(report=report(2, coordinator.identity.key)))
    assert shard.expect(bus.Close) == bus.Close(link=2, reason="self")
    shard.send(bus.LinkUp(link=1))
    shard.heartbeat()
    while not (rows := app.call("peers")["peers"]) or not rows[0]["open"]:
        pass
    assert (rows[0]["peer"], rows[0]["key"], rows[0]["shard"]) == (PEER, KEY, 0)
    status = app.call("status")
    assert (status["peers"], status["shards"][0]["links"]) == (1, 1)
    assert app.refused("disconnect", peer="x").code == "unknown_peer"
    app.call("disconnect", peer=PEER)
    assert shard.expect(bus.Close) == bus.Close(link=1, reason="bye")
    shard.send(bus.LinkDown(link=1, reason="bye", remote=False))
    while app.call("peers")["peers"]:
        pass


def test_the_cap_on_peers(
    run: Callable[..., Coordinator], shard_of: Callable[..., FakeShard]
) -> None:
    shard = shard_of(run(limits={"max_peers": 1}))
    shard.send(bus.LinkReady(report=report(1)))
    shard.send(bus.LinkReady(report=report(2, OTHER_KEY)))
    assert shard.expect(bus.Close) == bus.Close(link=2, reason="full")


def key_beside(coordinator: Coordinator, *, smaller: bool) -> str:
    """A key whose node-ID is smaller than the coordinator's, or larger. The smaller one chooses
    among links.
    """
    own = ids.node_id(ids.from_text(coordinator.identity.key))
    candidates = (hashlib.sha256(b"%d" % number).digest() for number in itertools.count())
    return next(ids.to_text(key) for key in candidates if (ids.node_id(key) < own) is smaller)


@pytest.mark.parametrize("alive", [True, False])
def test_who_chooses_probes_the_older_of_two_links(
    coordinator: Coordinator, shard: FakeShard, alive: bool
) -> None:
    key = key_beside(coordinator, smaller=False)
    shard.send(bus.LinkReady(report=report(1, key)))
    assert shard.expect(bus.Admit).wait is False
    shard.send(bus.LinkUp(link=1))
    shard.send(bus.LinkReady(report=report(2, key)))
    assert shard.expect(bus.Probe).link == 1
    shard.send(bus.Probed(link=1, alive=alive))
    closed = bus.Close(link=2 if alive else 1, reason="duplicate")
    assert shard.expect(bus.Close) == closed
    if not alive:
        assert shard.expect(bus.Admit).link == 2


def test_who_does_not_choose_admits_what_the_peer_takes(
    coordinator: Coordinator, shard: FakeShard
) -> None:
    key = key_beside(coordinator, smaller=True)
    for link in (1, 2):
        shard.send(bus.LinkReady(report=report(link, key)))
        admitted = shard.expect(bus.Admit)
        assert (admitted.link, admitted.wait) == (link, True)
    shard.send(bus.LinkUp(link=1))
    shard.send(bus.LinkUp(link=2))
    assert shard.expect(bus.Close) == bus.Close(link=1, reason="duplicate")


def test_a_ticket_is_given_out_once(coordinator: Coordinator, shard: FakeShard) -> None:
    name, psk = bytes(16), bytes([1]) * 32
    shard.send(bus.LinkReady(report=report(1), accept_ticket=name + psk))
    for link, found in ((2, (psk, KEY)), (3, (None, None))):
        shard.send(bus.TicketAsked(link=link, name=name))
        answer = shard.expect(bus.Ticket)
        assert (answer.link, answer.psk, answer.key) == (link, *found)


# --- dials ---


def test_a_dial_from_request_to_reply(
    coordinator: Coordinator, shard: FakeShard, app: FakeApp
) -> None:
    number = app.ask("dial", address=f"dp2p://{KEY}@localhost:4617", timeout_s=20)
    wanted = shard.expect(bus.DialLink)
    assert (wanted.host in ("127.0.0.1", "::1"), wanted.port, wanted.key) == (True, 4617, KEY)
    endpoint = "tcp4://127.0.0.1:4617"
    made = report(1, direction="out", endpoint=endpoint, dial=wanted.dial, mode="ik")
    shard.send(bus.LinkReady(report=made))
    shard.expect(bus.Admit)
    shard.send(bus.LinkUp(link=1))
    found = app.reply(number).ok
    assert (found["peer"], found["key"], found["endpoint"]) == (PEER, KEY, endpoint)
    assert (found["mode"], found["fell_back"]) == ("ik", False)
    assert (found["trust"], found["introducers"]) == ("introduced", 0)
    again = app.call("dial", address=f"dp2p://{KEY}@192.0.2.9:1")
    assert again["peer"] == PEER


@pytest.mark.parametrize(
    ("reason", "code"), [("identity", "identity_mismatch"), ("io", "dial_failed")]
)
def test_a_dial_that_fails(shard: FakeShard, app: FakeApp, reason: str, code: str) -> None:
    number = app.ask("dial", address="tcp4://192.0.2.1:4617")
    shard.send(bus.DialFailed(dial=shard.expect(bus.DialLink).dial, reason=reason))
    error = app.reply(number).error
    assert error is not None
    assert error.code == code
    assert "192.0.2.1" in error.message


def test_a_dial_that_the_peer_refuses(shard: FakeShard, app: FakeApp) -> None:
    number = app.ask("dial", address="tcp4://192.0.2.1:4617")
    dial = shard.expect(bus.DialLink).dial
    shard.send(bus.LinkReady(report=report(1, direction="out", dial=dial)))
    shard.expect(bus.Admit)
    shard.send(bus.LinkDown(link=1, reason="full", remote=True))
    error = app.reply(number).error
    assert error is not None
    assert error.code == "refused:full"


def test_a_dial_that_nobody_answers(shard: FakeShard, app: FakeApp) -> None:
    number = app.ask("dial", address="tcp4://192.0.2.1:4617", timeout_s=0.3)
    error = app.reply(number).error
    assert error is not None
    assert error.code == "timeout"


def test_addresses_that_cannot_be_read(app: FakeApp) -> None:
    assert app.refused("dial", address="nonsense").code == "bad_address"
    assert app.refused("dial", address="tcp4://a:1", timeout_s=-1).code == "bad_request"


def test_static_peers_are_dialled_once_shards_are_there(
    run: Callable[..., Coordinator], shard_of: Callable[..., FakeShard]
) -> None:
    coordinator = run(peers={"static": [f"dp2p://{KEY}@192.0.2.1:4617"]})
    shard = shard_of(coordinator)
    first = shard.expect(bus.DialLink)
    shard.send(bus.DialFailed(dial=first.dial, reason="io"))
    second = shard.expect(bus.DialLink)
    assert (second.host, second.key) == (first.host, first.key)
    assert second.dial != first.dial


# --- shards that die ---


def test_a_new_life_of_a_shard_is_told_to_applications(
    coordinator: Coordinator,
    shard: FakeShard,
    app: FakeApp,
    shard_of: Callable[..., FakeShard],
) -> None:
    app.register("chat")
    shard.send(bus.LinkReady(report=report(1)))
    shard.expect(bus.Admit)
    shard.close()
    reborn = shard_of(coordinator, 0, "two")
    assert app.event("shard_down")["endpoint"] == shard.data_endpoint
    assert app.event("shard_up")["endpoint"] == reborn.data_endpoint
    registry = reborn.expect(bus.Registry)
    assert [entry.spec.name for entry in registry.protocols] == ["chat"]
    assert app.call("peers") == {"peers": []}


def test_peers_of_a_dead_shard_are_dialled_through_another(
    run: Callable[..., Coordinator],
    shard_of: Callable[..., FakeShard],
    app_of: Callable[..., FakeApp],
) -> None:
    coordinator = run(shards={"count": 2}, apps={"heartbeat_expiry_s": 30.0})
    one, other = shard_of(coordinator, 0), shard_of(coordinator, 1)
    app = app_of(coordinator)
    one.send(bus.LinkReady(report=report(1, direction="out")))
    one.expect(bus.Admit)
    one.send(bus.LinkUp(link=1))
    while not app.call("peers")["peers"][0]["open"]:
        pass
    one.close()
    wanted = other.expect(bus.DialLink)
    assert (wanted.host, wanted.key) == ("192.0.2.1", KEY)
    assert app.event("shard_down")["index"] == 0
    status = app.call("status")
    assert [row["index"] for row in status["shards"]] == [1]
    assert status["counters"]["bus"]["unroutable"] >= 1


# --- a coordinator that dies ---


def test_killed_and_restarted_it_knows_what_it_knew(
    coordinator: Coordinator, shard: FakeShard, app: FakeApp
) -> None:
    app.register("chat")
    before = shard.expect(bus.Registry, lambda one: bool(one.protocols))
    shard.send(bus.LinkReady(report=report(1)))
    shard.expect(bus.Admit)
    shard.links = [report(1)]
    assert coordinator.end(signal.SIGKILL) == -signal.SIGKILL
    coordinator.start()
    shard.heartbeat()
    shard.expect(bus.WhoAreYou)
    shard.hello()
    after = shard.expect(bus.Registry)
    assert after.generation > before.generation
    assert (after.apps, after.protocols) == (before.apps, before.protocols)
    app.heartbeat()
    assert app.event("shard_up")["endpoint"] == shard.data_endpoint
    assert [row["peer"] for row in app.call("peers")["peers"]] == [PEER]
    assert app.register("more")["number"] == 1
    assert len(shard.expect(bus.Registry, lambda one: len(one.protocols) == 2).apps) == 1


def test_it_calls_no_session_unknown_before_it_has_heard_its_shards(
    run: Callable[..., Coordinator],
    shard_of: Callable[..., FakeShard],
    app_of: Callable[..., FakeApp],
) -> None:
    coordinator = run(apps={"heartbeat_expiry_s": 30.0})
    shard = shard_of(coordinator)
    app = app_of(coordinator)
    shard.expect(bus.Registry, lambda one: bool(one.apps))
    coordinator.end(signal.SIGKILL)
    coordinator.start()
    waiting = app.ask("heartbeat", session=app.session)
    assert app.call("status")["settled"] is False
    shard.hello()
    assert app.reply(waiting).error is None


def test_without_shards_it_speaks_after_a_while(
    coordinator: Coordinator, app_of: Callable[..., FakeApp]
) -> None:
    app = app_of(coordinator, None)
    assert app.refused("heartbeat", session="0" * 32).code == "unknown_session"
    assert app.call("attach", name="early")["shards"] == []


# --- what it must withstand ---


def test_garbage_on_the_control_socket(coordinator: Coordinator, app: FakeApp) -> None:
    source = random.Random(1)
    garbage = [b"", b"{", b"[]", b"null", b'{"id":1}', b'{"op":"status"}', b"\xff" * 100]
    garbage += [source.randbytes(source.randrange(1, 300)) for _ in range(50)]
    for frame in garbage:
        app.socket.send(frame)
        assert app.reply(-1 if b'"id":1' not in frame else 1).error is not None
    app.socket.send_multipart([b"", b'{"id":1,"op":"status"}'])
    app.socket.send_multipart([b"a"] * 5)
    error = app.refused("register", session=app.session, protocol={"name": "-", "versions": [1]})
    assert error.code == "bad_request"
    assert "name" in error.message
    app.register("chat")
    assert app.call("status")["counters"]["control"]["malformed"] == len(garbage) + 3


def test_garbage_on_the_fabric(coordinator: Coordinator, shard: FakeShard, app: FakeApp) -> None:
    for frame in (b"", b"2 {}", b"9 {}", bus.encode(bus.Stop()), b"\x00" * 1000):
        shard.socket.send(frame)
    shard.send(bus.LinkReady(report=report(1, "no key")))
    shard.send(bus.LinkUp(link=99))
    shard.send(bus.LinkDown(link=99, reason="eof", remote=True))
    shard.send(bus.DialFailed(dial=99, reason="io"))
    shard.send(bus.AppGone(session="0" * 32))
    shard.send(bus.LinkReady(report=report(1)))
    assert shard.expect(bus.Admit).link == 1
    assert app.call("status")["counters"]["bus"]["malformed"] == 5


def test_an_application_that_leaves_without_its_replies(
    coordinator: Coordinator, shard: FakeShard, app_of: Callable[..., FakeApp]
) -> None:
    leaving, staying = app_of(coordinator), app_of(coordinator)
    leaving.close()
    reborn = 0
    while not staying.call("status")["counters"]["control"]["unroutable"]:
        reborn += 1  # each life is told to both, until the closed connection is noticed
        shard.incarnation = f"life-{reborn}"
        shard.hello()
    staying.heartbeat()


def test_sockets_are_private_and_removed_at_the_end(coordinator: Coordinator, app: FakeApp) -> None:
    sockets = [coordinator.run_dir / "bus.sock", coordinator.run_dir / "control.sock"]
    assert [path.stat().st_mode & 0o777 for path in sockets] == [0o600, 0o600]
    assert coordinator.end() == 0
    assert not any(path.exists() for path in sockets)


def test_no_secret_in_the_logs(coordinator: Coordinator, shard: FakeShard, app: FakeApp) -> None:
    app.register("chat")
    app.refused("register", session=app.session, protocol={"name": "chat"})
    app.socket.send(b'{"id":1,"op":"detach","session":"%s","x":1}' % app.session.encode())
    app.reply(1)
    shard.send(bus.AppGone(session=app.session))
    shard.socket.send(bus.encode(bus.AppGone(session=app.session))[:-2])
    app.call("detach", session=app.session)
    coordinator.end()
    log = coordinator.log.read_text()
    assert "application attached" in log
    assert app.session not in log
    seed = coordinator.identity.seed
    assert ids.to_text(seed) not in log
    assert seed.hex() not in log
    assert repr(seed)[2:-1] not in log


# --- caps and traffic ---


def test_caps_are_divided_and_divided_again(coordinator: Coordinator, app: FakeApp) -> None:
    shards = [FakeShard(coordinator.run_dir, index).hello() for index in (0, 1)]
    with ExitStack() as held:
        for shard in shards:
            held.enter_context(closing(shard))
            shard.expect(bus.SetCaps)
        told = app.call("limit", scope="protocol", name="chat", up=1_000_000)
        assert told == {"scope": "protocol", "name": "chat", "up": 1_000_000, "down": None}
        generation = 0
        for shard in shards:
            rates = shard.expect(bus.Rates, lambda rates: "chat" in rates.protocols)
            assert rates.protocols["chat"] == bus.Share(500_000, 0)
            generation = rates.generation
        for shard, used in zip(shards, (bus.Used(0.0), bus.Used(5e5, 0, True)), strict=True):
            shard.send(bus.Usage(generation=generation, node=None, protocols={"chat": used}))
        few, many = (shard.expect(bus.Rates).protocols["chat"].up for shard in shards)
        assert (few, many) == (20_000, 980_000)
    alone = FakeShard(coordinator.run_dir, 0, "two").hello()
    with closing(alone):
        found = alone.expect(bus.Rates, lambda rates: rates.protocols["chat"].up == 1_000_000)
        assert found.generation == generation


@pytest.mark.parametrize(
    "fields",
    [
        {"scope": "node", "name": "chat", "up": 5000},
        {"scope": "protocol", "name": "", "up": 5000},
        {"scope": "peer", "name": "chat", "up": 5000},
        {"scope": "node", "up": 1},
    ],
)
def test_limits_that_are_refused(shard: FakeShard, app: FakeApp, fields: dict[str, Any]) -> None:
    assert app.refused("limit", **fields).code == "bad_request"
    assert app.call("limits") == {"limits": []}


def test_limits_outlive_the_coordinator(
    run: Callable[..., Coordinator], shard_of: Callable[..., FakeShard]
) -> None:
    coordinator = run(rates={"node_up": "10MB", "protocols": {"files": {"down": 5000}}})
    shard = shard_of(coordinator)
    with closing(FakeApp(coordinator.run_dir)) as app:
        app.call("limit", scope="node", up=None)
        app.call("limit", scope="peer", name=f"dp2p://{KEY}", up=2000)
        caps = shard.expect(bus.SetCaps, lambda told: told.caps.caps[-1].scope == "peer").caps
        coordinator.end(signal.SIGKILL)
        coordinator.start()
        shard.caps = caps
        shard.heartbeat()
        shard.expect(bus.WhoAreYou)
        shard.hello()
        known = shard.expect(bus.SetCaps).caps
        assert known.generation > caps.generation
        assert known.caps == caps.caps
        assert app.call("limits") == {
            "limits": [
                {"scope": "protocol", "name": "files", "up": None, "down": 5000},
                {"scope": "peer", "name": PEER, "up": 2000, "down": None},
            ]
        }


def test_traffic_is_asked_of_all_shards(shard: FakeShard, app: FakeApp) -> None:
    shard.send(bus.Totals(totals=[bus.Total(PEER, "chat", 1, 20, 3, 40)]))
    number = app.ask("traffic", peer=f"dp2p://{KEY}", limit=5)
    asked = shard.expect(bus.AskTraffic)
    assert (asked.protocols, asked.peer, asked.limit) == (None, PEER, 5)
    shard.send(bus.TrafficTold(id=asked.id, rows=[flow_row()], left_out=2))
    found = app.reply(number).ok
    assert (found["left_out"], found["silent"]) == (2, [])
    (row,) = found["rows"]
    assert (row["peer"], row["queued_bytes"], row["up_bytes"]) == (PEER, 7, 20)


def test_traffic_of_a_shard_that_does_not_answer(shard: FakeShard, app: FakeApp) -> None:
    assert app.call("traffic") == {"rows": [], "left_out": 0, "silent": [0]}


def test_a_session_hears_of_its_own_protocols(shard: FakeShard, app: FakeApp) -> None:
    app.register("chat")
    app.call("subscribe", session=app.session, traffic_s=0.2)
    for _ in range(2):
        asked = shard.expect(bus.AskTraffic)
        assert asked.protocols == ["chat"]
        shard.send(bus.TrafficTold(id=asked.id, rows=[flow_row()]))
        assert app.event("traffic")["rows"][0]["wait_ms"] == 10


def flow_row() -> bus.FlowRow:
    counts = dict.fromkeys(bus.FlowRow.__struct_fields__[4:], 0)
    fields: dict[str, Any] = counts | {"queued_bytes": 7, "wait_ms": 10}
    return bus.FlowRow(peer=PEER, protocol="chat", shard=0, priority="bulk", **fields)
