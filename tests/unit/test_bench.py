"""The bench: bars, the report's JSON, and one short run."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from load.bench import engine_idle, handshake  # noqa: E402
from load.bench.bars import BARS, Bar, Term, evaluate  # noqa: E402
from load.bench.harness import Usage, latency, throughput  # noqa: E402
from load.bench.model import (  # noqa: E402
    BULK_64K,
    CASES,
    HANDSHAKE_GAINS,
    HANDSHAKE_SHARES,
    IDLE_1K,
    MB_PER_S,
    RTT_100,
    Group,
    Measurement,
    PhaseError,
    Settings,
    Source,
    Unavailable,
)
from load.bench.registry import Registry, load  # noqa: E402
from load.bench.report import Report, as_json  # noqa: E402
from load.bench.run import Results, run  # noqa: E402

RATE = Bar("ours of theirs", BULK_64K, ("ours", "ours-too"), 0.75, (Term("theirs"),))
TIME = Bar("ours of two", RTT_100, ("ours",), 2.0, (Term("hop", 2.0), Term("tcp")))
SIZE = Bar("memory", IDLE_1K, ("ours",), 4.0)


def ignore(_text: str) -> None:
    """No progress."""


# --- bars ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "word"), [(75.0, "pass"), (74.9, "miss")])
def test_a_rate_must_reach_its_bar(ours: float, word: str) -> None:
    verdict = evaluate(RATE, {"bulk-64k/ours": [ours], "bulk-64k/theirs": [100.0]})
    assert verdict.word == word
    assert verdict.ratio == pytest.approx(ours / 100)


def test_a_time_must_not_exceed_the_weighted_sum() -> None:
    samples = {"rtt-100/ours": [100.0], "rtt-100/hop": [20.0], "rtt-100/tcp": [10.0]}
    assert evaluate(TIME, samples).ratio == pytest.approx(2.0)
    assert evaluate(TIME, samples).word == "pass"
    assert evaluate(TIME, {**samples, "rtt-100/ours": [101.0]}).word == "miss"


def test_a_size_is_held_against_the_factor_itself() -> None:
    assert evaluate(SIZE, {"idle-1000/ours": [4.0]}).word == "pass"
    assert evaluate(SIZE, {"idle-1000/ours": [4.1]}).word == "miss"


def test_the_ratio_is_the_median_over_rounds_of_the_same_round() -> None:
    samples = {"bulk-64k/ours": [10.0, 50.0, 90.0], "bulk-64k/theirs": [10.0, 100.0, 90.0, 1.0]}
    assert evaluate(RATE, samples).ratio == pytest.approx(1.0)


def test_the_first_contender_measured_stands_for_us() -> None:
    samples = {"bulk-64k/ours-too": [80.0], "bulk-64k/theirs": [100.0]}
    assert evaluate(RATE, samples).ours == "ours-too"
    assert evaluate(RATE, {**samples, "bulk-64k/ours": [70.0]}).ours == "ours"


def test_what_is_missing_is_named() -> None:
    nothing = evaluate(RATE, {})
    assert (nothing.word, nothing.ours) == ("not measured", None)
    assert nothing.missing == ("bulk-64k/ours", "bulk-64k/theirs")
    alone = evaluate(RATE, {"bulk-64k/ours": [1.0]})
    assert (alone.word, alone.missing) == ("not measured", ("bulk-64k/theirs",))


def test_every_bar_names_contenders_that_exist() -> None:
    registry = load(Group)
    assert not registry.absent
    names = {name for source in registry.sources for name in (source.name, *source.also)}
    for bar in BARS:
        assert any(f"{bar.case.name}/{one}" in names for one in bar.ours), bar
        for term in bar.against:
            assert f"{bar.case.name}/{term.contender}" in names, bar


# --- from usage to figures ----------------------------------------------------------------


def test_throughput_adds_the_cost_of_all_processes() -> None:
    done = Usage(2_000_000_000, 2.0, 0.0)
    one = throughput(BULK_64K, "ours", done, {"sender": 1.0, "receiver": 3.0})
    assert one.values == {MB_PER_S: 1000.0, "CPU s/GB": 2.0}
    assert one.by_process == {"sender": 0.5, "receiver": 1.5}


def test_nothing_carried_is_a_failure() -> None:
    with pytest.raises(PhaseError):
        throughput(BULK_64K, "ours", Usage(0, 1.0, 0.0), {})


def test_latency_leaves_out_the_first_rounds() -> None:
    one = latency(RTT_100, "ours", [1_000_000] * 200 + [10_000] * 693 + [20_000] * 7)
    assert one.values == {"p50 µs": 10.0, "p99 µs": 20.0}
    with pytest.raises(PhaseError):
        latency(RTT_100, "ours", [1] * 10)


# --- handshakes ---------------------------------------------------------------------------


def turn(cost: float, share: float, gain: float) -> handshake.Turn:
    """Each side of XX costs ``cost``, of all others ``1 / gain`` of it; ``share`` is X25519."""
    others = [cost / gain] * 2 + [share * cost / gain] * 2
    return {
        way: [cost, cost, share * cost, share * cost] if way == handshake.XX else others
        for way in handshake.NOTES
    }


def test_handshakes_are_compared_within_a_turn() -> None:
    turns = [turn(100.0, 0.8, 2.0), turn(200.0, 0.7, 1.9), turn(400.0, 0.9, 1.5)]
    found = {one.name: one for one in handshake.figures(turns, "a note")}
    assert found[f"{HANDSHAKE_SHARES.name}/resume"].values == {"of X25519": pytest.approx(0.8)}
    assert found[f"{HANDSHAKE_GAINS.name}/resume"].values == {"of XX": pytest.approx(1.9)}
    xx = found["handshakes/xx"]
    assert xx.values == {"handshakes/s": 2500.0, "CPU µs": 400.0}
    assert xx.by_process == {"initiator": 200.0, "responder": 200.0}
    assert found["handshakes/x25519-xx"].by_process["initiator"] == pytest.approx(140.0)


def test_handshakes_without_a_turn_are_a_failure() -> None:
    with pytest.raises(PhaseError):
        handshake.figures([], "")


def test_a_short_run_of_the_handshakes() -> None:
    (source,) = handshake.SOURCES
    found = {one.name: one for one in source.measure(Settings(seconds=0.05, quick=True))}
    assert set(found) == {source.name, *source.also}
    assert all(value > 0 for one in found.values() for value in one.values.values())


# --- a run and its report -----------------------------------------------------------------


def good(_settings: Settings) -> list[Measurement]:
    return [Measurement(BULK_64K, "good", {MB_PER_S: 5.0}, {"sender": 1.0}, "a note")]


def bad(_settings: Settings) -> list[Measurement]:
    raise PhaseError("it broke")


def absent(_settings: Settings) -> list[Measurement]:
    raise Unavailable("no such library")


def results() -> Results:
    sources = (
        Source(BULK_64K, "good", good),
        Source(BULK_64K, "bad", bad),
        Source(BULK_64K, "absent", absent),
    )
    return run(Registry(sources, {"elsewhere": "not there"}), Settings(rounds=2), ignore)


def test_one_contenders_failure_stops_that_one_only() -> None:
    found = results()
    assert len(found.rounds["bulk-64k/good"]) == 2
    assert found.failed == {"bulk-64k/bad": "PhaseError: it broke"}
    assert found.unavailable == {
        "elsewhere": "not there",
        "bulk-64k/absent": "no such library",
    }


def test_the_report_as_json() -> None:
    report = Report("dp2p bench", {"cpu": "x"}, Settings(rounds=2), (Group.BULK,), results())
    plain = json.loads(json.dumps(as_json(report)))
    assert set(plain) == {
        "command", "machine", "settings", "measurements", "bars", "failed", "unavailable"
    }  # fmt: skip
    assert plain["measurements"] == [
        {
            "name": "bulk-64k/good",
            "group": "bulk",
            "case": "bulk-64k",
            "contender": "good",
            "values": {"MB/s": 5.0},
            "rounds": [{"MB/s": 5.0}, {"MB/s": 5.0}],
            "cost_by_process": {"sender": 1.0},
            "note": "a note",
        }
    ]
    assert len(plain["bars"]) == sum(bar.case.group is Group.BULK for bar in BARS)
    assert {bar["verdict"] for bar in plain["bars"]} == {"not measured"}
    assert plain["settings"]["groups"] == ["bulk"]


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", ["small-100/engine-libsodium", "connect-16/engine"])
def test_a_short_measurement_of_ours(name: str) -> None:
    settings = Settings(seconds=0.1, rounds=1, quick=True)
    source = next(one for one in load(Group).sources if one.name == name)
    (one,) = source.measure(settings)
    assert one.name == name
    assert all(value > 0 for value in one.values.values())


def test_idle_connections_leave_no_buffers_behind() -> None:
    case = dataclasses.replace(IDLE_1K, count=100)
    (one,) = engine_idle.measure(case, Settings(quick=True))
    assert set(one.by_process) == {"listening", "dialling"}
    assert "buffers 0 and 0 B" in one.note
