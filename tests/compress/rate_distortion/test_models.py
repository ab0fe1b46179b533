"""Check the models of digits: what is written says all, and chances are those of the counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.errors import TernDamagedError
from compress.rate_distortion import models
from compress.rate_distortion.digits import magnitudes

Array = NDArray[Any]


def histogram(seed: int, planes: int, spread: float) -> Array:
    """Count magnitudes that fall off from zero, under both quantisers."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(magnitudes(planes))
    chances = np.exp(-sizes / spread)
    return np.stack([rng.multinomial(4000, chances / chances.sum()) for _ in range(2)])


def digits_of(magnitude: int, planes: int) -> list[int]:
    """Write a magnitude in balanced ternary, finest digit first, by long division."""
    found = []
    for _ in range(planes):
        digit = (magnitude + 1) % 3 - 1
        found.append(digit)
        magnitude = (magnitude - digit) // 3
    return found


def kind_of(coarser: int, plane: int) -> int:
    """Name what is known of the coarser value: zero, odd, even; without parity above plane 0."""
    if coarser == 0:
        return 0
    return 1 if plane or coarser % 2 else 2


@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.05, 60))
def test_what_is_written_says_all(seed: int, planes: int, spread: float) -> None:
    model = models.fit(histogram(seed, planes, spread), planes)
    assert (model.digits.sum(axis=-1) == models.ONE).all()
    assert (model.digits >= 1).all()
    for plane in range(planes):
        data = models.write(model, plane)
        assert len(data) == models.size_bytes(planes, plane)
        back = models.read(data, planes, plane)
        used = [0] if plane == planes - 1 else [0, 1] if plane or planes == 2 else [0, 1, 2]
        for kind in used:
            assert (back[:, kind] == model.digits[plane, :, kind]).all()


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_chances_follow_the_counts(planes: int) -> None:
    counts = histogram(3, planes, 3.0)
    model = models.fit(counts, planes)
    seen = np.zeros((planes, 2, 3, 3))
    for quantiser in (0, 1):
        for size, count in enumerate(counts[quantiser].tolist()):
            value = size
            for plane, digit in enumerate(digits_of(size, planes)):
                value = (value - digit) // 3
                kind = kind_of(value, plane)
                if kind == 0:
                    # below a zero both signs are alike
                    for sign in (-1, 1):
                        seen[plane, quantiser, kind, sign * digit + 1] += count / 2
                else:
                    seen[plane, quantiser, kind, digit + 1] += count
    # quantisers differ only in the finest plane under a zero
    both = seen.sum(axis=1, keepdims=True)
    seen[1:] = np.broadcast_to(both[1:], seen[1:].shape)
    seen[0, :, 1:] = both[0, :, 1:]
    for at in np.ndindex(planes, 2, 3):
        total = seen[at].sum()
        if total < 200:
            continue
        odds = np.log((seen[at] + 0.5) / (total - seen[at] + 0.5))
        chances = model.digits[at] / models.ONE
        told = np.log(chances / (1 - chances))
        for side in (0, 2):
            if abs(odds[side]) < 5:
                assert told[side] == pytest.approx(odds[side], abs=0.12), at


@pytest.mark.parametrize("planes", [1, 2, 4])
def test_bits_are_those_of_the_digits(planes: int) -> None:
    model = models.fit(histogram(5, planes, 2.0), planes)
    bits = model.bits(planes + 1)
    assert bits.shape == (2, magnitudes(planes + 1))
    assert (bits[:, magnitudes(planes) :] > 40).all()
    for quantiser in (0, 1):
        for size in range(magnitudes(planes)):
            expected, value = 0.0, size
            for plane, digit in enumerate(digits_of(size, planes)):
                value = (value - digit) // 3
                weights = model.digits[plane, quantiser, kind_of(value, plane)]
                expected -= math.log2(weights[digit + 1] / models.ONE)
            assert bits[quantiser, size] == pytest.approx(expected, rel=1e-5)


def test_the_bound_is_not_above_what_the_model_takes() -> None:
    for planes, spread in ((1, 0.2), (2, 1.5), (3, 6.0)):
        counts = histogram(7, planes, spread)
        taken = float((models.fit(counts, planes).bits(planes) * counts).sum())
        bound = models.entropy_bits(counts, planes)
        assert bound <= taken <= 1.01 * bound + 16


def test_stronger_classes_never_have_fewer_planes() -> None:
    counts = np.zeros((3, 2, magnitudes(3)), np.int64)
    counts[0, :, 0] = counts[1, :, 7] = counts[2, :, 1] = 9
    assert [model.planes for model in models.fit_all(counts)] == [3, 3, 1]


def test_impossible_chances_are_refused() -> None:
    with pytest.raises(TernDamagedError, match="chance"):
        models.read(bytes([255, 255]), 1, 0)
    with pytest.raises(TernDamagedError, match="chance"):
        models.read(bytes([0, 0, 255, 255]), 2, 0)
