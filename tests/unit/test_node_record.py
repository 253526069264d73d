"""Node records: what is written, what is refused and why, and the example in the specification."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dp2p import ids, noise
from dp2p.errors import NodeRecordError
from dp2p.node_record import (
    BODY_MAX,
    SEQ_MAX,
    SIGNED_MAX,
    TEXT_PREFIX,
    from_text,
    sign,
    to_text,
    verify,
)

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "node-record.md"
SEED = bytes(range(32))
KEY = ids.to_text(noise.identity_public(SEED))
LONG_HOST = ".".join(["a" * 63] * 3)
FIELDS: dict[str, Any] = {"seq": 1, "key": KEY, "endpoints": [], "protocols": []}


def signed(body: bytes) -> bytes:
    """A record whose signature is right, whatever it says."""
    return noise.sign(body, SEED) + body


def body_with(**fields: object) -> bytes:
    return json.dumps(FIELDS | fields).encode()


def object_with(text: str) -> bytes:
    """A body that is right but for ``text`` at its beginning."""
    return b"{" + text.encode("utf-8", "surrogatepass") + json.dumps(FIELDS).encode()[1:]


# --- what is written ---


def test_a_record_says_what_it_was_given() -> None:
    made = sign(
        SEED,
        seq=7,
        endpoints=[
            "tcp4://Example.ORG:4617",
            "tcp6://[2001:DB8:0::7]:1",
            "tcp4://example.org:4617",
        ],
        protocols=["files", "chat", "files"],
    )
    assert made.key == noise.identity_public(SEED)
    assert made.seq == 7
    assert made.endpoints == ("tcp4://example.org:4617", "tcp6://[2001:db8::7]:1")
    assert made.protocols == ("chat", "files")
    assert not made.more
    assert verify(made.signed) == made
    assert made.signed.hex() not in repr(made)


def test_the_signature_covers_exactly_the_body() -> None:
    made = sign(SEED, seq=1, endpoints=["tcp4://a:1"], protocols=["chat"]).signed
    Ed25519PublicKey.from_public_bytes(noise.identity_public(SEED)).verify(made[:64], made[64:])


def test_the_body_holds_no_more_than_it_needs() -> None:
    made = sign(SEED, seq=1, endpoints=[], protocols=[]).signed
    assert json.loads(made[64:]) == FIELDS


def test_protocols_leave_from_the_end_when_there_is_no_room() -> None:
    names = [f"{number:03}-{'x' * 60}" for number in range(64)]
    made = sign(SEED, seq=SEQ_MAX, endpoints=["tcp4://a:1"], protocols=reversed(names))
    assert made.more
    assert 0 < len(made.protocols) < 64
    assert list(made.protocols) == names[: len(made.protocols)]
    one_more = len(json.dumps(names[0])) + 1
    assert SIGNED_MAX - one_more < len(made.signed) <= SIGNED_MAX


def test_at_most_64_protocols_even_when_there_is_room() -> None:
    names = [f"{number:02}" for number in range(65)]
    made = sign(SEED, seq=1, endpoints=[], protocols=names)
    assert (list(made.protocols), made.more) == (names[:64], True)
    made = sign(SEED, seq=1, endpoints=[], protocols=names[:64])
    assert (list(made.protocols), made.more) == (names[:64], False)


UNSIGNABLE: list[tuple[dict[str, Any], str]] = [
    ({"seq": 0}, "seq"),
    ({"seq": -1}, "seq"),
    ({"seq": SEQ_MAX + 1}, "seq"),
    ({"endpoints": ["tcp4://a"]}, "no port"),
    ({"endpoints": ["tcp4://0.0.0.0:0"]}, "port 0"),
    ({"endpoints": [f"dp2p://{KEY}@a:1"]}, "endpoint"),
    ({"endpoints": [f"tcp4://a:{port}" for port in range(1, 18)]}, "endpoints"),
    ({"endpoints": [f"tcp4://{i}.{LONG_HOST}:65535" for i in range(5)]}, "no room"),
    ({"protocols": [""]}, "protocols"),
    ({"protocols": ["a b"]}, "protocols"),
    ({"protocols": ["a" * 65]}, "protocols"),
]


@pytest.mark.parametrize(("given", "why"), UNSIGNABLE)
def test_what_no_record_can_say_is_not_signed(given: dict[str, Any], why: str) -> None:
    fields: dict[str, Any] = {"seq": 1, "endpoints": [], "protocols": []}
    with pytest.raises(NodeRecordError, match=why):
        sign(SEED, **fields | given)


def test_a_seed_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="a seed has 32 bytes") as caught:
        sign(b"secret", seq=1, endpoints=[], protocols=[])
    assert "secret" not in str(caught.value)


# --- what is read ---

READ: list[tuple[bytes, dict[str, object]]] = [
    (body_with(), {"seq": 1, "endpoints": (), "protocols": (), "more": False}),
    (body_with(seq=SEQ_MAX), {"seq": SEQ_MAX}),
    (body_with(more=True), {"more": True}),
    (b" \r\n" + body_with() + b"\t\n", {"seq": 1}),
    (body_with(later={"x": [1, None, {}]}, seq=3), {"seq": 3}),
    (object_with('"seq":9,'), {"seq": 1}),  # the last counts
    (object_with('"x":1,"x":2,'), {"seq": 1}),
    (object_with(f'"x":{"9" * 400},'), {"seq": 1}),
    (object_with(f'"x":{"[" * 30}{"]" * 30},'), {"seq": 1}),
    (body_with(protocols=["z", "a", "z"]), {"protocols": ("a", "z")}),
    (body_with(protocols=["A-Z/a.z_0"] * 64), {"protocols": ("A-Z/a.z_0",)}),
    (
        body_with(endpoints=["tcp4://B:1", "tcp4://a:1", "tcp4://b:1"]),
        {"endpoints": ("tcp4://b:1", "tcp4://a:1")},
    ),
    (body_with(endpoints=[f"tcp4://a:{port}" for port in range(1, 17)]), {}),
    (body_with(endpoints=[f"tcp4://{LONG_HOST}.{'b' * 61}:65535"]), {}),
]


@pytest.mark.parametrize(("body", "fields"), READ)
def test_read(body: bytes, fields: dict[str, object]) -> None:
    record = verify(signed(body))
    assert record.key == ids.from_text(KEY)
    assert {name: getattr(record, name) for name in fields} == fields
    assert record.signed[64:] == body


def test_the_last_of_two_keys_counts() -> None:
    other = ids.to_text(noise.identity_public(bytes(32)))
    assert ids.to_text(verify(signed(object_with(f'"key":"{other}",'))).key) == KEY
    with pytest.raises(NodeRecordError, match="signature"):
        verify(signed(body_with()[:-1] + f',"key":"{other}"}}'.encode()))


REFUSED: list[tuple[bytes, str]] = [
    (b"{", "body"),
    (b"{}", "body: .*seq"),
    (b"[]", "body: .*array"),
    (b"null", "body"),
    (b"\xef\xbb\xbf" + body_with(), "body"),
    (body_with() + b"x", "body: .*trailing"),
    (body_with() + b"\0", "body: .*trailing"),
    (body_with() + body_with(), "body: .*trailing"),
    (body_with()[:-1], "body"),
    (body_with()[:-1] + b",}", "body"),
    (body_with().replace(b'"seq": 1', b'"seq": 01'), "body"),
    (object_with('"x":"\udcff",'), "body"),
    (object_with('"x":"\\ud800",'), "body"),
    (object_with('"x":NaN,'), "body"),
    (object_with('"x":' + "[" * 700), "body"),
    (body_with(seq=0), "seq"),
    (body_with(seq=-1), "seq"),
    (body_with(seq=SEQ_MAX + 1), "seq"),
    (body_with(seq=10**400), "seq"),
    (body_with(seq=1.0), "seq"),
    (body_with(seq=True), "seq"),
    (body_with(seq="1"), "seq"),
    (body_with(seq=None), "seq"),
    (body_with(key=KEY.upper()), "key"),
    (body_with(key=KEY[:-1]), "key"),
    (body_with(key=KEY + "\n"), "key"),
    (body_with(key=KEY[:-1] + "b"), "key"),
    (body_with(key=[KEY]), "key"),
    (body_with(key=None), "key"),
    (body_with(endpoints=None), "endpoints"),
    (body_with(endpoints="tcp4://a:1"), "endpoints"),
    (body_with(endpoints=[1]), "endpoints"),
    (body_with(endpoints=["tcp4://a:1"] * 17), "endpoints"),
    (body_with(endpoints=["a:1"]), "endpoint 'a:1'"),
    (body_with(endpoints=[f"dp2p://{KEY}@a:1"]), "endpoint"),
    (body_with(endpoints=["tcp4://a:0"]), "port 0"),
    (body_with(endpoints=["tcp4://[::1]:1"]), "not an IPv4"),
    (body_with(endpoints=["tcp6://[fe80::1%eth0]:1"]), "zone"),
    (body_with(endpoints=["tcp4://" + "a" * 300 + ":1"]), "endpoints"),
    (body_with(protocols={}), "protocols"),
    (body_with(protocols=["-a"]), "protocols"),
    (body_with(protocols=["a" * 65]), "protocols"),
    (body_with(protocols=["a"] * 65), "protocols"),
    (body_with(more=1), "more"),
    (body_with(more=None), "more"),
]


@pytest.mark.parametrize(("body", "why"), REFUSED)
def test_refused_with_the_reason_though_signed(body: bytes, why: str) -> None:
    assert len(body) <= BODY_MAX
    with pytest.raises(NodeRecordError, match=why):
        verify(signed(body))


@pytest.mark.parametrize("missing", FIELDS)
def test_every_field_must_be_there(missing: str) -> None:
    body = json.dumps({name: value for name, value in FIELDS.items() if name != missing})
    with pytest.raises(NodeRecordError, match=missing):
        verify(signed(body.encode()))


def test_the_size_is_bounded_on_both_ends() -> None:
    body = body_with()
    assert verify(signed(body.ljust(BODY_MAX))).seq == 1
    for wrong in (signed(body.ljust(BODY_MAX + 1)), signed(b""), b"", bytes(63)):
        with pytest.raises(NodeRecordError, match=f"{len(wrong)} bytes; allowed is 65 to 1024"):
            verify(wrong)


def test_the_signature_must_be_the_keys() -> None:
    body = body_with()
    for signature in (noise.sign(body, bytes(32)), bytes(64), noise.sign(body + b" ", SEED)):
        with pytest.raises(NodeRecordError, match="signature: not made by its key"):
            verify(signature + body)


def test_a_signature_has_one_form() -> None:
    made = sign(SEED, seq=1, endpoints=[], protocols=[]).signed
    order = 2**252 + 27742317777372353535851937790883648493  # RFC 8032, 5.1: L
    s = int.from_bytes(made[32:64], "little") + order
    with pytest.raises(NodeRecordError, match="signature"):
        verify(made[:32] + s.to_bytes(32, "little") + made[64:])


P = 2**255 - 19
NO_KEYS = [  # RFC 8032, 5.1.3: encodings of points that no seed leads to, or of none
    (1).to_bytes(32, "little"),
    bytes(32),
    (P - 1).to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
    (2).to_bytes(32, "little"),
    b"\xff" * 32,
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize("key", NO_KEYS)
def test_a_key_must_be_of_the_main_subgroup(key: bytes) -> None:
    with pytest.raises(NodeRecordError, match="key: no point of the main subgroup"):
        verify(signed(body_with(key=ids.to_text(key))))


# --- the text ---


def test_the_text_is_one_line() -> None:
    made = sign(SEED, seq=1, endpoints=["tcp4://a:1"], protocols=["chat"]).signed
    text = to_text(made)
    assert re.fullmatch(r"dp2p-record:[A-Za-z0-9_-]+", text)
    assert from_text(text) == made


NO_TEXT = [
    ("", "expected dp2p-record:"),
    ("dp2p-record", "expected dp2p-record:"),
    ("DP2P-RECORD:AAAA", "expected dp2p-record:"),
    (" dp2p-record:AAAA", "expected dp2p-record:"),
    ("dp2p-record:", "not base64url"),
    ("dp2p-record:AAAA\n", "not base64url"),
    ("dp2p-record: AAAA", "not base64url"),
    ("dp2p-record:AA==", "not base64url"),
    ("dp2p-record:AA+A", "not base64url"),
    ("dp2p-record:AA/A", "not base64url"),
    ("dp2p-record:AAAé", "not base64url"),
    ("dp2p-record:AAAAA", "cut short"),
    ("dp2p-record:AB", "last character"),
    ("dp2p-record:AAB", "last character"),
    (to_text(bytes(SIGNED_MAX + 1)), "1025 bytes"),
]


@pytest.mark.parametrize(("text", "why"), NO_TEXT)
def test_no_text_of_a_record(text: str, why: str) -> None:
    with pytest.raises(NodeRecordError, match=why):
        from_text(text)


def test_a_text_is_of_the_right_form_whatever_it_says() -> None:
    assert from_text(TEXT_PREFIX + "AA") == b"\0"
    assert len(from_text(to_text(bytes(SIGNED_MAX)))) == SIGNED_MAX


# --- the specification ---


def test_the_example_in_the_specification() -> None:
    values = dict(line.split() for line in _block("record").splitlines())
    body = _block("json").strip()
    said = json.loads(body)
    made = sign(
        bytes.fromhex(values["seed"]),
        seq=said["seq"],
        endpoints=said["endpoints"],
        protocols=said["protocols"],
    )
    assert made.signed == bytes.fromhex(values["signature"]) + body.encode()
    assert to_text(made.signed) == values["text"]
    assert ids.to_text(made.key) == values["key"] == said["key"]
    assert verify(from_text(values["text"])) == made


def _block(mark: str) -> str:
    """The body of the only block with that mark. A line that begins with a space goes on with the
    one before it.
    """
    text = SPEC.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{mark}\n(.*?)```$", text, re.MULTILINE | re.DOTALL)
    return re.sub(r"\n +", "", found)
