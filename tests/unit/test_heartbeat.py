"""What answers to heartbeats, and their absence, say."""

from __future__ import annotations

import msgspec
import pytest

from dp2p import control
from dp2p.sdk.heartbeat import MISSED, Forgotten, Overheard, Pulse
from dp2p.sdk.types import CoordinatorBack, CoordinatorLost

TOKEN = "0" * 32


@pytest.fixture
def pulse() -> Pulse:
    made = Pulse()
    made.session = TOKEN
    return made


def answer(beat: bytes, error: str | None = None) -> bytes:
    """The coordinator's reply to a beat."""
    request = msgspec.json.decode(beat, type=control.AnyRequest)
    body = control.ErrorBody(error, "no") if error else None
    return msgspec.json.encode(control.Reply(id=request.id, ok=None if body else {}, error=body))


def test_a_beat_names_the_session(pulse: Pulse) -> None:
    request = msgspec.json.decode(pulse.beat()[0], type=control.AnyRequest)
    assert isinstance(request, control.Heartbeat)
    assert request.session == TOKEN


def test_silence_is_told_once_and_so_is_its_end(pulse: Pulse) -> None:
    told = [pulse.beat()[1] for _ in range(MISSED + 3)]
    assert told == [[]] * MISSED + [[CoordinatorLost()], [], []]
    beat, _ = pulse.beat()
    assert pulse.receive(answer(beat)) == [CoordinatorBack()]
    assert pulse.receive(answer(pulse.beat()[0])) == []


def test_a_forgotten_session_is_the_one_that_beat(pulse: Pulse) -> None:
    beat, _ = pulse.beat()
    pulse.session = "1" * 32
    assert pulse.receive(answer(beat, "unknown_session")) == [Forgotten(TOKEN)]
    assert pulse.receive(answer(beat, "unknown_session")) == [], "an answer counts once"


def test_other_errors_are_signs_of_life(pulse: Pulse) -> None:
    assert pulse.receive(answer(pulse.beat()[0], "busy")) == []


def test_events_are_passed_on(pulse: Pulse) -> None:
    event = msgspec.json.encode(control.ShardUp(0, "ipc://shard"))
    assert pulse.receive(event) == [Overheard(event)]
