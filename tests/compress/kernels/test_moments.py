"""Check the moments against NumPy in float64."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from compress.kernels import moments as kernel
from compress.kernels.tensors import on_device

BLOCK = kernel._BLOCK


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 10_007])
def test_moments_equal_numpy(size: int, dtype: type[Any], device: str) -> None:
    values = np.random.default_rng(size).normal(0.5, 2, size).astype(dtype)
    wide = values.astype(np.float64)
    found = kernel.moments(on_device(values, device))
    assert found.count == size
    assert found.total == pytest.approx(wide.sum(), rel=1e-12, abs=1e-9)
    assert found.magnitude == pytest.approx(np.abs(wide).sum(), rel=1e-12)
    assert found.energy == pytest.approx((wide * wide).sum(), rel=1e-12)
    assert (found.lowest, found.highest) == (wide.min(), wide.max())
    assert found.std() == pytest.approx(wide.std(ddof=1) if size > 1 else 0, rel=1e-9)


def test_a_mean_far_from_zero_costs_no_digits(device: str) -> None:
    noise = np.random.default_rng(0).integers(-8, 9, 9001)
    values = (np.float32(1 << 20) + noise / 8).astype(np.float32)
    found = kernel.moments(on_device(values, device))
    assert found.std() == pytest.approx(values.astype(np.float64).std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -3.0])
def test_constants_have_no_spread(value: float, device: str) -> None:
    found = kernel.moments(on_device(np.full(5000, value, np.float32), device))
    assert found.std() == 0
    assert found.spread == 0
    assert found.magnitude == pytest.approx(5000 * abs(np.float32(value)))


def test_negative_values_only(device: str) -> None:
    """What lies beyond the end counts neither as the largest value nor as anything else."""
    found = kernel.moments(on_device(np.array([-3, -1, -2], np.float32), device))
    assert (found.lowest, found.highest, found.total, found.magnitude) == (-3, -1, -6, 6)
    assert math.isclose(found.spread, 2)
