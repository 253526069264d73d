"""The peer store's file: who may read it, which files are refused, and what a failing one does."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dp2p.coordinator import store_schema
from dp2p.coordinator.known import Direction
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.store_aside import set_aside
from dp2p.coordinator.store_bounds import Limits
from dp2p.coordinator.store_file import refuse_unusable
from dp2p.errors import StoreError
from stored import DAY, NOW, endpoint, key, record, ticket

V1 = Path(__file__).with_name("store_v1.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "peers.db"


def opened(path: Path, **limits: int) -> PeerStore:
    return PeerStore(path, max_peers=100_000, limits=Limits(**limits))


def fill(path: Path, count: int) -> None:
    store = opened(path)
    for number in range(count):
        store.add_record(record(number), NOW)
    store.close()


def known(store: PeerStore, count: int) -> int:
    """How many of the first peers the store knows."""
    return sum(store.peer(key(number)) is not None for number in range(count))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def overwrite(path: Path, page: int, data: bytes = b"\xa5" * 4096) -> None:
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(data)


# --- who may read it ---


def test_files_are_the_owners_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        store = opened(path)
        store.add_record(record(1), NOW)
        store.commit()
        assert mode(path.parent) == 0o700
        assert [mode(beside(path, end)) for end in ("", "-wal", "-shm")] == [0o600] * 3
    finally:
        os.umask(old)
    store.close()


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    fill(path, 1)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    opened(path).close()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o755  # not made here


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    target = tmp_path / "elsewhere"
    path.symlink_to(target)
    with pytest.raises(StoreError, match=str(path)):
        opened(path)
    assert not target.exists()


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=str(path)):
        opened(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="not a regular file"):
        opened(path)


def test_used_tickets_leave_no_trace(path: Path) -> None:
    store = opened(path)
    for number in range(20):
        store.put_ticket(ticket(number), Direction.DIAL, NOW + DAY)
    store.commit()
    for number in range(20):
        assert store.take_dial_ticket(key(number), NOW)
    store.close()
    data = path.read_bytes()
    assert not any(ticket(number).psk in data for number in range(20))


# --- versions ---


def test_what_was_kept_is_there_when_opened_again(path: Path) -> None:
    store = opened(path)
    store.add_record(record(1), NOW)
    store.connected(key(1), endpoint(1), NOW)
    store.introduced(key(1), key(2), "192.0.2.0/24", NOW)
    store.put_ticket(ticket(1), Direction.DIAL, NOW + DAY)
    store.ban(key(3), None, "rude", NOW)
    store.set_anchors([key(1)])
    before = store.peer(key(1)), store.bans(NOW), store.anchors(), store.counts()
    sequence = store.next_sequence(NOW)
    store.close()
    again = opened(path)
    assert (again.peer(key(1)), again.bans(NOW), again.anchors(), again.counts()) == before
    assert again.next_sequence(0.0) == sequence + 1
    assert again.take_dial_ticket(key(1), NOW) == ticket(1)
    again.close()


def make(path: Path, *statements: str) -> None:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_newer_version_is_left_alone(path: Path) -> None:
    fill(path, 3)
    make(path, f"PRAGMA user_version = {store_schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer dp2p") as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_another_programs_database_is_left_alone(path: Path) -> None:
    make(path, "CREATE TABLE songs (name TEXT)", "PRAGMA user_version = 1")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        opened(path)
    assert path.read_bytes() == before


def test_what_would_be_refused_is_known_beforehand(path: Path) -> None:
    refuse_unusable(path)
    assert (path.read_bytes(), mode(path)) == (b"", 0o600)
    fill(path, 3)
    refuse_unusable(path)
    store = opened(path)
    assert known(store, 3) == 3
    store.close()
    make(path, f"PRAGMA user_version = {store_schema.VERSION + 1}")
    with pytest.raises(StoreError, match="newer dp2p"):
        refuse_unusable(path)
    overwrite(path, 0)
    refuse_unusable(path)  # the store sets it aside
    path.unlink()
    make(path, "CREATE TABLE songs (name TEXT)")
    with pytest.raises(StoreError, match="another program"):
        refuse_unusable(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        refuse_unusable(path)


def load_v1(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(V1.read_text(encoding="utf-8"))
    connection.close()


def test_an_older_version_is_brought_up_with_all_it_holds(path: Path) -> None:
    load_v1(path)
    store = opened(path)
    peer = store.peer(key(1))
    assert peer is not None
    assert peer.record == record(1)
    assert peer.introducers == 1
    assert peer.endpoints[0].last_success == NOW
    assert store.counts()["peers"] == 1
    store.ban(key(1), None, "x", NOW)
    store.doubt(key(1), endpoint(1), NOW)
    store.introduced(key(1), key(2), "192.0.2.0/24", NOW)
    assert introducers(store) == 0
    store.add_record(record(1, seq=2), NOW)
    store.introduced(key(1), key(2), "192.0.2.0/24", NOW)
    assert introducers(store) == 1
    store.set_anchors([key(1)])
    store.commit()
    assert store.failures == 0
    assert store.next_sequence(0.0) == 42
    assert store.take_dial_ticket(key(1), NOW) == ticket(1)
    store.close()


def introducers(store: PeerStore) -> int:
    peer = store.peer(key(1))
    assert peer is not None
    return peer.introducers


def shape(path: Path) -> set[tuple[object, ...]]:
    """Columns, indexes and triggers."""
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
    found: set[tuple[object, ...]] = set(names)
    for kind, name, _ in names:
        if kind in ("table", "index"):
            found |= {(name, *row) for row in connection.execute(f"PRAGMA {kind}_xinfo({name})")}
    found.add(tuple(connection.execute("PRAGMA user_version")))
    connection.close()
    return found


def test_a_migrated_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    load_v1(path)
    opened(path).close()
    opened(tmp_path / "new.db").close()
    assert shape(path) == shape(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_version_before_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)

    def fill_column(database: sqlite3.Connection) -> None:
        database.execute("UPDATE t SET b = a + 1")

    def fail(database: sqlite3.Connection) -> None:
        database.execute("DROP TABLE t")
        raise RuntimeError("power")

    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (1)")
    steps: dict[int, store_schema.Step] = {
        1: ("ALTER TABLE t ADD COLUMN b",),
        2: fill_column,
        3: fail,
    }
    with pytest.raises(RuntimeError):
        store_schema.migrate(connection, 1, 4, steps)
    assert connection.execute("SELECT a, b FROM t").fetchall() == [(1, 2)]
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert not connection.in_transaction


# --- damage ---


def test_what_is_no_database_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"these are not the bytes of a database, at all" * 100)
    with caplog.at_level(logging.ERROR, "dp2p.store"):
        store = opened(path)
    kept = beside(path, ".corrupt-1")
    assert kept.read_bytes().startswith(b"these are not")
    assert str(path) in fields(caplog)["path"]
    assert fields(caplog)["kept"] == str(kept)
    assert store.counts()["replaced"] == 1
    assert store.add_record(record(0), NOW)
    store.close()
    assert known(opened(path), 1) == 1


def fields(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    return {name: str(value) for name, value in caplog.records[-1].__dict__["fields"].items()}


@pytest.mark.parametrize("page", range(1, 40, 4))
def test_a_damaged_page_is_found_at_the_opening(path: Path, page: int) -> None:
    fill(path, 200)
    assert path.stat().st_size > 41 * 4096
    overwrite(path, page)
    store = opened(path)
    assert store.counts()["replaced"] == 1
    assert store.counts()["peers"] == 0
    assert beside(path, ".corrupt-1").exists()
    store.close()


def test_a_truncated_file_is_set_aside(path: Path) -> None:
    fill(path, 200)
    os.truncate(path, 10 * 4096)
    assert opened(path).counts()["replaced"] == 1


def test_a_store_that_lacks_a_table_is_set_aside(path: Path) -> None:
    fill(path, 1)
    make(path, "DROP INDEX endpoints_by_claim")
    assert opened(path).counts()["replaced"] == 1


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = opened(path)
    assert store.counts()["replaced"] == 0
    store.close()


def test_what_lies_beside_a_file_is_set_aside_with_it(path: Path) -> None:
    path.parent.mkdir()
    for end in ("", "-wal", "-shm"):
        beside(path, end).write_text(f"this is {end}")
    kept = set_aside(path)
    assert kept.name == "peers.db.corrupt-1"
    for end in ("", "-wal", "-shm"):
        assert beside(kept, end).read_text() == f"this is {end}"
    assert len(list(path.parent.iterdir())) == 3


def test_few_of_those_set_aside_are_kept(path: Path) -> None:
    path.parent.mkdir()
    for _ in range(7):
        path.write_bytes(b"junk")
        beside(path, "-wal").write_bytes(b"x")
        set_aside(path)
    names = sorted(one.name for one in path.parent.iterdir())
    assert names == [f"peers.db.corrupt-{n}{end}" for n in (4, 5, 6, 7) for end in ("", "-wal")]


def test_a_large_file_is_not_read_through_and_its_damage_found_in_use(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(path, 2000)
    size = path.stat().st_size // 4096
    for page in range(size // 2, size - 8):
        overwrite(path, page)
    store = opened(path, check_bytes=0, cache_bytes=1 << 16)
    assert store.counts()["replaced"] == 0
    with caplog.at_level(logging.ERROR, "dp2p.store"):
        known(store, 2000)
    counts = store.counts()
    assert counts["replaced"] == 1
    assert counts["peers"] == 0
    assert fields(caplog)["kept"] == str(beside(path, ".corrupt-1"))
    assert store.add_record(record(0), NOW)
    store.close()
    assert known(opened(path), 1) == 1


def test_a_new_store_is_kept_in_memory_where_no_file_can_be_made(path: Path) -> None:
    fill(path, 2000)
    size = path.stat().st_size // 4096
    for page in range(size // 2, size - 8):
        overwrite(path, page)
    store = opened(path, check_bytes=0, cache_bytes=1 << 16)
    path.rename(beside(path, ".gone"))
    known(store, 2000)
    assert store.add_record(record(0), NOW)
    assert known(store, 1) == 1
    store.commit()
    store.checkpoint()
    store.close()
    assert not path.exists()


# --- a disk that refuses ---


@pytest.fixture
def full(path: Path) -> Iterator[PeerStore]:
    """A store on a disk without room for more, which holds peer 1 and its tickets."""
    store = opened(path)
    store.add_record(record(1), NOW)
    store.put_ticket(ticket(1), Direction.DIAL, NOW + DAY)
    store.put_ticket(ticket(1, 1), Direction.ACCEPT, NOW + DAY)
    store.commit()
    make_full(store)
    yield store
    store.close()


def make_full(store: PeerStore) -> None:
    store._db.execute("PRAGMA max_page_count = 1")


def make_room(store: PeerStore) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


def write_until_refused(store: PeerStore, now: float) -> None:
    before = store.failures
    for number in range(1000, 2000):
        store.add_record(record(number), now)
        if store.failures > before:
            return
    raise AssertionError("the disk was not full")


def test_a_refused_batch_is_rolled_back_and_reading_goes_on(full: PeerStore) -> None:
    write_until_refused(full, NOW)
    assert full.failures == 1
    assert not full.dirty
    assert full.counts()["peers"] == 1
    assert full.peer(key(1)) is not None
    assert full.at_endpoint(endpoint(1))
    assert [one.key for one in full.nearest(bytes(32), 9)] == [key(1)]
    make_room(full)
    assert full.add_record(record(2), NOW)
    full.commit()
    assert full.counts()["peers"] == 2
    assert full.counts()["replaced"] == 0


def test_failures_are_told_once_a_minute(full: PeerStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "dp2p.store"):
        for second in range(0, 121, 20):
            write_until_refused(full, NOW + second)
    assert full.failures == 7
    assert len(caplog.records) == 3
    assert "full" in fields(caplog)["error"]
    assert fields(caplog)["failures"] == "7"


def test_a_ticket_given_out_does_not_come_back_with_its_batch(full: PeerStore) -> None:
    assert full.take_dial_ticket(key(1), NOW) == ticket(1)
    assert full.take_accept_ticket(ticket(1, 1).name, NOW) == ticket(1, 1)
    write_until_refused(full, NOW)
    assert full.take_dial_ticket(key(1), NOW) is None
    assert full.take_accept_ticket(ticket(1, 1).name, NOW) is None
    full.commit()
    assert full.counts()["tickets"] == 0


def test_dropped_tickets_do_not_come_back(full: PeerStore) -> None:
    full.drop_tickets(key(1))
    write_until_refused(full, NOW)
    assert full.take_dial_ticket(key(1), NOW) is None


def test_sequence_numbers_grow_while_nothing_can_be_written(path: Path) -> None:
    store = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    numbers = [store.next_sequence(NOW) for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert store.failures == 3
    assert not store.add_record(record(1), NOW)
    assert store.peer(key(1)) is None
    other.execute("ROLLBACK")
    other.close()
    assert store.next_sequence(NOW) > numbers[-1]
    assert store.add_record(record(1), NOW)
    store.close()


def test_errors_of_our_own_are_not_hidden(path: Path) -> None:
    store = opened(path)
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.peer(key(1))


# --- the write-ahead log ---


def test_checkpoints_run_in_another_thread(path: Path) -> None:
    store = opened(path)
    due = [store.checkpoint_due]
    before = path.stat().st_size
    for number in range(100):
        store.add_record(record(number), NOW)
    store.commit()
    due.append(store.checkpoint_due)
    assert path.stat().st_size == before
    in_a_thread(store.checkpoint)
    due.append(store.checkpoint_due)
    assert due == [False, True, False]
    assert path.stat().st_size > before
    store.add_record(record(100), NOW)
    store.commit()
    log = beside(path, "-wal").stat().st_size
    store.add_record(record(101), NOW)
    store.commit()
    assert beside(path, "-wal").stat().st_size == log  # it began anew, and has room
    store.close()
    assert store.failures == 0


def in_a_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_what_a_checkpoint_meets_is_told_by_the_next_commit(path: Path) -> None:
    store = opened(path)
    store.add_record(record(1), NOW)
    store.commit()
    path.rename(beside(path, ".gone"))
    path.mkdir()
    in_a_thread(store.checkpoint)
    assert store.failures == 0
    store.commit()
    assert store.failures == 1
    path.rmdir()
    beside(path, ".gone").rename(path)
    store.close()


def test_the_log_stays_bounded_even_when_nobody_calls_for_checkpoints(path: Path) -> None:
    bound = 1 << 20
    store = opened(path, wal_bytes=bound)
    largest = 0
    for number in range(4000):
        store.add_record(record(number), NOW)
        if number % 20 == 0:
            store.commit()
            largest = max(largest, beside(path, "-wal").stat().st_size)
    store.close()
    assert bound < largest < 2 * bound
    assert known(opened(path), 4000) == 4000


def test_the_log_stays_bounded_while_a_thread_checkpoints_without_end(path: Path) -> None:
    bound = 1 << 18
    store = opened(path, wal_bytes=bound)
    stop = threading.Event()

    def checkpoint() -> None:
        while not stop.is_set():
            store.checkpoint()

    thread = threading.Thread(target=checkpoint)
    thread.start()
    largest = 0
    try:
        for number in range(1000):
            store.add_record(record(number), NOW)
            if number % 20 == 0:
                store.commit()
                largest = max(largest, beside(path, "-wal").stat().st_size)
    finally:
        stop.set()
        thread.join()
    assert largest < 4 * bound
    assert store.failures == 0
    store.close()
    assert known(opened(path), 1000) == 1000


def test_nothing_of_a_ticket_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(path)
    make_full(store)
    with caplog.at_level(logging.DEBUG, "dp2p"):
        for number in range(500):
            store.put_ticket(ticket(number), Direction.DIAL, NOW + DAY)
    assert store.failures
    text = " ".join(str(one.__dict__) for one in caplog.records)
    assert text
    for number in range(500):
        secret = ticket(number).secret
        assert secret.hex() not in text
        assert repr(secret)[2:20] not in text
    store.close()
