"""``python forked.py NODE.JSON LOG [NODE.JSON LOG ...]``: a coordinator for each, until SIGTERM.

All are forked from one process that has read the program, so that many start within seconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from dp2p.coordinator.__main__ import main

PR_SET_PDEATHSIG = 1  # prctl(2)


def become_coordinator(config: str, log: str) -> None:
    """In a child: run, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 2)
        sys.argv = ["dp2p.coordinator", "--config", config]
        code = main()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(arguments: list[str]) -> int:
    """Start all, pass SIGTERM on, and wait; how many ended with an error."""
    children: list[int] = []

    def end(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    for config, log in zip(arguments[::2], arguments[1::2], strict=True):
        if (child := os.fork()) == 0:
            become_coordinator(config, log)
        children.append(child)
    signal.signal(signal.SIGTERM, end)
    print(*children, flush=True)
    failed = 0
    for child in list(children):
        _, status = os.waitpid(child, 0)
        children.remove(child)
        failed += status != 0
    return failed


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
