"""Check the models of how often symbols come."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import frequencies
from compress.errors import TernDamagedError
from compress.frequencies import ModelKind
from compress.ternary import SYMBOLS, pack


def counts_of(trits: NDArray[Any]) -> NDArray[Any]:
    """Count the symbols of trits."""
    return np.bincount(pack(trits), minlength=SYMBOLS)


def random_trits(
    size: int, density: float, *, positive: float = 0.5, seed: int = 0
) -> NDArray[Any]:
    """Make independent trits."""
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(size) < positive, 1, -1)
    return np.where(rng.random(size) < density, signs, 0).astype(np.int8)


def entropy_bits(trits: NDArray[Any]) -> float:
    """Compute the Shannon bound of trits in one distribution."""
    shares = np.bincount(trits + 1, minlength=3) / len(trits)
    return float(-len(trits) * sum(p * np.log2(p) for p in shares if p))


@pytest.mark.parametrize("density", [0.001, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("positive", [0.5, 0.2, 1.0])
def test_independent_trits_cost_their_entropy(density: float, positive: float) -> None:
    trits = random_trits(1_000_000, density, positive=positive)
    model = frequencies.fit(counts_of(trits))
    cost = model.cost_bits(counts_of(trits)) + 8 * len(model.encoded)
    factor = 1.003 if density >= 0.05 else 1.03
    assert cost <= entropy_bits(trits) * factor + 200


@pytest.mark.parametrize("bits", frequencies.PRECISIONS)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_frequencies_sum_to_a_power_of_two(bits: int, density: float) -> None:
    counts = counts_of(random_trits(5000, density))
    for encoded, kind in (
        (frequencies._encode_count_weights(counts), ModelKind.COUNT),
        (
            frequencies._table_model(
                frequencies._normalise([int(n) for n in counts], bits), bits
            ).encoded,
            ModelKind.TABLE,
        ),
    ):
        model = frequencies.read(kind, bits, encoded)
        assert int(model.frequencies.sum()) == 1 << bits
        assert (model.frequencies[counts > 0] > 0).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 10**7), min_size=SYMBOLS, max_size=SYMBOLS).filter(any))
def test_any_counts_give_a_model_that_can_code_them(values: list[int]) -> None:
    counts = np.array(values)
    model = frequencies.fit(counts)
    assert (model.frequencies[counts > 0] > 0).all()
    again = frequencies.read(model.kind, model.bits, model.encoded)
    np.testing.assert_array_equal(again.frequencies, model.frequencies)


def test_a_periodic_stream_takes_the_table() -> None:
    counts = counts_of(np.tile(np.array([1, 0, -1, 0, 1, 1, -1], np.int8), 5000))
    model = frequencies.fit(counts)
    assert model.kind is ModelKind.TABLE
    assert model.cost_bits(counts) < 0.4 * entropy_bits(np.tile([1, 0, -1, 0, 1, 1, -1], 5000))


def test_dense_and_empty_stretches_cost_less_than_one_distribution() -> None:
    dense, empty = random_trits(50_000, 0.5), np.zeros(50_000, np.int8)
    trits = np.concatenate([dense, empty])
    model = frequencies.fit(counts_of(trits))
    assert model.kind is ModelKind.COUNT
    assert model.cost_bits(counts_of(trits)) < 0.9 * entropy_bits(trits)


def test_a_constant_stream_costs_nothing() -> None:
    counts = counts_of(np.zeros(1000, np.int8))
    model = frequencies.fit(counts)
    assert model.cost_bits(counts) == 0
    assert int(model.frequencies.max()) == 1 << model.bits


def test_the_cost_matches_the_definition() -> None:
    counts = counts_of(random_trits(3000, 0.3))
    model = frequencies.fit(counts)
    expected = sum(
        -int(n) * np.log2(int(f) / 2**model.bits)
        for n, f in zip(counts, model.frequencies, strict=True)
        if n
    )
    assert model.cost_bits(counts) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "bits", "encoded"),
    [
        (0, 12, b""),
        (0, 12, bytes(14)),
        (0, 12, bytes(13)),
        (0, 11, bytes([1]) * 14),
        (0, 17, bytes([1]) * 14),
        (2, 12, bytes([1]) * 14),
        (1, 12, b"not deflated"),
        (1, 12, zlib.compress(bytes(4 * SYMBOLS))),
        (1, 12, zlib.compress(bytes(4 * SYMBOLS - 1))),
        (1, 12, zlib.compress(bytes(1 << 22))),
        (1, 12, zlib.compress(np.full(SYMBOLS, 1 << 31, "<u4").tobytes())),
    ],
)
def test_what_no_encoder_writes_is_refused(kind: int, bits: int, encoded: bytes) -> None:
    with pytest.raises(TernDamagedError):
        frequencies.read(kind, bits, encoded)


def test_bytes_after_a_table_are_refused() -> None:
    counts = counts_of(np.tile(np.array([1, 0, -1, 0, 1, 1, -1], np.int8), 5000))
    model = frequencies.fit(counts)
    with pytest.raises(TernDamagedError):
        frequencies.read(model.kind, model.bits, model.encoded + b"\0")


def test_count_weights_with_one_sign_only() -> None:
    weights = np.array([5, 0, 0, 0, 0, 0, 0xFFFF], "<u2").tobytes()
    model = frequencies.read(ModelKind.COUNT, 12, weights)
    assert model.frequencies[121] == 1 << 12
