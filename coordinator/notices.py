"""What the operator is told of trust that was lost, and what is counted.

A notice becomes an event for who subscribed and a line in the log; a counter becomes a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dp2p import bus, ids

Value = str | bool | None


class Kind(StrEnum):
    """Each is a step in which trust was lost, or did not come."""

    FALLBACK = "fallback"
    "A handshake fell back: what its initiator relied on was of no use."
    IDENTITY_ERROR = "identity_error"
    "A particular key was dialled and did not answer; there is no connection."
    DOUBTED = "doubted"
    "What was said of a key is no longer believed: another answered in its place."
    MITM_WARNING = "mitm_warning"
    "Somebody else knows another key for the endpoint of a peer with trust ``none``."


@dataclass(frozen=True, slots=True)
class Notice:
    """One of them. Whoever passes it on adds when it was."""

    kind: Kind
    fields: Mapping[str, Value]
    "Keys are public keys as text."


def fallback(report: bus.LinkReport, relied: bytes | None) -> Notice:
    """``relied``: the key that the dial relied on; None when the peer dialled, or nobody knows."""
    return Notice(
        Kind.FALLBACK,
        {
            "peer": ids.node_id_text(report.key),
            "endpoint": report.endpoint,
            "direction": report.direction,
            "mode": report.mode,
            "relied": _text(relied),
            "answered": report.key,
        },
    )


def identity_error(endpoint: str, mode: bus.Mode, asked: bytes, answered: bytes | None) -> Notice:
    """``answered``: None when the shard could not say."""
    return Notice(
        Kind.IDENTITY_ERROR,
        {
            "endpoint": endpoint,
            "mode": mode,
            "asked": ids.to_text(asked),
            "answered": _text(answered),
        },
    )


def doubted(key: bytes, endpoint: str) -> Notice:
    """``key`` was thought to be at ``endpoint``."""
    return Notice(Kind.DOUBTED, {"key": ids.to_text(key), "endpoint": endpoint})


def mitm_warning(
    *,
    peer: str,
    endpoint: str,
    met: bytes,
    other: bytes,
    reporter: bytes | None,
    evidence: str,
) -> Notice:
    """``reporter``: who knows ``other`` there; None when this node itself does."""
    return Notice(
        Kind.MITM_WARNING,
        {
            "peer": peer,
            "endpoint": endpoint,
            "met": ids.to_text(met),
            "other": ids.to_text(other),
            "reporter": _text(reporter),
            "evidence": evidence,
        },
    )


def _text(key: bytes | None) -> str | None:
    return None if key is None else ids.to_text(key)


@dataclass(slots=True)
class Counters:
    """Since the coordinator began."""

    handshakes_xx: int = 0
    handshakes_ik: int = 0
    handshakes_resume: int = 0
    fallbacks: int = 0
    "Handshakes that began as IK or resumption and are not among those above."
    identity_errors: int = 0
    doubted: int = 0
    "Keys of which another one answered in their place."

    tickets_made: int = 0
    tickets_dialled: int = 0
    "Given to a dial of this node."
    tickets_unused: int = 0
    "Of these, given back: the dial reached nobody."
    tickets_accepted: int = 0
    "Found for a dial of a peer."
    tickets_missing: int = 0
    "Named by a peer and not known: used, expired or never made."
    tickets_unproven: int = 0
    "Left out: the peer never showed that it has the other half."

    introductions_received: int = 0
    "Records that a peer handed over and that verified."
    introductions_refused: int = 0
    "Records that did not verify."
    finds_asked: int = 0
    "By this node."
    finds_answered: int = 0
    "For peers."
    checks_asked: int = 0
    checks_answered: int = 0
    keys_received: int = 0
    "Answers to checks of this node."
    keys_agreed: int = 0
    "Of those: the key that was met is among them."
    keys_disputed: int = 0
    "Of those: another key is among them, or both."
    warnings: int = 0

    limited: int = 0
    "Peers' questions that came too fast and got no answer."
    unasked: int = 0
    "Answers that no question waited for."
    unsent: int = 0
    "This node's own questions, left out or given up for want of room."
    misbehaved: int = 0
    "Links on which a peer broke the rules."
