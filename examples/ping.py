"""Measures the round trip to every peer that speaks "echo", once a second, ten times.

Run a node that is connected to one with echo.py, then `python examples/ping.py`.
"""

import statistics
import time

import dp2p
from dp2p.sdk import blocking

ROUNDS, TRIPS = 10, 100


def round_trip(echo: blocking.Protocol, peer: str) -> float:
    """Seconds until a datagram is back."""
    began = time.perf_counter()
    echo.send(peer, b"ping")
    echo.recv(timeout=5)
    return time.perf_counter() - began


def main() -> None:
    with blocking.attach() as node:
        echo = node.register("echo", version=1, keep_s=0)
        peer = echo.wait_peer(timeout=30)
        for _ in range(ROUNDS):
            try:
                trips = [round_trip(echo, peer.id) for _ in range(TRIPS)]
            except (TimeoutError, dp2p.SendError) as error:
                raise SystemExit(f"no echo any more: {error}") from None
            print(f"{peer.id[:12]}..  median {statistics.median(trips) * 1e6:.0f} us")
            time.sleep(1)


if __name__ == "__main__":
    main()
