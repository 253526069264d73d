"""Contacts: who is where in the discovery network."""

from __future__ import annotations

from dataclasses import dataclass, field

from dp2p import ids
from dp2p.addresses import version_of
from dp2p.networks import network_of

ID_BITS = 256

Place = tuple[str, int]
"A numeric address, in canonical spelling, and a UDP port."


@dataclass(frozen=True, slots=True)
class Serving:
    """By which families of addresses a node serves: others can reach it there as they see it.

    False when by none.
    """

    v4: bool = False
    v6: bool = False

    def __bool__(self) -> bool:
        return self.v4 or self.v6

    def at(self, place: Place) -> bool:
        """Whether it serves by the family of ``place``, of its own or of who hears of it."""
        return self.v6 if is_v6(place) else self.v4


def is_v6(place: Place) -> bool:
    """Whether a place has an address of IPv6."""
    return version_of(place[0]) == 6


@dataclass(frozen=True, slots=True)
class Contact:
    """A node, and the place where it takes discovery's packets."""

    key: bytes
    "Its public key."
    place: Place
    id: int = field(init=False, compare=False)
    "Its node-ID as a number, for XOR distances."
    network: str = field(init=False, compare=False)
    "The IP network by which it is counted: a /24 or a /48."

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", int.from_bytes(ids.node_id(self.key), "big"))
        object.__setattr__(self, "network", network_of(self.place[0]))

    def __hash__(self) -> int:
        return hash(self.key)  # which bytes remember; a key has one place, nearly always


def log_distance(one: int, other: int) -> int:
    """Bits of the XOR distance between two node-IDs: 0 for the same, 256 for the farthest half."""
    return (one ^ other).bit_length()
