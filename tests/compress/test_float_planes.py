"""Check planes bit for bit, against a slow decoder, and against what general compressors do."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import float_planes, plane_models
from compress.errors import TernDamagedError
from tests.compress.test_rans import slow_decode
from tests.compress.test_symbol_tables import slow_frequencies

Array = NDArray[Any]
WIDTHS = [1, 2, 4, 8]
TYPES = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8": ml_dtypes.float8_e4m3fn,
}


def weights(size: int, seed: int = 0) -> Array:
    """Make float32 weights of several scales, as in an adapter."""
    rng = np.random.default_rng(seed)
    scales = np.repeat([0.02, 1e-4, 0.3, 0.0], -(-size // 4))[:size]
    values: Array = rng.standard_normal(size) * scales
    return values.astype(np.float32)


def round_trip(data: bytes, width: int) -> bytes:
    """Encode, decode, compare; give the encoded bytes."""
    coded = float_planes.encode(data, width=width)
    assert float_planes.decode(coded, width=width, size=len(data)) == data
    return coded


def slow_plane(data: bytes, above: list[int], *, count: int) -> tuple[list[int], bytes]:
    """Decode one plane as the format says it; give the rest of the data too."""
    if data[0] == 0:
        return list(data[1 : 1 + count]), data[1 + count :]
    way, kind, lanes, words, model_bytes = struct.unpack("<BBHIH", data[:10])
    spread, classes, chunk = kind >> 4, kind & 15, 256
    while chunk * 2048 < count:
        chunk *= 2
    model = zlib.decompress(data[10 : 10 + model_bytes], wbits=-15)
    groups = 0 if classes == 1 else {1: -(-count // chunk), 2: 256}[way]
    labels, model = model[:groups] or bytes(max(256, count)), model[groups:]
    tables = []
    for _ in range(classes):
        first, last = model[:2]
        row = [0] * first + list(model[2 : 3 + last - first]) + [0] * ((256 >> spread) - 1 - last)
        tables.append(slow_frequencies([w for w in row for _ in range(1 << spread)], 12))
        model = model[3 + last - first :]
    assert not model
    data = data[10 + model_bytes :]
    states = struct.unpack(f"<{lanes}I", data[: 4 * lanes])
    stream = struct.unpack(f"<{words}H", data[4 * lanes : 4 * lanes + 2 * words])
    rows = [tables[labels[above[i] if way == 2 else i // chunk]] for i in range(count)]
    rest = data[4 * lanes + 2 * words :]
    if not lanes:
        return [row.index(4096) for row in rows], rest
    return slow_decode(states, stream, rows, bits=12), rest


def slow_decode_planes(data: bytes, *, width: int, count: int) -> bytes:
    """Decode planes in whole numbers and put the elements together again."""
    above: list[int] = []
    elements = [0] * count
    for _ in range(width):
        above, data = slow_plane(data, above, count=count)
        elements = [element << 8 | byte for element, byte in zip(elements, above, strict=True)]
    assert not data
    bits = 8 * width
    turn = 0 if width == 1 else 1
    turned = [((e >> turn) | (e << (bits - turn))) & ((1 << bits) - 1) for e in elements]
    return b"".join(element.to_bytes(width, "little") for element in turned)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 4001])
def test_a_slow_decoder_reads_the_same(name: str, size: int) -> None:
    values = weights(size).astype(TYPES[name])
    data, width = values.tobytes(), values.itemsize
    coded = round_trip(data, width)
    assert slow_decode_planes(coded, width=width, count=size) == data


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_widened_values_take_hardly_more_than_narrow_ones(name: str) -> None:
    narrow = weights(60_000).astype(TYPES[name])
    small = len(round_trip(narrow.tobytes(), narrow.itemsize))
    for wide in (np.float32, np.float64):
        widened = narrow.astype(wide)
        assert len(round_trip(widened.tobytes(), widened.itemsize)) < 1.06 * small


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(WIDTHS), st.integers(0, 2000), st.integers(0, 2**32))
def test_any_bits_round_trip(width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 256, 5, dtype=np.uint8)
    kinds = [
        rng.integers(0, 256, count * width, dtype=np.uint8),
        rng.choice(few, count * width),
        np.repeat(few, -(-count * width // 5))[: count * width],
    ]
    round_trip(kinds[seed % 3].tobytes(), width)


SPECIAL = {
    1: [0x00, 0x80, 0x7F, 0xFF, 0x01],
    2: [0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E01, 0x7C01, 0x7F80, 0xFF80, 0x7FC1, 0x7F81, 0x0001],
    4: [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0xFFFFFFFF, 1],
    8: [0, 1 << 63, 0x7FF << 52, 0xFFF << 52, 0x7FF0000000000001, 0x7FF8DEADBEEF0001, 2**64 - 1],
}


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(WIDTHS))
def test_special_values_keep_every_bit(data: st.DataObject, width: int) -> None:
    """Check NaN payloads, signed zeros, infinities and denormals among ordinary values."""
    element = st.one_of(st.sampled_from(SPECIAL[width]), st.integers(0, 256**width - 1))
    values = data.draw(st.lists(element, max_size=80)) * data.draw(st.sampled_from([1, 50]))
    round_trip(b"".join(value.to_bytes(width, "little") for value in values), width)


def test_exponents_cost_what_their_entropy_says() -> None:
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    exponents = values.view(np.uint32) >> 23 & 0xFF
    shares = np.bincount(exponents) / len(values)
    bits = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    coded = 8 * len(round_trip(values.tobytes(), 4)) / len(values)
    assert 24 + bits - 0.08 < coded < 24 + 1.03 * bits


def test_tensors_of_other_scales_get_tables_of_their_own() -> None:
    rng = np.random.default_rng(0)
    fine = (rng.standard_normal(50_000) * 1e-6).astype(np.float32)
    coarse = rng.standard_normal(50_000).astype(np.float32)
    apart = sum(len(round_trip(part.tobytes(), 4)) for part in (fine, coarse))
    assert len(round_trip(np.concatenate([fine, coarse]).tobytes(), 4)) < 1.002 * apart


def test_zeros_among_others_cost_little_more_than_their_places() -> None:
    rng = np.random.default_rng(0)
    kept = rng.random(200_000) < 0.05
    values = np.where(kept, rng.standard_normal(200_000), 0).astype(np.float32)
    places = -(0.05 * np.log2(0.05) + 0.95 * np.log2(0.95)) * 200_000 / 8
    assert len(round_trip(values.tobytes(), 4)) < 1.1 * (places + kept.sum() * 26.5 / 8)


def test_a_tensor_of_zeros_costs_next_to_nothing() -> None:
    assert len(round_trip(bytes(4 << 20), 4)) < 100


def test_noise_costs_a_byte_per_plane() -> None:
    noise = np.random.default_rng(0).bytes(40_000)
    assert len(round_trip(noise, 4)) == 40_004


def test_equal_input_gives_equal_bytes() -> None:
    data = weights(30_000).tobytes()
    assert float_planes.encode(data, width=4) == float_planes.encode(bytes(data), width=4)


VALUES = weights(3000)
GOOD = float_planes.encode(VALUES.tobytes(), width=4)


def test_the_good_one_has_planes_of_several_kinds() -> None:
    assert GOOD[0] == plane_models.Way.BY_CHUNK
    assert len(GOOD) < 0.8 * VALUES.nbytes


@pytest.mark.parametrize("length", [*range(60), *range(60, len(GOOD), 97), len(GOOD) - 1])
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(TernDamagedError):
        float_planes.decode(GOOD[:length], width=4, size=VALUES.nbytes)


@pytest.mark.parametrize(
    ("data", "width", "size"),
    [
        (GOOD + b"\0", 4, VALUES.nbytes),
        (GOOD, 4, VALUES.nbytes - 4),
        (GOOD, 4, VALUES.nbytes + 4),
        (GOOD, 4, VALUES.nbytes + 1),
        (GOOD, 8, VALUES.nbytes),
        (GOOD, 2, VALUES.nbytes),
        (b"\3" + GOOD[1:], 4, VALUES.nbytes),
        (b"\2" + GOOD[1:], 4, VALUES.nbytes),
        (GOOD[:1] + b"\0" + GOOD[2:], 4, VALUES.nbytes),
        (GOOD[:1] + b"\xff" + GOOD[2:], 4, VALUES.nbytes),
        (GOOD[:2] + b"\xff\xff" + GOOD[4:], 4, VALUES.nbytes),
        (GOOD[:4] + b"\xff\xff\xff\xff" + GOOD[8:], 4, VALUES.nbytes),
        (GOOD[:8] + b"\xff\xff" + GOOD[10:], 4, VALUES.nbytes),
        (GOOD[:8] + b"\0\0" + GOOD[10:], 4, VALUES.nbytes),
        (b"", 1, 1),
    ],
    ids=range(15),
)
def test_lies_are_refused(data: bytes, width: int, size: int) -> None:
    with pytest.raises(TernDamagedError):
        float_planes.decode(data, width=width, size=size)


def model_of(
    raw: bytes, *, classes: int, spread: int = 0, count: int = 1000, way: int = 1
) -> object:
    """Read a model from what would be deflated."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(raw) + packer.flush()
    return plane_models.read(packed, way=way, classes=classes, spread=spread, count=count)


ROW = b"\0\1\7\7"


def test_a_true_model_is_read() -> None:
    assert model_of(ROW, classes=1)
    assert model_of(b"\0\1\1\0" + ROW * 2, classes=2)


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (ROW, {"classes": 0}),
        (ROW, {"classes": 16}),
        (ROW, {"classes": 1, "way": 0}),
        (ROW, {"classes": 1, "way": 3}),
        (ROW + b"x", {"classes": 1}),
        (b"\0\1\1\2" + ROW * 2, {"classes": 2}),
        (b"\0\1\1" + ROW * 2, {"classes": 2}),
        (b"\0\1", {"classes": 2}),
        (ROW, {"classes": 1, "spread": 9}),
        (bytes(10 << 20), {"classes": 1}),
        (b"", {"classes": 1}),
    ],
    ids=range(11),
)
def test_lying_models_are_refused(raw: bytes, options: dict[str, int]) -> None:
    with pytest.raises(TernDamagedError):
        model_of(raw, **options)


def test_models_that_are_not_deflated_are_refused() -> None:
    with pytest.raises(TernDamagedError, match="read"):
        plane_models.read(b"\xff" * 20, way=1, classes=1, spread=0, count=1000)
