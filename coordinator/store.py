"""What the node remembers of peers, in SQLite: see ``dp2p.coordinator.known`` for what it promises.

One connection, in the thread of who made the store, but for ``checkpoint``. Nothing waits for a
disk: writes are gathered until ``commit``, which the node calls every 50 ms or so while ``dirty``;
``dp2p.coordinator.store_file`` has the exceptions. Bounds, and who leaves first, are in
``dp2p.coordinator.store_bounds``.

Whatever fails below, a method returns: what it was to write is lost, and what it was to read is as
if unknown. Wrong lengths of keys and tickets are the caller's error (ValueError).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dp2p import ids
from dp2p.coordinator import store_nearest
from dp2p.coordinator.known import Ban, Claim, Direction, Evidence, KnownPeer, Ticket
from dp2p.coordinator.store_bans import Anchors, Bans, check_subject
from dp2p.coordinator.store_bounds import Limits
from dp2p.coordinator.store_file import Database
from dp2p.coordinator.store_peers import Peers, read_record
from dp2p.coordinator.store_tickets import Tickets, check_ticket
from dp2p.node_record import NodeRecord


class PeerStore:
    """The store; implements ``dp2p.coordinator.known.Store``."""

    def __init__(self, path: Path | None, *, max_peers: int, limits: Limits | None = None) -> None:
        """Open the store in ``path``, or make one; None is one in memory, for tests.

        A damaged file is set aside as NAME.corrupt-N, and a new one made.
        Raises: StoreError when the file cannot be used for another reason: it is of a newer
        version, belongs to somebody else, cannot be read or made.
        """
        if max_peers < 1:
            raise ValueError("a store is for one peer at least")
        limits = limits or Limits()
        self._limits = limits
        self._db = Database(path, limits)
        self._peers = Peers(self._db, max_peers, limits)
        self._tickets = Tickets(self._db, limits)
        self._db.begun = self._tickets.begun
        self._db.committed = self._tickets.committed
        self._bans = Bans(self._db, limits)
        self._anchors = Anchors(self._db, limits)
        self._sequence = 0

    # --- batches ---

    @property
    def dirty(self) -> bool:
        """Something was written since the last commit."""
        return self._db.dirty

    @property
    def failures(self) -> int:
        """Batches and queries that were given up because SQLite refused."""
        return self._db.failures

    @property
    def checkpoint_due(self) -> bool:
        """Something was committed since the last checkpoint."""
        return self._db.checkpoint_due

    def commit(self) -> None:
        """Keep what was written. A kill loses nothing of it any more."""
        self._db.commit()

    def checkpoint(self) -> None:
        """Empty the write-ahead log. For any thread; every few seconds while ``checkpoint_due``."""
        self._db.checkpoint()

    def close(self) -> None:
        """Commit, checkpoint and let go of the file."""
        self._db.close()

    # --- what is known ---

    def peer(self, key: bytes) -> KnownPeer | None:
        """All about one peer."""
        with self._db.guard:
            return self._read_peer(key)
        return None

    def _read_peer(self, key: bytes) -> KnownPeer | None:
        row = self._db.row(
            "SELECT id, seq, said, signed, first_seen, last_seen,"
            " (SELECT COUNT(*) FROM tickets WHERE peer = peers.id AND direction = 'dial'),"
            " (SELECT COUNT(*) FROM tickets WHERE peer = peers.id AND direction = 'accept')"
            " FROM peers WHERE key = ?",
            key,
        )
        if row is None:
            return None
        peer, seq, said, signed, first_seen, last_seen, dial, accept = row
        return KnownPeer(
            key=key,
            record=read_record(key, seq, said, signed),
            first_seen=first_seen,
            last_seen=last_seen,
            endpoints=self._peers.endpoints(peer),
            introductions=self._peers.introductions(peer),
            dial_tickets=dial,
            accept_tickets=accept,
        )

    def key_of(self, node_id: bytes) -> bytes | None:
        """The key of a node-ID that is known."""
        with self._db.guard:
            row = self._db.row(
                "SELECT key FROM peers WHERE recorded IN (0, 1) AND node = ?", node_id
            )
            return row[0] if row else None
        return None

    def at_endpoint(self, endpoint: str) -> list[Claim]:
        """Who is thought to be at an endpoint, best evidence and newest first; at most 8."""
        with self._db.guard:
            rows = self._db.rows(
                "SELECT p.key, e.last_success, e.recorded FROM endpoints e"
                " JOIN peers p ON p.id = e.peer WHERE e.endpoint = ?"
                " ORDER BY e.last_success DESC, e.recorded DESC LIMIT ?",
                endpoint,
                self._limits.claims,
            )
            return [
                Claim(key, Evidence.RECORD, recorded)
                if dialled is None
                else Claim(key, Evidence.DIALLED, dialled)
                for key, dialled, recorded in rows
            ]
        return []

    def by_protocol(self, name: str, limit: int) -> list[NodeRecord]:
        """Records of peers that speak a protocol, most valuable first."""
        with self._db.guard:
            rows = self._db.rows(
                "SELECT p.key, p.seq, p.said, p.signed FROM protocols o"
                " JOIN peers p ON p.id = o.peer WHERE o.name = ? ORDER BY o.worth DESC LIMIT ?",
                name,
                limit,
            )
            return _records(rows)
        return []

    def nearest(self, node_id: bytes, limit: int, protocol: str | None = None) -> list[NodeRecord]:
        """Records of the peers closest to a node-ID (XOR), closest first."""
        with self._db.guard:
            (count,) = self._db.row("SELECT n FROM counts WHERE name = 'records'")
            depth = store_nearest.guess_depth(count, limit)

            def members(low: bytes, high: bytes, most: int) -> list[bytes]:
                return self._nodes_between(low, high, most, protocol)

            nodes = store_nearest.nearest(node_id, limit, depth, members)
            statement = "SELECT key, seq, said, signed FROM peers WHERE recorded = 1 AND node = ?"
            return _records([row for node in nodes for row in self._db.rows(statement, node)])
        return []

    def _nodes_between(
        self, low: bytes, high: bytes, most: int, protocol: str | None
    ) -> list[bytes]:
        if protocol is None:
            rows = self._db.rows(
                "SELECT node FROM peers WHERE recorded = 1 AND node BETWEEN ? AND ? LIMIT ?",
                low,
                high,
                most,
            )
        else:
            rows = self._db.rows(
                "SELECT node FROM protocols WHERE name = ? AND node BETWEEN ? AND ? LIMIT ?",
                protocol,
                low,
                high,
                most,
            )
        return [node for (node,) in rows]

    # --- what happens ---

    def connected(self, key: bytes, endpoint: str | None, now: float) -> None:
        """A link to the peer is up; ``endpoint`` is where it was dialled, None for an inbound.

        Said again for a link that lasts, once a day or so, it keeps the peer's value.
        """
        _check_keys(key)
        with self._db.guard:
            self._db.begin(now)
            peer = self._peers.ensure(key, now)
            self._peers.visited(peer, now)
            if endpoint is not None:
                self._peers.answered(peer, endpoint, now)
            self._peers.value(peer)

    def dial_failed(self, endpoint: str, now: float) -> None:
        """Nobody that was asked for answered there: counts against all who are said to be there
        (the 32 best claims: anybody can say so).
        """
        with self._db.guard:
            self._db.begin(now)
            self._peers.failed(endpoint, now)

    def add_record(self, record: NodeRecord, now: float) -> bool:
        """Keep a verified record; False when one with this or a newer sequence number is there."""
        _check_keys(record.key)
        with self._db.guard:
            self._db.begin(now)
            return self._peers.put_record(record, now)
        return False

    def introduced(
        self, key: bytes, introducer: bytes, network: str, now: float, seq: int | None = None
    ) -> None:
        """A connected peer has handed over the record of another.

        One that was doubted stays wrong until the same introducer hands over a newer record.
        """
        _check_keys(key, introducer)
        with self._db.guard:
            self._db.begin(now)
            peer = self._peers.ensure(key, now)
            self._peers.introduced(peer, introducer, network, now, seq)
            self._peers.value(peer)

    def doubt(self, key: bytes, endpoint: str, now: float) -> None:
        """Another key answered where ``key`` was thought to be: its introductions are wrong, and
        it is no longer thought to be at ``endpoint``.
        """
        with self._db.guard:
            self._db.begin(now)
            peer = self._peers.find(key)
            if peer is not None:
                self._peers.doubt(peer)
                self._peers.leave(peer, endpoint)
                self._peers.value(peer)

    # --- tickets ---

    def put_ticket(self, ticket: Ticket, direction: Direction, expires: float) -> None:
        """Keep a ticket. The newest few of a peer and direction stay."""
        _check_keys(ticket.key)
        check_ticket(ticket)
        with self._db.guard:
            self._db.begin()
            peer = self._peers.ensure(ticket.key, self._db.now)
            self._tickets.put(peer, ticket, direction, expires)

    def take_dial_ticket(self, key: bytes, now: float) -> Ticket | None:
        """The newest ticket for a dial to the peer, once: it is forgotten."""
        with self._db.guard:
            self._db.begin(now)
            return self._tickets.take_dial(key, now)
        return None

    def take_accept_ticket(self, name: bytes, now: float) -> Ticket | None:
        """The ticket that an inbound handshake names, once: it is forgotten."""
        with self._db.guard:
            self._db.begin(now)
            return self._tickets.take_accept(name, now)
        return None

    def drop_tickets(self, key: bytes) -> None:
        """Forget all tickets of a peer."""
        with self._db.guard:
            self._db.begin()
            self._tickets.drop(key)

    # --- bans and anchors ---

    def ban(self, subject: bytes | str, until: float | None, reason: str, now: float) -> None:
        """Have nothing to do with a key or an IP network until then, or for good."""
        check_subject(subject)
        with self._db.guard:
            self._db.begin(now)
            self._bans.put(subject, until, reason, now)

    def unban(self, subject: bytes | str) -> bool:
        """End a ban early; False when there was none."""
        check_subject(subject)
        with self._db.guard:
            self._db.begin()
            return self._bans.remove(subject)
        return False

    def banned(self, key: bytes | None, network: str | None, now: float) -> str | None:
        """Why one may have nothing to do with a key, or with an address or network."""
        with self._db.guard:
            reason = self._bans.of_key(key, now) if key is not None else None
            if reason is None and network is not None:
                reason = self._bans.of_network(network, now)
            return reason
        return None

    def bans(self, now: float) -> list[Ban]:
        """All bans that hold, the latest first."""
        with self._db.guard:
            return self._bans.all(now)
        return []

    def set_anchors(self, keys: Iterable[bytes]) -> None:
        """Remember which peers to go to first after a restart, best first; at most 64."""
        keys = list(keys)
        _check_keys(*keys)
        with self._db.guard:
            self._db.begin()
            self._anchors.set(keys)

    def anchors(self) -> list[bytes]:
        """Keys, as they were set."""
        with self._db.guard:
            return self._anchors.all()
        return []

    # --- upkeep ---

    def next_sequence(self, now: float) -> int:
        """A sequence number for this node's own record, higher than all before.

        Milliseconds since the epoch, so that even a new store goes on above an older one's.
        """
        self._sequence = max(self._sequence + 1, int(now * 1000))
        with self._db.guard:
            self._db.begin(now)
            row = self._db.row("SELECT value FROM meta WHERE name = 'sequence'")
            self._sequence = max(self._sequence, row[0] + 1 if row else 1)
            self._db.execute("REPLACE INTO meta VALUES ('sequence', ?)", self._sequence)
        return self._sequence

    def expire(self, now: float) -> int:
        """Forget tickets and bans whose time is over, at most 256 of each at a call; how many."""
        with self._db.guard:
            self._db.begin(now)
            return self._tickets.expire(now) + self._bans.expire(now)
        return 0

    def counts(self) -> dict[str, int]:
        """How many of each there are; failures, and damaged files set aside, since the start."""
        counts = {"failures": self._db.failures, "replaced": self._db.replaced}
        with self._db.guard:
            counts |= dict(self._db.rows("SELECT name, n FROM counts ORDER BY name"))
            counts["anchors"] = self._db.row("SELECT COUNT(*) FROM anchors")[0]
        return counts


def _records(rows: list[tuple[bytes, int, bytes | None, bytes | None]]) -> list[NodeRecord]:
    found = (read_record(*row) for row in rows)
    return [record for record in found if record]


def _check_keys(*keys: bytes) -> None:
    for key in keys:
        if len(key) != ids.KEY_BYTES:
            raise ValueError(f"a key has {ids.KEY_BYTES} bytes, not {len(key)}")
