"""The second implementation before judges that are not ours, so that it may judge the code.

The package ``noiseprotocol`` knows all patterns but XXfallback; for that there are public vectors
beside the repository (../shared/vectors), without which the test skips.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import BLAKE2b
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from noise.connection import Keypair, NoiseConnection

from wire_noise import PATTERNS, Cipherstate, Noise, Unreadable, hkdf, public_of

SUITE = "_25519_ChaChaPoly_BLAKE2b"
VECTORS = (
    Path(__file__).resolve().parents[2].parent / "shared" / "vectors" / "noise_xxfallback.json"
)


def test_hkdf() -> None:
    """Noise's is RFC 5869 without info; r is the third block of it."""
    rng = random.Random(1)
    for size in (0, 32):
        key, data = rng.randbytes(64), rng.randbytes(size)
        judge = HKDF(algorithm=BLAKE2b(64), length=192, salt=key, info=b"")
        assert b"".join(hkdf(key, data)) == judge.derive(data)


def judge_of(name: str, given: dict[str, Any], *, initiator: bool) -> Any:
    """``noiseprotocol`` in one role, with the same keys as ours would have."""
    judge = NoiseConnection.from_name(f"Noise_{name}{SUITE}".encode())
    own, other = ("i", "r") if initiator else ("r", "i")
    judge.set_prologue(given["prologue"])
    judge.set_keypair_from_private_bytes(Keypair.EPHEMERAL, given[own]["e"])
    if name == "NNpsk0":
        judge.set_psks(given["psk"])
    else:
        judge.set_keypair_from_private_bytes(Keypair.STATIC, given[own]["s"])
    if name == "IK" and initiator:
        judge.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public_of(given[other]["s"]))
    if initiator:
        judge.set_as_initiator()
    else:
        judge.set_as_responder()
    judge.start_handshake()
    return judge


def ours_of(name: str, given: dict[str, Any], *, initiator: bool) -> Noise:
    own, other = ("i", "r") if initiator else ("r", "i")
    before = PATTERNS[name].before if initiator == (PATTERNS[name].before == "s") else ""
    peer = {before: public_of(given[other][before])} if before else {}
    return Noise(
        name,
        given["prologue"],
        initiator=initiator,
        own=given[own],
        peer=peer,
        psk=given["psk"] if name == "NNpsk0" else b"",
    )


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs:UserWarning")
@pytest.mark.parametrize("name", ["XX", "IK", "NNpsk0"])
@pytest.mark.parametrize("initiator", [True, False], ids=["initiator", "responder"])
def test_patterns(name: str, initiator: bool) -> None:
    """In either role: the same bytes as the judge's in that role, and understood by the other."""
    rng = random.Random(f"{name} {initiator}")
    for size in (0, 1, 300, 5000):
        given = {
            "prologue": rng.randbytes(20),
            "psk": rng.randbytes(32),
            "i": {"e": rng.randbytes(32), "s": rng.randbytes(32)},
            "r": {"e": rng.randbytes(32), "s": rng.randbytes(32)},
        }
        ours = ours_of(name, given, initiator=initiator)
        same = judge_of(name, given, initiator=initiator)
        other = judge_of(name, given, initiator=not initiator)
        for step in range(len(ours.pattern.messages)):
            payload = rng.randbytes(size)
            if (step % 2 == 0) == initiator:
                message = ours.write(payload)
                assert message == bytes(same.write_message(payload))
                assert bytes(other.read_message(message)) == payload
            else:
                message = bytes(other.write_message(payload))
                assert ours.read(message) == payload
                assert bytes(same.read_message(message)) == payload
        assert ours.h == same.get_handshake_hash() == other.get_handshake_hash()
        tx, rx, _ = ours.split()
        assert bytes(other.decrypt(Cipherstate(tx).seal(b"out"))) == b"out"
        assert Cipherstate(rx).open(bytes(other.encrypt(b"back"))) == b"back"


@pytest.mark.skipif(not VECTORS.exists(), reason="no public vectors in ../shared/vectors")
def test_fallback() -> None:
    """An IK first message to another key, then XXfallback; transport messages prove the split."""
    rows = json.loads(VECTORS.read_text())["vectors"]
    assert rows
    for row in rows:
        raw = {name: bytes.fromhex(row[name]) for name in row if name.startswith(("init", "resp"))}
        given: dict[str, Any] = {
            "prologue": raw["init_prologue"],
            "i": {"e": raw["init_ephemeral"], "s": raw["init_static"]},
            "r": {"e": raw["resp_ephemeral"], "s": raw["resp_static"]},
        }
        (payload, first), *messages = [
            (bytes.fromhex(one["payload"]), bytes.fromhex(one["ciphertext"]))
            for one in row["messages"]
        ]
        first_i = Noise(
            "IK",
            given["prologue"],
            initiator=True,
            own=given["i"],
            peer={"s": raw["init_remote_static"]},
        )
        assert first_i.write(payload) == first
        with pytest.raises(Unreadable):
            ours_of("IK", given, initiator=False).read(first)
        sides = [ours_of("XXfallback", given, initiator=who) for who in (False, True)]
        for step, (payload, expected) in enumerate(messages[:2]):
            assert sides[step].write(payload) == expected
            assert sides[1 - step].read(expected) == payload
        assert sides[0].h == sides[1].h == bytes.fromhex(row["handshake_hash"])
        ciphers = [Cipherstate(side.split()[0]) for side in sides]
        assert len(messages) > 3
        for step, (payload, expected) in enumerate(messages[2:]):
            assert ciphers[step % 2].seal(payload) == expected
