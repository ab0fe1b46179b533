"""Check the radix selection against its reference and against sorting."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import sparsify
from compress.errors import OptionError
from compress.kernels import sparsify as kernel
from compress.kernels.backend import KernelBackend
from compress.kernels.tensors import on_device
from compress.numpy_backend import NumpyBackend

Array = NDArray[Any]
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
BLOCK = kernel._BLOCK
SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 16, 10_007]
REFERENCE = NumpyBackend()


def normal(size: int, dtype: type[Any]) -> Array:
    """Make values like weights."""
    return np.random.default_rng(size).normal(0.01, 0.3, size).astype(dtype)


def check(kernels: KernelBackend, values: Array, rank: int) -> None:
    """Compare a survey with the reference, and its threshold with sorting."""
    found, expected = kernels.survey(values, rank), REFERENCE.survey(values, rank)
    for name in ("count", "threshold_bits", "above", "ties"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("std", "mean_magnitude", "energy"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9, abs=1e-300)
    if rank:
        assert found.threshold_bits == np.sort(sparsify.magnitude_bits(values))[rank - 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_kernel_equals_reference(size: int, dtype: type[Any], kernels: KernelBackend) -> None:
    values = normal(size, dtype)
    for rank in sorted({0, 1, size // 2, size - 1, size}):
        check(kernels, values, rank)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, 0.0],
        [1.0, -1.0, 1.0, 2.0],
        [6e-8, 0, -6e-8, 1e-40],
        [65504.0, -65504.0, 1.0],
        [0.1] * 50 + [0.2] * 50,
        [1.0, 1.0000001, 0.9999999],
        [np.inf, -np.inf, 1.0, 0.0],
    ],
    ids=range(7),
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_ties_zeros_and_extremes(
    values: list[float], dtype: type[Any], kernels: KernelBackend
) -> None:
    array = np.array(values, dtype)
    chosen = [kernel.radix_select(on_device(array, kernels._device), r + 1) for r in range(3)]
    expected = np.sort(sparsify.magnitude_bits(array))
    for rank, found in enumerate(chosen):
        assert found.threshold_bits == expected[rank]
        assert found.below == int((expected < expected[rank]).sum())
        assert found.ties == int((expected == expected[rank]).sum())


@pytest.mark.parametrize("shift", [0, 13, 18])
def test_patterns_at_the_edges_of_a_digit(shift: int, device: str) -> None:
    """The last pattern of one range and the first of the next are told apart."""
    edge = 0x3F800000 + (3 << shift)
    patterns = np.array([edge - 2, edge - 1, edge - 1, edge, edge + 1, edge << 1 & 0x7FFFFFFF])
    values = np.repeat(patterns, 3).astype(np.uint32).view(np.float32)
    expected = np.sort(values.view(np.uint32))
    for rank in range(1, len(values) + 1):
        found = kernel.radix_select(on_device(values, device), rank)
        assert found.threshold_bits == expected[rank - 1]
        assert found.below == int((expected < expected[rank - 1]).sum())


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    data=st.data(),
)
def test_any_values(values: list[float], data: st.DataObject, device: str) -> None:
    array = np.array(values, np.float32)
    rank = data.draw(st.integers(1, len(array)))
    found = kernel.radix_select(on_device(array, device), rank)
    expected = np.sort(array.view(np.uint32) & np.uint32(0x7FFFFFFF))
    assert found.threshold_bits == expected[rank - 1]
    assert (found.below, found.ties) == (
        int((expected < expected[rank - 1]).sum()),
        int((expected == expected[rank - 1]).sum()),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_narrows_the_first_pass(
    dtype: type[Any], kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good guess leaves one pass over a range that is far smaller than all patterns."""
    monkeypatch.setattr(kernel, "_SAMPLE", 512)
    ranges: list[kernel.Range] = []
    count = kernel._count

    def spy(bits: Any, kind: Any, patterns: kernel.Range, shift: int) -> Any:
        ranges.append(patterns)
        return count(bits, kind, patterns, shift)

    monkeypatch.setattr(kernel, "_count", spy)
    values = normal(20_011, dtype)
    check(kernels, values, 16_000)
    inside = sparsify.magnitude_bits(values).astype(np.int64)
    share = ((inside >= ranges[0].low) & (inside <= ranges[0].high)).mean()
    assert len(ranges) <= 2
    assert share < 0.3


@pytest.mark.parametrize("rank", [1, 3, 9_999, 19_990, 20_011])
def test_ranks_at_the_ends_are_sampled_too(
    rank: int, kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_SAMPLE", 512)
    check(kernels, normal(20_011, np.float32), rank)


@pytest.mark.parametrize("guess", [(0, 0), (0, 5), (0x7F000000, 0x7F7FFFFF), (1 << 29, 1 << 29)])
def test_a_wrong_guess_changes_nothing(
    guess: tuple[int, int], kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_guess", lambda *_: kernel.Range(*guess))
    values = normal(5000, np.float32)
    for rank in (1, 2500, 5000):
        check(kernels, values, rank)


def test_digits_widen_with_the_vector() -> None:
    assert [kernel._digit_bits(1 << bits) for bits in (0, 24, 25, 28, 30)] == [18, 18, 19, 22, 22]


@pytest.mark.parametrize("digit", [8, 9, 12, 22])
def test_every_width_of_a_digit(
    digit: int, kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_digit_bits", lambda _: digit)
    for dtype in DTYPES:
        check(kernels, normal(5000, dtype), 4000)


def test_mostly_zeros_with_a_sample(
    kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_SAMPLE", 512)
    values = normal(20_011, np.float32)
    values[np.random.default_rng(0).random(len(values)) < 0.9] = 0
    for rank in (1, 17_000, 18_100, 20_000):
        check(kernels, values, rank)


def test_ranks_and_types_that_are_refused(kernels: KernelBackend) -> None:
    values = np.ones(4, np.float32)
    for rank in (-1, 5):
        with pytest.raises(OptionError, match="rank"):
            kernels.survey(values, rank)
    with pytest.raises(OptionError, match="rank"):
        kernels.survey(values[:0], 0)
    for rank in (-1, 0, 5):
        with pytest.raises(OptionError, match="1 to 4"):
            kernel.radix_select(on_device(values, kernels._device), rank)
    with pytest.raises(OptionError, match="float64"):
        kernels.survey(values.astype(np.float64), 1)
