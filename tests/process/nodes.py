"""Real nodes (`dp2p up`) as processes, and what tests want to know of them.

Everything waits for a condition with a deadline. The wait between two looks ends early when the
node dies, which nobody here expects.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from dp2p import addresses, blocking, control, keys
from dp2p.cli import client
from dp2p.errors import RequestError
from dp2p.sdk.types import Event, Message, Notice, PeerAway, PeerDown
from process.fakes import Waiting, wait_for_end

PATIENCE_S = 20.0  # for what must come; a loaded machine may need some of it
LOOK_MS = 20  # between two looks at a condition
TURN_S = 0.02  # for one of several sessions that a thread calls in turn
MAIN = "from dp2p.cli import main; main()"
PAGE = resource.getpagesize()
FINE = ("unroutable", "blocked", "malformed")  # counters of loss: 0 as long as nobody misbehaves

T = TypeVar("T")
E = TypeVar("E", bound=Event)


class Node:
    """One node: its supervisor is our child, coordinator and shards are its."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        shards: int = 1,
        listen: tuple[str, ...] = ("tcp4://127.0.0.1:0",),
        descriptors: int | None = None,
    ) -> None:
        """``descriptors``: RLIMIT_NOFILE of all its processes."""
        self.directory = directory
        self.run_dir = directory / "run"
        self.shards = shards
        self.identity = keys.create(directory / "key")
        self.id = self.identity.node
        self.listening = listen
        "Endpoints, whatever it advertises; with their ports once it is ready."
        self._flags = flags
        self._descriptors = descriptors
        self._start()

    def _start(self) -> None:
        arguments = [sys.executable, "-c", MAIN, "--run-dir", str(self.run_dir), "up"]
        arguments += ["--key-file", str(self.directory / "key"), "--shards", str(self.shards)]
        arguments += ["--log-format", "json", "--log-level", "debug"]
        for endpoint in self.listening:
            arguments += ["--listen", endpoint]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*arguments, *self._flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=_limit(self._descriptors) if self._descriptors else None,  # noqa: PLW1509 - no locks in it
            )
        self._pidfd = os.pidfd_open(self.process.pid)
        self.addresses: list[str] = []

    def ready(self) -> Node:
        """Wait until it runs with all its shards."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) and not line.startswith("run dir"):
            if line.startswith("address"):
                self.addresses.append(line.split()[1])
        assert line, self.log()
        self.until((self.run_dir / "control.sock").exists, "a control socket")
        self.until(lambda: len(self.status()["shards"]) == self.shards, "all shards")
        self.listening = tuple(self.status()["listen"])
        return self

    @property
    def place(self) -> tuple[str, int]:
        """Host and port where it listens first."""
        found = addresses.parse_endpoint(self.listening[0])
        return found.host, found.port

    @property
    def address(self) -> str:
        """The first address, with the key."""
        return self.addresses[0]

    @property
    def bare(self) -> str:
        """The first address as an endpoint, without the key."""
        return f"tcp4://{self.address.partition('@')[2]}"

    def until(self, condition: Callable[[], T], what: str, seconds: float = PATIENCE_S) -> T:
        """Wait until ``condition`` is truthy, and return what it gave."""
        waiting = Waiting(seconds)
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        while not (found := condition()):
            assert waiting.left_ms(), f"waited in vain for {what}\n{self.log()[-4000:]}"
            assert not poller.poll(LOOK_MS), f"the node died\n{self.log()[-4000:]}"
        return found

    # --- control ---

    def request(self, message: control.AnyRequest, seconds: float = PATIENCE_S) -> Any:
        """One request; its ``ok``.  Raises: RequestError."""
        return client.request(self.run_dir, message, seconds)

    def status(self) -> dict[str, Any]:
        """The node's state."""
        return dict(self.request(control.Status(id=1)))

    def peers(self) -> list[dict[str, Any]]:
        """Its peers."""
        return list(self.request(control.Peers(id=1))["peers"])

    def dial(self, address: str, seconds: float = 10.0) -> dict[str, Any]:
        """Connect to an address.  Raises: RequestError."""
        request = control.Dial(id=1, address=address, timeout_s=seconds)
        return dict(self.request(request, seconds + 5.0))

    def disconnect(self, peer: str) -> None:
        """Close the connection to a peer.  Raises: RequestError."""
        self.request(control.Disconnect(id=1, peer=peer))

    def known(self, node: Node) -> dict[str, Any]:
        """What it remembers of another one.  Raises: RequestError."""
        return dict(self.request(control.Known(id=1, peer=f"dp2p://{node.identity.key}")))

    def connected(self, *peers: str) -> bool:
        """Whether exactly these peers are connected, openly."""
        found = self.peers()
        return {row["peer"] for row in found} == set(peers) and all(row["open"] for row in found)

    def refusal(self, address: str) -> RequestError:
        """Why a dial that must fail has failed."""
        try:
            found = self.dial(address)
        except RequestError as error:
            return error
        raise AssertionError(f"connected: {found}")

    def trusts(self) -> dict[str, str]:
        """The trust in each peer, by its key."""
        return {row["key"]: row["trust"] for row in self.peers()}

    def tickets(self, node: Node) -> tuple[int, int]:
        """How many it has to dial another one with, and to be dialled with."""
        found = self.known(node)["tickets"]
        return found["dial"], found["accept"]

    # --- processes ---

    def pid(self, name: str) -> int:
        """Process of ``coordinator`` or ``shard-0``."""
        (row,) = (row for row in self.status()["processes"] if row["name"] == name)
        return int(row["pid"])

    def kill(self, name: str) -> int:
        """SIGKILL to one of its processes, and wait until that is dead; its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid)
        return pid

    def resident(self) -> int:
        """Bytes of resident memory of all shards."""
        return sum(resident(row["pid"]) for row in self.status()["shards"])

    def lost(self) -> dict[str, int]:
        """The shards' counters of messages that had no way or would have been dropped."""
        rows = [row["stats"].get("data_socket", {}) for row in self.status()["shards"]]
        return {name: sum(row.get(name, 0) for row in rows) for name in FINE}

    def stat(self, name: str) -> int:
        """A counter of the engine, summed over shards; it is as old as the last heartbeat."""
        return sum(row["stats"].get(name, 0) for row in self.status()["shards"])

    # --- log, end and another life ---

    def log(self) -> str:
        """All that its processes wrote to stderr."""
        return (self.directory / "log").read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM to the supervisor; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end_at_once(self) -> None:
        """SIGKILL to the supervisor, with which all the others end."""
        pids = [row["pid"] for row in self.status()["processes"]]
        self.process.kill()
        self.process.wait()
        assert all(wait_for_end(pid) for pid in pids)

    def restart(self, *, forget: bool = False) -> Node:
        """Start it again with the same key, listening where it did, after it was stopped if it
        runs. ``forget``: with nothing left of its peer store.
        """
        self.close()
        for path in self.directory.glob("key.peers.db*") if forget else ():
            path.unlink()
        self._start()
        return self.ready()

    def close(self) -> None:
        """Stop it, however it is."""
        assert self.process.stdout is not None
        try:
            self.stop()
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            os.close(self._pidfd)

    def complain(self) -> None:
        """Fail when its processes met an error that nobody should make."""
        log = self.log()
        for mistake in ("Traceback", "message failed", "Assertion", "killed by SIGABRT"):
            assert mistake not in log, log[-8000:]


