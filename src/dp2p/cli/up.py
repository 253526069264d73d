"""``dp2p up``: run the node."""

from __future__ import annotations

from pathlib import Path

import click

from dp2p import config, launch, logs
from dp2p.addresses import Endpoint, PeerAddress, parse_endpoint
from dp2p.cli.settings import Globals, given_flags, pass_globals
from dp2p.coordinator.store_file import refuse_unusable
from dp2p.supervisor import Supervisor


@click.command()
@click.option("--key-file", metavar="FILE", help="This node's key (node.key_file).")
@click.option("--network", metavar="NAME", help="Network to be part of (node.network).")
@click.option(
    "--listen",
    multiple=True,
    metavar="ENDPOINT",
    help="Where peers reach this node, as tcp4://0.0.0.0:4617 or tcp6://[::]:4617; may be given "
    "more than once. Port 0 takes a free one (listen.addresses).",
)
@click.option(
    "--peer",
    multiple=True,
    metavar="ADDRESS",
    help="Keep connected to this peer; may be given more than once (peers.static).",
)
@click.option(
    "--bootstrap",
    multiple=True,
    metavar="ADDRESS",
    help="Where to go while no other node is known; may be given more than once "
    "(discovery.bootstrap).",
)
@click.option("--shards", metavar="N", help="Processes that own connections (shards.count).")
@click.option("--aead", metavar="NAME", help="auto, libsodium or openssl (shards.aead).")
@click.option("--max-peers", metavar="N", help="Most peers at a time (limits.max_peers).")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="console or json.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting, as limits.idle_close_s=30; lists are written with commas.",
)
@pass_globals
def up(
    context: Globals,
    *,
    key_file: str | None,
    network: str | None,
    listen: tuple[str, ...],
    peer: tuple[str, ...],
    bootstrap: tuple[str, ...],
    shards: str | None,
    aead: str | None,
    max_peers: str | None,
    log_level: str | None,
    log_format: str | None,
    assignments: tuple[str, ...],
) -> None:
    """Run the node until Ctrl-C or SIGTERM.

    Starts one coordinator and a shard for each core, and starts again what dies. Everything that
    could be wrong with the configuration is checked before anything starts.

    \b
    Each setting can stand in three places, the later ones win:
      dp2p.toml      [limits]
                     max_peers = 64
      environment    DP2P_LIMITS_MAX_PEERS=64
      flag           --set limits.max_peers=64

    \b
    Examples:
      dp2p up
      dp2p up --listen tcp4://0.0.0.0:5000 --shards 2
      dp2p up --bootstrap dp2p://KEY@node.example.org:4617
    """
    flags = given_flags(
        assignments,
        key_file=("--key-file", "node.key_file", key_file),
        network=("--network", "node.network", network),
        listen=("--listen", "listen.addresses", listen),
        peer=("--peer", "peers.static", peer),
        bootstrap=("--bootstrap", "discovery.bootstrap", bootstrap),
        shards=("--shards", "shards.count", shards),
        aead=("--aead", "shards.aead", aead),
        max_peers=("--max-peers", "limits.max_peers", max_peers),
        log_level=("--log-level", "node.log_level", log_level),
        log_format=("--log-format", "node.log_format", log_format),
    )
    settings = context.load(flags)
    logs.setup("supervisor", settings.node.log_level, settings.node.log_format)
    prepared = launch.prepare(settings)
    try:
        refuse_unusable(Path(settings.store.file))
        _introduce(prepared)
        Supervisor(prepared.commands(), prepared.run_dir).run()
    finally:
        prepared.close()


def _introduce(prepared: launch.Prepared) -> None:
    """Say on stdout what somebody needs to reach this node."""
    click.echo(f"node-ID  {prepared.identity.node}")
    for text in config.advertised(prepared.settings) or prepared.settings.listen.addresses:
        address = _peer_address(prepared.identity.key, parse_endpoint(text))
        click.echo(f"address  {address}")
    click.echo(f"run dir  {prepared.run_dir}")


def _peer_address(key: str, endpoint: Endpoint) -> PeerAddress:
    """As somebody on this machine can dial it: a wildcard stands for loopback."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return PeerAddress(key, loopback.get(endpoint.host, endpoint.host), endpoint.port)
