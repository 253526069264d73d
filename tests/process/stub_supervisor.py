"""Runs a supervisor over stub children: ``stub_supervisor.py ENDPOINT RUN_DIR GRACE_S NAME...``.

A name that begins with "stubborn" belongs to a child that does not heed SIGTERM.
"""

import sys
from pathlib import Path

from dp2p import logs
from dp2p.supervisor import Command, Supervisor

endpoint, run_dir, grace_s, *names = sys.argv[1:]
child = str(Path(__file__).with_name("stub_child.py"))


def command(name: str) -> Command:
    more = ["stubborn"] if name.startswith("stubborn") else []
    return Command(name, [sys.executable, child, endpoint, name, *more], leaves=f"{name}-*.sock")


logs.setup("supervisor")
Supervisor([command(name) for name in names], Path(run_dir), grace_s=float(grace_s)).run()
