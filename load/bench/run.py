"""One run of the bench: every contender of a case in turn, round after round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from load.bench.bars import BARS, Samples, Verdict, evaluate
from load.bench.model import Case, Group, Measurement, Settings, Source, Unavailable
from load.bench.registry import Registry

Progress = Callable[[str], None]


@dataclass(slots=True)
class Results:
    """What a run found out."""

    rounds: dict[str, list[Measurement]] = field(default_factory=dict)
    "Measurement's name -> one per round."
    failed: dict[str, str] = field(default_factory=dict)
    "Source -> error. Its rounds before the error are kept, it gets no more."
    unavailable: dict[str, str] = field(default_factory=dict)
    "Source or module -> what is missing."

    def medians(self) -> list[Measurement]:
        """One measurement per name: the median of each value over its rounds."""
        return [_median(rounds) for rounds in self.rounds.values()]

    def samples(self) -> Samples:
        """Every round of the value that contenders are compared by."""
        return {
            name: [one.values[one.case.rate] for one in rounds if one.case.rate in one.values]
            for name, rounds in self.rounds.items()
        }

    def verdicts(self, groups: Sequence[Group]) -> list[Verdict]:
        """All bars of these groups."""
        samples = self.samples()
        return [evaluate(bar, samples) for bar in BARS if bar.case.group in groups]


def _median(rounds: list[Measurement]) -> Measurement:
    def middle(maps: list[Mapping[str, float]]) -> dict[str, float]:
        return {key: median(one[key] for one in maps if key in one) for key in maps[0]}

    return dataclasses.replace(
        rounds[-1],
        values=middle([one.values for one in rounds]),
        by_process=middle([one.by_process for one in rounds]),
    )


def run(registry: Registry, settings: Settings, progress: Progress) -> Results:
    """Measure everything; one contender's failure stops that contender only."""
    results = Results(unavailable=dict(registry.absent))
    by_case: dict[Case, list[Source]] = {}
    for source in registry.sources:
        by_case.setdefault(source.case, []).append(source)
    for sources in by_case.values():
        for turn in range(settings.rounds):
            for source in sources:
                if turn and source.once:
                    continue
                progress(f"{source.name}, round {turn + 1} of {settings.rounds}")
                _measure(source, settings, results)
    return results


def _measure(source: Source, settings: Settings, results: Results) -> None:
    if source.name in results.failed or source.name in results.unavailable:
        return
    try:
        for one in source.measure(settings):
            results.rounds.setdefault(one.name, []).append(one)
    except Unavailable as error:
        results.unavailable[source.name] = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        results.failed[source.name] = f"{type(error).__name__}: {error}"
