"""Rows of the peer store: peers, their records, endpoints and introductions.

Everything here runs within the database's guard, and what writes within a batch. ``peer`` is a
row's number.
"""

from __future__ import annotations

import msgspec

from dp2p import ids
from dp2p.coordinator import store_bounds
from dp2p.coordinator.known import Introduction, KnownEndpoint
from dp2p.coordinator.store_bounds import Limits
from dp2p.coordinator.store_file import Database
from dp2p.node_record import NodeRecord

LEAVING_MAX = 256
"Peers that one call makes leave; ours."

Said = tuple[tuple[str, ...], tuple[str, ...], bool]
"Endpoints, protocols and ``more`` of a record, so that they are read once."

_said = msgspec.msgpack.Decoder(Said)


class Peers:
    """The table of peers and those that hang on it."""

    def __init__(self, database: Database, max_peers: int, limits: Limits) -> None:
        self._db = database
        self._max_peers = max_peers
        self._limits = limits
        # At most a sixteenth leaves at once: a small store would else lose what it just learnt.
        self._batch = max(1, min(limits.batch, max_peers // 16))

    # --- peers ---

    def find(self, key: bytes) -> int | None:
        """The row of a peer."""
        found = self._db.row("SELECT id FROM peers WHERE key = ?", key)
        return found[0] if found else None

    def ensure(self, key: bytes, now: float) -> int:
        """The row of a peer, made when there is none; then others may leave to make room."""
        found = self.find(key)
        return self._insert(key, now, None) if found is None else found

    def _insert(self, key: bytes, now: float, record: NodeRecord | None) -> int:
        self._make_room()
        worth = store_bounds.worth(seen=now, connected=None, visits=0, introducers=0, failures=0)
        made = self._db.execute(
            "INSERT INTO peers (key, node, seq, said, signed, first_seen, last_seen, worth)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            key,
            ids.node_id(key),
            record.seq if record else 0,
            _write_said(record) if record else None,
            record.signed if record else None,
            now,
            now,
            worth,
        ).lastrowid
        assert made is not None
        return made

    def visited(self, peer: int, now: float) -> None:
        """It was connected."""
        last, visits = self._db.row("SELECT connected, visits FROM peers WHERE id = ?", peer)
        self._db.execute(
            "UPDATE peers SET last_seen = ?, connected = ?, visits = ? WHERE id = ?",
            now,
            now,
            store_bounds.visits_after(visits, last, now),
            peer,
        )

    def value(self, peer: int) -> None:
        """Work out anew what a peer is worth; last in each batch of changes to one."""
        seen, connected, visits, old, introducers, failures = self._db.row(
            "SELECT last_seen, connected, visits, worth,"
            " (SELECT COUNT(DISTINCT network) FROM introductions WHERE peer = id AND NOT wrong),"
            " (SELECT MIN(failures) FROM endpoints WHERE peer = id)"
            " FROM peers WHERE id = ?",
            peer,
        )
        new = store_bounds.worth(
            seen=seen,
            connected=connected,
            visits=visits,
            introducers=introducers,
            failures=failures or 0,
        )
        if new != old:
            self._db.execute("UPDATE peers SET worth = ? WHERE id = ?", new, peer)
            self._db.execute("UPDATE protocols SET worth = ? WHERE peer = ?", new, peer)

    def _make_room(self) -> None:
        (count,) = self._db.row("SELECT n FROM counts WHERE name = 'peers'")
        if count < self._max_peers:
            return
        # More than a batch only after the bound was lowered; then little by little.
        most = min(count - self._max_peers + self._batch, LEAVING_MAX)
        leaving = self._db.rows(
            "SELECT id FROM peers WHERE key NOT IN (SELECT key FROM anchors)"
            " ORDER BY worth LIMIT ?",
            most,
        ) or self._db.rows("SELECT id FROM peers ORDER BY worth LIMIT 1")
        for (peer,) in leaving:
            self._db.execute("DELETE FROM peers WHERE id = ?", peer)

    # --- records ---

    def put_record(self, record: NodeRecord, now: float) -> bool:
        """Keep a newer record; one that is there already counts as seen again, once an hour."""
        found = self._db.row("SELECT id, seq, last_seen FROM peers WHERE key = ?", record.key)
        if found is None:
            peer = self._insert(record.key, now, record)
            self._list_protocols(peer, record)
            self._list_endpoints(peer, record, now)  # as many as may be there
            return True
        peer, seq, seen = found
        if record.seq > seq:
            self._replace_record(peer, record, now)
        elif record.seq == seq and now - seen >= store_bounds.HOUR_S:
            self._db.execute("UPDATE peers SET last_seen = ? WHERE id = ?", now, peer)
        else:
            return False
        self.value(peer)
        return bool(record.seq > seq)

    def _replace_record(self, peer: int, record: NodeRecord, now: float) -> None:
        self._db.execute(
            "UPDATE peers SET seq = ?, said = ?, signed = ?, last_seen = ? WHERE id = ?",
            record.seq,
            _write_said(record),
            record.signed,
            now,
            peer,
        )
        self._db.execute("DELETE FROM protocols WHERE peer = ?", peer)
        self._list_protocols(peer, record)
        listed = self._db.rows(
            "SELECT endpoint FROM endpoints WHERE peer = ? AND recorded IS NOT NULL", peer
        )
        for (endpoint,) in listed:
            if endpoint not in record.dialable:  # withdrawn by its owner
                self.leave(peer, endpoint)
        self._list_endpoints(peer, record, now)
        self._trim_endpoints(peer)

    def _list_protocols(self, peer: int, record: NodeRecord) -> None:
        for name in record.protocols:
            self._db.execute(
                "INSERT INTO protocols (peer, name, node, worth)"
                " SELECT id, ?, node, worth FROM peers WHERE id = ?",
                name,
                peer,
            )

    # --- endpoints ---

    def _list_endpoints(self, peer: int, record: NodeRecord, now: float) -> None:
        for endpoint in record.dialable[: self._limits.endpoints]:
            self._db.execute(
                "INSERT INTO endpoints (peer, endpoint, recorded) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET recorded = excluded.recorded",
                peer,
                endpoint,
                now,
            )

    def answered(self, peer: int, endpoint: str, now: float) -> None:
        """It was dialled there and answered."""
        self._db.execute(
            "INSERT INTO endpoints (peer, endpoint, last_success) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last_success = excluded.last_success, failures = 0",
            peer,
            endpoint,
            now,
        )
        self._trim_endpoints(peer)

    def leave(self, peer: int, endpoint: str) -> None:
        """It is no longer thought to be there."""
        self._db.execute("DELETE FROM endpoints WHERE peer = ? AND endpoint = ?", peer, endpoint)

    def failed(self, endpoint: str, now: float) -> None:
        """A dial failed: counts against those with the best claims to be there."""
        claimants = self._db.rows(
            "SELECT peer FROM endpoints WHERE endpoint = ?"
            " ORDER BY last_success DESC, recorded DESC LIMIT ?",
            endpoint,
            self._limits.failing,
        )
        for (peer,) in claimants:
            self._db.execute(
                "UPDATE endpoints SET last_failure = ?, failures = failures + 1"
                " WHERE peer = ? AND endpoint = ?",
                now,
                peer,
                endpoint,
            )
            self.value(peer)

    def endpoints(self, peer: int) -> tuple[KnownEndpoint, ...]:
        """Those that worked last come first."""
        rows = self._db.rows(
            "SELECT endpoint, last_success, last_failure, failures FROM endpoints WHERE peer = ?"
            " ORDER BY last_success DESC, failures, recorded DESC, endpoint",
            peer,
        )
        return tuple(KnownEndpoint(*row) for row in rows)

    def _trim_endpoints(self, peer: int) -> None:
        """Over the bound, that which failed most leaves, then that which was heard of first."""
        rows = self._db.rows(
            "SELECT endpoint FROM endpoints WHERE peer = ?"
            " ORDER BY failures, MAX(IFNULL(last_success, 0), IFNULL(recorded, 0)) DESC, endpoint"
            " LIMIT -1 OFFSET ?",
            peer,
            self._limits.endpoints,
        )
        for (endpoint,) in rows:
            self.leave(peer, endpoint)

    # --- introductions ---

    def introduced(
        self, peer: int, introducer: bytes, network: str, now: float, seq: int | None
    ) -> None:
        """What was wrong stays so until the same introducer hands over a newer record."""
        self._db.execute(
            "INSERT INTO introductions (peer, introducer, network, at, seq)"
            " VALUES (?1, ?2, ?3, ?4, COALESCE(?5, (SELECT seq FROM peers WHERE id = ?1)))"
            " ON CONFLICT DO UPDATE SET network = excluded.network, at = excluded.at,"
            " wrong = wrong AND excluded.seq <= seq, seq = MAX(seq, excluded.seq)",
            peer,
            introducer,
            network,
            now,
            seq,
        )
        self._trim_introductions(peer)

    def doubt(self, peer: int) -> None:
        """All its introductions are wrong, as far as they are of the record that is known."""
        self._db.execute(
            "UPDATE introductions SET wrong = 1, seq = (SELECT seq FROM peers WHERE id = ?1)"
            " WHERE peer = ?1",
            peer,
        )

    def introductions(self, peer: int) -> tuple[Introduction, ...]:
        """The latest first."""
        rows = self._db.rows(
            "SELECT introducer, network, at, wrong FROM introductions WHERE peer = ?"
            " ORDER BY at DESC, introducer",
            peer,
        )
        return tuple(
            Introduction(introducer, network, at, bool(wrong))
            for introducer, network, at, wrong in rows
        )

    def _trim_introductions(self, peer: int) -> None:
        """Over the bound, those leave first whose network says the same through another, then what
        is wrong, then the oldest: a flood from one network pushes out itself.
        """
        rows = self._db.rows(
            "SELECT introducer FROM (SELECT introducer, at, wrong,"
            " ROW_NUMBER() OVER (PARTITION BY network, wrong ORDER BY at DESC) AS nth"
            " FROM introductions WHERE peer = ?)"
            " ORDER BY nth > 1, wrong, at DESC LIMIT -1 OFFSET ?",
            peer,
            self._limits.introductions,
        )
        for (introducer,) in rows:
            self._db.execute(
                "DELETE FROM introductions WHERE peer = ? AND introducer = ?", peer, introducer
            )


def _write_said(record: NodeRecord) -> bytes:
    said: Said = (record.endpoints, record.protocols, record.more)
    return msgspec.msgpack.encode(said)


def read_record(
    key: bytes, seq: int, said: bytes | None, signed: bytes | None
) -> NodeRecord | None:
    """The record of a row; it was verified before it came here. None where there is none, or where
    the disk has changed it.
    """
    if said is None or signed is None:
        return None
    try:
        endpoints, protocols, more = _said.decode(said)
    except msgspec.MsgspecError:
        return None
    return NodeRecord(
        key=key, seq=seq, endpoints=endpoints, protocols=protocols, more=more, signed=signed
    )
