"""Nodes that the tests of one file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from process.nodes import Node, connect, running


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes, the first of two shards."""
    impatient = ("--set", "apps.heartbeat_expiry_s=3")
    a = Node(tmp_path_factory.mktemp("a"), *impatient, shards=2)
    b = Node(tmp_path_factory.mktemp("b"), *impatient)
    with running(a, b):
        yield a, b


@pytest.fixture
def pair(started: tuple[Node, Node]) -> tuple[Node, Node]:
    """Two connected nodes; the first has opened the connection if there was none."""
    connect(*started)
    return started
