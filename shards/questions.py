"""Tickets that inbound handshakes name, on their way to the coordinator and back."""

from __future__ import annotations

from collections.abc import Callable

from dp2p import bus

ASKED_MAX = 64  # under way; the others wait here, and those of links that end are never asked


class Questions:
    """One for each handshake that rests; so there are never more than links in their handshake."""

    def __init__(self, send: Callable[[bus.TicketAsked], None]) -> None:
        self._send = send
        self._asked: dict[int, bytes] = {}
        "Link -> the ticket's name."
        self._waiting: dict[int, bytes] = {}

    def ask(self, link: int, name: bytes) -> None:
        """A handshake rests until ``over``."""
        self._waiting[link] = name
        self._go_on()

    def over(self, link: int) -> None:
        """The answer is here, or the link has ended."""
        self._waiting.pop(link, None)
        self._asked.pop(link, None)
        self._go_on()

    def ask_again(self) -> None:
        """There is a new coordinator."""
        for link, name in self._asked.items():
            self._send(bus.TicketAsked(link=link, name=name))

    def _go_on(self) -> None:
        while self._waiting and len(self._asked) < ASKED_MAX:
            link = next(iter(self._waiting))
            self._asked[link] = self._waiting.pop(link)
            self._send(bus.TicketAsked(link=link, name=self._asked[link]))
