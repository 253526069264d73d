"""Two applications' sessions, sans-IO, and a network between them that loses connections.

Each session has a fake shard, which holds its application to the rules of
docs/spec/app-api.md: credit, CONSUMED that does not go beyond what came, EPOCH as the first record.
Payloads are numbered, and ``check`` says that they came in order, once, and all but those that
somebody was told of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

from dp2p import control, records
from dp2p.records import DATAGRAM_COST, Kind, Position, Record
from dp2p.sdk.flow import Flow
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.types import PeerDown, PeerUp, Trouble
from scripted import Node, up_record

SHARDS = 2
LARGEST = 500  # bytes of a payload; those of ``up_record``
NUMBER = 4  # bytes of the number that a payload begins with


class Side:
    """An application, its node's shards, and its user, who knows what was sent and taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lives = 0
        self.now = 0.0
        self.taken: list[int] = []
        "Numbers of payloads that the application has taken, over all its lives."
        self.offered: list[int] = []
        "Those that it has sent, and that the SDK has accepted or lets wait."
        self.lost: set[int] = set()
        "Of these, those that it was told were not confirmed."
        self.start = 0
        "Where in ``offered`` the present conversation begins."
        self.begin_life()

    def begin_life(self) -> None:
        """Another process of the same application."""
        self.lives += 1
        epoch = (ord(self.name) << 32) + (self.lives << 16)
        self.application = f"{epoch:016x}"
        self.node = Node(SHARDS, instance=self.application, first_epoch=epoch)
        self.registration = self.node.register()
        self.start = len(self.offered)

    @property
    def flow(self) -> Flow | None:
        """Its only flow, if the peer is there or away."""
        return next(iter(self.registration.flows.values()), None)

    def send(self, sizes: list[int], *, one_by_one: bool = False) -> None:
        """Send payloads of these sizes, as far as there is somebody."""
        flow = self.flow
        if flow is None:
            return
        first = self.offered[-1] + 1 if self.offered else 0
        numbers = range(first, first + len(sizes))
        payloads = [
            number.to_bytes(NUMBER, "big") + bytes(size)
            for number, size in zip(numbers, sizes, strict=True)
        ]
        if one_by_one:
            for number, payload in zip(numbers, payloads, strict=True):
                if not flow.offer(payload, number % 10):
                    return
                self.offered.append(number)
        elif payloads:
            flow.submit(Outgoing(payloads, [number % 10 for number in numbers]))
            self.offered += numbers
            self.pump()

    def pump(self) -> None:
        """Move what waits, as drivers do."""
        while self.flow is not None and self.flow.pump() is not None:
            pass

    def take(self, count: int) -> None:
        """The application takes so many datagrams one by one."""
        inbox = self.registration.inbox
        for _ in range(count):
            message = next(inbox.messages, None)
            if message is None:
                if inbox.open() is None:
                    return
                message = next(inbox.messages)
            number = int.from_bytes(message.payload[:NUMBER], "big")
            assert message.type == number % 10
            self.taken.append(number)

    def hear_events(self) -> None:
        """What the session has told; PeerDown names exactly what is not confirmed."""
        for event in self.node.events:
            assert not isinstance(event, Trouble), event
            if isinstance(event, PeerUp) and not event.resumed:
                self.start = len(self.offered)
            elif isinstance(event, PeerDown):
                first = self.start + event.unconfirmed_from
                assert first + event.unconfirmed + event.unsent == len(self.offered)
                self.lost.update(self.offered[first:])
        self.node.events.clear()
        self.pump()

    def expire(self, seconds: float) -> None:
        """So much time goes by."""
        self.node.events += self.node.session.expire(self.now)
        self.now += seconds
        self.node.events += self.node.session.expire(self.now)
        self.hear_events()

    def lose_session(self) -> None:
        """The coordinator has forgotten it: it begins again with the same life."""
        self.node.events += self.node.session.session_lost()
        self.node.answer_attach()
        (request,) = self.node.requests()
        self.node.reply(request, control.Registered(0, 1000))
        self.hear_events()

    def withdraw(self) -> None:
        """The application takes its protocol off the air, and puts it there again."""
        session = self.node.session
        session.request(control.Withdraw(id=0, session=session.token(), name="chat"))
        (request,) = self.node.requests()
        self.node.reply(request, {})
        self.hear_events()
        self.registration = self.node.register()


