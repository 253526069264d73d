"""``python -m load.bench.store``: what the peer store costs when it holds a million peers.

Two processes, one after the other: the first fills a store as a node would, record by record, with
a large cache and few commits; the second opens it with the limits of a node and measures single
calls. Records are made up and carry no valid signature: to check one is not the store's work.
The store is full, so each new peer makes another leave.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import random
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from dp2p import ids
from dp2p.coordinator.known import Direction, Ticket
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_bounds import Limits
from dp2p.node_record import NodeRecord
from load.bench import machine
from load.bench.harness import Crew, Station
from load.bench.report import number

NOW = 1_700_000_000.0
DAY = 86_400.0
FILL_CACHE = 3 << 30  # bytes; what is filled in an order of its own should not be read again
DEADLINE_S = 900.0
BATCH = 100  # calls between two commits
WIDTH = 110


# --- made-up peers ---


def key_of(peer: int) -> bytes:
    """The key of peer ``peer``: any 32 bytes."""
    return hashlib.blake2b(b"%d" % peer, digest_size=32).digest()


def endpoint_of(peer: int) -> str:
    return f"tcp4://10.{peer >> 16 & 255}.{peer >> 8 & 255}.{peer & 255}:4617"


def record_of(peer: int, seq: int = 1) -> NodeRecord:
    """All speak chat, one in ten files, one in a thousand rare; about 270 signed bytes."""
    protocols = ["chat"] + ["files"] * (peer % 10 == 0) + ["rare"] * (peer % 1000 == 0)
    key = key_of(peer)
    body = (
        f'{{"seq":{seq},"key":"{key.hex()[:52]}","endpoints":["{endpoint_of(peer)}"],'
        f'"protocols":{protocols}}}'
    )
    return NodeRecord(
        key=key,
        seq=seq,
        endpoints=(endpoint_of(peer),),
        protocols=tuple(protocols),
        more=False,
        signed=key + key + body.encode(),
    )


def ticket_of(peer: int, serial: int) -> Ticket:
    return Ticket(key_of(peer), hashlib.blake2b(b"%d %d" % (peer, serial), digest_size=48).digest())


# --- filling ---


def fill(_: Station, path: Path, peers: int) -> float:
    """A store of ``peers`` peers: one in ten was connected, one in ten introduced, one in fifty has
    tickets. The seconds it took.
    """
    store = PeerStore(path, max_peers=peers, limits=Limits(cache_bytes=FILL_CACHE))
    began = time.perf_counter()
    gc.disable()
    for peer in range(peers):
        now = NOW + peer * DAY / peers
        store.add_record(record_of(peer), now)
        if peer % 10 == 0:
            store.connected(key_of(peer), endpoint_of(peer), now)
        if peer % 10 == 1:
            store.introduced(key_of(peer), key_of(0), "192.0.2.0/24", now)
        if peer % 50 == 0:
            store.put_ticket(ticket_of(peer, 0), Direction.DIAL, NOW + 9 * DAY)
            store.put_ticket(ticket_of(peer, 1), Direction.ACCEPT, NOW + 9 * DAY)
    for ban in range(min(10_000, peers)):
        store.ban(f"203.{ban >> 8}.{ban & 255}.0/24" if ban % 2 else key_of(ban), None, "x", NOW)
    store.close()
    return time.perf_counter() - began


# --- measuring ---


@dataclass(slots=True)
class Figures:
    """What the second process has to say: microseconds of each call, in order of time."""

    calls: dict[str, list[float]] = field(default_factory=dict)
    commits: list[float] = field(default_factory=list)
    "Microseconds of each commit."
    file_bytes: int = 0
    open_s: float = 0.0
    checkpoint_s: float = 0.0
    "The longest."
    memory_bytes: int = 0
    left: int = 0
    "Peers in the end."


def measure(_: Station, path: Path, peers: int, samples: int) -> Figures:
    """Open the store as a node would, and time calls one by one."""
    figures = Figures(file_bytes=path.stat().st_size)
    before = memory()
    began = time.perf_counter()
    store = PeerStore(path, max_peers=peers)
    figures.open_s = time.perf_counter() - began
    draw = random.Random(1)
    gc.disable()
    for title, calls in workload(store, draw, peers, samples):
        figures.calls[title] = timed(store, calls, figures)
    figures.memory_bytes = memory() - before
    figures.left = store.counts()["peers"]
    assert store.failures == 0
    store.close()
    return figures


Call = Callable[[], object]


def workload(
    store: PeerStore, draw: random.Random, peers: int, samples: int
) -> Iterator[tuple[str, list[Call]]]:
    """Titles and calls; what calls take is made beforehand."""

    def calls(make: Callable[[int], Call]) -> list[Call]:
        return [make(draw.randrange(peers)) for _ in range(samples)]

    def nearest(protocol: str | None) -> list[Call]:
        return calls(lambda _: partial(store.nearest, draw.randbytes(32), 16, protocol))

    yield "peer(key)", calls(lambda one: partial(store.peer, key_of(one)))
    yield "peer(key), unknown", calls(lambda one: partial(store.peer, key_of(2 * peers + one)))
    yield "key_of(node-ID)", calls(lambda one: partial(store.key_of, ids.node_id(key_of(one))))
    yield "at_endpoint", calls(lambda one: partial(store.at_endpoint, endpoint_of(one)))
    yield "nearest(16)", nearest(None)
    yield "nearest(16), all speak it", nearest("chat")
    yield "nearest(16), 1 of 1000 speaks it", nearest("rare")
    yield "by_protocol(16), all speak it", calls(lambda _: partial(store.by_protocol, "chat", 16))
    yield "by_protocol(16), 1 of 1000", calls(lambda _: partial(store.by_protocol, "rare", 16))
    yield (
        "banned(key, network), 10,000 bans",
        calls(lambda one: partial(store.banned, key_of(one), f"10.{one & 255}.0.0/24", NOW)),
    )
    yield "put + take of a dial ticket", calls(lambda one: ticket_round(store, one))
    yield (
        "take of an unknown ticket",
        calls(lambda _: partial(store.take_accept_ticket, draw.randbytes(16), NOW)),
    )
    now = NOW + 2 * DAY
    yield "connected", calls(lambda one: partial(store.connected, key_of(one), None, now))
    yield (
        "introduced",
        calls(lambda one: partial(store.introduced, key_of(one), key_of(2), "192.0.2.0/24", now)),
    )
    yield "dial_failed", calls(lambda one: partial(store.dial_failed, endpoint_of(one), now))
    yield (
        "add_record, known already",
        calls(lambda one: partial(store.add_record, record_of(one), NOW + one * DAY / peers)),
    )
    yield "add_record, newer", calls(lambda one: partial(store.add_record, record_of(one, 2), now))
    fresh = (partial(store.add_record, record_of(peers + one), now) for one in range(samples))
    yield "add_record, new: others leave", list(fresh)


def partial(method: Callable[..., object], *values: object) -> Call:
    """As functools has it, but typed for this."""
    return lambda: method(*values)


def ticket_round(store: PeerStore, peer: int) -> Call:
    ticket, expires = ticket_of(peer, 2), NOW + 9 * DAY

    def run() -> None:
        store.put_ticket(ticket, Direction.DIAL, expires)
        assert store.take_dial_ticket(ticket.key, NOW) == ticket

    return run


def timed(store: PeerStore, calls: list[Call], figures: Figures) -> list[float]:
    """Microseconds of each call; commits and checkpoints in between go to ``figures``."""
    taken = []
    clock = time.perf_counter_ns
    for index, call in enumerate(calls):
        began = clock()
        call()
        taken.append((clock() - began) / 1e3)
        if index % BATCH == BATCH - 1 and store.dirty:
            began = clock()
            store.commit()
            figures.commits.append((clock() - began) / 1e3)
            began = clock()
            store.checkpoint()
            figures.checkpoint_s = max(figures.checkpoint_s, (clock() - began) / 1e9)
    store.commit()
    return taken


def memory() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- the table ---


def table(fill_s: float | None, figures: Figures, peers: int) -> Table:
    """Everything measured."""
    made = Table(box=box.SIMPLE_HEAD, title=f"peer store, {peers:,} peers", title_justify="left")
    made.add_column("call", no_wrap=True)
    for column in ("median", "p99", "calls/s"):
        made.add_column(column, justify="right")
    for title, taken in {**figures.calls, f"commit of {BATCH} calls": figures.commits}.items():
        ordered = sorted(taken)
        median, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        rate = 1e6 * len(taken) / sum(taken)
        made.add_row(title, f"{number(median)} us", f"{number(late)} us", number(rate))
    rest = {
        "open": f"{figures.open_s * 1e3:,.0f} ms",
        f"the longest checkpoint, after {BATCH} calls": f"{figures.checkpoint_s * 1e3:,.0f} ms",
        "file": f"{figures.file_bytes / 1e6:,.0f} MB, {figures.file_bytes / peers:,.0f} B a peer",
        "memory of the store": f"{figures.memory_bytes / 1e6:,.0f} MB",
        "peers in the end": f"{figures.left:,}",
    }
    if fill_s is not None:
        rest["filling, for each peer"] = f"{number(1e6 * fill_s / peers)} us"
    made.add_section()
    for title, value in rest.items():
        made.add_row(title, value)
    return made


def main(arguments: list[str]) -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m load.bench.store", description=__doc__)
    parser.add_argument("--peers", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=5000, help="calls of each kind")
    parser.add_argument("--keep", type=Path, help="fill this file and keep it; or use it again")
    options = parser.parse_args(arguments)
    samples = max(options.samples, BATCH)
    described = machine.describe({"sqlite": sqlite3.sqlite_version})
    fill_s = None
    with tempfile.TemporaryDirectory() as directory, Crew(DEADLINE_S) as crew:
        path = Path(directory) / "peers.db"
        source = options.keep or path
        if not source.exists():
            fill_s = crew.start("filling", fill, source, options.peers).hear()
        if source != path:
            shutil.copy(source, path)
        figures = crew.start("calls", measure, path, options.peers, samples).hear()
    assert isinstance(fill_s, float | None)
    assert isinstance(figures, Figures)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(shlex.join(["python", "-m", "load.bench.store", *arguments]), style="bold")
    console.print(", ".join(f"{name} {value}" for name, value in described.items()))
    console.print(table(fill_s, figures, options.peers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
