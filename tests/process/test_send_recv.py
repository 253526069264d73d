"""``dp2p send`` and ``dp2p recv`` against a node that does what the test says."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dp2p import control
from dp2p.cli import run
from dp2p.cli.root import cli
from fake_node import FakeNode


@pytest.fixture
def fake() -> Iterator[FakeNode]:
    with FakeNode() as node:
        node.auto_credit = node.keep = True
        yield node


def dp2p(fake: FakeNode, *arguments: str) -> int:
    """Run a command; returns its exit code."""
    return run(cli, ["--run-dir", str(fake.run_dir), *arguments])


def sent(fake: FakeNode) -> list[tuple[int, bytes]]:
    """Types and payloads that reached the shard."""
    flow = fake.do(fake.flow)
    return list(zip(flow.types, flow.payloads, strict=True))


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """What the command reads."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_send_text(fake: FakeNode) -> None:
    assert dp2p(fake, "send", "chat", "anna", "--text", "grüß", "--type", "7") == 0
    assert sent(fake) == [(7, "grüß".encode())]
    spec = next(r.protocol for r in fake.requests if isinstance(r, control.Register))
    assert (spec.name, spec.versions, spec.priority) == ("chat", [1], "normal")


def test_send_standard_input(fake: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"one\r\n\ntwo\n")
    assert dp2p(fake, "send", "chat", "any") == 0
    stdin(monkeypatch, b"one\r\n\ntwo\n")
    assert dp2p(fake, "send", "chat", "any", "--lines") == 0
    flows = fake.do(lambda: list(fake.shards[0].flows.values()))
    assert [flow.payloads for flow in flows] == [[b"one\r\n\ntwo\n"], [b"one", b"", b"two"]]


def test_send_goes_on_over_another_connection(
    fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is lost when one line is confirmed and another is not; the third comes later."""

    def lines() -> Iterator[bytes]:
        yield b"one\n"
        while fake.do(lambda: fake.flow().sent) < 1:
            pass
        fake.auto_credit = False
        yield b"two\n"
        while fake.do(lambda: fake.flow().sent) < 2:
            pass
        fake.reconnect()
        fake.auto_credit = True
        yield b"three\n"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines()))
    assert dp2p(fake, "send", "chat", "any", "--lines") == 0
    assert sent(fake) == [(0, b"two"), (0, b"three")]


# arguments, what stderr says
FAILURES = [
    (["bob", "--text", "x"], "peer bob does not speak chat within 0.1 s; there is anna"),
    (["anna", "--text", "x", "--type", "100"], "bad_type"),
    (["anna", "--text", "x", "--file", __file__], "exclude each other"),
    (["anna", "--version", "70000", "--text", "x"], "range"),
]


@pytest.mark.parametrize(("arguments", "text"), FAILURES)
def test_send_says_what_is_wrong(
    fake: FakeNode, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert dp2p(fake, "send", "chat", *arguments, "--timeout", "0.1") != 0
    assert text in capsys.readouterr().err


def test_send_waits_until_it_is_consumed(
    fake: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.auto_credit = False
    assert dp2p(fake, "send", "chat", "anna", "--text", "x", "--timeout", "0.1") == 1
    assert "not consumed within 0.1 s (protocol chat, peer anna)" in capsys.readouterr().err


@pytest.fixture
def delivering(fake: FakeNode) -> Iterator[FakeNode]:
    """A peer that sends as soon as the protocol is on the air."""
    over = threading.Event()

    def deliver() -> None:
        while not over.is_set():
            if fake.do(lambda: bool(fake.shards[0].flows)):
                fake.deliver(b"one\n\x1b[2J", "grüß".encode(), b"\xff", type=3)
                return

    thread = threading.Thread(target=deliver)
    thread.start()
    yield fake
    over.set()
    thread.join()


# options, output
SHOWN = [
    ([], b"anna 3 one\\n\\x1b[2J\nanna 3 gr\xc3\xbc\xc3\x9f\nanna 3 \\xff\n"),
    (["--raw"], b"one\n\x1b[2Jgr\xc3\xbc\xc3\x9f\xff"),
    (["--from", "anna", "--raw"], b"one\n\x1b[2Jgr\xc3\xbc\xc3\x9f\xff"),
]


@pytest.mark.parametrize(("options", "output"), SHOWN)
def test_recv_shows_messages(
    delivering: FakeNode,
    capfdbinary: pytest.CaptureFixture[bytes],
    options: list[str],
    output: bytes,
) -> None:
    assert dp2p(delivering, "recv", "chat", "--count", "3", "--timeout", "10", *options) == 0
    assert capfdbinary.readouterr().out == output


def test_recv_json(delivering: FakeNode, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert dp2p(delivering, "recv", "chat", "--count", "3", "--json") == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert rows[2] == {"peer": "anna", "type": 3, "payload": base64.b64encode(b"\xff").decode()}


def test_recv_gives_up(delivering: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert dp2p(delivering, "recv", "chat", "--count", "4", "--timeout", "0.5") == 1
    assert "timeout: 3 datagrams within 0.5 s (protocol chat)" in capsys.readouterr().err
