"""The bars of the speed issue, as data, and how a run is held against them.

A bar compares one measurement of ours with a sum of others from the same run, round by round: the
ratio is the median over rounds, so that a slow minute of the machine touches both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from load.bench.model import (
    BULK_64K,
    BUSY_PROTOCOLS,
    CAP_NODE_DOWN,
    CAP_NODE_UP,
    CAP_PROTOCOL_DOWN,
    CAP_PROTOCOL_UP,
    CONNECT_16,
    HANDSHAKE_GAINS,
    HANDSHAKE_SHARES,
    IDLE_1K,
    IDLE_10K,
    LONG_FAT,
    LONG_FAT_RTT,
    RTT_100,
    SHARES_1M,
    SHARES_10K,
    SHARES_100,
    SHARES_MIXED,
    SMALL_100,
    STALLED,
    URGENT,
    Case,
)

Samples = Mapping[str, Sequence[float]]
"Measurement's name -> one value per round, in the case's unit of comparison."


@dataclass(frozen=True, slots=True)
class Term:
    """``weight`` times what ``contender`` reaches in the bar's case."""

    contender: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours, divided by the sum of the terms (or by 1), against a factor."""

    title: str
    case: Case
    ours: tuple[str, ...]
    "Contenders that may stand for us; the first one measured does."
    factor: float
    against: tuple[Term, ...] = ()
    "Empty: ``factor`` is in the case's own unit."

    @property
    def at_least(self) -> bool:
        """Rates are to be reached, times and sizes not to be exceeded."""
        return self.case.more_is_better


OPENSSL, LIBSODIUM = "engine-openssl", "engine-libsodium"
ENGINE = (OPENSSL, LIBSODIUM, "engine")  # the last where the provider does not matter
APPLICATION = ("application",)
CURVE = (Term("pyzmq-curve"),)
TLS = (Term("tls13-uvloop-buffered"),)  # the faster of the two receivers; both are in the table
# Four one-way hops over ipc (half a round trip each) and one round trip over TCP: the least that
# application, shard, shard, application and back can cost with these means.
FOUR_HOPS_AND_TCP = (Term("pyzmq-ipc", 2.0), Term("tcp-python", 1.0))

BARS = (
    Bar("engine of the C ceiling, OpenSSL", BULK_64K, (OPENSSL,), 0.75, (Term("ceiling-openssl"),)),
    Bar(
        "engine of the C ceiling, libsodium",
        BULK_64K,
        (LIBSODIUM,),
        0.75,
        (Term("ceiling-libsodium"),),
    ),
    Bar("engine of TLS 1.3 over uvloop", BULK_64K, ENGINE, 1.2, TLS),
    Bar("engine of pyzmq CURVE", SMALL_100, ENGINE, 4.0, CURVE),
    Bar("engine of pyzmq CURVE", CONNECT_16, ENGINE, 1.5, CURVE),
    Bar("XX of its X25519 operations", HANDSHAKE_SHARES, ("xx",), 0.7),
    Bar("IK of its X25519 operations", HANDSHAKE_SHARES, ("ik",), 0.7),
    Bar("IK likewise, key never dialled", HANDSHAKE_SHARES, ("ik-cold",), 0.7),
    Bar("resumption of XX", HANDSHAKE_GAINS, ("resume",), 1.8),
    Bar("engine, process memory", IDLE_1K, ENGINE, 4.0),
    Bar("engine, process memory", IDLE_10K, ENGINE, 4.0),
    Bar("application of pyzmq CURVE", BULK_64K, APPLICATION, 0.6, CURVE),
    Bar("application of pyzmq CURVE", SMALL_100, APPLICATION, 1.2, CURVE),
    Bar("application of 4 ipc hops + TCP", RTT_100, APPLICATION, 2.0, FOUR_HOPS_AND_TCP),
    *(
        Bar("application, from its share", case, APPLICATION, 0.05)
        for case in (SHARES_100, SHARES_10K, SHARES_1M, SHARES_MIXED)
    ),
    Bar("application, from undisturbed", STALLED, APPLICATION, 0.05),
    Bar("application, one-way p99", URGENT, APPLICATION, 60.0),
    Bar("application of the bottleneck", LONG_FAT, APPLICATION, 0.85),
    Bar("application of the bottleneck", LONG_FAT_RTT, APPLICATION, 0.85),
    Bar("250 protocols of one", BUSY_PROTOCOLS, ("engine-250",), 1.5, (Term("engine-1"),)),
    *(
        Bar("application, from the cap", case, APPLICATION, 0.03)
        for case in (CAP_PROTOCOL_UP, CAP_PROTOCOL_DOWN, CAP_NODE_UP, CAP_NODE_DOWN)
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run stands against one bar."""

    bar: Bar
    ours: str | None
    "The contender that stood for us."
    ratio: float | None
    missing: tuple[str, ...] = ()
    "Measurements the run does not have."

    @property
    def word(self) -> str:
        """``pass``, ``miss`` or ``not measured``."""
        if self.ratio is None:
            return "not measured"
        reached = (
            self.ratio >= self.bar.factor if self.bar.at_least else self.ratio <= self.bar.factor
        )
        return "pass" if reached else "miss"


def evaluate(bar: Bar, samples: Samples) -> Verdict:
    """Hold the samples against one bar; missing ones are named, not guessed."""
    names = [f"{bar.case.name}/{contender}" for contender in bar.ours]
    ours = next((name for name in names if samples.get(name)), None)
    others = [f"{bar.case.name}/{term.contender}" for term in bar.against]
    missing = [name for name in others if not samples.get(name)]
    if ours is None:
        return Verdict(bar, None, None, (names[0], *missing))
    contender = ours.partition("/")[2]
    if missing:
        return Verdict(bar, contender, None, tuple(missing))
    rounds = min(len(samples[name]) for name in (ours, *others))
    ratios = [samples[ours][i] / _limit(bar, samples, i) for i in range(rounds)]
    return Verdict(bar, contender, median(ratios))


def _limit(bar: Bar, samples: Samples, round_: int) -> float:
    """The sum of the terms in one round; 1 without terms."""
    if not bar.against:
        return 1.0
    return sum(
        term.weight * samples[f"{bar.case.name}/{term.contender}"][round_] for term in bar.against
    )
