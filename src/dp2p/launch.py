"""What must be right before the node's processes start: run directory, lock, key, ports, node.json.

Everything that can be wrong with a configuration is found here, before anything runs, and named.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dp2p import config, keys, listening
from dp2p.addresses import Endpoint, datagram_endpoint_of
from dp2p.errors import ConfigError
from dp2p.places import PROCESSES_FILE
from dp2p.supervisor import Command

LOCK_FILE = "lock"
_OURS = (config.NODE_FILE, PROCESSES_FILE, "bus.sock", "control.sock", "shard-*.sock", "*.new")


@dataclass(slots=True)
class Prepared:
    """A node that is ready to start."""

    settings: config.Config
    "With nothing left open."
    identity: keys.Identity
    run_dir: Path
    lock: int
    "Descriptor that holds the lock on the run directory."
    reservation: listening.Reservation

    def commands(self) -> list[Command]:
        """The processes of the node."""
        node_file = str(self.run_dir / config.NODE_FILE)
        python = [sys.executable, "-m"]
        shards = [
            Command(
                f"shard-{index}",
                [*python, "dp2p.shards", "--config", node_file, "--index", str(index)],
                leaves=f"shard-{index}-*.sock",
            )
            for index in range(self.settings.shards.count)
        ]
        return [
            Command("coordinator", [*python, "dp2p.coordinator", "--config", node_file]),
            *shards,
        ]

    def close(self) -> None:
        """Let go of the ports and the run directory, and leave nothing in it but the lock."""
        self.reservation.close()
        _clear(self.run_dir)
        os.close(self.lock)


def prepare(settings: config.Config) -> Prepared:
    """Check and take everything.  Raises: ConfigError, KeyFileError."""
    identity = keys.load(Path(settings.node.key_file))
    config.static_peers(settings)
    config.bootstrap(settings)
    config.discovery_advertised(settings)
    config.check_limits(settings)
    run_dir = Path(settings.node.run_dir)
    _make_private(run_dir)
    lock = _lock(run_dir)
    try:
        optional = tuple(settings.listen.addresses) == config.EVERYWHERE
        endpoints = config.listen_endpoints(settings)
        discovery = settings.discovery
        shared = discovery.enabled and not discovery.listen
        reservation = listening.reserve(endpoints, optional_ipv6=optional, datagrams=shared)
        _clear(run_dir)
        resolved = _resolved(settings, reservation)
        config.write_resolved(resolved, run_dir / config.NODE_FILE)
    except BaseException:
        os.close(lock)
        raise
    return Prepared(resolved, identity, run_dir, lock, reservation)


def _resolved(settings: config.Config, reservation: listening.Reservation) -> config.Config:
    replace = msgspec.structs.replace
    count = settings.shards.count or len(os.sched_getaffinity(0))
    datagrams = _datagrams(settings, reservation)
    return replace(
        settings,
        discovery=replace(settings.discovery, listen=[str(each) for each in datagrams]),
        node=replace(settings.node, instance=secrets.token_hex(8)),
        listen=replace(settings.listen, addresses=[str(each) for each in reservation.endpoints]),
        shards=replace(settings.shards, count=count),
    )


def _datagrams(settings: config.Config, reservation: listening.Reservation) -> list[Endpoint]:
    """Where the coordinator is to take discovery's packets."""
    if not settings.discovery.enabled:
        return []
    if settings.discovery.listen:
        return listening.free_datagrams(config.discovery_endpoints(settings))
    return [datagram_endpoint_of(each) for each in reservation.endpoints]


def _make_private(run_dir: Path) -> None:
    """The run directory is there and nobody else can enter it: its sockets have no other door."""
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = run_dir.stat()
    except OSError as error:
        raise ConfigError(f"node.run_dir: {run_dir}: {error.strerror}") from None
    if status.st_uid != os.geteuid():
        raise ConfigError(f"node.run_dir: {run_dir} belongs to user {status.st_uid}")
    if status.st_mode & 0o077:
        raise ConfigError(
            f"node.run_dir: {run_dir} has mode {stat.S_IMODE(status.st_mode):04o}, open to others; "
            f"make it private with: chmod 700 {run_dir}"
        )


def _clear(run_dir: Path) -> None:
    """Remove what an earlier run may have left. Only who holds the lock may do this."""
    for pattern in _OURS:
        for path in run_dir.glob(pattern):
            path.unlink(missing_ok=True)


def _lock(run_dir: Path) -> int:
    """Hold the lock that says that a node runs here."""
    lock = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ConfigError(
            f"node.run_dir: a node already runs in {run_dir} (process {holder}); "
            "stop it or give this one another run directory"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock
