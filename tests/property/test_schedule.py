"""The schedule beside a dictionary of times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.discovery.schedule import _SLACK, Schedule

STEPS = st.tuples(st.integers(0, 9), st.none() | st.integers(0, 100), st.integers(0, 100))


@given(st.lists(STEPS, max_size=300))
def test_the_earliest_is_due_first(steps: list[tuple[int, int | None, int]]) -> None:
    """A step sets a key's time, or removes it (None), and then looks who is due."""
    schedule, times = Schedule(), dict[bytes, float]()
    for number, at, now in steps:
        key = bytes([number])
        if at is None:
            schedule.remove(key)
            times.pop(key, None)
        else:
            schedule.set(key, at)
            times[key] = at
        earliest = min(times.values(), default=float("inf"))
        assert schedule.next() == earliest
        due = schedule.due(now)
        assert (due is not None) == (earliest <= now)
        assert due is None or times[due] == earliest
        assert schedule.at(key) == times.get(key, float("inf"))
        assert len(schedule) == len(times)
        assert len(schedule._queue) <= 2 * len(times) + _SLACK + 1
