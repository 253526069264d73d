"""Whatever others say, in whatever order: no error, no loop, nothing without bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery_world import contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import Action, DiscoveryBusy, Send
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Advertised,
    AskRecord,
    At,
    Find,
    FindProtocol,
    Message,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
)
from lone_discovery import Lone

HOSTS = ["192.0.2.1", "198.51.100.7", "10.0.0.7", "127.0.0.1", "2001:db8::7"]
OWN = contact_of(0)
CONTACTS = [contact_of(one) for one in range(1, 12)]
CONTACTS += [contact_of(20 + one, host) for one, host in enumerate(HOSTS)]

numbers = st.integers(0, (1 << 63) - 1)
ids = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=4, max_size=16) | st.sampled_from(
    [messages.at((host, 1)).address for host in HOSTS]
)
named = st.sampled_from([messages.named(one) for one in [OWN, *CONTACTS]]) | st.builds(
    Named, ids, addresses, st.integers(1, 65535)
)
some = st.lists(named, max_size=16)
parts = st.integers(0, 3), st.integers(1, 4)
said: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, numbers, numbers),
    st.builds(Pong, numbers, numbers, st.builds(At, addresses, st.integers(1, 65535))),
    st.builds(Find, numbers, ids),
    st.builds(Nodes, numbers, *parts, some),
    st.builds(AskRecord, numbers),
    st.builds(RecordIs, numbers, st.binary(max_size=64)),
    st.builds(FindProtocol, numbers, ids),
    st.builds(Providers, numbers, *parts, some, some),
    st.builds(Advertise, numbers, st.lists(ids, min_size=1, max_size=8)),
    st.builds(Advertised, numbers, st.lists(st.integers(0, 86400), min_size=1, max_size=8)),
)
who = st.sampled_from(CONTACTS)
events = st.one_of(
    st.tuples(st.just("hear"), who, said),
    st.tuples(st.just("answer"), st.integers(0, 1 << 16), said),
    st.tuples(st.just("meet"), who, st.booleans(), st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("gone"), who),
    st.tuples(st.just("candidates"), st.lists(who | st.just(OWN), max_size=8)),
    st.tuples(st.just("lookup"), st.integers(0, (1 << 256) - 1), st.sampled_from([None, 1, 3])),
    st.tuples(st.just("search"), st.sampled_from("abc"), st.integers(1, 4)),
    st.tuples(st.just("serve"), st.lists(st.sampled_from("abcdef"), max_size=4)),
    st.tuples(st.just("wait"), st.floats(0.0, 1000.0)),
)


class Harness:
    """A node, and what it has asked."""

    def __init__(self, seed: int) -> None:
        self.lone = Lone(seed=seed)
        self.asked: list[Send] = []
        self.ended: dict[object, int] = {}
        self.begun = 0

    def happen(self, event: tuple[Any, ...]) -> list[Action]:
        lone, node = self.lone, self.lone.discovery
        match event:
            case "hear", contact, message:
                return lone.hear(contact, message)
            case "answer", index, message if self.asked:
                send = self.asked[index % len(self.asked)]
                return lone.hear(send.contact, _with_number(message, send.message.id))
            case "meet", contact, came, serves, seq:
                return lone.meet(contact, came=came, serves=serves, seq=seq)
            case "gone", contact:
                return node.unreachable(contact, lone.now)
            case "candidates", contacts:
                return node.candidates(contacts, lone.now)
            case "lookup", target, paths:
                self.begun += 1
                return node.lookup(self.begun, target, lone.now, paths)
            case "search", protocol, count:
                self.begun += 1
                return node.search(self.begun, protocol, lone.now, count)
            case "serve", protocols:
                return node.serve(protocols, lone.now)
            case "wait", seconds:
                return lone.wait(seconds)
        return []

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                assert len(messages.encode(action.message)) <= messages.BODY_MAX
                assert action.contact.key != self.lone.contact.key
                if isinstance(action.message, Ping | Find | AskRecord | FindProtocol | Advertise):
                    self.asked.append(action)
            elif hasattr(action, "token"):
                self.ended[action.token] = self.ended.get(action.token, 0) + 1


def _with_number(message: Message, number: int) -> Message:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**fields, "id": number})


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=60), st.integers(0, 1 << 32))
def test_any_events(happened: list[tuple[Any, ...]], seed: int) -> None:
    this = Harness(seed)
    for event in happened:
        try:
            this.take(this.happen(event))
        except DiscoveryBusy:
            this.begun -= 1
        node, now = this.lone.discovery, this.lone.now
        this.take(node.run(now))
        assert node.next_deadline() > now
        assert len(node.table) <= len(CONTACTS) + node.counters.answers
        assert len(node._asking.requests) <= 512
    this.take(this.lone.wait(120.0))
    assert this.ended == dict.fromkeys(range(1, this.begun + 1), 1)
