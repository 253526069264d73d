"""``dp2p events``: what the node has to tell, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from dp2p import control
from dp2p.cli import client
from dp2p.cli.settings import Globals, pass_globals

ASK_AGAIN_S = 1.0  # while there is no session
SILENT_S = 30.0  # a coordinator that was restarted is back long before

Fields = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_globals
def events(context: Globals, as_json: bool) -> None:
    """Print the node's events from now on, until Ctrl-C.

    \b
    fallback            what a handshake relied on was in vain; trust is none
    identity error      a particular peer was dialled, another answered
    doubted             a key is no longer thought to be at an endpoint
    man in the middle?  a peer knows another key where a new one was met

    Exits with 1 when the node ends.

    \b
    Examples:
      dp2p events
      dp2p events --json | jq -c 'select(.kind == "mitm_warning")'
    """
    run_dir = Path(context.load().node.run_dir)
    show = as_line_of_json if as_json else as_line
    with client.conversation(run_dir) as node:
        subscription = Subscription(time.monotonic())
        try:
            while (now := time.monotonic()) < subscription.silent_at:
                for request in subscription.to_send(now):
                    node.send(request)
                frame = node.receive(subscription.due - now)
                if frame is not None:
                    notice = subscription.receive(frame, time.monotonic())
                    if notice is not None:
                        click.echo(show(notice))
        finally:
            for request in subscription.end():
                node.send(request)
    raise client.NodeUnreachableError(f"{client.no_node(run_dir)} (silent for {SILENT_S:g} s)")


class Subscription:
    """A session with nothing but events: begun, kept alive, begun again when it is forgotten.

    Without clock and socket: ``to_send`` by ``due``, ``receive`` what comes.
    """

    def __init__(self, now: float) -> None:
        self.due = now
        "When to call ``to_send`` next, s."
        self.silent_at = now + SILENT_S
        "When the node counts as gone, if nothing comes."
        self._session: str | None = None
        self._attach = 0
        "Number of the latest request for a session."
        self._interval_s = ASK_AGAIN_S
        self._number = 0

    def to_send(self, now: float) -> list[control.AnyRequest]:
        """What is due. A restarted coordinator knows the session, of which shards tell it, but not
        who listens: so that is said with each heartbeat.
        """
        if now < self.due:
            return []
        self.due = now + self._interval_s
        if self._session is None:
            self._attach = self._next()
            return [control.Attach(id=self._attach, name="dp2p events")]
        return [
            control.Heartbeat(id=self._next(), session=self._session),
            control.Subscribe(id=self._next(), session=self._session),
        ]

    def receive(self, frame: bytes, now: float) -> control.Notice | None:
        """A message of the node; None when there is nothing to show.  Raises: RequestError."""
        self.silent_at = now + SILENT_S
        fields = msgspec.json.decode(frame)
        if "event" in fields:
            is_notice = fields["event"] == "notice"
            return msgspec.convert(fields, control.Notice) if is_notice else None
        reply = msgspec.convert(fields, control.Reply)
        if reply.error is not None and reply.error.code == "unknown_session":
            self._session = None
            self._interval_s = ASK_AGAIN_S
            self.due = min(self.due, now + ASK_AGAIN_S)
            return None
        ok = client.result(reply)
        if reply.id == self._attach:
            self._begin(msgspec.convert(ok, control.Attached), now)
        return None

    def end(self) -> list[control.AnyRequest]:
        """What to say last."""
        if self._session is None:
            return []
        return [control.Detach(id=self._next(), session=self._session)]

    def _begin(self, attached: control.Attached, now: float) -> None:
        self._session = attached.session
        self._interval_s = attached.heartbeat_s
        self.due = now

    def _next(self) -> int:
        self._number += 1
        return self._number


# --- what is shown ---


def as_line_of_json(notice: control.Notice) -> str:
    """For programs."""
    return json.dumps({"at": notice.at, "kind": notice.kind, **notice.fields})


def as_line(notice: control.Notice) -> str:
    """For people: when, and what has happened."""
    moment = datetime.fromtimestamp(notice.at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    sentence = _SENTENCES.get(notice.kind)
    return f"{moment} {_any(notice) if sentence is None else sentence(dict(notice.fields))}"


def _fallback(fields: Fields) -> str:
    head = f"fallback at {fields['endpoint']}"
    if fields["direction"] == "in":
        return f"{head}: {fields['answered']} relied on what was in vain ({fields['mode']})"
    return (
        f"{head}: dialled as {fields['relied']} ({fields['mode']}) in vain, "
        f"{fields['answered']} answered; trust is none"
    )


def _identity_error(fields: Fields) -> str:
    answered = fields["answered"] or "another key"
    return (
        f"identity error at {fields['endpoint']}: {fields['asked']} was dialled, "
        f"{answered} answered; not connected"
    )


def _doubted(fields: Fields) -> str:
    return f"doubted: {fields['key']} is no longer thought to be at {fields['endpoint']}"


def suspicion(fields: Fields) -> str:
    """A warning of somebody in the middle."""
    reporter = fields["reporter"] or "this node"
    return (
        f"man in the middle? at {fields['endpoint']}: met {fields['met']}, "
        f"but {reporter} knows {fields['other']} there ({fields['evidence']})"
    )


def _any(notice: control.Notice) -> str:
    """Of a kind that is not known here."""
    rest = (f"{name}={json.dumps(value)}" for name, value in notice.fields.items())
    return " ".join([notice.kind, *rest])


_SENTENCES: dict[str, Callable[[Fields], str]] = {
    "fallback": _fallback,
    "identity_error": _identity_error,
    "doubted": _doubted,
    "mitm_warning": suspicion,
}
