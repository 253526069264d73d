"""One application process of the demo.

``python -m dp2p.cli.demo.worker send|receive RUN_DIR FOLDER``; the sender reads the names of its
files from stdin, one JSON list. Both report on stdout, one JSON object a line, and stay until stdin
ends, so that their CPU time can still be read.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from dp2p.cli.demo.chat import Chat
from dp2p.cli.demo.transfer import CHUNK_BYTES, PROTOCOL, Receiver, Sender
from dp2p.errors import Dp2pError
from dp2p.sdk import blocking

PEER_S = 20.0
IDLE_S = 0.5  # chat alone, before the files begin
PROGRESS_S = 0.05
_SWITCH_S = 0.0005  # the chat must not wait long for the interpreter


def tell(event: str, **fields: Any) -> None:
    """One line of the report."""
    print(json.dumps({"event": event, **fields}), flush=True)


def send(files: blocking.Protocol, folder: Path, chat: Chat) -> None:
    """The sender's work."""
    names = json.loads(sys.stdin.readline())
    peer = files.wait_peer(timeout=PEER_S).id
    time.sleep(IDLE_S)
    idle = len(chat.round_trips)
    tell("started")
    report = Sender(files, peer).send(folder, names)
    busy = len(chat.round_trips)
    chat.stop()
    trips = {"idle": chat.round_trips[:idle], "busy": chat.round_trips[idle:busy]}
    tell("done", **report, round_trips=trips, trouble=chat.failure)


def receive(files: blocking.Protocol, folder: Path, chat: Chat) -> None:
    """The receiver's work."""
    told = 0.0

    def progress(size: int, count: int) -> None:
        nonlocal told
        if time.monotonic() >= told + PROGRESS_S:
            told = time.monotonic()
            tell("progress", bytes=size, files=count)

    tell("ready")
    report = Receiver(folder).receive(files, progress)
    tell("done", **report, trouble=chat.failure)


def main(role: str, run_dir: Path, folder: Path) -> int:
    """The process."""
    sys.setswitchinterval(_SWITCH_S)
    work = send if role == "send" else receive
    chat = Chat(run_dir, ask=role == "send")
    try:
        with blocking.attach(run_dir, name=f"demo {role}") as node:
            files = node.register(PROTOCOL, priority="bulk", max_datagram=CHUNK_BYTES)
            chat.start()
            work(files, folder, chat)
            sys.stdin.read()
            chat.stop()
    except (Dp2pError, TimeoutError, OSError) as error:
        tell("failed", text=f"{role}: {str(error) or 'timeout'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
