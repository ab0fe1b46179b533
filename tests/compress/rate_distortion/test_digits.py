"""Check balanced ternary: digits sum to the level, and the coarser value is what is above them."""

from __future__ import annotations

import numpy as np
import pytest

from compress.rate_distortion.digits import MAX_PLANES, digit_table, magnitudes, plane_count


@pytest.mark.parametrize("planes", range(1, MAX_PLANES + 1))
def test_digits_sum_to_the_magnitude(planes: int) -> None:
    digits, coarser = digit_table(planes)
    assert digits.shape == coarser.shape == (planes, (3**planes - 1) // 2 + 1)
    assert set(np.unique(digits)) == ({0, 1} if planes == 1 else {-1, 0, 1})
    weights = 3 ** np.arange(planes)
    assert (weights @ digits == np.arange(digits.shape[1])).all()
    for plane in range(planes):
        above = sum(3 ** (j - plane - 1) * digits[j] for j in range(plane + 1, planes))
        assert (coarser[plane] == above).all()
        assert (coarser[plane] >= 0).all()


@pytest.mark.parametrize(
    ("largest", "planes"), [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (13, 3), (14, 4), (3280, 8)]
)
def test_as_many_planes_as_a_magnitude_needs(largest: int, planes: int) -> None:
    assert plane_count(largest) == planes
    assert magnitudes(planes) > largest
    assert planes == 1 or magnitudes(planes - 1) <= largest
