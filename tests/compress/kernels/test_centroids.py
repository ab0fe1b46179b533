"""Check sums by level against a plain loop."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from compress.errors import OptionError
from compress.kernels import centroids as kernel
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend

BLOCK = kernel._BLOCK


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10_007])
def test_kernel_and_reference_equal_a_loop(
    size: int, dtype: type[Any], kernels: KernelBackend
) -> None:
    rng = np.random.default_rng(size)
    values = rng.normal(size=size).astype(dtype)
    levels = np.clip(np.round(values.astype(np.float64) * 3), -9, 9).astype(np.int8)
    sums, counts = np.zeros(256), np.zeros(256, np.int64)
    for level in range(-9, 10):
        sums[level + 128] = values[levels == level].astype(np.float64).sum()
        counts[level + 128] = (levels == level).sum()
    reference = NumpyBackend().level_sums(levels, values)
    found = [tensor.cpu().numpy() for tensor in kernels.level_sums(levels, values)]
    for got_sums, got_counts in (reference, found):
        np.testing.assert_array_equal(got_counts, counts)
        np.testing.assert_allclose(got_sums, sums, rtol=1e-12, atol=1e-12)


def test_wide_levels(kernels: KernelBackend) -> None:
    rng = np.random.default_rng(3)
    levels = rng.integers(-40, 300, 5003).astype(np.int16)
    values = rng.normal(size=5003).astype(np.float32)
    expected = np.zeros(1 << 16)
    for level, value in zip(levels.tolist(), values.tolist(), strict=True):
        expected[level + 32768] += value
    for backend in (NumpyBackend(), kernels):
        sums, counts = (
            np.asarray(torch.as_tensor(found).cpu()) for found in backend.level_sums(levels, values)
        )
        np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
        assert counts.sum() == 5003
        assert counts[32768 - 41] == 0
        assert counts[32768 + 299] == (levels == 299).sum()


def test_the_outermost_levels(kernels: KernelBackend) -> None:
    levels, values = np.array([-128, 127, -128], np.int8), np.array([1, 2, 4], np.float32)
    sums, counts = kernels.level_sums(levels, values)
    assert (float(sums[0]), float(sums[255]), float(sums.sum())) == (5, 2, 7)
    assert (int(counts[0]), int(counts[255]), int(counts.sum())) == (2, 1, 3)


def test_one_level_for_every_value(kernels: KernelBackend) -> None:
    levels, values = np.zeros(3, np.int8), np.zeros(4, np.float32)
    for backend in (NumpyBackend(), kernels):
        with pytest.raises(OptionError, match="level"):
            backend.level_sums(levels, values)
