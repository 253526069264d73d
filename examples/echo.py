"""Answers every datagram of the protocol "echo" with itself.

Run a node (`dp2p up`), then `python examples/echo.py`. On another node, ping.py measures it.
"""

import asyncio

import dp2p


async def main() -> None:
    async with dp2p.attach() as node:
        echo = await node.register("echo", version=1)
        print(f"echoing at {node.id}")
        async for message in echo:
            await echo.send(message.peer, type=message.type, payload=message.payload)


if __name__ == "__main__":
    asyncio.run(main())
