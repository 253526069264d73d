"""The database behind the peer store: its file, its batches, and what happens when it breaks.

One connection writes and reads, in the thread of who made the store. The first write begins a
transaction and ``commit`` ends it, so what happens in between reaches the write-ahead log in one
go, which waits for no disk: with ``synchronous = NORMAL`` only checkpoints do. A kill loses the
batch under way; a loss of power may lose what came since the last checkpoint; neither leaves half a
batch.

The log grows with each commit and is emptied by ``checkpoint``, which may run in another thread,
on a connection of its own. It gets to the end only when nothing is written meanwhile; so a commit
that finds more than ``Limits.wal_bytes`` in the log finishes the work itself, and waits for the
disk once in so many bytes.

A batch that SQLite refuses is rolled back and counted, and the caller goes on. A database that
turns out to be corrupt is set aside under another name, and an empty one takes its place.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from dp2p.coordinator import store_schema
from dp2p.coordinator.store_aside import prepare_file, set_aside
from dp2p.coordinator.store_bounds import Limits
from dp2p.errors import StoreError
from dp2p.logs import Log

SAY_EVERY_S = 60.0
BUSY_S = 0.05  # for another process's lock, say an operator's sqlite3; none of ours takes one
OPEN_BUSY_S = 2.0  # for a coordinator that is just being killed

Failure = sqlite3.DatabaseError | UnicodeDecodeError
"What SQLite refuses, and text in a damaged page that Python cannot read."
FAILURES = (sqlite3.DatabaseError, UnicodeDecodeError)

_CORRUPTION = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"

log = Log("store")


class Corrupt(Exception):
    """The file cannot be used; the text says how that shows."""


class Database:
    """SQLite with the failures taken out of its callers' hands.

    Statements run within ``with database.guard:``, which ends the block, and nothing more, when one
    fails; those that write say ``begin(now)`` first.
    """

    def __init__(self, path: Path | None, limits: Limits) -> None:
        """Open ``path``, or a database in memory.

        Raises: StoreError when the file cannot be used and is not ours to replace.
        """
        self.begun: Callable[[], None] = lambda: None
        "Called within each new batch, first."
        self.committed: Callable[[], None] = lambda: None
        "Called after each batch that is kept."
        self.failures = 0
        "Batches rolled back, queries and checkpoints refused since the start."
        self.replaced = 0
        "How often a corrupt database was set aside."
        self.now = 0.0
        "The latest time that anybody has told, wall-clock seconds."
        self.guard = Guard(self)
        self._path = path
        self._limits = limits
        self._said: float | None = None
        self._unmoved = False
        self._late: Failure | None = None
        self._file = threading.Lock()  # held by who opens, closes, renames or checkpoints
        self._connection = self._open()

    # --- statements: within the guard ---

    def begin(self, now: float | None = None) -> None:
        """Have a batch under way.  Raises: sqlite3.DatabaseError."""
        if now is not None:
            self.now = now
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self.begun()

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run one statement.  Raises: sqlite3.DatabaseError."""
        return self._connection.execute(statement, values)

    def rows(self, statement: str, *values: object) -> list[Any]:
        """All rows of a query.  Raises: sqlite3.DatabaseError."""
        return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> Any:
        """The first row of a query, or None.  Raises: sqlite3.DatabaseError."""
        cursor = self._connection.execute(statement, values)
        found = cursor.fetchone()
        cursor.close()  # a cursor left open would keep the log from being emptied
        return found

    # --- batches ---

    @property
    def dirty(self) -> bool:
        """Something was written since the last commit."""
        return self._connection.in_transaction

    def commit(self) -> None:
        """Keep what was written. Waits for no disk but as the module says."""
        if (late := self._late) is not None:
            self._late = None
            self._note(late)
        if not self._connection.in_transaction:
            return
        with self.guard:
            self._connection.execute("COMMIT")
            self.committed()
            self._unmoved = True
            if self._wal_bytes() > self._limits.wal_bytes:
                with self._file:  # another checkpoint under way would have this one do nothing
                    self.row(_PASSIVE)

    def failed(self, error: Failure) -> None:
        """Give up the batch under way, and note why."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except FAILURES as worse:
            error = worse
        self._note(error)

    def _note(self, error: Failure) -> None:
        """Count an error, and start anew if the database is corrupt."""
        self.failures += 1
        if is_corruption(error):
            self._replace(str(error))
        elif self._said is None or not 0 <= self.now - self._said < SAY_EVERY_S:
            self._said = self.now
            log.error(
                "the peer store fails; what it was last told may be lost",
                path=self._path,
                error=error,
                failures=self.failures,
            )

    def close(self) -> None:
        """Keep what was written and let go of the file."""
        self.commit()
        with self._file:
            self._connection.close()

    # --- checkpoints ---

    @property
    def checkpoint_due(self) -> bool:
        """Something was committed since the last checkpoint began."""
        return self._unmoved and self._path is not None

    def checkpoint(self) -> None:
        """Move the log into the database. May run in any thread; waits for the disk.

        Twice, because the first is the long one: the second takes what was committed meanwhile.
        """
        with self._file:
            if self._path is None or not self.checkpoint_due:
                return
            self._unmoved = False
            try:
                second = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
                try:
                    second.execute(_PASSIVE).fetchone()
                    second.execute(_PASSIVE).fetchone()
                finally:
                    second.close()
            except FAILURES as error:
                self._late = error  # for the store's own thread
                self._unmoved = True

    def _wal_bytes(self) -> int:
        if self._path is None:
            return 0
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0

    # --- the file ---

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return self._connect(":memory:")
        try:
            prepare_file(self._path)
            try:
                return self._connect(str(self._path))
            except Corrupt as corrupt:
                self._set_aside(self._path, str(corrupt))
                return self._connect(str(self._path))
        except Corrupt as corrupt:
            raise StoreError(f"peer store {self._path}: a new file is corrupt: {corrupt}") from None
        except (OSError, sqlite3.DatabaseError) as error:
            raise StoreError(f"peer store {self._path} cannot be used: {error}") from None

    def _connect(self, name: str) -> sqlite3.Connection:
        """Raises: Corrupt, StoreError, sqlite3.DatabaseError."""
        connection = sqlite3.connect(name, timeout=OPEN_BUSY_S, isolation_level=None)
        try:
            store_schema.refuse_foreign(connection, self._path)
            _configure(connection, self._limits)
            store_schema.prepare(connection)
            self._check(connection)
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        except store_schema.Incomplete as error:
            connection.close()
            raise Corrupt(str(error)) from None
        except FAILURES as error:
            connection.close()
            if is_corruption(error):
                raise Corrupt(str(error)) from None
            raise
        except BaseException:
            connection.close()
            raise
        weakref.finalize(self, _close, connection)  # of a store that is dropped, as tests do
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        """Read a file through, unless that would take long; what is broken in a larger one shows
        when it is used.  Raises: Corrupt.
        """
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        size: int = connection.execute("PRAGMA page_size").fetchone()[0]
        tables = ("",) if pages * size <= self._limits.check_bytes else store_schema.SMALL_CHECKED
        for table in tables:
            said: str = connection.execute(f"PRAGMA quick_check({table or 1})").fetchone()[0]
            if said != "ok":
                raise Corrupt(" ".join(said.split()))

    def _replace(self, why: str) -> None:
        """Start anew while running; in memory where even that fails."""
        with self._file:
            _close(self._connection)
            try:
                if self._path is not None:
                    self._set_aside(self._path, why)
                self._connection = self._open()
            except (StoreError, OSError) as error:
                log.error("no new peer store can be made; it is kept in memory", error=error)
                self._path = None
                self._connection = self._connect(":memory:")

    def _set_aside(self, path: Path, why: str) -> None:
        kept = set_aside(path)
        self.replaced += 1
        log.error(
            "the peer store is corrupt; it was set aside, and a new one is started",
            path=path,
            kept=kept,
            error=why,
        )
        prepare_file(path)


class Guard:
    """Ends a block of statements, but not its caller, when SQLite refuses one.

    What shows an error in our own code, a wrong number of values for instance, passes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        ours = isinstance(error, sqlite3.ProgrammingError)
        if ours or not isinstance(error, FAILURES):
            return False
        self._database.failed(error)
        return True


def refuse_unusable(path: Path) -> None:
    """Find out before a node starts whether it could use the store at ``path``. Changes nothing in
    it; whether it is damaged is left to the store.  Raises: StoreError, as the store would.
    """
    try:
        prepare_file(path)
        connection = sqlite3.connect(path, timeout=OPEN_BUSY_S, isolation_level=None)
        try:
            store_schema.refuse_foreign(connection, path)
        finally:
            _close(connection)
    except (OSError, *FAILURES) as error:
        if isinstance(error, OSError) or not is_corruption(error):
            raise StoreError(f"peer store {path} cannot be used: {error}") from None


def is_corruption(error: Failure) -> bool:
    """The file is damaged or no database, as opposed to a disk that is full, say."""
    if isinstance(error, UnicodeDecodeError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPTION


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()


def _configure(connection: sqlite3.Connection, limits: Limits) -> None:
    for setting in (
        "foreign_keys = ON",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {limits.wal_bytes // 4}",
        f"cache_size = {-(limits.cache_bytes // 1024)}",
        "temp_store = MEMORY",
        "secure_delete = ON",  # tickets that are used up leave no trace in the file
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()
