"""What applications ask the desk for, and how answers are put: as docs/spec/app-api.md says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from desk_world import (
    ANNA,
    BOB,
    CARL,
    NOW,
    OWN,
    PLACE,
    SEEDS,
    SPEC,
    WALL,
    World,
    key_text,
    node_text,
    refusal,
    report,
)
from dp2p import bus, control, ids, node_record
from dp2p.addresses import Endpoint, PeerAddress, PeerOnly
from dp2p.coordinator import desk, notices
from dp2p.coordinator.desk import Answers
from dp2p.coordinator.known import TICKET_BYTES, Direction, Ticket
from dp2p.coordinator.own_record import SETTLE_S
from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.searches import Answered
from dp2p.coordinator.searches import Wanted as Sought
from dp2p.coordinator.targets import Wanted
from dp2p.errors import AddressError
from dp2p.places import PROCESSES_FILE
from dp2p.sdk.types import Dialled, Introduced


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def table_after(text: str) -> list[str]:
    """First cells of the table that follows ``text`` in the specification, without its head."""
    specification = SPEC.read_text()
    assert specification.count(text) == 1
    behind = specification[specification.index(text) :]
    found = re.search(r"^\|[-|]+\|\n((?:\|.*\n)+)", behind, re.MULTILINE)
    assert found is not None
    return [row.split("|")[1] for row in found[1].splitlines()]


def fields_after(text: str) -> set[str]:
    """Names in those cells."""
    return {name for cell in table_after(text) for name in re.findall(r"`(\w+)`", cell)}


# --- answers that come later ---


def test_an_answer_goes_to_who_asked_once() -> None:
    answers, got = Answers(), dict[str, Any]()
    first = answers.expect(lambda result: got.update(first=result))
    second = answers.expect(lambda result: got.update(second=result))
    answers.give(second, 2)
    assert got == {"second": 2}
    answers.forget(first)
    for token in (first, second):
        with pytest.raises(KeyError):
            answers.give(token, 0)
    assert answers.expect(got.update) not in (first, second)


# --- dialling ---

NAMED = [
    (PLACE, Endpoint("tcp4", "192.0.2.7", 4617)),
    ("tcp6://[2001:db8::7]:1", Endpoint("tcp6", "2001:db8::7", 1)),
    (f"dp2p://{key_text(ANNA)}@a.example:1", PeerAddress(key_text(ANNA), "a.example", 1)),
    (f"dp2p://{key_text(ANNA)}", PeerOnly(key_text(ANNA))),
]


@pytest.mark.parametrize(("address", "target"), NAMED)
def test_addresses_are_dialled(world: World, address: str, target: Wanted) -> None:
    assert world.dial(address) == target


@pytest.mark.parametrize("name", [node_text, key_text])
@pytest.mark.parametrize("how", ["connected", "remembered"])
def test_a_node_id_stands_for_a_key_that_is_known(world: World, name: Any, how: str) -> None:
    """So does a key in its place: nothing tells the two apart. A link need not be remembered."""
    if how == "connected" and name is node_text:
        world.connect(ANNA)
    else:
        world.store.connected(ANNA, PLACE, WALL)
    assert world.dial(name(ANNA)) == PeerOnly(key_text(ANNA))


@pytest.mark.parametrize("name", [node_text, key_text])
def test_a_node_id_of_which_nothing_is_known(world: World, name: Any) -> None:
    error = refusal(world.dial, name(ANNA))
    assert (error.code, error.peer) == ("unknown_peer", name(ANNA))
    assert world.carrier.dials == []


@pytest.mark.parametrize("address", ["", "nonsense", "tcp4://a", f"dp2p://{key_text(ANNA)}@"])
def test_what_is_no_address_is_not_dialled(world: World, address: str) -> None:
    with pytest.raises(AddressError):
        world.dial(address)
    assert world.carrier.dials == []


def test_a_dial_is_answered_under_its_token(world: World) -> None:
    world.dial(PLACE)
    (token, _, _) = world.carrier.dials[-1]
    world.answers.give(token, "done")
    assert world.answered == ["done"]


@pytest.mark.parametrize("fell_back", [False, True])
def test_who_was_connected(world: World, fell_back: bool) -> None:
    link = world.connect(ANNA, fell_back=fell_back)
    answer = desk.connected(link)
    assert set(answer) == fields_after("of the connection that is there now, whoever opened it")
    assert msgspec.convert(answer, Dialled) == Dialled(
        node_text(ANNA), key_text(ANNA), PLACE, "resume", fell_back, "resumed", 2
    )


# --- searching ---


def test_a_search_is_passed_on(world: World) -> None:
    near = node_text(BOB)
    world.desk.find(
        control.Find(id=1, protocol="chat", near=near, limit=3, timeout_s=2.0),
        world.answered.append,
    )
    ((token, wanted, timeout_s),) = world.carrier.finds
    assert (wanted, timeout_s) == (Sought("chat", near, 3), 2.0)
    world.answers.give(token, "found")
    assert world.answered == ["found"]


def test_a_search_near_a_key_is_one_near_its_node_id(world: World) -> None:
    world.desk.find(control.Find(id=1, near=f"dp2p://{key_text(BOB)}"), world.answered.append)
    ((_, wanted, _),) = world.carrier.finds
    assert wanted.near == node_text(BOB)


def test_a_search_that_is_refused_is_not_answered_later(world: World) -> None:
    world.carrier.busy = True
    assert refusal(world.desk.find, control.Find(id=1), world.answered.append).code == "busy"
    world.carrier.busy = False
    world.desk.find(control.Find(id=2), world.answered.append)
    ((token, _, _),) = world.carrier.finds
    for earlier in range(token):
        with pytest.raises(KeyError):
            world.answers.give(earlier, "nobody asked")


def test_what_was_found() -> None:
    signed = node_record.sign(SEEDS[0], seq=7, endpoints=[PLACE], protocols=["chat"])
    answer = desk.found(Answered(token=1, records=(signed,), asked=3))
    assert set(answer) == {"records", "asked"}
    (one,) = answer["records"]
    assert set(one) == fields_after("Its `ok` has `asked`, how many peers were asked")
    (read,) = msgspec.convert(msgspec.to_builtins(answer["records"]), list[Introduced])
    assert read == Introduced(
        key_text(ANNA), node_text(ANNA), 7, (PLACE,), ("chat",), node_record.to_text(signed.signed)
    )
    assert node_record.verify(node_record.from_text(read.record)) == signed


# --- what is known ---


def remember(world: World) -> None:
    """Anna, as fully as can be."""
    signed = node_record.sign(SEEDS[0], seq=7, endpoints=[PLACE], protocols=["chat"])
    world.store.add_record(signed, WALL)
    world.store.connected(ANNA, PLACE, WALL + 1)
    world.store.introduced(ANNA, BOB, "198.51.100.0/24", WALL + 2)
    for n, direction in enumerate((Direction.DIAL, Direction.ACCEPT, Direction.ACCEPT)):
        world.store.put_ticket(Ticket(ANNA, bytes([n]) * TICKET_BYTES), direction, WALL + 100)


@pytest.mark.parametrize("name", [node_text, lambda key: f"dp2p://{key_text(key)}"])
def test_all_that_is_known_of_a_peer(world: World, name: Any) -> None:
    remember(world)
    answer = world.desk.known(name(ANNA))
    assert set(answer) == fields_after("Nothing remembered is `unknown_peer`. Its `ok`:")
    assert (answer["key"], answer["node"]) == (key_text(ANNA), node_text(ANNA))
    assert answer["endpoints"] == [
        {"endpoint": PLACE, "last_success": WALL + 1, "last_failure": None, "failures": 0}
    ]
    assert answer["introducers"] == 1
    assert answer["introductions"] == [
        {"key": key_text(BOB), "network": "198.51.100.0/24", "at": WALL + 2, "wrong": False}
    ]
    assert answer["tickets"] == {"dial": 1, "accept": 2}
    assert node_record.verify(node_record.from_text(answer["record"])).seq == 7
    assert (answer["connected"], answer["trust"]) == (False, None)


def test_a_known_peer_that_is_connected(world: World) -> None:
    remember(world)
    world.connect(ANNA, trust="introduced")
    answer = world.desk.known(node_text(ANNA))
    assert (answer["connected"], answer["trust"]) == (True, "introduced")


def test_a_known_peer_whose_link_is_not_up_yet(world: World) -> None:
    remember(world)
    world.peers.ready(0, report(ANNA), NOW)
    answer = world.desk.known(node_text(ANNA))
    assert (answer["connected"], answer["trust"]) == (False, None)


@pytest.mark.parametrize("name", [node_text, key_text, lambda key: f"dp2p://{key_text(key)}"])
def test_peers_of_whom_nothing_is_known(world: World, name: Any) -> None:
    remember(world)
    error = refusal(world.desk.known, name(BOB))
    assert (error.code, error.peer) == ("unknown_peer", name(BOB))


# --- peers ---


def test_the_list_of_peers(world: World) -> None:
    world.connect(ANNA, fell_back=True, trust="none", introducers=0)
    world.peers.ready(1, report(BOB, 5, direction="in", mode="xx"), NOW)
    world.now += 2.5
    anna, bob = world.desk.peer_list()
    assert set(anna) == set(bob) == fields_after("Its `ok` has one field, `peers`")
    assert (anna["peer"], anna["open"], anna["age_s"]) == (node_text(ANNA), True, 2.5)
    assert (anna["mode"], anna["fell_back"], anna["trust"]) == ("resume", True, "none")
    assert (bob["shard"], bob["direction"], bob["open"]) == (1, "in", False)
    assert anna["warnings"] == bob["warnings"] == []


def test_warnings_stand_with_the_peer_that_they_are_about(world: World) -> None:
    world.store.connected(BOB, PLACE, WALL)  # this node met another there before
    anna = world.connect(ANNA, 1, trust="none")
    world.connect(CARL, 2, endpoint="tcp4://192.0.2.8:1")
    world.acquaintance.up(anna, [], [], NOW, WALL)
    listed = {one["peer"]: one["warnings"] for one in world.desk.peer_list()}
    assert listed[node_text(CARL)] == []
    assert listed[node_text(ANNA)] == [
        {"endpoint": PLACE, "other": key_text(BOB), "reporter": None, "evidence": "dialled"}
    ]


def test_disconnecting_closes_all_links_of_the_peer(world: World) -> None:
    world.peers.ready(0, report(ANNA, 1), NOW)
    world.peers.up(LinkId(0, 1))
    world.peers.ready(1, report(ANNA, 2), NOW)
    world.connect(BOB, 3)
    world.desk.disconnect(node_text(ANNA))
    closed: list[bus.ToShard] = [bus.Close(link=n, reason="bye") for n in (1, 2)]
    assert world.router.sent == closed


def test_disconnecting_who_is_not_connected(world: World) -> None:
    remember(world)
    for peer in (node_text(ANNA), "nonsense"):
        assert refusal(world.desk.disconnect, peer).code == "unknown_peer"
    assert world.router.sent == []


# --- the node ---


RELIED_ON = {
    "trust": {
        "handshakes_xx", "handshakes_ik", "handshakes_resume", "fallbacks", "identity_errors",
        "doubted", "warnings",
    },
    "store": {
        "peers", "records", "endpoints", "introductions", "tickets", "bans", "failures", "replaced",
    },
}  # fmt: skip


def test_status_says_what_can_be_relied_on(world: World) -> None:
    remember(world)
    world.connect(ANNA)
    world.own.say([PLACE], ["chat"], NOW)
    own = world.own.renew(NOW + SETTLE_S, WALL)
    assert own is not None
    world.now = NOW + 7
    status = msgspec.json.decode(msgspec.json.encode(world.desk.status()))
    assert fields_after("Of its fields these can be\nrelied on") <= set(status)
    assert (status["node"], status["key"]) == (OWN.node, OWN.key)
    assert status["record"] == node_record.to_text(own.signed)
    assert (status["network"], status["listen"], status["peers"]) == ("test", [PLACE], 1)
    assert [shard["index"] for shard in status["shards"]] == [0, 1]
    assert (status["uptime_s"], status["settled"]) == (7.0, True)
    for part, names in RELIED_ON.items():
        assert status[part].keys() >= names
        assert {type(count) for count in status[part].values()} == {int}
        assert all(f"`{name}`" in SPEC.read_text() for name in names)
    assert (status["store"]["peers"], status["store"]["tickets"]) == (1, 3)
    world.carrier.settled = False
    assert world.desk.status()["settled"] is False


def test_status_before_there_is_a_record(world: World) -> None:
    assert world.desk.status()["record"] is None


def test_status_tells_no_secret(world: World) -> None:
    remember(world)
    world.registry.attach("app", NOW)
    told = msgspec.json.encode(world.desk.status())
    assert b"0" * 32 not in told, "a session's token"
    assert ids.to_text(OWN.seed).encode() not in told


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, []), (b"garbage", []), (b"{}", []), (b'[{"name":"shard-0"}]', [{"name": "shard-0"}])],
)
def test_what_the_supervisor_says(world: World, content: bytes | None, told: list[Any]) -> None:
    if content is not None:
        (world.run_dir / PROCESSES_FILE).write_bytes(content)
    assert world.desk.status()["processes"] == told


def test_where_applications_find_the_node_and_its_shards(world: World) -> None:
    assert world.desk.identity() == (OWN.node, OWN.key)
    assert world.desk.endpoints() == [
        control.ShardEndpoint(0, "ipc:///run/shard-0.sock"),
        control.ShardEndpoint(1, "ipc:///run/shard-1.sock"),
    ]
    (first, _) = world.fabric.shards
    assert desk.shard_up(first) == control.ShardUp(0, "ipc:///run/shard-0.sock")
    world.desk.registry_changed()
    assert world.carrier.changes == 1


# --- notices, as the specification lists them ---


def all_notices() -> list[notices.Notice]:
    return [
        notices.fallback(report(ANNA), BOB),
        notices.fallback(report(ANNA, direction="in"), None),
        notices.identity_error(PLACE, "ik", ANNA, BOB),
        notices.identity_error(PLACE, "ik", ANNA, None),
        notices.doubted(ANNA, PLACE),
        notices.mitm_warning(
            peer="p", endpoint=PLACE, met=ANNA, other=BOB, reporter=CARL, evidence="record"
        ),
    ]


def test_the_specification_has_every_notice_with_its_fields() -> None:
    specification = SPEC.read_text()
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", specification, re.MULTILINE)
    listed = {kind: re.findall(r"`(\w+)`", fields) for kind, fields in rows}
    told: Mapping[str, list[str]] = {one.kind.value: list(one.fields) for one in all_notices()}
    assert set(told) == {kind.value for kind in notices.Kind}
    assert {kind: listed.get(kind) for kind in told} == told
    explained = fields_after("| `mitm_warning` |")
    assert explained == {name for fields in told.values() for name in fields}


@pytest.mark.parametrize("notice", all_notices(), ids=lambda one: str(one.kind))
def test_notices_fit_the_control_socket(notice: notices.Notice) -> None:
    event = control.Notice(notice.kind.value, WALL, dict(notice.fields))
    assert msgspec.json.decode(msgspec.json.encode(event), type=control.Notice) == event
