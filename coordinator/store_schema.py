"""The peer store's tables, and how a store of an older version becomes one of this.

The version stands in ``PRAGMA user_version``. A change of the tables raises ``VERSION``, adds a row
to ``MIGRATIONS`` and changes ``SCHEMA``; a test holds that both ways lead to the same tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from dp2p.errors import StoreError

VERSION = 2
APPLICATION_ID = 0x64703270  # "dp2p"; tells file(1) and us whose database it is

Statements = tuple[str, ...]
Step = Statements | Callable[[sqlite3.Connection], None]
"From one version to the next, within a transaction."

SMALL_CHECKED = ("meta", "counts", "bans", "anchors")
"What is read through at the opening of even the largest store."


_COUNTING: Statements = (
    "INSERT INTO counts VALUES ('TABLE', 0)",
    """CREATE TRIGGER TABLE_more AFTER INSERT ON TABLE BEGIN
       UPDATE counts SET n = n + 1 WHERE name = 'TABLE'; END""",
    """CREATE TRIGGER TABLE_less AFTER DELETE ON TABLE BEGIN
       UPDATE counts SET n = n - 1 WHERE name = 'TABLE'; END""",
)


def _counting(table: str) -> Statements:
    """Triggers that keep the number of rows, which SQLite else finds by reading the table."""
    return tuple(statement.replace("TABLE", table) for statement in _COUNTING)


RECORDS_COUNTED: Statements = (
    "INSERT INTO counts VALUES ('records', 0)",
    """CREATE TRIGGER records_first AFTER INSERT ON peers WHEN new.seq > 0 BEGIN
       UPDATE counts SET n = n + 1 WHERE name = 'records'; END""",
    """CREATE TRIGGER records_more AFTER UPDATE OF seq ON peers
       WHEN old.seq = 0 AND new.seq > 0 BEGIN
       UPDATE counts SET n = n + 1 WHERE name = 'records'; END""",
    """CREATE TRIGGER records_less AFTER DELETE ON peers WHEN old.seq > 0 BEGIN
       UPDATE counts SET n = n - 1 WHERE name = 'records'; END""",
)

BANS: Statements = (
    # subject: a key, or a network as dp2p.coordinator.store_bans writes it. ends: NULL for one that
    # lasts. since: when it was said.
    """CREATE TABLE bans (
         kind TEXT NOT NULL CHECK (kind IN ('key', 'network')),
         subject NOT NULL,
         ends REAL,
         reason TEXT NOT NULL,
         since REAL NOT NULL,
         PRIMARY KEY (kind, subject)
       ) WITHOUT ROWID""",
    "CREATE INDEX bans_by_end ON bans (ends)",
    *_counting("bans"),
)

ANCHORS: Statements = (
    "CREATE TABLE anchors (position INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE)",
)

SCHEMA: Statements = (
    "CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    # node: BLAKE2b-256 of key. seq, signed, said: the record, its bytes and what they say; seq is 0
    # where there is none. connected, visits: the last connection, and on how many days there was
    # one. worth: dp2p.coordinator.store_bounds.worth.
    """CREATE TABLE peers (
         id INTEGER PRIMARY KEY,
         key BLOB NOT NULL UNIQUE,
         node BLOB NOT NULL,
         seq INTEGER NOT NULL DEFAULT 0,
         recorded INTEGER NOT NULL GENERATED ALWAYS AS (seq > 0) VIRTUAL,
         first_seen REAL NOT NULL,
         last_seen REAL NOT NULL,
         connected REAL,
         visits INTEGER NOT NULL DEFAULT 0,
         worth INTEGER NOT NULL,
         said BLOB,
         signed BLOB
       )""",
    "CREATE INDEX peers_by_node ON peers (recorded, node)",
    "CREATE INDEX peers_by_worth ON peers (worth)",
    *_counting("peers"),
    *RECORDS_COUNTED,
    # recorded: when the record came that lists it; NULL where the last one does not.
    """CREATE TABLE endpoints (
         peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
         endpoint TEXT NOT NULL,
         last_success REAL,
         last_failure REAL,
         failures INTEGER NOT NULL DEFAULT 0,
         recorded REAL,
         PRIMARY KEY (peer, endpoint)
       ) WITHOUT ROWID""",
    "CREATE INDEX endpoints_by_claim ON endpoints (endpoint, last_success, recorded)",
    *_counting("endpoints"),
    # What records say is spoken. node and worth are the peer's, so that an index answers "the
    # nearest of those" and "the most valuable of those".
    """CREATE TABLE protocols (
         peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
         name TEXT NOT NULL,
         node BLOB NOT NULL,
         worth INTEGER NOT NULL,
         PRIMARY KEY (peer, name)
       ) WITHOUT ROWID""",
    "CREATE INDEX protocols_by_node ON protocols (name, node)",
    "CREATE INDEX protocols_by_worth ON protocols (name, worth)",
    # seq: of the record that was handed over, or that was found wrong.
    """CREATE TABLE introductions (
         peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
         introducer BLOB NOT NULL,
         network TEXT NOT NULL,
         at REAL NOT NULL,
         wrong INTEGER NOT NULL DEFAULT 0,
         seq INTEGER NOT NULL DEFAULT 0,
         PRIMARY KEY (peer, introducer)
       ) WITHOUT ROWID""",
    *_counting("introductions"),
    # name, psk: secret. The newest ticket has the highest id.
    """CREATE TABLE tickets (
         id INTEGER PRIMARY KEY,
         peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
         direction TEXT NOT NULL CHECK (direction IN ('dial', 'accept')),
         name BLOB NOT NULL UNIQUE,
         psk BLOB NOT NULL,
         expires REAL NOT NULL
       )""",
    "CREATE INDEX tickets_by_peer ON tickets (peer, direction)",
    "CREATE INDEX tickets_by_expiry ON tickets (expires)",
    *_counting("tickets"),
    *BANS,
    *ANCHORS,
)

MIGRATIONS: Mapping[int, Step] = {
    # Bans and anchors; which record an introduction was of.
    1: (
        *BANS,
        *ANCHORS,
        "ALTER TABLE introductions ADD COLUMN seq INTEGER NOT NULL DEFAULT 0",
    ),
}
"From the version that is the key to the one above it."


class Incomplete(Exception):
    """A database says that it is a peer store, but lacks a table or index of one."""


def refuse_foreign(connection: sqlite3.Connection, path: Path | None) -> None:
    """Before anything is changed.

    Raises: StoreError for a newer version and for another program's database; sqlite3.Error.
    """
    version = _version(connection)
    if version > VERSION:
        raise StoreError(
            f"peer store {path} has version {version}, written by a newer dp2p; this one reads up "
            f"to version {VERSION}. It was left as it is"
        )
    if version == 0 and _names(connection):
        raise StoreError(f"peer store {path} is another program's database; it was left as it is")


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older version up to this one.

    Each step is one transaction: a kill leaves the store at some version, whole. ``connection`` is
    in autocommit mode. Raises: Incomplete; sqlite3.Error.
    """
    version = _version(connection)
    if version == 0:
        _apply(connection, SCHEMA, VERSION)
        return
    migrate(connection, version, VERSION, MIGRATIONS)
    if missing := fresh_names() - _names(connection):
        raise Incomplete(f"without {', '.join(sorted(missing))}")


def migrate(
    connection: sqlite3.Connection, version: int, until: int, steps: Mapping[int, Step]
) -> None:
    """Take each step from ``version`` to ``until``."""
    for source in range(version, until):
        _apply(connection, steps[source], source + 1)


def fresh_names() -> set[str]:
    """Tables, indexes and triggers of a new store."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statement in SCHEMA:
            connection.execute(statement)
        return _names(connection)
    finally:
        connection.close()


def _apply(connection: sqlite3.Connection, step: Step, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if callable(step):
            step(connection)
        else:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return version if owner == APPLICATION_ID else 0


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
