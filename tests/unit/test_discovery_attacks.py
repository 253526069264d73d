"""What somebody can do to a node by saying things to it, and what bounds that."""

from __future__ import annotations

from itertools import count

from discovery_world import contact_of
from dp2p.coordinator.discovery.actions import Action, LookedUp
from dp2p.coordinator.discovery.messages import Find, Nodes, named
from dp2p.coordinator.discovery.walks import LASTS_S
from lone_discovery import Lone, sends


def test_who_answers_late_and_names_many_ends_with_the_lookup() -> None:
    lone = Lone()
    liar = contact_of(1)
    lone.befriend([liar])
    actions: list[Action] = lone.discovery.lookup("x", 0, lone.now, paths=1)
    fresh, began = count(100), lone.now
    pauses: tuple[float, ...] = ()
    while not any(isinstance(one, LookedUp) for one in actions) and lone.now < began + 900.0:
        asked = {one.message.id: one for one in sends(actions) if isinstance(one.message, Find)}
        actions = []
        for pause in pauses:
            actions += lone.wait(pause)
            for one in asked.values():
                lone.meet(one.contact, came=False)
        for one in asked.values():
            names = [named(contact_of(next(fresh))) for _ in range(16)]
            actions += lone.hear(one.contact, Nodes(one.message.id, 0, 1, names))
        pauses = 4.0, 4.9  # a session at last, silence, and another one
    assert lone.now - began <= LASTS_S + 10.0
    assert lone.discovery.counters.lookups_cut > 0
    assert lone.discovery.sizes()["lookups"] == 0


def test_a_candidate_at_a_false_place_does_not_keep_the_true_one_waiting() -> None:
    lone = Lone()
    true, false = contact_of(1), contact_of(1, "198.51.100.4")
    asked = sends(lone.discovery.candidates([false, true], lone.now))
    assert [one.contact for one in asked] == [false, true]


def test_who_asks_in_an_old_session_is_considered_for_the_table() -> None:
    lone = Lone()
    contact = contact_of(1)
    lone.meet(contact)
    lone.discovery.table.remove(contact.key)
    lone.asked(contact, Find(1, bytes(32)))
    pings = [one for one in sends(lone.wait(20.0)) if one.contact == contact]
    assert pings
