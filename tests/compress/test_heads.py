"""Check quantised heads against their definition, and that no block can mislead."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from compress import heads
from compress.errors import NonFiniteError, OptionError, TernDamagedError
from tests.compress.test_float_planes import slow_decode_planes

Array = NDArray[Any]
TOP = {8: 127, 4: 7}
SHAPES = [(0, 4), (1, 1), (1, 63), (1, 64), (5, 13), (2, 384), (3, 64, 7)]


def normal(*shape: int, scale: float = 0.05, seed: int = 0) -> Array:
    """Make float32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def absmax_error(values: Array, bits: int) -> float:
    """Compute the squared error of plain round-to-nearest by the largest of every 64 values."""
    total = 0.0
    flat = values.reshape(-1).astype(np.float64)
    for at in range(0, len(flat), 64):
        group = flat[at : at + 64]
        scale = float(np.abs(group).max()) / TOP[bits] or 1.0
        total += float(((group - np.round(group / scale) * scale) ** 2).sum())
    return total


def slow_decode(block: bytes, count: int) -> list[float]:
    """Decode a block of one part with struct, fractions of two and whole numbers only."""
    _, bits, values, size = struct.unpack("<IBQQ", block[:21])
    _, exponent, scale_bytes, level_bytes = struct.unpack("<IhII", block[21:35])
    assert (values, size) == (count, len(block))
    assert len(block) == 35 + scale_bytes + level_bytes
    groups = math.ceil(count / 64)
    coded = slow_decode_planes(block[35 : 35 + scale_bytes], width=2, count=groups)
    scales = struct.unpack(f"<{groups}e", coded)
    symbols = slow_decode_planes(block[35 + scale_bytes :], width=1, count=count)
    return [(s - TOP[bits]) * scales[i // 64] * 2.0**exponent for i, s in enumerate(symbols)]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_slow_decoder_reads_the_same(bits: int, shape: tuple[int, ...]) -> None:
    values = normal(*shape)
    block = heads.encode(values, bits)
    decoded = heads.decode(block, shape)
    assert decoded.dtype == np.float32
    assert decoded.shape == shape
    expected = np.array(slow_decode(block, values.size), np.float32).reshape(shape)
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scale", [1e-34, 1e-6, 1.0, 1e30])
def test_the_error_is_never_above_plain_rounding(bits: int, scale: float) -> None:
    values = normal(40, 100, scale=scale, seed=bits)
    decoded = heads.decode(heads.encode(values, bits), values.shape).astype(np.float64)
    error = float(((values - decoded) ** 2).sum())
    # Scales in float16 may cost a little.
    assert error <= absmax_error(values, bits) * 1.02
    assert 0 < math.sqrt(error) / np.linalg.norm(values.astype(np.float64)) < 1 / TOP[bits]


def test_searching_the_scale_helps_at_four_bits() -> None:
    values = normal(100, 384)
    decoded = heads.restore(heads.quantise(values, 4)).astype(np.float64)
    assert float(((values - decoded) ** 2).sum()) < 0.9 * absmax_error(values, 4)


def test_levels_are_the_nearest_multiples_of_their_scale() -> None:
    values = normal(3, 100)
    head = heads.quantise(values, 4)
    assert head.levels.dtype == np.int8
    assert head.levels.shape == values.shape
    assert head.scales.dtype == np.float16
    assert len(head.scales) == 5
    for place, value in enumerate(values.reshape(-1).tolist()):
        scale = float(head.scales[place // 64]) * 2.0**head.exponent
        nearest = min(range(-7, 8), key=lambda level: abs(value - level * scale))
        assert int(head.levels.reshape(-1)[place]) == nearest


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_stay_zeros(bits: int) -> None:
    values = np.zeros((10, 200), np.float32)
    block = heads.encode(values, bits)
    np.testing.assert_array_equal(heads.decode(block, values.shape), values)
    assert len(block) < 100


@pytest.mark.parametrize("bits", [8, 4])
def test_the_largest_values_do_not_become_infinite(bits: int) -> None:
    for share in np.linspace(0.998, 1, 200, dtype=np.float32):
        values = np.full(3, share * np.finfo(np.float32).max, np.float32)
        decoded = heads.decode(heads.encode(values, bits), values.shape)
        np.testing.assert_allclose(decoded, values, rtol=0.09)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=150),
    st.sampled_from([8, 4]),
)
def test_any_finite_values_come_back_near(numbers: list[float], bits: int) -> None:
    values = np.array(numbers, np.float32)
    decoded = heads.decode(heads.encode(values, bits), values.shape)
    for at in range(0, len(values), 64):
        group = values[at : at + 64].astype(np.float64)
        gap = np.linalg.norm(group - decoded[at : at + 64])
        largest = float(np.abs(values).max())
        # A scale far below the largest of the tensor is a denormal float16, or even float32.
        coarse = TOP[bits] * max(largest * 2.0**-24, 2.0**-149)
        assert gap <= 8 * (np.abs(group).max() / TOP[bits] * 0.51 + coarse)


def test_the_size_is_that_of_the_entropy_of_the_levels() -> None:
    values = normal(150, 384)
    for bits in (8, 4):
        levels = heads.quantise(values, bits).levels.reshape(-1)
        shares = np.unique(levels, return_counts=True)[1] / levels.size
        entropy = -(shares * np.log2(shares)).sum() + 16 / 64
        spent = 8 * len(heads.encode(values, bits)) / values.size
        assert spent < 1.02 * entropy
        assert spent < bits + 16 / 64


def test_large_tensors_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(10, 100)
    whole = heads.decode(heads.encode(values, 8), values.shape)
    monkeypatch.setattr(heads, "PART_VALUES", 128)
    block = heads.encode(values, 8)
    assert len(block) > len(heads.encode(values[:1], 8)) * 5
    parted = heads.decode(block, values.shape)
    np.testing.assert_allclose(parted, whole, rtol=0, atol=0.05 * 4 / 127)
    monkeypatch.setattr(heads, "PART_VALUES", 256)
    with pytest.raises(TernDamagedError):
        heads.decode(block, values.shape)


def test_what_cannot_be_quantised_is_refused() -> None:
    with pytest.raises(OptionError, match="8 or 4"):
        heads.encode(normal(2, 2), 3)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(NonFiniteError):
            heads.encode(np.array([[1, bad]], np.float32), 8)


def test_the_relative_error_is_a_ratio_of_norms() -> None:
    values = np.array([3, 4], np.float32)
    assert heads.relative_error(values, np.array([3, 3.5], np.float32)) == pytest.approx(0.1)
    assert heads.relative_error(values, values) == 0
    nothing = np.zeros(2, np.float32)
    assert heads.relative_error(nothing, nothing) == 0
    assert heads.relative_error(nothing, values) == math.inf


BLOCK = heads.encode(normal(4, 80), 4)


def test_sizes_are_read_from_the_first_bytes() -> None:
    head = heads.read_head(BLOCK[: heads.HEAD_BYTES])
    assert (head.bits, head.values, head.size_bytes) == (4, 320, len(BLOCK))


@pytest.mark.parametrize("at", range(len(BLOCK)))
def test_every_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(BLOCK)
    changed[at] ^= 0x11
    with pytest.raises(TernDamagedError):
        heads.decode(bytes(changed), (4, 80))


@pytest.mark.parametrize("length", range(0, len(BLOCK), 5))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(TernDamagedError):
        heads.decode(BLOCK[:length], (4, 80))


def sealed(part: bytes) -> bytes:
    """Make a checksum right."""
    return zlib.crc32(part).to_bytes(4, "little") + part


def forged(scales: bytes, levels: bytes, **head: int) -> bytes:
    """Write a block of 64 values with right checksums."""
    fields = {"exponent": 0, "bits": 4, "values": 64, "size": 0} | head
    lengths = struct.pack("<hII", fields["exponent"], len(scales), len(levels))
    part = sealed(lengths + scales + levels)
    size = fields["size"] or 21 + len(part)
    return sealed(struct.pack("<BQQ", fields["bits"], fields["values"], size)) + part


ONE = b"\0\x78\0\0"  # two raw planes of the float16 1.0, its bits turned left by one
LEVELS = b"\0" + bytes([8]) * 64


def test_a_true_forgery_is_read() -> None:
    np.testing.assert_array_equal(heads.decode(forged(ONE, LEVELS), (64,)), np.ones(64, np.float32))


@pytest.mark.parametrize(
    "block",
    [
        forged(b"\0\xf8\0\0", LEVELS),
        forged(b"\0\xfc\0\0", LEVELS),
        forged(b"\0\x78\0\1", LEVELS),
        forged(ONE, b"\0" + bytes([15]) * 64),
        forged(ONE, b"\0" + bytes([8]) * 63),
        forged(ONE + ONE, LEVELS),
        forged(ONE, LEVELS, exponent=128),
        forged(ONE, LEVELS, exponent=32767),
        forged(ONE, b"\0" + bytes([7]) * 64, exponent=32767),
        forged(ONE, LEVELS, bits=5),
        forged(ONE, LEVELS, size=21),
        forged(ONE, LEVELS, size=1 << 60),
        forged(ONE, LEVELS, values=65),
        forged(ONE, LEVELS, values=1 << 62),
        forged(ONE, LEVELS) + b"\0",
    ],
    ids=range(15),
)
def test_lies_with_right_checksums_are_refused(block: bytes) -> None:
    with pytest.raises(TernDamagedError):
        heads.decode(block, (64,))


@pytest.mark.parametrize(
    ("expert", "rows"), [("clinc150", 150), ("banking77", 77), ("trec6", 6), ("sst2", 2)]
)
def test_real_heads_shrink_as_they_should(test_data: Path, expert: str, rows: int) -> None:
    folder = test_data / "experts" / expert
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
    tensors = load_file(folder / "adapter_model.safetensors")
    values = tensors["base_model.model.classifier.weight"]
    assert len(values) == rows
    for bits, error in ((8, 0.0065), (4, 0.11)):
        block = heads.encode(values, bits)
        decoded = heads.decode(block, values.shape)
        assert heads.relative_error(values, decoded) < error
        assert len(block) < values.size * (bits + 16 / 64) / 8 + 50
