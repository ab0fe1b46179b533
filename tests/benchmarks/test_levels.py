"""Check rounding against loops over single numbers, and sizes against entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.baselines.levels import (
    absmax,
    best_range,
    by_groups,
    deflated_bits,
    min_max,
    packed_bits,
    sign_mean,
)

Array = NDArray[Any]


def vectors(seed: int, rows: int = 3, size: int = 50) -> Array:
    """Make random rows of different strength."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(rows, size)) * np.arange(1, rows + 1)[:, None])


def entropy_bits(levels: Array) -> float:
    """Compute the entropy of all levels, times their number."""
    _, counts = np.unique(levels, return_counts=True)
    return sum(-int(n) * math.log2(n / levels.size) for n in counts)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([4, 8]))
def test_absmax_is_off_by_half_a_step_at_most(seed: int, bits: int) -> None:
    before = vectors(seed)
    made = absmax(before, bits=bits)
    step = np.abs(before).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    # A float16 scale is off by 2⁻¹¹ of itself, and a value is at most 2^(bits−1) − 1 of it.
    slack = 2**-11 * np.abs(before).max(axis=1, keepdims=True)
    assert (np.abs(made.values - before) <= step / 2 + slack).all()
    assert made.levels.max() <= 2**bits - 2
    assert made.side_bits == 16 * 3


def test_absmax_keeps_the_largest_value() -> None:
    before = np.array([[0.5, -7.0, 3.4]])
    made = absmax(before, bits=4)
    assert made.values.tolist() == [[0.0, -7.0, 3.0]]
    assert made.levels.tolist() == [[7, 0, 10]]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([2, 3]))
def test_min_max_as_a_loop_computes_it(seed: int, bits: int) -> None:
    before = vectors(seed, rows=2, size=17)
    made = min_max(before, bits=bits)
    top = 2**bits - 1
    for row, values in zip(before.tolist(), made.values.tolist(), strict=True):
        step = float(np.float16((max(row) - min(row)) / top))
        zero = min(max(round(-min(row) / step), 0), top)
        expected = [(min(max(round(x / step) + zero, 0), top) - zero) * step for x in row]
        assert values == pytest.approx(expected, rel=1e-6)
    assert made.side_bits == 2 * (16 + bits)
    assert made.levels.max() <= top


def test_min_max_by_hand() -> None:
    made = min_max(np.array([[-1.0, -0.4, 0.6, 2.0]]), bits=2)
    assert made.values.tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    assert made.levels.tolist() == [[0, 1, 2, 3]]


def test_the_best_range_beats_the_full_one_in_every_row() -> None:
    before = np.random.default_rng(0).normal(size=(20, 128))
    full, best = min_max(before, bits=2), best_range(before, bits=2)
    full_error = ((full.values - before) ** 2).sum(axis=1)
    best_error = ((best.values - before) ** 2).sum(axis=1)
    assert (best_error <= full_error).all()
    # Gaussian values in 128: the ends of the range are far out, and a smaller one halves the error.
    assert best_error.sum() < 0.6 * full_error.sum()
    assert best.side_bits == full.side_bits


def test_the_levels_of_the_best_range_give_its_values() -> None:
    before = vectors(3, rows=4)
    made = best_range(before, bits=3)
    for values, levels in zip(made.values, made.levels, strict=True):
        pairs = {(int(level), float(value)) for level, value in zip(levels, values, strict=True)}
        assert len(pairs) == len({level for level, _ in pairs}) == len({v for _, v in pairs})


def test_sign_mean_takes_the_mean_magnitude() -> None:
    made = sign_mean(np.array([[3.0, -1.0, 0.0, -4.0], [0.0, 0.0, 0.0, 0.0]]))
    assert made.values.tolist() == [[2.0, -2.0, 2.0, -2.0], [0.0, 0.0, 0.0, 0.0]]
    assert made.levels.tolist() == [[1, 0, 1, 0], [1, 1, 1, 1]]
    assert made.side_bits == 32


def test_sign_mean_is_the_best_scale_of_signs() -> None:
    row = np.random.default_rng(1).normal(size=(1, 400))
    scale = abs(float(sign_mean(row).values[0, 0]))
    errors = {s: float(((row - s * np.sign(row)) ** 2).sum()) for s in (0.98, 1.0, 1.02)}
    at = {s: float(((row - s * scale * np.sign(row)) ** 2).sum()) for s in errors}
    assert min(at, key=lambda s: at[s]) == 1.0


@pytest.mark.parametrize("rounding", [sign_mean, lambda v: absmax(v, bits=4)])
def test_zeros_stay_zeros(rounding: Any) -> None:
    assert not rounding(np.zeros((2, 5))).values.any()
    assert not min_max(np.zeros((2, 5)), bits=2).values.any()


@pytest.mark.parametrize(("size", "groups"), [(64, 1), (65, 2), (100, 2), (128, 2), (129, 3)])
def test_every_group_has_its_own_scale(size: int, groups: int) -> None:
    before = vectors(0, rows=2, size=size)
    made = by_groups(before, 64, sign_mean)
    assert made.side_bits == 2 * groups * 16
    for at in range(0, size, 64):
        scale = np.abs(before[:, at : at + 64]).mean(axis=1).astype(np.float16)
        expected = np.sign(before[:, at : at + 64]) * scale[:, None]
        np.testing.assert_array_equal(made.values[:, at : at + 64], expected)


@pytest.mark.parametrize(("count", "width", "size"), [(8, 1, 1), (9, 1, 2), (3, 3, 2), (5, 4, 3)])
def test_packed_levels_fill_whole_bytes(count: int, width: int, size: int) -> None:
    half = count // 2
    parts = [np.zeros(half, np.uint8), np.zeros((1, count - half), np.uint8)]
    assert packed_bits(parts, width) == 8 * size


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_even_levels_cannot_be_deflated(width: int) -> None:
    levels = np.random.default_rng(0).integers(0, 2**width, 40_000).astype(np.uint8)
    assert deflated_bits([levels], width) >= 0.995 * 40_000 * width


@pytest.mark.parametrize("width", [2, 3, 4])
def test_uneven_levels_are_deflated_to_near_their_entropy(width: int) -> None:
    normal = np.random.default_rng(0).normal(size=(8, 5_000))
    middle = 2 ** (width - 1)
    levels = np.clip(np.rint(0.4 * middle * normal) + middle, 0, 2 * middle - 1).astype(np.uint8)
    found = deflated_bits([levels[:3], levels[3:]], width)
    assert entropy_bits(levels) <= found <= 1.03 * entropy_bits(levels) + 8 * 300
    assert found < packed_bits([levels], width)
