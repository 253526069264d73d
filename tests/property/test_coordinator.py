"""Whatever shards, peers and applications do, and in whatever order: nothing fails, and nothing of
what is gone is kept.
"""

from __future__ import annotations

import pytest

from coordinator_world import World

SEEDS = 60
STEPS = 300


@pytest.mark.parametrize("seed", range(SEEDS))
def test_in_any_order_of_events(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        world.check()
    world.settle()
    world.check_settled()
    world.end()
    left = {name: book for name, book in world.books() if book}
    assert not left
