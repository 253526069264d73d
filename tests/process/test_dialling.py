"""How a node dials: several places in turn, growing pauses, and only so many at a time."""

from __future__ import annotations

import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from dp2p import ids, noise
from dp2p.errors import RequestError
from process.fakes import FakeApp
from process.nodes import PATIENCE_S, Node, app, connect, part, running

DEADLINE_S = 1.5
IMPATIENT = ("--set", f"limits.handshake_deadline_s={DEADLINE_S}")
DIALS = 100
OF_NETWORK, IN_ALL = 32, 64  # dials under way: to one network of this machine, and wherever to
LOOK_S = 0.02


def free_port(host: str) -> int:
    """One that nobody listens on."""
    with socket.create_server((host, 0)) as found:
        return int(found.getsockname()[1])


def stranger() -> str:
    """A public key of nobody, as in addresses."""
    return ids.to_text(noise.identity_public(secrets.token_bytes(32)))


class Listener:
    """Takes connections, in a thread of its own, and counts them."""

    def __init__(self, host: str, *, answers: bool) -> None:
        """``answers``: by hanging up at once, else never."""
        self.times: list[float] = []
        "When each connection came (s, monotonic)."
        self.most = 0
        "Connections that were there at once."
        self._answers = answers
        self._server = socket.create_server((host, 0), backlog=2 * DIALS)
        self.port = int(self._server.getsockname()[1])
        self._server.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on all."""
        self._over.set()
        self._thread.join(PATIENCE_S)
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]

    # --- below: in its thread ---

    def _run(self) -> None:
        while not self._over.is_set():
            self._hear(LOOK_S)
            while self._accept():
                pass

    def _hear(self, timeout: float) -> None:
        """Whoever has gone no longer counts."""
        for key, _ in self._selector.select(timeout):
            one: Any = key.fileobj
            if one is not self._server and not _more(one):
                self._selector.unregister(one)
                one.close()

    def _accept(self) -> bool:
        try:
            connection, _ = self._server.accept()
        except BlockingIOError:
            return False
        self.times.append(time.monotonic())
        if self._answers:
            connection.close()
            return True
        connection.setblocking(False)
        self._hear(0)  # what ended before this one began
        self._selector.register(connection, selectors.EVENT_READ)
        self.most = max(self.most, len(self._selector.get_map()) - 1)
        return True


def _more(source: socket.socket) -> bool:
    """Whether it is still there; what it says is nobody's business."""
    try:
        return bool(source.recv(65536))
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def listening(host: str, *, answers: bool) -> Iterator[Listener]:
    """A listener, until the end of the block."""
    with closing(Listener(host, answers=answers)) as made:
        yield made


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """One that dials, and one that knows others."""
    dialler = Node(tmp_path_factory.mktemp("dialler"), *IMPATIENT)
    introducer = Node(tmp_path_factory.mktemp("introducer"))
    with running(dialler, introducer):
        connect(dialler, introducer)
        yield dialler, introducer


# --- several places ---


@pytest.fixture(params=["refuses", "says nothing"])
def dead(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where no node answers."""
    if request.param == "refuses":
        yield free_port("127.0.0.1")
        return
    with listening("127.0.0.1", answers=False) as listener:
        yield listener.port


def test_the_second_place_of_an_introduced_peer(
    couple: tuple[Node, Node], dead: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two endpoints stand in its record, and nobody is at the first. That counts against the place,
    and not against who is at the other.
    """
    dialler, introducer = couple
    gone, there = f"tcp4://127.0.0.1:{dead}", f"tcp4://127.0.0.2:{free_port('127.0.0.2')}"
    advertised = ("--set", f"listen.advertise={gone},{there}")
    peer = Node(tmp_path_factory.mktemp("peer"), *advertised, listen=(there,))
    with running(peer), app(dialler) as session:
        introducer.dial(f"dp2p://{peer.identity.key}@{there.removeprefix('tcp4://')}")
        dialler.until(
            lambda: peer.id in [one.node for one in session.find(near=peer.id)], "an introduction"
        )
        found = session.dial(f"dp2p://{peer.identity.key}")
        assert (found.peer, found.endpoint, found.mode) == (peer.id, there, "ik")
        assert (found.trust, found.introducers) == ("introduced", 1)
        places = {one["endpoint"]: one for one in session.known(peer.id)["endpoints"]}
        assert set(places) == {gone, there}
        assert (places[gone]["failures"], places[gone]["last_success"]) == (1, None)
        assert places[gone]["last_failure"] is not None
        assert (places[there]["failures"], places[there]["last_failure"]) == (0, None)
        assert places[there]["last_success"] is not None
        part(dialler, peer)
        assert session.dial(peer.id).trust == "resumed"  # where it was, and not where nobody was
        places = {one["endpoint"]: one for one in session.known(peer.id)["endpoints"]}
        assert places[gone]["failures"] == 1
        part(dialler, peer)


def test_all_places_are_dead(
    couple: tuple[Node, Node], tmp_path_factory: pytest.TempPathFactory
) -> None:
    dialler, _ = couple
    with pytest.raises(RequestError) as refused:
        dialler.dial(f"dp2p://{stranger()}@127.0.0.1:{free_port('127.0.0.1')}")
    assert refused.value.code == "dial_failed"
    with pytest.raises(RequestError) as refused:
        dialler.dial(f"dp2p://{stranger()}")
    assert refused.value.code == "dial_failed"
    assert "no place" in refused.value.message


# --- pauses ---


def test_pauses_grow_but_nobody_waits_for_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A peer that is to be kept connected hangs up each time. The first two pauses are 0.5 and 1 s,
    half of that when jitter has its way; a slow machine only makes them longer.
    """
    with listening("127.0.0.1", answers=True) as listener:
        address = f"dp2p://{stranger()}@127.0.0.1:{listener.port}"
        node = Node(tmp_path_factory.mktemp("static"), "--peer", address)
        with running(node):
            node.until(lambda: len(listener.times) >= 3, "three attempts")
            assert listener.times[2] - listener.times[0] > 0.5
            before = len(listener.times)
            with pytest.raises(RequestError) as refused:
                node.dial(address)
            assert refused.value.code == "dial_failed"
            assert len(listener.times) > before


# --- caps ---


@pytest.mark.parametrize(("networks", "cap"), [(1, OF_NETWORK), (DIALS, IN_ALL)])
def test_dials_under_way_have_caps(couple: tuple[Node, Node], networks: int, cap: int) -> None:
    """Everybody who is dialled takes the connection and says nothing. All get their turn, and who
    is elsewhere does not wait for them where there is room.
    """
    dialler, introducer = couple
    with ExitStack() as stack:
        listener = stack.enter_context(listening("0.0.0.0", answers=False))
        client = stack.enter_context(closing(FakeApp(dialler.run_dir)))
        dialler.disconnect(introducer.id)
        dialler.until(dialler.connected, "the link's end")
        numbers = [
            client.ask(
                "dial",
                address=f"dp2p://{stranger()}@127.1.{number % networks}.1:{listener.port}",
                timeout_s=60,
            )
            for number in range(DIALS)
        ]
        assert dialler.dial(introducer.address)["peer"] == introducer.id
        if networks == 1:
            assert len(listener.times) < DIALS
        errors = [client.reply(number).error for number in numbers]
        assert {error.code for error in errors if error} == {"timeout"}
        assert None not in errors
        assert (len(listener.times), listener.most) == (DIALS, cap)
    connect(dialler, introducer)
