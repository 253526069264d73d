"""Discovery's messages: the specification's examples, bounds, sizes, conversions."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery_world import contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    At,
    Find,
    MessageError,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
)

SPEC = (Path(__file__).parents[2] / "docs/spec/discovery.md").read_text()
LARGEST = Named(b"\xff" * 32, b"\xff" * 16, 65535)
NUMBER = (1 << 63) - 1


def test_the_specification_s_examples() -> None:
    example = SPEC[SPEC.index("Example, in hexadecimal") :]
    ping, pong, *_ = (bytes.fromhex(one) for one in re.findall(r"`(9[0-9a-f ]+)`", example))
    assert messages.decode(ping) == Ping(7, 3)
    assert messages.encode(Ping(7, 3)) == ping
    assert messages.decode(pong) == Pong(7, 1, messages.at(("192.0.2.7", 4617)))
    assert messages.encode(Pong(7, 1, messages.at(("192.0.2.7", 4617)))) == pong
    topic = re.findall(r"`([0-9a-f]{64})`", example)[0]
    assert messages.topic("chat").hex() == topic


@pytest.mark.parametrize(
    "message",
    [
        Nodes(NUMBER, 3, 4, [LARGEST] * 16),
        Providers(NUMBER, 3, 4, [LARGEST] * 16, []),
        RecordIs(NUMBER, bytes(1024)),
    ],
)
def test_the_largest_messages_fit(message: messages.Message) -> None:
    body = messages.encode(message)
    assert len(body) <= messages.BODY_MAX
    assert messages.decode(body) == message


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("no type", []),
        ("a type that is unknown", [11, 1]),
        ("a type that is no number", ["ping", 1, 1]),
        ("no number", [1]),
        ("a number below 0", [1, -1, 0]),
        ("a number beyond 63 bits", [1, 1 << 63, 0]),
        ("a number of many bytes", [1, b"\x01" * 9, 0]),
        ("too few fields", [3, 1]),
        ("a short target", [3, 1, bytes(31)]),
        ("a long target", [3, 1, bytes(33)]),
        ("port 0", [2, 1, 0, [bytes(4), 0]]),
        ("port 65536", [2, 1, 0, [bytes(4), 65536]]),
        ("a contact without key", [4, 1, 0, 1, [[bytes(4), 1]]]),
        ("17 contacts", [4, 1, 0, 1, [[bytes(32), bytes(4), 1]] * 17]),
        ("part 4", [4, 1, 4, 4, []]),
        ("no parts", [4, 1, 0, 0, []]),
        ("5 parts", [4, 1, 0, 5, []]),
        ("a record that is too large", [6, 1, bytes(1025)]),
        ("no topics", [9, 1, []]),
        ("nine topics", [9, 1, [bytes(32)] * 9]),
        ("more than a day", [10, 1, [86401]]),
    ],
)
def test_what_breaks_the_bounds_is_no_message(what: str, fields: list[object]) -> None:
    with pytest.raises(MessageError):
        messages.decode(msgspec.msgpack.encode(fields))


def test_a_body_that_is_too_long_is_no_message() -> None:
    padded = msgspec.msgpack.encode([1, 1, 1, bytes(messages.BODY_MAX)])
    with pytest.raises(MessageError, match="more than 1100"):
        messages.decode(padded)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(body: bytes) -> None:
    try:
        message = messages.decode(body)
    except MessageError:
        return
    assert messages.decode(messages.encode(message)) == message


@given(st.lists(st.integers(0, 1 << 62), max_size=3))
def test_elements_of_later_versions_are_ignored(more: list[int]) -> None:
    body = msgspec.msgpack.encode([3, 9, bytes(32), *more])
    assert messages.decode(body) == Find(9, bytes(32))


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::1", "127.0.0.1"])
def test_contacts_come_back_as_they_went(host: str) -> None:
    contact = contact_of(1, host)
    assert messages.contact(messages.named(contact)) == contact
    assert messages.place(messages.at(contact.place)) == contact.place


@pytest.mark.parametrize("length", [5, 8, 12, 15])
def test_an_address_of_another_length_is_no_place(length: int) -> None:
    assert messages.place(At(bytes(length), 1)) is None
    assert messages.contact(Named(bytes(32), bytes(length), 1)) is None


def test_a_topic_is_no_node_id_of_a_key() -> None:
    name = "chat"
    assert messages.topic(name) != messages.topic("chat2")
    assert (
        int.from_bytes(messages.topic(name), "big")
        != Contact(name.encode().ljust(32), ("192.0.2.7", 1)).id
    )
