"""The handshake code against public Noise test vectors, byte for byte, on both sides.

The vectors are data beside the repository (../shared/vectors); without them these tests skip.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dp2p.errors import TransportError
from dp2p.noise import Handshake, providers

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
HANDSHAKES = "noise_25519_chachapoly_blake2b.json"
FALLBACKS = "noise_xxfallback.json"
SUITE = "_25519_ChaChaPoly_BLAKE2b"
NAMES = {f"Noise_{pattern}{SUITE}": pattern for pattern in ("XX", "IK", "NNpsk0")}


@dataclass(frozen=True, slots=True)
class Vector:
    """One vector, with its hexadecimal text read."""

    name: str
    init: dict[str, bytes]
    "The initiator's prologue, s, e, rs and psk, those that the vector has."
    resp: dict[str, bytes]
    messages: list[tuple[bytes, bytes]]
    "Payload and ciphertext; handshake messages first, the sides taking turns throughout."
    handshake_hash: bytes


KEYS = {"static": "s", "ephemeral": "e", "remote_static": "rs", "prologue": "prologue"}


def side(row: dict[str, Any], prefix: str) -> dict[str, bytes]:
    """The arguments of ``Handshake`` that the vector gives for one side."""
    given = {
        name: bytes.fromhex(row[f"{prefix}_{key}"])
        for key, name in KEYS.items()
        if f"{prefix}_{key}" in row
    }
    if psks := row.get(f"{prefix}_psks"):
        given["psk"] = bytes.fromhex(psks[0])
    return given


def load(file: str) -> list[Vector]:
    """Every vector in ``file``; none when the file is absent."""
    path = VECTORS / file
    if not path.exists():
        return []
    return [
        Vector(
            name=row.get("protocol_name") or row["name"],
            init=side(row, "init"),
            resp=side(row, "resp"),
            messages=[
                (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
                for message in row["messages"]
            ],
            handshake_hash=bytes.fromhex(row["handshake_hash"]),
        )
        for row in json.loads(path.read_text())["vectors"]
    ]


def begin(pattern: str, given: dict[str, bytes], *, initiator: bool, provider: str) -> Handshake:
    return Handshake(
        pattern,
        initiator=initiator,
        prologue=given.get("prologue", b""),
        s=given.get("s"),
        rs=given.get("rs"),
        psk=given.get("psk"),
        e=given.get("e"),
        provider=provider,
    )


def finish(
    sides: tuple[Handshake, Handshake],
    messages: list[tuple[bytes, bytes]],
    handshake_hash: bytes,
    writer: int,
) -> int:
    """Run the rest of a vector; ``writer`` is the index of the side that goes first.

    Returns how many of the messages were transport messages.
    """
    transport = 0
    for payload, ciphertext in messages:
        sender, receiver = sides[writer], sides[1 - writer]
        if sender.finished:
            if not transport:
                assert [one.split() for one in sides] == [handshake_hash] * 2
            transport += 1
            assert sender.seal(payload) == ciphertext
            assert receiver.open(ciphertext) == payload
        else:
            assert sender.our_turn
            assert not receiver.our_turn
            assert sender.overhead == receiver.overhead == len(ciphertext) - len(payload)
            assert sender.write(payload) == ciphertext
            assert receiver.read(ciphertext) == payload
        writer = 1 - writer
    return transport


needs_vectors = pytest.mark.skipif(
    not (VECTORS / HANDSHAKES).exists() or not (VECTORS / FALLBACKS).exists(),
    reason="the public vectors are not beside the repository (../shared/vectors)",
)


@needs_vectors
@pytest.mark.parametrize("provider", providers())
@pytest.mark.parametrize("name", NAMES)
def test_vectors(name: str, provider: str) -> None:
    found = [vector for vector in load(HANDSHAKES) if vector.name == name]
    assert found
    for vector in found:
        sides = (
            begin(NAMES[name], vector.init, initiator=True, provider=provider),
            begin(NAMES[name], vector.resp, initiator=False, provider=provider),
        )
        assert finish(sides, vector.messages, vector.handshake_hash, writer=0) >= 3


@needs_vectors
@pytest.mark.parametrize("provider", providers())
def test_fallback_vectors(provider: str) -> None:
    """An IK first message to a key that the responder no longer has, answered by XXfallback."""
    found = load(FALLBACKS)
    assert [vector.name for vector in found] == [f"Noise_XXfallback{SUITE}"] * len(found) != []
    for vector in found:
        init, resp = vector.init, vector.resp
        sides = (
            begin("IK", init, initiator=True, provider=provider),
            begin("IK", resp, initiator=False, provider=provider),
        )
        payload, refused = vector.messages[0]
        assert sides[0].write(payload) == refused
        with pytest.raises(TransportError) as error:
            sides[1].read(refused)
        assert error.value.name == "auth"
        sides[0].fallback(prologue=init["prologue"], s=init["s"])
        sides[1].fallback(prologue=resp["prologue"], s=resp["s"], e=resp["e"], re=refused[:32])
        assert finish(sides, vector.messages[1:], vector.handshake_hash, writer=1) >= 3
