"""The supervisor: starts again what dies, ends what it started and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from dp2p import keys, places
from dp2p.supervisor import BACKOFF_FIRST_S, BACKOFF_MAX_S, STEADY_S, next_backoff
from process.fakes import PATIENCE_S, FakeApp, Waiting, wait_for_end

# --- backoff ---


def test_pauses_grow_to_a_cap_while_a_process_dies_young() -> None:
    pauses, backoff = [], BACKOFF_FIRST_S
    for _ in range(10):
        pause, backoff = next_backoff(backoff, lived=0.0)
        pauses.append(pause)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == BACKOFF_MAX_S


def test_a_process_that_was_steady_is_started_at_once() -> None:
    assert next_backoff(BACKOFF_MAX_S, STEADY_S) == (BACKOFF_FIRST_S, 2 * BACKOFF_FIRST_S)


# --- with stub children ---


class Supervised:
    """A supervisor over stub children that say when they live."""

    def __init__(self, directory: Path, grace_s: float, *names: str) -> None:
        self.run_dir = directory
        self._births: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        endpoint = f"ipc://{directory}/births"
        self._births.bind(endpoint)
        program = str(Path(__file__).with_name("stub_supervisor.py"))
        self.process = subprocess.Popen(
            [sys.executable, program, endpoint, str(directory), str(grace_s), *names]
        )
        self.pids: dict[str, int] = {}
        for _ in names:
            self.birth()

    def birth(self) -> tuple[str, int]:
        assert self._births.poll(Waiting(PATIENCE_S).left_ms()), "no process was started"
        name, pid = self._births.recv_string().split()
        self.pids[name] = int(pid)
        return name, int(pid)

    def close(self) -> None:
        self._births.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path, 5.0, "one", "two")
    yield made
    made.close()


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(
    supervised: Supervised,
) -> None:
    before = dict(supervised.pids)
    (supervised.run_dir / "one-1.sock").touch()
    (supervised.run_dir / "two-1.sock").touch()
    os.kill(before["one"], signal.SIGKILL)
    name, pid = supervised.birth()
    assert name == "one"
    assert pid != before["one"]
    rows = msgspec.json.decode((supervised.run_dir / places.PROCESSES_FILE).read_bytes())
    assert [(row["name"], row["starts"], row["last_exit"]) for row in rows] == [
        ("one", 2, "killed by SIGKILL"),
        ("two", 1, None),
    ]
    assert rows[1]["pid"] == before["two"]
    assert not (supervised.run_dir / "one-1.sock").exists()
    assert (supervised.run_dir / "two-1.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything(supervised: Supervised, number: int) -> None:
    supervised.process.send_signal(number)
    assert supervised.process.wait(PATIENCE_S) == 0
    assert all(wait_for_end(pid) for pid in supervised.pids.values())
    assert not (supervised.run_dir / places.PROCESSES_FILE).exists()


def test_its_death_is_the_death_of_its_children(supervised: Supervised) -> None:
    supervised.process.kill()
    assert all(wait_for_end(pid) for pid in supervised.pids.values())


def test_what_does_not_heed_is_killed_after_the_grace(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, 0.2, "stubborn")
    supervised.process.terminate()
    assert supervised.process.wait(PATIENCE_S) == 0
    assert wait_for_end(supervised.pids["stubborn"])
    supervised.close()


def test_a_stranger_with_the_same_program_is_left_alone(supervised: Supervised) -> None:
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"], stdin=subprocess.DEVNULL
    )
    try:
        supervised.process.terminate()
        supervised.process.wait(PATIENCE_S)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# --- `dp2p up` ---


@pytest.fixture
def home(tmp_path: Path) -> Path:
    keys.create(tmp_path / "key")
    return tmp_path


def arguments(home: Path, *more: str) -> list[str]:
    main = "from dp2p.cli import main; main()"
    key = ["--key-file", str(home / "key"), "--shards", "1"]
    return [sys.executable, "-c", main, "--run-dir", str(home / "run"), "up", *key, *more]


def refusal(home: Path, *more: str) -> str:
    """What `up` says when it does not start: one line."""
    done = subprocess.run(
        arguments(home, *more), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("dp2p: ")
    assert not (home / "run" / "node.json").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_port_in_use(home: Path, family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        endpoint = (
            f"tcp4://{host}:{port}" if family == socket.AF_INET else f"tcp6://[{host}]:{port}"
        )
        text = refusal(home, "--listen", endpoint)
    assert "listen.addresses" in text
    assert endpoint in text
    assert "in use" in text


def test_an_address_of_another_machine(home: Path) -> None:
    text = refusal(home, "--listen", "tcp4://192.0.2.1:4617")
    assert "tcp4://192.0.2.1:4617: this machine has no such address" in text


def test_a_key_file_that_others_can_read(home: Path) -> None:
    (home / "key").chmod(0o644)
    assert f"chmod 600 {home / 'key'}" in refusal(home, "--listen", "tcp4://127.0.0.1:0")


def test_no_key_file(home: Path) -> None:
    (home / "key").unlink()
    assert "dp2p keygen" in refusal(home)


def test_a_run_directory_that_others_can_enter(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run").chmod(0o755)
    assert "chmod 700" in refusal(home, "--listen", "tcp4://127.0.0.1:0")


def test_settings_that_are_wrong(home: Path) -> None:
    assert "--shards: shards.count is 'x'" in refusal(home, "--shards", "x")
    assert "did you mean limits.max_peers?" in refusal(home, "--set", "limits.max_peer=1")
    assert "expected KEY=VALUE" in refusal(home, "--set", "limits.max_peers")


class Up:
    """`dp2p up` until the end of the test."""

    def __init__(self, home: Path, *more: str) -> None:
        self.run_dir = home / "run"
        self.log = (home / "log").open("ab")
        self.process = subprocess.Popen(
            arguments(home, "--set", "node.log_format=json", *more),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline() for _ in range(3)]

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def up(home: Path) -> Iterator[Up]:
    made = Up(home, "--listen", "tcp4://127.0.0.1:0")
    yield made
    made.close()


def test_a_node_that_runs(home: Path, up: Up) -> None:
    identity = keys.load(home / "key")
    assert up.lines[0].split() == ["node-ID", identity.node]
    address = up.lines[1].split()[1]
    assert address.startswith(f"dp2p://{identity.key}@127.0.0.1:")
    app = FakeApp(up.run_dir)
    status = app.call("status")
    assert status["listen"] == [f"tcp4://{address.partition('@')[2]}"]
    assert [row["name"] for row in status["processes"]] == ["coordinator", "shard-0"]
    assert (up.run_dir / "node.json").stat().st_mode & 0o777 == 0o600
    assert up.run_dir.stat().st_mode & 0o777 == 0o700
    app.close()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(PATIENCE_S) == 0
    assert [path.name for path in up.run_dir.iterdir()] == ["lock"]


def test_a_second_node_in_the_same_run_directory(home: Path, up: Up) -> None:
    done = subprocess.run(
        arguments(home, "--listen", "tcp4://127.0.0.1:0"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert f"a node already runs in {up.run_dir} (process {up.process.pid})" in done.stderr
    app = FakeApp(up.run_dir)
    app.call("status")
    app.close()


def test_a_second_node_on_the_same_port(tmp_path: Path, home: Path, up: Up) -> None:
    endpoint = f"tcp4://{up.lines[1].partition('@')[2].strip()}"
    other = tmp_path / "other"
    other.mkdir()
    keys.create(other / "key")
    text = refusal(other, "--listen", endpoint)
    assert endpoint in text
    assert "in use" in text


def test_a_killed_coordinator_comes_back(home: Path, up: Up) -> None:
    app = FakeApp(up.run_dir).attach()
    (row,) = (row for row in app.call("status")["processes"] if row["name"] == "coordinator")
    os.kill(row["pid"], signal.SIGKILL)
    assert wait_for_end(row["pid"])
    again = FakeApp(up.run_dir)
    (row,) = (row for row in again.call("status")["processes"] if row["name"] == "coordinator")
    assert (row["starts"], row["last_exit"]) == (2, "killed by SIGKILL")
    app.close()
    again.close()


def test_no_secret_in_the_logs_of_a_node(home: Path, up: Up) -> None:
    app = FakeApp(up.run_dir).attach()
    app.register("chat")
    app.call("detach", session=app.session)
    app.close()
    up.process.terminate()
    up.process.wait(PATIENCE_S)
    log = (home / "log").read_text()
    assert "application attached" in log
    assert app.session not in log
    assert (home / "key").read_text().strip() not in log
    assert (up.run_dir / places.CONTROL_SOCKET).exists() is False
