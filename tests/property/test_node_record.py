"""Node records under any input: no bit may change, nothing outgrows its room, nothing breaks."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dp2p import ids, node_record, noise
from dp2p.errors import NodeRecordError
from dp2p.node_record import SEQ_MAX, SIGNED_MAX, NodeRecord, from_text, sign, to_text, verify

SEEDS = st.binary(min_size=32, max_size=32)
SEQS = st.integers(1, SEQ_MAX)
PORTS = st.integers(1, 65535)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, max_size=4).map(lambda labels: ".".join([*labels, "example"]))
ENDPOINTS = st.one_of(
    st.builds("tcp4://{}:{}".format, st.ip_addresses(v=4), PORTS),
    st.builds("tcp6://[{}]:{}".format, st.ip_addresses(v=6), PORTS),
    st.builds("tcp4://{}:{}".format, HOSTS.filter(lambda host: len(host) <= 253), PORTS),
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", fullmatch=True)
RECORDS = st.builds(
    sign,
    SEEDS,
    seq=SEQS,
    endpoints=st.lists(ENDPOINTS, max_size=2),
    protocols=st.lists(NAMES, max_size=12),
)


@given(RECORDS)
def test_what_was_signed_is_read_back(record: NodeRecord) -> None:
    assert verify(record.signed) == record
    assert from_text(to_text(record.signed)) == record.signed


@given(RECORDS, st.data())
def test_no_bit_can_be_flipped(record: NodeRecord, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(record.signed) * 8 - 1))
    changed = bytearray(record.signed)
    changed[bit // 8] ^= 1 << bit % 8
    assert _refused(bytes(changed))


def test_no_bit_of_one_record_can_be_flipped() -> None:
    made = sign(bytes(32), seq=1, endpoints=["tcp4://a:1"], protocols=["chat"]).signed
    whole = int.from_bytes(made, "big")
    for bit in range(len(made) * 8):
        assert _refused((whole ^ 1 << bit).to_bytes(len(made), "big")), bit


@given(RECORDS, st.integers(0, SIGNED_MAX))
def test_nothing_can_be_cut_off(record: NodeRecord, size: int) -> None:
    assert size >= len(record.signed) or _refused(record.signed[:size])


@given(RECORDS, st.binary(min_size=1, max_size=16))
def test_nothing_can_be_added(record: NodeRecord, more: bytes) -> None:
    assert _refused(record.signed + more)


@given(RECORDS, SEEDS)
def test_nobody_else_can_sign_it(record: NodeRecord, seed: bytes) -> None:
    body = record.signed[noise.SIGNATURE_BYTES :]
    assert noise.identity_public(seed) == record.key or _refused(noise.sign(body, seed) + body)


@given(
    SEEDS,
    SEQS,
    st.lists(ENDPOINTS, max_size=16),
    st.lists(NAMES, max_size=250),
)
def test_a_record_has_room_or_is_refused(
    seed: bytes, seq: int, endpoints: list[str], protocols: list[str]
) -> None:
    names = sorted(set(protocols))
    try:
        made = sign(seed, seq=seq, endpoints=endpoints, protocols=protocols)
    except NodeRecordError:
        assert sum(map(len, endpoints)) > 700
        return
    assert len(made.signed) <= SIGNED_MAX
    assert set(made.endpoints) == set(endpoints)
    assert list(made.protocols) == names[: len(made.protocols)]
    assert made.more == (len(made.protocols) < len(names))
    assert verify(made.signed) == made


@given(st.binary(max_size=SIGNED_MAX + 8))
def test_any_bytes_are_refused(signed: bytes) -> None:
    assert _refused(signed)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | ENDPOINTS
    | NAMES
    | SEEDS.map(ids.to_text),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["seq", "key", "endpoints", "protocols", "more", "other"])


@given(SEEDS, st.dictionaries(FIELDS, JSON, max_size=6), st.booleans())
def test_any_signed_json_is_read_or_refused(
    seed: bytes, fields: dict[str, object], own_key: bool
) -> None:
    if own_key:
        fields = {**fields, "key": ids.to_text(noise.identity_public(seed))}
    body = msgspec.json.encode({"seq": 1, "endpoints": [], "protocols": []} | fields)
    signed = noise.sign(body, seed) + body
    try:
        record = verify(signed)
    except NodeRecordError:
        return
    assert record.key == noise.identity_public(seed)
    assert 1 <= record.seq <= SEQ_MAX
    assert len(record.endpoints) <= node_record.ENDPOINTS_MAX
    assert len(record.protocols) <= node_record.PROTOCOLS_MAX


@given(st.text(max_size=64))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, node_record.TEXT_PREFIX + text):
        try:
            signed = from_text(candidate)
        except NodeRecordError:
            continue
        assert to_text(signed) == candidate


def _refused(signed: bytes) -> bool:
    try:
        verify(signed)
    except NodeRecordError:
        return True
    return False
