"""What the peer store keeps at most, and which peers leave first when it is full."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86400.0
HOURS_OF_DAY = 24
HOUR_S = 3600.0

RECORD_DAYS = 1
"A peer that is known by its record alone is kept for so long after the record came."
INTRODUCERS_MAX = 4
"Independent introducers that count; each is worth a day more."
CONNECTED_DAYS = 5
"A peer that was connected once is kept for so long, and a day more."
VISITS_MAX = 28
"Days with a connection that count; each is worth a day more."
VISITS_GAP_S = 30 * DAY_S
"After so long without a connection, days are counted from one again."
FAILURES_MAX = 8
"Failed dials that count, at the endpoint that failed least; each costs a day."


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a store; those of one peer keep one peer from filling it."""

    endpoints: int = 8
    "Of a peer."
    introductions: int = 16
    "Of a peer."
    dial_tickets: int = 2
    "Of a peer."
    accept_tickets: int = 16
    """Of a peer. Far more than it keeps to dial with: what it dials with now may be older than
    many handshakes, when both sides dial at once, and a ticket that is gone costs its trust."""
    bans: int = 10_000
    anchors: int = 64
    claims: int = 8
    "Peers named for one endpoint."
    failing: int = 32
    "Peers that a failed dial counts against: the best claims to the endpoint."
    batch: int = 8
    "Peers that leave at a time when the store is full."
    expiring: int = 256
    "Tickets, and bans, that one call of expire() removes."
    cache_bytes: int = 32 << 20
    "Pages that SQLite keeps in memory."
    check_bytes: int = 256 << 20
    "A larger file is not read through when it is opened."
    wal_bytes: int = 64 << 20
    "A commit that leaves more than this in the write-ahead log empties it itself."


def worth(
    *, seen: float, connected: float | None, visits: int, introducers: int, failures: int
) -> int:
    """Until when a peer is worth remembering, in hours since the epoch; the smallest leave first.

    It names a time and no share of something, so nothing has to be computed anew as time passes:

    | known how | kept until |
    |---|---|
    | connected on n days | 5 + n days after the last connection, n at most 28 |
    | introduced by n independent peers | 1 + n days after its record came, n at most 4 |
    | by its record alone | 1 day after it came |
    | dials have failed n times since one succeeded | n days earlier, n at most 8 |

    So regular visitors outlast a flood of new ones, and at equal times each row outlasts the next.
    """
    until = seen + DAY_S * (RECORD_DAYS + min(introducers, INTRODUCERS_MAX))
    if connected is not None:
        until = max(until, connected + DAY_S * (CONNECTED_DAYS + min(visits, VISITS_MAX)))
    return int(until / HOUR_S) - HOURS_OF_DAY * min(failures, FAILURES_MAX)


def visits_after(visits: int, last: float | None, now: float) -> int:
    """Days with a connection, one at ``now`` included; a day counts once."""
    if last is None or now - last > VISITS_GAP_S:
        return 1
    return visits if int(now / DAY_S) == int(last / DAY_S) else min(visits + 1, VISITS_MAX)
