"""Worlds of real nodes: filled, joined, besieged; and the same again from the same seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.discovery.contact import log_distance
from dp2p.coordinator.discovery.messages import Find
from dp2p.networks import is_local
from dp2p.sim.adversaries import Adversary, Coalition
from dp2p.sim.experiments.greedy import UNREACHED, forward
from dp2p.sim.nodes import World, bucket_ranges


@given(st.sets(st.integers(0, (1 << 256) - 1), min_size=1, max_size=60), st.data())
def test_bucket_ranges_are_the_buckets(members: set[int], data: st.DataObject) -> None:
    ids = sorted(members)
    own = data.draw(st.sampled_from(ids))
    found = {
        frozenset(ids[low:high]): {log_distance(own, one) for one in ids[low:high]}
        for low, high in bucket_ranges(ids, own)
    }
    assert all(len(distances) == 1 for distances in found.values())
    assert set().union(*found, {own}) == members


def trace(seed: int) -> tuple[object, ...]:
    world = World(seed)
    world.join(15, over_s=10.0, nat_share=0.3)
    world.run(40.0)
    tables = tuple(
        tuple(sorted(one.key for one in node.discovery.table.contacts())) for node in world.nodes
    )
    return tables, world.engine.calls, dict(world.network.packets)


def test_the_same_seed_gives_the_same_world() -> None:
    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_nodes_that_join_know_each_other() -> None:
    world = World(1)
    world.join(15, over_s=10.0)
    world.run(60.0)
    keys = {node.contact.key for node in world.nodes}
    for node in world.nodes:
        known = {one.key for one in node.discovery.table.contacts()}
        assert len(known) >= 12
        assert known < keys


def test_honest_nodes_have_public_addresses_in_networks_of_their_own() -> None:
    world = World(1)
    world.fill(50)
    assert len({node.contact.network for node in world.nodes}) == 50
    assert not any(is_local(node.contact.place[0]) for node in world.nodes)


def test_passive_nodes_do_nothing_by_themselves() -> None:
    world = World(1)
    world.fill(30)
    world.run(3600.0)
    assert world.network.packets.total() == 0


def test_a_stopped_node_fails_and_finds_its_way_back() -> None:
    world = World(1)
    world.fill(30)
    one, other = world.nodes[:2]
    other.stop()
    assert other.contact not in world.lookup(one, other.contact.id, paths=1).contacts
    other.start([one.contact])
    world.run(30.0)
    assert world.lookup(one, other.contact.id, paths=1).contacts[0] == other.contact
    assert world.lookup(other, one.contact.id, paths=1).contacts[0] == one.contact


def test_adversaries_name_only_each_other_closest_first() -> None:
    world = World(1)
    world.fill(30)
    contacts = [world.contact() for _ in range(100)]
    coalition = Coalition(contacts)
    liars = [Adversary(world.network, world.line(one), coalition) for one in contacts]
    for liar in liars:
        world.network.add(liar)
    target = world.random.getrandbits(256)
    told: list[object] = []
    world.nodes[0].ask(contacts[0], Find(0, target.to_bytes(32, "big")), told.append)
    world.run(5.0)
    (answer,) = told
    assert isinstance(answer, tuple)
    assert len(answer) >= 15  # the liar itself is no news
    assert coalition.share(answer) == 1.0
    distances = [one.id ^ target for one in coalition.closest(target)]
    assert distances == sorted(distances)
    assert min(one.id ^ target for one in contacts) == distances[0]


def test_forwarding_ends_where_nobody_is_closer() -> None:
    ids = np.array([0b000, 0b001, 0b100, 0b110], dtype=np.uint64)
    chain = np.array([[2], [0], [3], [2]])
    assert forward(ids, chain, 3).tolist() == [2, 3, 1, 0]
    # From the first, nobody leads nearer to the second: its only peer is farther.
    assert forward(ids, chain, 1).tolist() == [UNREACHED, 0, UNREACHED, UNREACHED]
