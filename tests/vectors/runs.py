"""The handshakes of docs/spec/wire.md, section 16, by the second implementation and by the code."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import wire_handshake
from dp2p import transport
from vectors.spec import HELLO, Ours, value
from wire_handshake import Draws, Initiator, Link, Mode, Responder, Setting, Tickets, address


@dataclass(frozen=True)
class Run:
    """Two sides, what the initiator relies on, and the tickets that the responder has."""

    i: Setting
    r: Setting
    known: wire_handshake.Known | None = None
    tickets: Tickets = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """In which message 1 is sent."""
        if self.known is None:
            return Mode.XX
        return Mode.IK if self.known.ticket is None else Mode.RESUME


@dataclass(frozen=True)
class Outcome:
    """The three messages, and the link as each side has it."""

    messages: tuple[bytes, bytes, bytes]
    i: Link
    r: Link


def theirs(run: Run) -> Outcome:
    """By the second implementation."""
    initiator, responder = Initiator(run.i), Responder(run.r)
    first = initiator.message_1(run.known)
    second = responder.message_2(first, dict(run.tickets))
    third, link = initiator.message_3(second)
    return Outcome((first, second, third), link, responder.finish(third))


def ours(run: Run, *, initiator: bool) -> Ours:
    """One side of it by the code. It draws what the second implementation was given, in its own
    order: the length and the bytes of message 1's padding, or the length of message 2's; its
    ephemeral key; that key's highest bit; the length of message 3's padding.
    """
    setting = run.i if initiator else run.r
    draws = setting.draws
    top, extra = bytes([0x80 * draws.top]), bytes([draws.extra])
    script = [extra, draws.e, top]
    if initiator:
        padding = draws.padding(draws.rest - wire_handshake.LEAST[run.mode])
        script = [struct.pack("<H", draws.rest - 96), padding, draws.e, top, extra]
    known = None
    if initiator and run.known:
        known = transport.Known(run.known.key, run.known.ticket, run.known.pinned)
    node = Ours(
        initiator=initiator, seed=setting.seed, draws=script, known=known, hello=setting.hello
    )
    node.tickets = dict(run.tickets)
    return node


# --- section 16 ---


def _settings() -> tuple[Setting, Setting]:
    padding = value("padding")
    drawn_i = Draws(value("i-e"), top=True, extra=2, rest=96, padding=lambda size: padding[:size])
    drawn_r = Draws(value("r-e"), top=False, extra=5)
    sees_r = address(bytes([192, 0, 2, 2]), 4617)
    sees_i = address(bytes([192, 0, 2, 1]), 50000)
    return (
        Setting(value("i-seed"), drawn_i, sees_r, HELLO),
        Setting(value("r-seed"), drawn_r, sees_i, HELLO),
    )


def _runs() -> dict[str, Run]:
    i, r = _settings()
    key = wire_handshake.Known(value("r-public"))
    ticket = value("xx-ticket-1")
    resumed = wire_handshake.Known(value("r-public"), ticket)
    absent = wire_handshake.Known(value("x-public"))
    return {
        "xx": Run(i, r),
        "ik": Run(i, r, key),
        "resume": Run(i, r, resumed, {ticket[:16]: (ticket[16:], value("i-public"))}),
        "ik-fallback": Run(i, r, absent),
        "resume-fallback": Run(i, r, resumed),
    }


RUNS = _runs()
