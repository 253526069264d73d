"""Where a node keeps its sockets when nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

RUN_DIR_VARIABLE = "DP2P_NODE_RUN_DIR"
CONTROL_SOCKET = "control.sock"
PROCESSES_FILE = "processes.json"


def default_run_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """``$DP2P_NODE_RUN_DIR``, else ``$XDG_RUNTIME_DIR/dp2p``, else ``/run/dp2p`` for root and
    ``~/.dp2p/run`` for others.
    """
    if given := environ.get(RUN_DIR_VARIABLE):
        return Path(given)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "dp2p"
    if os.geteuid() == 0:
        return Path("/run/dp2p")
    return Path(environ.get("HOME") or "~").expanduser() / ".dp2p" / "run"


def control_endpoint(run_dir: Path) -> str:
    """ZeroMQ endpoint of the coordinator's control socket in ``run_dir``."""
    return f"ipc://{run_dir / CONTROL_SOCKET}"
