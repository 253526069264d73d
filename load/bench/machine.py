"""Where the figures come from: machine and versions, without names, paths or addresses."""

from __future__ import annotations

import os
import platform
import ssl
from importlib import metadata
from pathlib import Path

import zmq

PACKAGES = ("pyzmq", "uvloop", "cryptography", "dp2p")


def cpu_model() -> str:
    """As the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "unknown")


def package_version(name: str) -> str:
    """Of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe(c_libraries: dict[str, str]) -> dict[str, str]:
    """Everything a reader needs to compare two runs."""
    return {
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.2f} at the start",
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "libzmq": zmq.zmq_version(),
        "openssl of python": ssl.OPENSSL_VERSION.removeprefix("OpenSSL ").split()[0],
        **c_libraries,
    }
