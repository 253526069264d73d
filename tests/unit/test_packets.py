"""The binding of packets: what it refuses before C reads it, and what C refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dp2p import keys, noise, packets
from dp2p.errors import TransportError
from dp2p.packets import Parser, Refused, Sealed, Sealer, SessionKeys

NONCE, KEYS, COOKIE, E = bytes(12), bytes(64), bytes(16), bytes(32)


@pytest.mark.parametrize(
    "call",
    [
        lambda: packets.packet_keys(bytes(31), bytes(32)),
        lambda: packets.packet_keys(bytes(32), bytes(33)),
        lambda: Parser(bytes(63)),
        lambda: packets.first(KEYS, bytes(11), COOKIE, bytes(300)),
        lambda: packets.first(KEYS, NONCE, bytes(15), bytes(300)),
        lambda: packets.second(bytes(65), NONCE, 1, bytes(100)),
        lambda: packets.retry(KEYS, bytes(31), NONCE, COOKIE, 0),
        lambda: packets.retry_open(KEYS, bytes(33), bytes(60)),
    ],
)
def test_lengths_are_checked_before_c_reads(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^a value has \d+ bytes, not \d+$"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: packets.first(KEYS, NONCE, COOKIE, bytes(254)),
        lambda: packets.first(KEYS, NONCE, COOKIE, bytes(1236)),
        lambda: packets.second(KEYS, NONCE, 1, bytes(47)),
        lambda: packets.second(KEYS, NONCE, 1, bytes(283)),
        lambda: packets.retry(KEYS, E, NONCE, COOKIE, 256),
    ],
)
def test_sizes_of_packets_have_bounds(call: Callable[[], object]) -> None:
    with pytest.raises(TransportError, match="size"):
        call()


def sessions() -> tuple[SessionKeys, SessionKeys, noise.Handshake]:
    """Both sides' keys; the initiator's handshake, whose keys are taken."""
    identity, other = keys.identity(b"\1" * 32), keys.identity(b"\2" * 32)
    static = noise.identity_static(identity.seed)
    rs = noise.identity_static_public(other.public)
    i = noise.Handshake("IK", initiator=True, s=static, rs=rs)
    r = noise.Handshake("IK", initiator=False, s=noise.identity_static(other.seed))
    r.read(i.write())
    i.read(r.write())
    i.split()
    r.split()
    sealer = Sealer()
    return SessionKeys(sealer, i, KEYS, 5), SessionKeys(sealer, r, KEYS, 6), i


def sealed(packet: bytes) -> Sealed:
    found = Parser(KEYS).parse(packet)
    assert isinstance(found, Sealed)
    return found


def test_why_a_packet_is_refused() -> None:
    here, there, _ = sessions()
    packet = sealed(here.seal(b"body", NONCE, 3))
    assert (packet.index, packet.counter) == (5, 0)
    changed = Sealed(packet.index, packet.counter, packet.unmasked[:-1] + b"\0")
    with pytest.raises(Refused) as auth:
        there.open(changed)
    assert there.open(packet) == b"body"
    with pytest.raises(Refused) as again:
        there.open(packet)
    assert (auth.value.name, again.value.name) == ("auth", "nonce")


def test_a_body_has_room() -> None:
    here, there, _ = sessions()
    largest = packets.SEALED_BODY_MAX
    assert there.open(sealed(here.seal(bytes(largest), NONCE))) == bytes(largest)
    for body, padding in ((largest + 1, 0), (largest, 1)):
        with pytest.raises(TransportError, match="size"):
            here.seal(bytes(body), NONCE, padding)


def test_keys_are_taken_once_and_after_the_split() -> None:
    _, _, used = sessions()
    fresh = noise.Handshake("XX", initiator=True, s=bytes(32))
    for handshake in (used, fresh):
        with pytest.raises(TransportError, match="state"):
            SessionKeys(Sealer(), handshake, KEYS, 1)


def test_what_is_too_long_is_no_packet() -> None:
    assert Parser(KEYS).parse(bytes(packets.PACKET_MAX + 1)) is None
    assert Parser(KEYS).parse(b"") is None


@pytest.mark.parametrize("provider", noise.providers())
def test_providers(provider: str) -> None:
    Sealer(provider)
    with pytest.raises(TransportError, match="provider"):
        Sealer("none")
