"""Check ternarising and packing against the reference, a slow oracle and the published recipe."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from compress import backend
from compress.kernels import ternary as kernel
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend
from compress.sparsify import magnitude_bits

Array = NDArray[Any]
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
BLOCK = 5 * kernel._BLOCK
SIZES = [1, 4, 5, 6, BLOCK - 1, BLOCK, BLOCK + 1, 10_007]
REFERENCE = NumpyBackend()


def quarters(size: int, dtype: type[Any]) -> Array:
    """Make values on a grid, so that many tie."""
    return (np.round(np.random.default_rng(size).normal(0, 4, size)) / 4).astype(dtype)


def bits_of(value: float, dtype: type[Any]) -> int:
    """Give the pattern of a magnitude."""
    return int(magnitude_bits(np.array([value], dtype))[0])


def slow_symbols(values: list[float], threshold: float, ties: int | None) -> list[int]:
    """Ternarise and pack one value at a time, as the definitions say."""
    trits, left = [], math.inf if ties is None else ties
    for value in values:
        keep = abs(value) > threshold
        if abs(value) == threshold and left > 0:
            keep, left = True, left - 1
        trits.append((1 if value > 0 else -1 if value < 0 else 0) if keep else 0)
    trits += [0] * (-len(trits) % 5)
    return [
        sum((trits[at + place] + 1) * 3**place for place in range(5))
        for at in range(0, len(trits), 5)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ties", [None, 0, 7, 10**6])
def test_kernel_equals_reference(
    size: int, dtype: type[Any], ties: int | None, kernels: KernelBackend
) -> None:
    values = quarters(size, dtype)
    threshold = bits_of(0.75, dtype)
    symbols, counts = kernels.ternarise_pack(values, threshold, ties=ties)
    expected, expected_counts = REFERENCE.ternarise_pack(values, threshold, ties=ties)
    np.testing.assert_array_equal(symbols.cpu().numpy(), expected)
    np.testing.assert_array_equal(counts.cpu().numpy(), expected_counts)


@pytest.mark.parametrize("ties", [None, 0, 1, 5])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.75, 100.0])
def test_both_equal_a_slow_oracle(
    threshold: float, ties: int | None, kernels: KernelBackend
) -> None:
    values = quarters(203, np.float32)
    expected = slow_symbols(values.tolist(), threshold, ties)
    for found in (REFERENCE, kernels):
        symbols, _ = found.ternarise_pack(values, bits_of(threshold, np.float32), ties=ties)
        assert symbols.tolist() == expected


@pytest.mark.parametrize("ties", range(9))
def test_every_number_of_ties_across_blocks(
    ties: int, kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_TIE_BLOCK", 16)
    values = np.zeros(70, np.float32)
    values[[0, 15, 16, 31, 40, 47, 48, 69]] = [1, -1, 1, 1, 1, -1, -1, 1]
    symbols, _ = kernels.ternarise_pack(values, bits_of(1, np.float32), ties=ties)
    assert symbols.tolist() == slow_symbols(values.tolist(), 1, ties)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_has_no_sign_gives_no_trit(dtype: type[Any], kernels: KernelBackend) -> None:
    values = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0], dtype)
    symbols, counts = kernels.ternarise_pack(values, 0)
    expected, _ = REFERENCE.ternarise_pack(values, 0)
    assert symbols.tolist() == expected.tolist()
    assert backend.trit_counts(counts.cpu().numpy(), 8) == (2, 4, 2)


def test_programs_take_turns(kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_MAX_PROGRAMS", 2)
    values = quarters(5 * BLOCK + 3, np.float32)
    symbols, counts = kernels.ternarise_pack(values, bits_of(0.5, np.float32))
    expected, expected_counts = REFERENCE.ternarise_pack(values, bits_of(0.5, np.float32))
    np.testing.assert_array_equal(symbols.cpu().numpy(), expected)
    np.testing.assert_array_equal(counts.cpu().numpy(), expected_counts)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 1001])
def test_trits_are_counted_from_symbols(size: int) -> None:
    values = quarters(size, np.float32)
    _, counts = REFERENCE.ternarise_pack(values, bits_of(0.5, np.float32))
    kept = values[np.abs(values) >= 0.5]
    negative, positive = int((kept < 0).sum()), int((kept > 0).sum())
    assert backend.trit_counts(counts, size) == (negative, size - negative - positive, positive)


def test_nothing_packs_to_nothing(kernels: KernelBackend) -> None:
    symbols, counts = kernels.ternarise_pack(np.empty(0, np.float32), 5, ties=3)
    assert len(symbols) == 0
    assert counts.tolist() == [0] * 243


@pytest.mark.parametrize("exact_count", [False, True])
def test_the_published_recipe_is_one_of_its_uses(exact_count: bool, kernels: KernelBackend) -> None:
    """Selection and packing together keep what ComPEFT keeps: the top share, ties by position."""
    values = quarters(1009, np.float32)
    keep = int(len(values) * 0.2)
    rank = len(values) - keep + exact_count
    found = kernels.survey(values, rank)
    ties = keep - found.above if exact_count else None
    _, counts = kernels.ternarise_pack(values, found.threshold_bits, ties=ties)
    negative, _, positive = backend.trit_counts(counts.cpu().numpy(), len(values))
    threshold = np.sort(np.abs(values))[rank - 1]
    expected = keep if exact_count else int((np.abs(values) >= threshold).sum())
    assert negative + positive == expected
