"""The chat beside the files: who asks, measures; who answers, echoes. Each in a thread and a
session of its own.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from dp2p.errors import RequestError
from dp2p.sdk import blocking

PROTOCOL = "demo/chat"
PERIOD_S = 0.01
ANSWER_S = 30.0  # without an answer for so long, something is broken
_TEXT = b"are you still there, beside all those files?".ljust(100)


class Chat(threading.Thread):
    """One end of the chat; ``stop`` ends it."""

    def __init__(self, run_dir: Path, *, ask: bool) -> None:
        super().__init__(name="chat", daemon=True)
        self._run_dir = run_dir
        self._work = self._ask if ask else self._answer
        self._stopping = threading.Event()
        self.round_trips: list[float] = []
        "Seconds, in order."
        self.failure: str | None = None

    def run(self) -> None:
        """The thread."""
        try:
            with blocking.attach(self._run_dir, name="demo chat") as node:
                self._work(node.register(PROTOCOL, version=1, priority="urgent"))
        except (RequestError, TimeoutError) as error:
            if not self._stopping.is_set():
                self.failure = f"chat: {str(error) or 'no answer'}"

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def _ask(self, chat: blocking.Protocol) -> None:
        peer = chat.wait_peer(timeout=ANSWER_S).id
        while not self._stopping.wait(PERIOD_S):
            begin = time.perf_counter()
            chat.send(peer, _TEXT, timeout=ANSWER_S)
            chat.recv(ANSWER_S)
            self.round_trips.append(time.perf_counter() - begin)

    def _answer(self, chat: blocking.Protocol) -> None:
        while not self._stopping.is_set():
            try:
                message = chat.recv(0.1)
            except TimeoutError:
                continue
            chat.send(message.peer, message.payload)
