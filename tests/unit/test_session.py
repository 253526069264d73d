"""An application's session without sockets: control, flows, credit, positions."""

from __future__ import annotations

import pytest

from dp2p import control, records
from dp2p.errors import RequestError
from dp2p.records import Kind, Position
from dp2p.sdk import signals
from dp2p.sdk.flow import Flow
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.port import SLICE_BYTES
from dp2p.sdk.registration import Registration
from dp2p.sdk.types import (
    PeerDown,
    PeerUp,
    ProtocolLost,
    SendError,
    SessionLost,
    SessionRestored,
    ShardFound,
    ShardLost,
    Trouble,
)
from scripted import TOKEN, WINDOW, Node, credit, up_record


@pytest.fixture
def node() -> Node:
    return Node()


def chat_flow(node: Node, keep_s: float = 30.0) -> tuple[Registration, Flow]:
    """A registered protocol with a flow to anna, whose first record has gone."""
    registration = node.register(keep_s=keep_s)
    node.receive(up_record())
    node.sent()
    return registration, registration.flow("anna")


# --- control ---


def test_attaching_connects_to_each_shard_with_the_token() -> None:
    node = Node(shards=2)
    assert [event.index for event in node.take(ShardFound)] == [0, 1]
    for index in (0, 1):
        (record,) = node.sent(index)
        assert record.kind == Kind.ATTACH
        assert bytes(record.body).hex() == TOKEN + "1"


def test_replies_meet_their_requests_in_any_order(node: Node) -> None:
    session = node.session
    first = session.request(control.Status(id=0))
    second = session.request(control.Peers(id=0))
    one, two = node.requests()
    node.reply(two, {"peers": []})
    node.reply(one, error="busy")
    node.reply(one, {"late": True})
    replies = [event for event in node.take(signals.Replied) if event.id in (first, second)]
    assert [reply.id for reply in replies] == [second, first]
    assert replies[0].ok == {"peers": []}
    assert replies[1].error.code == "busy"


def test_unknown_events_and_garbage_are_ignored(node: Node) -> None:
    for raw in (b'{"event": "fireworks"}', b"{", b"[]", b'{"id": 99, "ok": {}}', b"\xff"):
        assert node.session.receive_control(raw) == []


def test_a_refused_registration_leaves_nothing(node: Node) -> None:
    _, registration = node.session.register(control.ProtocolSpec(name="chat", versions=[1]))
    node.reply(node.requests()[0], error="protocol_taken")
    assert node.session.protocols == {}
    assert registration.closed is not None
    assert registration.closed.code == "protocol_taken"


def test_registering_twice_is_refused_here(node: Node) -> None:
    node.register()
    with pytest.raises(RequestError, match="protocol_taken"):
        node.register()


def test_a_peer_may_come_up_before_the_reply(node: Node) -> None:
    _, registration = node.session.register(control.ProtocolSpec(name="chat", versions=[1]))
    node.receive(up_record())
    node.reply(node.requests()[0], control.Registered(0, WINDOW))
    assert list(registration.flows) == ["anna"]


def test_withdrawing_takes_the_flows_down(node: Node) -> None:
    registration, _ = chat_flow(node)
    request = control.Withdraw(id=0, session=node.session.token(), name="chat")
    node.session.request(request)
    node.reply(node.requests()[0], {})
    (down,) = node.take(PeerDown)
    assert (down.peer, down.reason) == ("anna", "withdrawn")
    with pytest.raises(RequestError, match="withdrawn"):
        registration.flow("anna")


# --- shards ---


def test_a_shard_that_does_not_know_the_session_yet_is_asked_again(node: Node) -> None:
    node.sent()
    body = {"code": "unknown_session", "message": "not yet"}
    (event,) = node.receive(records.encode_json(Kind.ERROR, 0, body))
    assert isinstance(event, signals.AttachAgain)
    node.session.attach_port(event.port)
    assert [record.kind for record in node.sent()] == [Kind.ATTACH]


def test_a_restarted_shard_replaces_its_former_life(node: Node) -> None:
    _, flow = chat_flow(node)
    old = node.port()
    node.events.clear()
    node.event(control.ShardDown(0, old.endpoint))
    node.event(control.ShardUp(0, "ipc://shard-0-again"))
    kinds = [type(event) for event in node.events]
    assert kinds == [PeerDown, signals.Disconnect, ShardLost, signals.Connect, ShardFound]
    assert flow.down == "shard_down"
    assert node.port().endpoint == "ipc://shard-0-again"