class End:
    """One end of a connection: a flow of a shard."""

    def __init__(self, side: Side, index: int, number: int, window: int) -> None:
        self.side = side
        self.port = side.node.port(index)
        self.number = number
        self.granted = window
        "Bytes that its application may have sent in this flow, at most."
        self.sent = 0
        self.arrived = [0, 0]
        self.consumed = (0, 0)
        self.begun = False
        self.on_wire: deque[Record] = deque()
        "What the application has said and the peer's has not heard."

    def receive(self, message: bytes) -> None:
        """The shard says something to the application."""
        self.side.node.events += self.side.node.session.receive_data(self.port, message)
        self.side.hear_events()

    def take(self) -> None:
        """Read what the application has for the shard."""
        self.side.node.session.settle()
        for message in self.port.take_messages():
            for record in records.split(message):
                if record.kind != Kind.ATTACH and record.flow == self.number:
                    self._obey(record)
                    self.on_wire.append(record)

    def _obey(self, record: Record) -> None:
        if record.kind == Kind.EPOCH:
            assert not self.begun
        elif record.kind == Kind.DATA:
            self.sent += records.decode_data(record.body).cost
            assert self.sent <= self.granted
        else:
            position = records.decode_position(record.body)
            told = position.datagrams, position.bytes
            assert self.consumed < told <= tuple(self.arrived)
            self.consumed = told
        self.begun = True

    def hear(self, record: Record, window: int) -> bytes:
        """What a record of the other end becomes here."""
        if record.kind == Kind.EPOCH:
            return records.encode_epoch(self.number, records.decode_epoch(record.body))
        if record.kind == Kind.DATA:
            data = records.decode_data(record.body)
            self.arrived[0] += len(data.payloads)
            self.arrived[1] += data.cost
            return records.encode_data(self.number, data.payloads, data.types)
        position = records.decode_position(record.body)
        self.granted = max(self.granted, position.bytes + window)
        credit = Position(window, position.datagrams, position.bytes)
        return records.encode_position(Kind.CREDIT, self.number, credit)


