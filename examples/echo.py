"""Answers every datagram of the protocol "echo" with itself.

Run a node (`dp2p up`), then `python examples/echo.py`. On another node, ping.py measures it.
An echo that comes late is of no use, so nothing is kept for peers that have gone.
"""

import asyncio

import dp2p


async def main() -> None:
    async with dp2p.attach() as node:
        echo = await node.register("echo", version=1, keep_s=0)
        print(f"echoing at {node.id}")
        async for message in echo:
            try:
                echo.send_nowait(message.peer, type=message.type, payload=message.payload)
            except dp2p.SendError as error:  # it has gone, or does not read: the others go on
                print(error)


if __name__ == "__main__":
    asyncio.run(main())