# (event, does the shard stay): the same news may come twice, late, or over two sockets
REPEATED = [
    (control.ShardUp(0, "ipc://shard-0"), True),
    (control.ShardDown(0, "ipc://another-life"), True),
    (control.ShardDown(5, "ipc://shard-5"), True),
    (control.ShardDown(0, "ipc://shard-0"), False),
]


@pytest.mark.parametrize(("event", "stays"), REPEATED)
def test_old_news_of_shards(node: Node, event: control.AnyEvent, stays: bool) -> None:
    port = node.port()
    node.event(event)
    assert (node.session.ports.get(0) is port) is stays


def test_a_flow_on_another_shard_replaces_the_old_one() -> None:
    node = Node(shards=2)
    registration = node.register()
    node.receive(up_record(1), 0)
    node.events.clear()
    node.receive(up_record(1), 1)
    assert [type(event) for event in node.events] == [PeerDown, PeerUp]
    late = records.encode_data(1, [b"late"], 0) + records.encode_json(Kind.DOWN, 1, {"reason": ""})
    node.events.clear()
    node.receive(late, 0)
    assert node.events == []
    assert not registration.inbox
    assert registration.flow("anna").port.index == 1


def test_malformed_messages_are_told_and_survived(node: Node) -> None:
    registration, _ = chat_flow(node)
    for message in (b"\1", up_record(2)[:16] + b"\0" * 8, records.encode_bytes(Kind.UP, 2, b"{")):
        (event,) = node.receive(message)
        assert isinstance(event, Trouble)
        assert event.error.code == "bad_record"
    assert list(registration.flows) == ["anna"]


def test_a_refused_record_is_told_unless_its_flow_has_just_gone(node: Node) -> None:
    for code, told in (("no_credit", 1), ("unknown_flow", 0)):
        body = {"code": code, "message": "no"}
        assert len(node.receive(records.encode_json(Kind.ERROR, 1, body))) == told


# --- a session that is lost ---


def test_a_lost_session_is_begun_again_with_its_protocols(node: Node) -> None:
    registration, flow = chat_flow(node)
    node.events.clear()
    node.events += node.session.session_lost(TOKEN + "1")
    assert flow.down == "session_lost"
    assert node.session.ports == {}
    assert len(node.take(SessionLost)) == 1
    assert node.session.session_lost(TOKEN + "1") == []  # told twice
    node.answer_attach()
    assert node.take(SessionRestored)[0].session == TOKEN + "2"
    (request,) = node.requests()
    assert (request["op"], request["session"]) == ("register", TOKEN + "2")
    node.reply(request, control.Registered(3, WINDOW))
    assert registration.number == 3
    node.receive(up_record(9))
    assert registration.flow("anna").number == 9


def test_a_protocol_that_somebody_took_meanwhile_is_lost(node: Node) -> None:
    registration = node.register()
    node.session.session_lost()
    node.answer_attach()
    node.reply(node.requests()[0], error="protocol_taken")
    (lost,) = node.take(ProtocolLost)
    assert (lost.protocol, lost.error.code) == ("chat", "protocol_taken")
    assert registration.closed is not None


def test_a_busy_node_is_asked_again_for_a_protocol(node: Node) -> None:
    registration = node.register()
    node.session.session_lost()
    node.answer_attach()
    node.reply(node.requests()[0], error="busy")
    (later,) = node.take(signals.RegisterAgain)
    assert (registration.closed, node.requests()) == (None, [])
    for _ in range(2):
        node.session.register_again(later.registration)
    (request,) = node.requests()
    assert (request["op"], request["protocol"]["name"]) == ("register", "chat")
    node.reply(request, control.Registered(7, WINDOW))
    assert registration.number == 7
    assert node.take(ProtocolLost) == []


