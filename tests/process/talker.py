"""An application for tests to kill: registers a protocol, says so, sends what it gets back."""

from __future__ import annotations

import sys

from dp2p import blocking


def main() -> None:
    run_dir, protocol = sys.argv[1:]
    with blocking.attach(run_dir, name="talker") as node:
        echo = node.register(protocol)
        print("ready", flush=True)
        for message in echo:
            echo.send(message.peer, message.payload, message.type)


main()