def _limit(descriptors: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def resident(pid: int) -> int:
    """Bytes of resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def running(*nodes: Node) -> Iterator[tuple[Node, ...]]:
    """Nodes that were started at the same time, until the end of the block."""
    try:
        for node in nodes:
            node.ready()
        yield nodes
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.process.terminate()
        for node in nodes:
            node.close()
    for node in nodes:
        node.complain()


@contextmanager
def fresh(directory: Path, *names: str, flags: tuple[str, ...] = ()) -> Iterator[tuple[Node, ...]]:
    """Nodes that have met nobody, until the end of the block. Each has a new directory. They must
    have stopped whenever they were told to.
    """
    for name in names:
        (directory / name).mkdir()
    with running(*(Node(directory / name, *flags) for name in names)) as nodes:
        yield nodes
    for node in nodes:
        assert "killing what did not stop" not in node.log(), node.log()[-4000:]


def seen(how: dict[str, Any]) -> tuple[str, bool, str]:
    """What an answer to a dial, or a row of ``peers``, says of the handshake and of the trust."""
    return how["mode"], how["fell_back"], how["trust"]


def part(a: Node, b: Node) -> None:
    """``a`` closes its connection to ``b``, and both have seen its end."""
    a.disconnect(b.id)
    for node, other in ((a, b), (b, a)):
        node.until(lambda n=node, o=other: o.id not in _ids(n.peers()), "the link's end")  # type: ignore[misc]


def _ids(peers: list[dict[str, Any]]) -> set[str]:
    return {row["peer"] for row in peers}


def connect(a: Node, b: Node) -> None:
    """``a`` dials ``b``, until each has one open link, to the other. A link that is just going may
    still be shown, so this looks again.
    """

    def joined() -> bool:
        if not a.connected(b.id):
            a.dial(b.address)
        return a.connected(b.id) and b.connected(a.id)

    a.until(joined, "a link")


class Notices:
    """What a node tells of lost trust."""

    def __init__(self, session: blocking.Node) -> None:
        session.subscribe()
        self._session = session
        self._events = session.events()

    def new(self) -> list[Notice]:
        """All since the last call: what was told by now comes before the answer to a request."""
        self._session.peers()
        events = list(self._events.unread)
        self._events.unread.clear()
        return [event for event in events if isinstance(event, Notice)]

    def kinds(self) -> list[str]:
        """The kinds of ``new``."""
        return [notice.kind for notice in self.new()]


@contextmanager
def notices(*nodes: Node) -> Iterator[tuple[Notices, ...]]:
    """Sessions that have subscribed, one with each node."""
    with ExitStack() as stack:
        yield tuple(Notices(stack.enter_context(app(node, "notices"))) for node in nodes)


@contextmanager
def app(node: Node, name: str = "app") -> Iterator[blocking.Node]:
    """A blocking SDK session."""
    with blocking.attach(node.run_dir, name=name, timeout=PATIENCE_S) as attached:
        yield attached


def meet(*ends: tuple[blocking.Protocol, Node]) -> None:
    """Wait until each protocol has its node as a peer. A blocking session does nothing, not even
    attach to its shards, while nobody calls it; so one thread calls them all in turn.
    """
    waiting = Waiting(PATIENCE_S)
    missing = list(ends)
    while missing:
        assert waiting.left_ms(), f"no peer for {[protocol.name for protocol, _ in missing]}"
        missing = [end for end in ends if not _has_peer(*end)]


def _has_peer(protocol: blocking.Protocol, node: Node) -> bool:
    try:
        return bool(protocol.wait_peer(node.id, timeout=TURN_S))
    except TimeoutError:
        return False


def exchange(
    sender: blocking.Protocol, receiver: blocking.Protocol, to: Node, what: bytes
) -> Message:
    """Send a datagram to the receiver's node, and return what the receiver gets. Both sessions are
    called in turn: one that does not hear that its flow has ended sends nothing again.
    """
    sender.send(to.id, what, timeout=PATIENCE_S)
    waiting = Waiting(PATIENCE_S)
    while waiting.left_ms():
        with suppress(TimeoutError):
            return receiver.recv(TURN_S)
        with suppress(TimeoutError):
            sender.drain(to.id, TURN_S)
    raise AssertionError(f"{sender.name}: nothing came")


@contextmanager
def talking(
    a: Node, b: Node, name: str, **options: Any
) -> Iterator[tuple[blocking.Protocol, blocking.Protocol]]:
    """One protocol, served by an application on each of two connected nodes, and up on both."""
    with app(a) as first, app(b) as second:
        ours, theirs = first.register(name, **options), second.register(name, **options)
        meet((ours, b), (theirs, a))
        yield ours, theirs


def gone(events: blocking.Events) -> PeerAway | PeerDown:
    """The peer goes: it is given up at once, or kept for while something is not confirmed."""
    waiting = Waiting(PATIENCE_S)
    while True:
        event = events.get(waiting.left_ms() / 1000)
        if isinstance(event, PeerAway | PeerDown):
            return event


def expect(events: blocking.Events, kind: type[E], seconds: float = PATIENCE_S) -> E:
    """The next event of ``kind``; others are passed over."""
    waiting = Waiting(seconds)
    while True:
        event = events.get(waiting.left_ms() / 1000)
        if isinstance(event, kind):
            return event