def test_a_busy_node_is_not_asked_for_what_is_over(node: Node) -> None:
    """While it was to wait, the protocol is withdrawn, or the session is lost once more."""
    node.register()
    node.session.session_lost()
    node.answer_attach()
    node.reply(node.requests()[0], error="busy")
    (later,) = node.take(signals.RegisterAgain)
    node.session.session_lost()
    node.session.register_again(later.registration)
    node.answer_attach()
    node.reply(node.requests()[0], error="busy")
    node.session.request(control.Withdraw(id=0, session=node.session.token(), name="chat"))
    node.reply(node.requests()[0], error="unknown_protocol")
    assert later.registration.closed is not None
    node.session.register_again(later.registration)
    assert node.requests() == []


def test_who_registers_for_the_first_time_hears_that_the_node_is_busy(node: Node) -> None:
    _, registration = node.session.register(control.ProtocolSpec(name="chat", versions=[1]))
    node.reply(node.requests()[0], error="busy")
    assert registration.closed is not None
    assert node.take(signals.RegisterAgain) == []


def test_requests_under_way_fail_with_the_session(node: Node) -> None:
    number = node.session.request(control.Status(id=0))
    node.events += node.session.session_lost()
    (reply,) = (event for event in node.take(signals.Replied) if event.id == number)
    assert reply.error.code == "session_lost"
    with pytest.raises(RequestError, match="session_lost"):
        node.register("other")


def test_unknown_session_in_a_reply_loses_it(node: Node) -> None:
    request = control.Withdraw(id=0, session=node.session.token(), name="chat")
    node.session.request(request)
    node.reply(node.requests()[0], error="unknown_session")
    assert len(node.take(SessionLost)) == 1


# --- sending ---

# payload bytes, type, error
REFUSED = [(501, 0, "datagram_too_large"), (0, 10, "bad_type"), (0, -1, "bad_type")]


@pytest.mark.parametrize(("size", "kind", "code"), REFUSED)
def test_what_the_node_would_refuse_is_refused_here(
    node: Node, size: int, kind: int, code: str
) -> None:
    _, flow = chat_flow(node)
    with pytest.raises(SendError) as caught:
        flow.offer(bytes(size), kind)
    assert (caught.value.code, caught.value.peer, caught.value.protocol) == (code, "anna", "chat")
    with pytest.raises(SendError):
        flow.check(size, kind, kind)


def test_peers_that_are_not_there_have_errors_of_their_own(node: Node) -> None:
    registration, _ = chat_flow(node)
    with pytest.raises(RequestError, match="unknown_peer"):
        registration.flow("bob")
    node.receive(records.encode_json(Kind.DOWN, 1, {"reason": "shutdown"}))
    with pytest.raises(RequestError, match="peer_down: shutdown") as caught:
        registration.flow("anna")
    assert (caught.value.peer, caught.value.protocol) == ("anna", "chat")


def test_datagrams_of_one_turn_share_a_record(node: Node) -> None:
    _, flow = chat_flow(node)
    for index in range(5):
        assert flow.offer(b"x" * index, index)
    (record,) = node.sent()
    data = records.decode_data(record.body)
    assert data.payloads == [b"x" * index for index in range(5)]
    assert list(data.types) == [0, 1, 2, 3, 4]


def test_a_buffer_may_change_after_it_was_sent(node: Node) -> None:
    _, flow = chat_flow(node)
    buffer = bytearray(b"before")
    flow.offer(buffer, 0)  # type: ignore[arg-type] # allowed, though bytes are what is asked for
    buffer[:] = b"after!"
    (record,) = node.sent()
    assert records.decode_data(record.body).payloads == [b"before"]


# bytes of credit left, does an empty datagram (16 bytes) go, does one that waits
LAST_BYTES = [(15, False), (16, True), (17, True)]


@pytest.mark.parametrize(("left", "goes"), LAST_BYTES)
def test_credit_is_used_to_the_last_byte_and_no_further(node: Node, left: int, goes: bool) -> None:
    _, flow = chat_flow(node)
    assert flow.offer(bytes(484), 0)
    assert flow.offer(bytes(484 - left), 0)
    assert flow.credit == left
    node.sent()
    assert flow.offer(b"", 0) is goes
    node.receive(credit(1, 0, 0, WINDOW if goes else WINDOW + 1))
    flow.submit(Outgoing([bytes(left)], 0))
    assert flow.pump() is None
    node.receive(credit(1, 1, 500))
    assert flow.pump() is not None


