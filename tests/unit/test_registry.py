"""Sessions and protocols: who may have a name, which number it gets, when a session ends."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dp2p.control import Lift, ProtocolSpec
from dp2p.coordinator.registry import PROTOCOLS_MAX, SUSPECT_S, Registry, filled
from dp2p.errors import RequestError


def new_registry(expiry_s: float = 5.0) -> Registry:
    tokens = itertools.count(1)
    return Registry(expiry_s, lambda: f"{next(tokens):032x}")


def spec(name: str = "chat", **more: Any) -> ProtocolSpec:
    return ProtocolSpec(name=name, versions=[1], **more)


def refusal(call: Any, *arguments: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value


# --- lifts ---

LIFTS = [
    ("normal", Lift(0, 9, "urgent"), True),
    ("bulk", Lift(7, 7, "normal"), True),
    ("bulk", Lift(0, 65535, "urgent"), True),
    ("normal", Lift(3, 2, "urgent"), False),
    ("normal", Lift(1, 2, "normal"), False),
    ("urgent", Lift(1, 2, "urgent"), False),
]


@pytest.mark.parametrize(("priority", "lift", "fits"), LIFTS)
def test_lifts_lead_upwards(priority: Any, lift: Lift, fits: bool) -> None:
    asked = spec(priority=priority, lifts=[lift])
    if fits:
        assert filled(asked).lifts == [lift]
    else:
        error = refusal(filled, asked)
        assert (error.code, error.protocol) == ("bad_request", "chat")


# --- windows ---

WINDOWS = [  # max_datagram, window asked for, window given
    (1, 0, 1 << 20),
    (1 << 20, 0, 2 * ((1 << 20) + 16)),
    (16 << 20, 0, 2 * ((16 << 20) + 16)),
    (100, 116, 116),
    (100, 4096, 4096),
]


@pytest.mark.parametrize(("largest", "asked", "given_"), WINDOWS)
def test_window(largest: int, asked: int, given_: int) -> None:
    assert filled(spec(max_datagram=largest, window=asked)).window == given_


def test_a_window_below_one_datagram_is_refused() -> None:
    error = refusal(filled, spec(max_datagram=100, window=115))
    assert (error.code, error.protocol) == ("bad_request", "chat")


def test_bulk_has_more_under_way() -> None:
    assert filled(spec(priority="bulk", max_datagram=100)).window == 8 << 20


@given(st.integers(1, 16 << 20), st.integers(0, 256 << 20))
def test_a_given_window_always_holds_one_datagram(largest: int, asked: int) -> None:
    try:
        window = filled(spec(max_datagram=largest, window=asked)).window
    except RequestError:
        assert 0 < asked < largest + 16
    else:
        assert window >= largest + 16


def test_versions_are_put_in_order() -> None:
    assert filled(ProtocolSpec(name="a", versions=[3, 1, 3])).versions == [1, 3]


# --- sessions ---


def test_a_session_lives_as_long_as_it_is_heard() -> None:
    registry = new_registry(5.0)
    session = registry.attach("app", 0.0)
    registry.register(session.token, spec())
    registry.touch(session.token, 4.0)
    assert registry.expire(8.9) == []
    assert registry.expire(9.0) == [session]
    assert registry.snapshot().apps == []
    assert registry.snapshot().protocols == []
    assert refusal(registry.touch, session.token, 9.0).code == "unknown_session"


def test_a_suspect_session_ends_sooner_unless_it_speaks() -> None:
    registry = new_registry(60.0)
    silent, speaking = registry.attach("silent", 0.0), registry.attach("speaking", 0.0)
    for session in (silent, speaking):
        registry.suspect(session.token, 0.0)
    registry.touch(speaking.token, 1.0)
    assert registry.expire(SUSPECT_S) == [silent]
    registry.suspect("unknown", 0.0)


def test_suspicion_never_prolongs() -> None:
    registry = new_registry(1.0)
    session = registry.attach("app", 0.0)
    registry.suspect(session.token, 0.9)
    assert registry.expire(1.0) == [session]


def test_the_end_of_a_session_leaves_those_who_share() -> None:
    registry = new_registry()
    one, other = registry.attach("one", 0.0), registry.attach("other", 0.0)
    for session in (one, other):
        registry.register(session.token, spec("shared", shared=True))
    registry.register(one.token, spec("own"))
    assert registry.end(one.token)
    assert not registry.end(one.token)
    (entry,) = registry.snapshot().protocols
    assert (entry.spec.name, entry.session) == ("shared", other.token)


def test_no_token_in_repr_or_status() -> None:
    registry = new_registry()
    session = registry.attach("app", 0.0)
    registry.register(session.token, spec())
    shown = repr(session) + repr(registry.describe_apps(0.0)) + repr(registry.describe_protocols())
    assert session.token not in shown


# --- protocols ---

CLASHES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [  # first, second, accepted
    ({}, {}, False),
    ({"shared": True}, {}, False),
    ({}, {"shared": True}, False),
    ({"shared": True}, {"shared": True}, True),
    ({"shared": True}, {"shared": True, "weight": 17}, False),
    ({"shared": True, "window": 1 << 21}, {"shared": True}, False),
    ({"shared": True, "window": 2 * ((1 << 20) + 16)}, {"shared": True}, True),
]


@pytest.mark.parametrize(("first", "second", "accepted"), CLASHES)
def test_two_sessions_and_one_name(
    first: dict[str, Any], second: dict[str, Any], accepted: bool
) -> None:
    registry = new_registry()
    one, other = registry.attach("one", 0.0), registry.attach("other", 0.0)
    registry.register(one.token, spec(**first))
    generation = registry.generation
    if accepted:
        numbers = registry.register(other.token, spec(**second)).numbers
        assert numbers == {one.token: 0, other.token: 1}
        return
    error = refusal(registry.register, other.token, spec(**second))
    assert (error.code, error.protocol) == ("protocol_taken", "chat")
    assert registry.generation == generation


def test_registering_again_is_harmless_when_nothing_differs() -> None:
    registry = new_registry()
    session = registry.attach("app", 0.0)
    first = registry.register(session.token, spec())
    generation = registry.generation
    assert registry.register(session.token, spec()) is first
    assert registry.generation == generation
    assert refusal(registry.register, session.token, spec(weight=1)).code == "protocol_taken"


def test_a_freed_number_is_used_last() -> None:
    registry = new_registry()
    session = registry.attach("app", 0.0)
    for index in range(3):
        registry.register(session.token, spec(f"p{index}"))
    registry.withdraw(session.token, "p0")
    numbers = [
        registry.register(session.token, spec(f"q{index}")).numbers[session.token]
        for index in range(PROTOCOLS_MAX - 2)
    ]
    assert numbers == [*range(3, PROTOCOLS_MAX), 0]


def test_a_protocol_too_many() -> None:
    registry = new_registry()
    session = registry.attach("app", 0.0)
    for index in range(PROTOCOLS_MAX):
        registry.register(session.token, spec(f"p{index}"))
    error = refusal(registry.register, session.token, spec("straw"))
    assert (error.code, error.protocol) == ("too_many_protocols", "straw")


def test_only_who_registered_can_withdraw() -> None:
    registry = new_registry()
    one, other = registry.attach("one", 0.0), registry.attach("other", 0.0)
    registry.register(one.token, spec())
    assert refusal(registry.withdraw, other.token, "chat").code == "unknown_protocol"
    assert refusal(registry.withdraw, one.token, "chess").code == "unknown_protocol"
    registry.withdraw(one.token, "chat")
    assert registry.snapshot().protocols == []


# --- lives of applications ---


def test_a_life_lasts_over_sessions_if_the_application_says_so() -> None:
    registry = new_registry(5.0)
    one, other = (registry.attach("app", 0.0, "0123456789abcdef") for _ in range(2))
    assert one.instance == other.instance == "0123456789abcdef"
    registry.register(other.token, spec())
    snapshot = registry.snapshot()
    assert {app.instance for app in snapshot.apps} == {one.instance}
    assert [entry.instance for entry in snapshot.protocols] == [one.instance]


def test_a_session_without_a_life_is_one_and_tells_no_secret() -> None:
    registry = new_registry(5.0)
    one, other = registry.attach("app", 0.0), registry.attach("app", 0.0)
    assert one.instance != other.instance
    assert re.fullmatch("[0-9a-f]{16}", one.instance)
    assert one.instance not in one.token


# --- what survives a restart ---


def test_a_new_life_takes_over_all_of_it() -> None:
    before = new_registry(5.0)
    session = before.attach("app", 0.0)
    before.register(session.token, spec("gone"))
    before.register(session.token, spec())
    before.withdraw(session.token, "gone")
    after = new_registry(5.0)
    after.restore(before.snapshot(), now=100.0)
    assert after.generation > before.generation
    assert msgspec.structs.replace(after.snapshot(), generation=0) == msgspec.structs.replace(
        before.snapshot(), generation=0
    )
    assert after.expire(104.9) == []
    assert after.register(session.token, spec("new")).numbers == {session.token: 2}
    assert [one.name for one in after.expire(105.0)] == ["app"]


class RegistryMachine(RuleBasedStateMachine):
    """Whatever applications do: numbers differ, owners exist, changes raise the generation."""

    @initialize()
    def begin(self) -> None:
        self.registry = new_registry(10.0)
        self.now = 0.0
        self.seen = (0, b"")

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.registry.expire(self.now)

    @rule()
    def attach(self) -> None:
        self.registry.attach("app", self.now)

    @rule(data=st.data(), name=st.sampled_from("abcd"), shared=st.booleans())
    def register(self, data: st.DataObject, name: str, shared: bool) -> None:
        if tokens := list(self.registry.tokens):
            token = data.draw(st.sampled_from(tokens))
            taken = any(
                entry.spec.name == name and entry.session != token
                for entry in self.registry.snapshot().protocols
            )
            with contextlib.suppress(RequestError):
                self.registry.register(token, spec(name, shared=shared))
                assert shared or not taken

    @rule(data=st.data(), name=st.sampled_from("abcd"))
    def withdraw(self, data: st.DataObject, name: str) -> None:
        if tokens := list(self.registry.tokens):
            with contextlib.suppress(RequestError):
                self.registry.withdraw(data.draw(st.sampled_from(tokens)), name)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if tokens := list(self.registry.tokens):
            self.registry.end(data.draw(st.sampled_from(tokens)))

    @invariant()
    def holds(self) -> None:
        view = self.registry.snapshot()
        numbers = [entry.number for entry in view.protocols]
        assert len(set(numbers)) == len(numbers)
        known = {app.session for app in view.apps}
        owners: dict[str, list[str]] = {}
        for entry in view.protocols:
            assert entry.session in known
            owners.setdefault(entry.spec.name, []).append(entry.session)
            assert len(owners[entry.spec.name]) == 1 or entry.spec.shared
        assert all(len(set(each)) == len(each) for each in owners.values())
        content = msgspec.json.encode(msgspec.structs.replace(view, generation=0))
        generation, before = self.seen
        assert view.generation >= generation
        assert view.generation > generation or content == before or not before
        self.seen = (view.generation, content)


TestRegistryMachine = RegistryMachine.TestCase
