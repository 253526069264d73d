"""Bans and anchors in the peer store.

A ban is of a key, or of an IP network with all that lies within it. It needs no entry of the peer,
and outlives one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from dp2p import ids
from dp2p.coordinator.known import Ban
from dp2p.coordinator.store_bounds import Limits
from dp2p.coordinator.store_file import Database

KEY = "key"
NETWORK = "network"


class Bans:
    """The table of bans. Everything runs within the guard."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._db = database
        self._most = limits.bans
        self._expiring = limits.expiring

    def put(self, subject: bytes | str, ends: float | None, reason: str, now: float) -> None:
        """Ban, or change a ban. Over the bound, that which ends first leaves."""
        kind, value = _subject(subject)
        self._db.execute(
            "INSERT INTO bans (kind, subject, ends, reason, since) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET ends = excluded.ends, reason = excluded.reason,"
            " since = excluded.since",
            kind,
            value,
            ends,
            reason,
            now,
        )
        (count,) = self._db.row("SELECT n FROM counts WHERE name = 'bans'")
        if count > self._most:
            self._db.execute(
                "DELETE FROM bans WHERE (kind, subject) IN (SELECT kind, subject FROM bans"
                " WHERE NOT (kind = ? AND subject = ?) ORDER BY ends NULLS LAST, since LIMIT ?)",
                kind,
                value,
                count - self._most,
            )

    def remove(self, subject: bytes | str) -> bool:
        """Whether there was such a ban."""
        kind, value = _subject(subject)
        found = self._db.execute(
            "DELETE FROM bans WHERE kind = ? AND subject = ?", kind, value
        ).rowcount
        return found > 0

    def of_key(self, key: bytes, now: float) -> str | None:
        """Why a key is banned."""
        found = self._db.row(
            "SELECT reason FROM bans WHERE kind = 'key' AND subject = ?"
            " AND (ends IS NULL OR ends > ?)",
            key,
            now,
        )
        return found[0] if found else None

    def of_network(self, network: str, now: float) -> str | None:
        """Why an address or a network is banned: it, or one that it lies in."""
        if not self._db.row("SELECT 1 FROM bans WHERE kind = 'network' LIMIT 1"):
            return None
        found = self._db.row(
            "SELECT reason FROM bans WHERE kind = 'network'"
            " AND subject IN (SELECT value FROM json_each(?)) AND (ends IS NULL OR ends > ?)",
            msgspec.json.encode(_around(network)).decode(),
            now,
        )
        return found[0] if found else None

    def all(self, now: float) -> list[Ban]:
        """Those that hold, the latest first."""
        rows = self._db.rows(
            "SELECT subject, ends, reason, since FROM bans WHERE ends IS NULL OR ends > ?"
            " ORDER BY since DESC",
            now,
        )
        return [Ban(_told(subject), *rest) for subject, *rest in rows]

    def expire(self, now: float) -> int:
        """Forget some that have ended; how many."""
        return self._db.execute(
            "DELETE FROM bans WHERE (kind, subject) IN"
            " (SELECT kind, subject FROM bans WHERE ends <= ? LIMIT ?)",
            now,
            self._expiring,
        ).rowcount


class Anchors:
    """The table of anchors. Everything runs within the guard."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._db = database
        self._most = limits.anchors

    def set(self, keys: Iterable[bytes]) -> None:
        """These and no others, in this order; the first few."""
        self._db.execute("DELETE FROM anchors")
        for position, key in enumerate(list(dict.fromkeys(keys))[: self._most]):
            self._db.execute("INSERT INTO anchors (position, key) VALUES (?, ?)", position, key)

    def all(self) -> list[bytes]:
        """As they were set."""
        return [key for (key,) in self._db.rows("SELECT key FROM anchors ORDER BY position")]


def check_subject(subject: bytes | str) -> None:
    """Raises: ValueError when it is neither a key nor an IP network."""
    _subject(subject)


def _subject(subject: bytes | str) -> tuple[str, bytes | str]:
    """Kind and value of a row."""
    if isinstance(subject, bytes):
        if len(subject) != ids.KEY_BYTES:
            raise ValueError(f"a key has {ids.KEY_BYTES} bytes, not {len(subject)}")
        return KEY, subject
    return NETWORK, _around(subject)[-1]


def _around(network: str) -> list[str]:
    """A network and all that it lies in, itself last: address in hexadecimal, slash, length."""
    inner = ipaddress.ip_network(network, strict=False)
    bits, address = inner.max_prefixlen, int(inner.network_address)
    return [
        f"{address >> (bits - length) << (bits - length):0{bits // 4}x}/{length}"
        for length in range(inner.prefixlen + 1)
    ]


def _told(subject: bytes | str) -> bytes | str:
    """The subject of a row as it is told to others."""
    if isinstance(subject, bytes):
        return subject
    address, _, length = subject.partition("/")
    return f"{ipaddress.ip_address(bytes.fromhex(address))}/{length}"