def test_single_datagrams_do_not_overtake_those_that_wait(node: Node) -> None:
    _, flow = chat_flow(node)
    flow.offer(bytes(400), 0)
    flow.submit(Outgoing([bytes(500), bytes(500)], 1))
    assert flow.pump() == []
    assert flow.pump() is None
    assert not flow.offer(b"", 2)


def test_a_call_is_cut_where_credit_and_record_size_say(node: Node) -> None:
    registration = node.register()
    node.receive(up_record(window=1 << 20))
    flow = registration.flow("anna")
    call = Outgoing([bytes(484)] * 1000, 0)
    flow.submit(call)
    finished: list[Outgoing] = []
    while (done := flow.pump()) is not None:
        finished += done
    assert finished == [call]
    sent = [record for record in node.sent() if record.kind == Kind.DATA]
    counts = [len(records.decode_data(record.body).payloads) for record in sent]
    assert sum(counts) == 1000
    assert max(counts) == SLICE_BYTES // 500


def test_a_call_with_little_credit_waits_for_more(node: Node) -> None:
    _, flow = chat_flow(node)
    flow.submit(Outgoing([bytes(84)] * 100, 0))
    assert flow.pump() == []
    assert flow.pump() is None
    node.receive(credit(1, 1, 100))
    assert flow.pump() is None, "a tenth of the window is not worth a record"
    node.receive(credit(1, 3, 300))
    assert flow.pump() == []
    assert flow.sent_datagrams == 13


def test_down_tells_exactly_what_stayed_unconfirmed(node: Node) -> None:
    _, flow = chat_flow(node, keep_s=0)
    for _ in range(3):
        flow.offer(bytes(84), 0)
    node.sent()
    node.receive(credit(1, 2, 200))
    flow.offer(bytes(84), 0)  # accepted, and still here
    call = Outgoing([bytes(284)] * 5, 0)
    flow.submit(call)
    flow.pump()
    accepted = call.accepted
    node.events.clear()
    node.receive(records.encode_json(Kind.DOWN, 1, {"reason": "eof"}))
    unsendable, down = node.events
    assert isinstance(unsendable, signals.Unsendable)
    assert call.error is not None
    assert call.error.accepted == accepted > 0
    assert down == PeerDown("anna", "chat", "eof", 2, 1, 6)
    assert node.sent() == []


# --- receiving ---


def test_consumed_follows_the_application_datagram_by_datagram(node: Node) -> None:
    registration, flow = chat_flow(node)
    node.sent()
    node.receive(records.encode_data(1, [b"one", b"two", b"three"], [1, 2, 3]))
    assert node.sent() == []
    assert registration.inbox.open() is flow.arrivals
    assert next(registration.inbox.messages) == ("anna", 1, b"one")
    (record,) = node.sent()
    assert record.kind == Kind.CONSUMED
    assert records.decode_position(record.body) == Position(0, 1, 19)
    batch = registration.inbox.take_batch()
    assert batch is not None
    assert batch[1].payloads == [b"two", b"three"]
    assert list(batch[1].types) == [2, 3]
    flow.offer(b"answer", 0)
    consumed, data = node.sent()
    assert records.decode_position(consumed.body) == Position(0, 3, 19 + 19 + 21)
    assert data.kind == Kind.DATA


def test_a_batch_of_much_credit_is_confirmed_in_parts(node: Node) -> None:
    registration, flow = chat_flow(node)
    node.receive(records.encode_data(1, [bytes(84)] * 10, 0))
    steps = []
    while registration.inbox.open():
        steps.append(len(list(registration.inbox.messages)))
        node.session.settle()
        assert flow.arrivals.consumed_datagrams == sum(steps)
    assert sum(steps) == 10
    assert max(steps) * 100 <= 300


def test_what_had_arrived_can_be_read_after_the_peer_has_gone(node: Node) -> None:
    registration, _ = chat_flow(node)
    node.sent()
    node.receive(records.encode_data(1, [b"last words"], 0))
    node.receive(records.encode_json(Kind.DOWN, 1, {"reason": "bye"}))
    taken = registration.inbox.take_batch()
    assert taken is not None
    assert taken[1].payloads == [b"last words"]
    assert node.sent() == [], "nobody is there to be told"
