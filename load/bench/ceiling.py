"""The physical limit: ``ceiling.c``, built when the bench starts, run as a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from functools import cache, partial
from pathlib import Path

from load.bench.harness import Usage, throughput
from load.bench.model import (
    BULK_1M,
    BULK_64K,
    P50_US,
    P99_US,
    RTT_100,
    Case,
    Measurement,
    PhaseError,
    Settings,
    Source,
    Unavailable,
)

SOURCE = Path(__file__).with_name("ceiling.c")
BUILD_S = 60.0  # deadline of one compiler run
PROVIDERS = {  # argument of ceiling.c -> contender
    "none": "tcp-plain",
    "libsodium": "ceiling-libsodium",
    "openssl": "ceiling-openssl",
}
NOTES = {
    "none": "C, loopback TCP, no cipher",
    "libsodium": "C, seal, loopback TCP, open; no protocol",
    "openssl": "C, seal, loopback TCP, open; no protocol",
}
TCP = "tcp-c"


def _run(command: list[str], deadline_s: float) -> str:
    """Standard output. Raises: PhaseError with the last line of what it said on failure."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=deadline_s, check=False
        )
    except subprocess.TimeoutExpired as cause:
        raise PhaseError(f"{Path(command[0]).name}: missed the deadline") from cause
    except OSError as cause:
        raise Unavailable(f"{command[0]}: {cause.strerror}") from cause
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise PhaseError(f"{Path(command[0]).name}: {last}")
    return done.stdout


def _pkg_config(*arguments: str) -> list[str] | None:
    """Flags, or None when there is no such library."""
    try:
        return shlex.split(_run([os.environ.get("PKG_CONFIG", "pkg-config"), *arguments], BUILD_S))
    except PhaseError:
        return None


@cache
def build(build_dir: Path) -> Path:
    """Compile ceiling.c if it changed; returns the program.

    Raises: Unavailable without pkg-config, libsodium's headers or a compiler that takes it.
    """
    sodium = _pkg_config("--cflags", "--libs", "libsodium")
    if sodium is None:
        raise Unavailable("libsodium's headers are not installed")
    crypto = _pkg_config("--cflags", "--libs", "libcrypto >= 3")
    program = build_dir / ("ceiling" if crypto is None else "ceiling-openssl")
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    build_dir.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    flags = sodium if crypto is None else ["-DHAVE_LIBCRYPTO", *sodium, *crypto]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    try:
        _run([*compiler, "-std=c11", "-O3", str(SOURCE), "-o", str(fresh), *flags], BUILD_S)
    except PhaseError as cause:
        raise Unavailable(f"ceiling.c was not built: {cause}") from cause
    fresh.replace(program)
    return program


def _ask(settings: Settings, *arguments: str) -> dict[str, float]:
    program = build(settings.build_dir)
    answer: dict[str, float] = json.loads(_run([str(program), *arguments], settings.deadline_s))
    return answer


def versions(settings: Settings) -> dict[str, str]:
    """Library -> version, as loaded by the program; empty where it cannot be built."""
    try:
        return {name: str(text) for name, text in _ask(settings, "versions").items()}
    except (Unavailable, PhaseError):
        return {}


def _measure_stream(case: Case, provider: str, settings: Settings) -> list[Measurement]:
    if provider == "openssl" and "libcrypto" not in versions(settings):
        raise Unavailable("OpenSSL 3's headers are not installed")
    answer = _ask(settings, "stream", provider, str(case.size), str(settings.seconds))
    cpu_s = {"sender": answer["sender_cpu_s"], "receiver": answer["receiver_cpu_s"]}
    done = Usage(int(answer["bytes"]), answer["seconds"], sum(cpu_s.values()))
    return [throughput(case, PROVIDERS[provider], done, cpu_s, NOTES[provider])]


def _measure_pingpong(settings: Settings) -> list[Measurement]:
    answer = _ask(settings, "pingpong", str(RTT_100.size), str(settings.seconds))
    values = {P50_US: answer["p50_us"], P99_US: answer["p99_us"]}
    return [Measurement(RTT_100, TCP, values, note="raw TCP, blocking sockets in C")]


SOURCES = (
    *(
        Source(case, contender, partial(_measure_stream, case, provider))
        for case in (BULK_64K, BULK_1M)
        for provider, contender in PROVIDERS.items()
    ),
    Source(RTT_100, TCP, _measure_pingpong),
)
