"""Check exact selection and moments against sorting and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.sparsify import magnitude_bits, survey

Array = NDArray[Any]


def chunked(values: Array, size: int) -> Callable[[], list[Array]]:
    """Cut a vector into pieces."""
    return lambda: [values[at : at + size] for at in range(0, len(values), size)]


def check(values: Array, rank: int, chunk: int = 97) -> None:
    """Compare a survey with sorting."""
    found = survey(chunked(values, chunk), rank)
    magnitudes = np.sort(np.abs(values))
    threshold = magnitudes[rank - 1]
    assert found.threshold_bits == int(magnitude_bits(np.array([threshold]))[0])
    assert found.above == int((magnitudes > threshold).sum())
    assert found.ties == int((magnitudes == threshold).sum())
    assert found.count == len(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 96, 97, 98, 1000, 4099])
def test_every_kind_of_rank(size: int, dtype: type[np.floating[Any]]) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(dtype)
    for rank in sorted({1, 2, size // 2, size - 1, size} - {0}):
        if 1 <= rank <= size:
            check(values, rank)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, 0.0],
        [1.0, -1.0, 1.0, 2.0],
        [1e-45, 0, -1e-45, 1e-40],
        [3.4e38, -3.4e38, 1.0],
        [0.1] * 50 + [0.2] * 50,
        list(range(-20, 20)),
        [1.0, 1.0000001, 0.9999999],
    ],
    ids=range(7),
)
def test_ties_zeros_and_extremes(values: list[float], dtype: type[np.floating[Any]]) -> None:
    array = np.array(values, dtype)
    for rank in range(1, len(array) + 1):
        check(array, rank, chunk=3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), st.data())
def test_any_values(values: list[float], data: st.DataObject) -> None:
    array = np.array(values, np.float32)
    check(array, data.draw(st.integers(1, len(array))), chunk=5)


def test_rank_zero_lets_everything_through() -> None:
    found = survey(chunked(np.array([1, -2, 0], np.float32), 2), 0)
    assert found.threshold_bits == 0
    assert found.above + found.ties == 3


def test_the_rule_of_torch() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(3).normal(size=5001).astype(np.float32)
    for rank in (1, 500, 2500, 5001):
        expected = torch.kthvalue(torch.from_numpy(values).abs(), rank).values.item()
        found = survey(chunked(values, 512), rank)
        assert np.array([found.threshold_bits], np.uint32).view(np.float32)[0] == expected


@pytest.mark.parametrize("chunk", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("mean", [0.0, 5.0, -1e4])
def test_moments_match_numpy_whatever_the_pieces(chunk: int, mean: float) -> None:
    values = (np.random.default_rng(1).normal(size=3001) + mean).astype(np.float32)
    found = survey(chunked(values, chunk), 10)
    wide = values.astype(np.float64)
    assert found.std == pytest.approx(np.std(wide, ddof=1), rel=1e-12)
    assert found.mean_magnitude == pytest.approx(np.abs(wide).mean(), rel=1e-12)
    assert found.energy == pytest.approx((wide**2).sum(), rel=1e-12)


@pytest.mark.parametrize("values", [[0.1], [0.1] * 1000, [-3.0, -3.0], [0.0, 0.0]])
def test_without_spread_the_deviation_is_zero(values: list[float]) -> None:
    assert survey(chunked(np.array(values, np.float32), 64), 1).std == 0


def test_magnitude_bits_rise_with_the_magnitude() -> None:
    values = np.array([0, 1e-45, 1e-30, 0.5, 1, 1.5, 3e38], np.float32)
    for signed in (values, -values):
        assert (np.diff(magnitude_bits(signed).astype(np.int64)) > 0).all()