class Network:
    """Two sides and what is between them: at most one connection at a time."""

    def __init__(self) -> None:
        self.sides = Side("a"), Side("b")
        self.ends: tuple[End, End] | None = None
        self.number = 0
        self.late: list[tuple[End, bytes]] = []
        "Records of connections that are gone, to arrive late."

    def connect(self, indexes: tuple[int, int], windows: tuple[int, int]) -> None:
        """A connection is made, whether or not the one before is known to be gone."""
        if self.ends is not None:
            self._forget()
        a, b = self.sides
        ends = tuple(
            End(side, index, self._next_number(), window)
            for side, index, window in zip(self.sides, indexes, windows, strict=True)
        )
        self.ends = ends[0], ends[1]
        for end, other, window in ((ends[0], b, windows[0]), (ends[1], a, windows[1])):
            end.receive(
                up_record(end.number, peer=other.name, window=window, application=other.application)
            )

    def _next_number(self) -> int:
        self.number += 1
        return self.number

    def deliver(self, which: int, count: int, window: int) -> None:
        """Carry so many records to one side; ``window`` is what CREDIT grants."""
        if self.ends is None:
            return
        to, source = self.ends[which], self.ends[1 - which]
        source.take()
        for _ in range(min(count, len(source.on_wire))):
            to.receive(to.hear(source.on_wire.popleft(), window))

    def cut(self, goodbyes: tuple[bool, bool]) -> None:
        """The connection is lost, with what is on it. Each side's DOWN is said or not."""
        if self.ends is None:
            return
        ends = self.ends
        self._forget()
        for end, said in zip(ends, goodbyes, strict=True):
            if said:
                end.receive(records.encode_json(Kind.DOWN, end.number, {"reason": "eof"}))

    def _forget(self) -> None:
        """What was on the connection may arrive later, when nobody waits for it."""
        assert self.ends is not None
        for to, source in (self.ends, self.ends[::-1]):
            source.take()
            self.late += [(to, to.hear(record, 1000)) for record in source.on_wire]
        self.ends = None

    def kill_shard(self, which: int, index: int) -> None:
        """A shard dies; another takes its place. Its node's application hears it at once, and the
        other side when it hears it.
        """
        side = self.sides[which]
        if self.ends is not None and self.ends[which].port is side.node.port(index):
            self._forget()
        endpoint = side.node.port(index).endpoint
        side.node.event(control.ShardDown(index, endpoint))
        side.node.event(control.ShardUp(index, endpoint + "'"))
        side.hear_events()

    def lose_session(self, which: int) -> None:
        """A coordinator forgets its application, and all flows of it are closed."""
        if self.ends is not None:
            self.cut((which != 0, which != 1))
        self.sides[which].lose_session()

    def withdraw(self, which: int) -> None:
        """An application withdraws and registers again."""
        if self.ends is not None:
            self.cut((which != 0, which != 1))
        self.sides[which].withdraw()

    def kill(self, which: int) -> None:
        """An application dies, and another process takes its place. Nobody is left to be told what
        it had not got confirmed.
        """
        if self.ends is not None:
            self.cut((which != 0, which != 1))
        side = self.sides[which]
        if side.flow is not None:
            side.lost.update(side.offered[side.start + side.flow.confirmed_datagrams :])
        side.begin_life()

    def arrive_late(self) -> None:
        """Records of connections that are gone reach their applications, which may not have heard
        that they are.
        """
        for end, message in self.late:
            flow = end.side.flow
            listens = flow is not None and (flow.port, flow.number) == (end.port, end.number)
            if listens:
                end.receive(message)
            else:
                assert end.side.node.session.receive_data(end.port, message) == []
        self.late.clear()

    def settle(self, rounds: int = 400) -> None:
        """Everything is carried, taken and confirmed."""
        for _ in range(rounds):
            self.deliver(0, 1 << 20, 5000)
            self.deliver(1, 1 << 20, 5000)
            for side in self.sides:
                side.take(1 << 20)
            if all(side.flow is None or side.flow.idle for side in self.sides):
                return

    def each_way(self, check: Callable[[Side, Side], None]) -> None:
        """``check(sender, receiver)`` for both directions."""
        check(self.sides[0], self.sides[1])
        check(self.sides[1], self.sides[0])

    def check(self) -> None:
        """Always: in order, once, and nothing is kept that is confirmed."""
        self.each_way(_in_order)
        for side in self.sides:
            if side.flow is not None:
                _kept_is_unconfirmed(side.flow)


def _in_order(sender: Side, receiver: Side) -> None:
    taken = receiver.taken
    assert all(one < other for one, other in pairwise(taken)), "order, once"
    if taken:
        before = [number for number in sender.offered if number <= taken[-1]]
        missing = set(before) - set(taken) - sender.lost
        assert not missing, f"{missing} were passed over"


def everything_came(sender: Side, receiver: Side) -> None:
    """All that nobody was told of has been taken."""
    assert set(sender.offered) - sender.lost <= set(receiver.taken)
    assert sender.flow is None or (sender.flow.kept == [] and not sender.flow.unconfirmed)


def _kept_is_unconfirmed(flow: Flow) -> None:
    """Records that are kept, and datagrams that are in none yet, are what is not confirmed, and a
    part of one record at most that is.
    """
    kept = [records.decode_data(next(records.split(one)).body) for one in flow.kept]
    count = sum(len(data.payloads) for data in kept) + len(flow.payloads)
    first = len(kept[0].payloads) if kept else 0
    assert flow.unconfirmed <= count < flow.unconfirmed + max(1, first)
    cost = sum(data.cost for data in kept)
    cost += sum(len(payload) + DATAGRAM_COST for payload in flow.payloads)
    assert cost - (kept[0].cost if kept else 0) <= flow.sent_bytes - flow.confirmed_bytes <= cost
