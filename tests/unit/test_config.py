"""Configuration: three sources and their order; errors name source, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p import bus, config, config_load
from dp2p.config import Config
from dp2p.errors import ConfigError

HOME = {"HOME": "/home/someone"}


def load(
    cwd: Path,
    toml: str | None = None,
    env: dict[str, str] | None = None,
    flags: dict[str, tuple[str, Any]] | None = None,
) -> Config:
    if toml is not None:
        (cwd / "dp2p.toml").write_text(toml)
    return config_load.load(env=HOME | (env or {}), flags=flags, cwd=cwd)


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **named)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    made = load(tmp_path)
    assert made.limits == config.LimitsSection()
    assert made.node.key_file == "/home/someone/.config/dp2p/key"
    assert made.node.run_dir.endswith(("/run/dp2p", ".dp2p/run"))
    assert made.listen.addresses == list(config.EVERYWHERE)


def test_later_sources_win(tmp_path: Path) -> None:
    toml = "[limits]\nmax_peers = 1\nmax_handshakes = 1\nkeepalive_s = 1"
    env = {"DP2P_LIMITS_MAX_PEERS": "2", "DP2P_LIMITS_MAX_HANDSHAKES": "2"}
    limits = load(tmp_path, toml, env, {"limits.max_peers": ("--max-peers", "3")}).limits
    assert (limits.max_peers, limits.max_handshakes, limits.keepalive_s) == (3, 2, 1.0)


def test_lists_in_variables_have_commas(tmp_path: Path) -> None:
    env = {"DP2P_PEERS_STATIC": "tcp4://a:1, tcp4://b:2,", "DP2P_LISTEN_ADDRESSES": ""}
    made = load(tmp_path, env=env)
    assert made.peers.static == ["tcp4://a:1", "tcp4://b:2"]
    assert made.listen.addresses == []


def test_relative_paths_start_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.toml").write_text("[node]\nkey_file = 'key'\nrun_dir = '~/run'")
    env = HOME | {"DP2P_CONFIG": "etc/node.toml", "DP2P_NODE_RUN_DIR": "here"}
    made = config_load.load(env=env, cwd=tmp_path)
    assert made.node.key_file == str(tmp_path / "etc" / "key")
    assert made.node.run_dir == str(tmp_path / "here")


def test_the_store_is_beside_the_key_file(tmp_path: Path) -> None:
    """Tickets are as secret as the key, and of no use to another identity."""
    assert load(tmp_path).store.file == "/home/someone/.config/dp2p/key.peers.db"
    env = {"DP2P_NODE_KEY_FILE": "keys/one"}
    assert load(tmp_path, env=env).store.file == str(tmp_path / "keys" / "one.peers.db")
    toml = "[node]\nkey_file = '/etc/dp2p/key'"
    assert load(tmp_path, toml).store.file == "/etc/dp2p/key.peers.db"


def test_the_store_s_settings(tmp_path: Path) -> None:
    toml = "[store]\nfile = 'peers.db'\nmax_peers = 16\nticket_lifetime_s = 60"
    store = load(tmp_path, toml).store
    assert store.file == str(tmp_path / "peers.db")
    assert (store.max_peers, store.ticket_lifetime_s) == (16, 60.0)
    env = {"DP2P_STORE_FILE": "~/peers.db", "DP2P_STORE_MAX_PEERS": "20"}
    flags = {"store.ticket_lifetime_s": ("--set store.ticket_lifetime_s", "3600")}
    store = load(tmp_path, toml, env, flags).store
    assert store.file == str(Path("~/peers.db").expanduser())
    assert (store.max_peers, store.ticket_lifetime_s) == (20, 3600.0)


def test_the_store_s_defaults(tmp_path: Path) -> None:
    store = load(tmp_path, "[store]").store
    assert (store.max_peers, store.ticket_lifetime_s) == (100_000, 30 * 86400.0)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        config_load.load(Path("none.toml"), env=HOME, cwd=tmp_path)


FILE_ERRORS = [
    ("[limits]\nmax_peers = 0", "limits.max_peers is 0", "whole number from 1 to 1000000"),
    ("[limits]\nmax_peers = '5'", "limits.max_peers is '5'", "whole number"),
    ("[limits]\nmax_peers = true", "limits.max_peers is True", "whole number"),
    ("[limits]\nkeepalive_s = -1", "limits.keepalive_s is -1", "a number above 0 up to 86400"),
    ("[limits]\nkeepalive_s = nan", "limits.keepalive_s is nan", "a number above 0"),
    ("[limits]\nmax_pers = 1", "unknown key limits.max_pers", "did you mean max_peers?"),
    ("[limts]\nmax_peers = 1", "unknown section [limts]", "did you mean limits?"),
    ("[limits]\nzzz = 1", "unknown key limits.zzz", "known are buffer_bytes, handshake_deadline_s"),
    ("limits = 1", "limits is a value", "[limits]"),
    ("[node]\nlog_level = 'loud'", "node.log_level is 'loud'", "debug, error, info, warning"),
    ("[node]\nnetwork = ''", "node.network is ''", "text of 1 to 64 characters"),
    ("[shards]\naead = 'aes'", "shards.aead is 'aes'", "auto, libsodium, openssl"),
    ("[peers]\nstatic = 'a'", "peers.static is 'a'", "a list of text"),
    ("[peers]\nstatic = ['a']", "peers.static: address 'a'", "expected dp2p://"),
    ("[listen]\naddresses = ['tcp4://a:x']", "listen.addresses", "port 'x' is no number"),
    ("[listen]\nadvertise = ['tcp5://a:1']", "listen.advertise", "expected tcp4://"),
    ("[store]\nmax_peers = 15", "store.max_peers is 15", "whole number from 16 to 10000000"),
    ("[store]\nmax_peers = 1e3", "store.max_peers is 1000.0", "whole number"),
    ("[store]\nticket_lifetime_s = 59", "store.ticket_lifetime_s is 59", "a number from 60"),
    ("[store]\nticket_lifetime_s = inf", "store.ticket_lifetime_s is inf", "to 31536000"),
    ("[store]\nfile = ''", "store.file is ''", "text of 1 to 4096 characters"),
    ("[store]\npath = 'x'", "unknown key store.path", "known are file, max_peers"),
    ("store = 'peers.db'", "store is a value", "[store]"),
    ("[limits", "not TOML", "line 1"),
]


@pytest.mark.parametrize(("toml", "what", "allowed"), FILE_ERRORS)
def test_errors_in_the_file(tmp_path: Path, toml: str, what: str, allowed: str) -> None:
    text = refusal(tmp_path, toml)
    assert text.startswith(f"{tmp_path}/dp2p.toml: ")
    assert what in text
    if what != "not TOML":
        assert allowed in text


def test_errors_in_the_environment(tmp_path: Path) -> None:
    text = refusal(tmp_path, env={"DP2P_LIMITS_MAX_PEERS": "many"})
    assert "environment variable DP2P_LIMITS_MAX_PEERS: limits.max_peers is 'many'" in text
    text = refusal(tmp_path, env={"DP2P_LIMIT_MAX_PEERS": "1"})
    assert "did you mean DP2P_LIMITS_MAX_PEERS?" in text


def test_errors_in_flags(tmp_path: Path) -> None:
    text = refusal(tmp_path, flags={"shards.count": ("--shards", "-1")})
    assert text == "--shards: shards.count is '-1'; allowed is a whole number from 0 to 256"
    text = refusal(tmp_path, flags={"shard.count": ("--set shard.count", "1")})
    assert "did you mean shards.count?" in text


def test_a_weak_source_is_checked_even_when_overridden(tmp_path: Path) -> None:
    text = refusal(tmp_path, "[shards]\ncount = -1", {"DP2P_SHARDS_COUNT": "1"})
    assert "dp2p.toml" in text


def test_a_run_directory_too_long_for_sockets(tmp_path: Path) -> None:
    text = refusal(tmp_path, env={"DP2P_NODE_RUN_DIR": "/" + "x" * 80})
    assert "environment variable DP2P_NODE_RUN_DIR: node.run_dir /xxx" in text
    assert "81 bytes long" in text


def test_socket_names_fit_beside_the_longest_run_directory() -> None:
    longest = "/" + "x" * (config.UNIX_PATH_MAX - config.SOCKET_NAME_MAX - 2)
    config.check_run_dir(longest, "test")
    endpoint = config.shard_endpoint(longest, 255, "f" * 16)
    assert len(endpoint.removeprefix("ipc://")) <= config.UNIX_PATH_MAX


@given(st.sampled_from(sorted(config_load.VARIABLES)), st.text(max_size=40))
def test_any_variable_is_taken_or_refused_by_name(variable: str, text: str) -> None:
    why = ""
    try:
        config_load.load(env=HOME | {variable: text}, cwd=Path("/nonexistent"))
    except ConfigError as error:
        why = str(error)
    assert not why or variable in why


def test_a_home_that_nobody_has() -> None:
    with pytest.raises(ConfigError, match=r"DP2P_NODE_RUN_DIR.*'~no-such-user/run'.*nobody"):
        config_load.load(env=HOME | {"DP2P_NODE_RUN_DIR": "~no-such-user/run"}, cwd=Path("/"))


def test_every_key_says_what_it_allows() -> None:
    for key, field in config_load.KEYS.items():
        assert "another type" not in config_load.describe(field.type), key


def test_the_resolved_file_is_private_and_reads_back(tmp_path: Path) -> None:
    made = load(tmp_path, "[peers]\nstatic = ['tcp4://a:1']")
    path = tmp_path / config.NODE_FILE
    config.write_resolved(made, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert config.read_resolved(path) == made
    path.write_text("{}x")
    with pytest.raises(ConfigError, match=r"node\.json"):
        config.read_resolved(path)


def test_what_peers_are_told(tmp_path: Path) -> None:
    toml = "[listen]\naddresses = ['tcp4://0.0.0.0:1', 'tcp6://[::1]:1']"
    assert config.advertised(load(tmp_path, toml)) == ["tcp6://[::1]:1"]
    toml += "\nadvertise = ['tcp4://example.org:1']"
    assert config.advertised(load(tmp_path, toml)) == ["tcp4://example.org:1"]


# --- rates ---


def test_rates_are_caps(tmp_path: Path) -> None:
    file = tmp_path / "dp2p.toml"
    file.write_text('[rates]\nnode_up = "10MB"\nprotocols.chat = { down = 2000 }\n')
    env = {"HOME": str(tmp_path), "DP2P_RATES_NODE_DOWN": "512KiB"}
    loaded = config_load.load(file, env, cwd=tmp_path)
    assert config.caps(loaded) == [
        bus.Cap(scope="node", name="", up=10_000_000, down=512 << 10),
        bus.Cap(scope="protocol", name="chat", down=2000),
    ]
    path = tmp_path / "node.json"
    config.write_resolved(loaded, path)
    assert config.caps(config.read_resolved(path)) == config.caps(loaded)


BAD_RATES = [
    ('node_up = "fast"', "rates.node_up: 'fast' is not a rate; allowed is none, or bytes a second"),
    ("node_down = 10", "rates.node_down: '10' is out of range"),
    ("node_up = 1.5", "rates.node_up is 1.5; allowed is"),
    ('protocols.chat.up = "1GBit"', "rates.protocols.chat.up: '1GBit' is not a rate"),
    ('protocols."a b".up = 5000', "rates.protocols is {'a b': {'up': 5000}}; allowed is tables"),
    ("protocols.chat.side = 5000", "rates.protocols is"),
]


@pytest.mark.parametrize(("text", "why"), BAD_RATES)
def test_rates_that_are_none(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "dp2p.toml"
    file.write_text(f"[rates]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        config_load.load(file, {"HOME": str(tmp_path)}, cwd=tmp_path)
    assert str(refused.value).startswith(f"{file}: {why}")


# --- discovery ---


def test_discovery_takes_packets_where_the_node_listens(tmp_path: Path) -> None:
    found = load(tmp_path, '[listen]\naddresses = ["tcp4://192.0.2.7:80", "tcp6://[::]:81"]')
    listening = [str(one) for one in config.discovery_endpoints(found)]
    assert listening == ["udp4://192.0.2.7:80", "udp6://[::]:81"]
    found = load(tmp_path, '[discovery]\nlisten = ["udp4://0.0.0.0"]')
    assert [str(one) for one in config.discovery_endpoints(found)] == ["udp4://0.0.0.0:4617"]
    found = load(tmp_path, "[discovery]\nenabled = false")
    assert config.discovery_endpoints(found) == []


BAD_DISCOVERY = [
    ('listen = ["tcp4://0.0.0.0:1"]', "discovery.listen: endpoint 'tcp4://0.0.0.0:1'"),
    ('advertise = ["udp4://192.0.2.7:0"]', "discovery.advertise: address 'udp4://192.0.2.7:0'"),
    ('bootstrap = ["dp2p://key"]', "discovery.bootstrap: address 'dp2p://key'"),
    ('bootstrap = ["udp4://192.0.2.7:1"]', "discovery.bootstrap: endpoint 'udp4://192.0.2.7:1'"),
    ("enabled = 2", "discovery.enabled is 2; allowed is true or false"),
    ('serve = "sometimes"', "discovery.serve is 'sometimes'; allowed is one of"),
    ("paths = 0", "discovery.paths is 0; allowed is a whole number from 1 to 16"),
]


@pytest.mark.parametrize(("text", "why"), BAD_DISCOVERY)
def test_discovery_that_is_refused(tmp_path: Path, text: str, why: str) -> None:
    told = refusal(tmp_path, f"[discovery]\n{text}")
    assert told.startswith(f"{tmp_path}/dp2p.toml: {why}")
