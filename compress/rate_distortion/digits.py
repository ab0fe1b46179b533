"""Write levels in balanced ternary: planes of digits −1, 0, +1 whose weights are powers of three.

A level is Σ 3ʲ·tⱼ. Plane 0 is the finest. What the planes above plane j say, the coarser value
(k − Σᵢ≤ⱼ 3ⁱ·tᵢ) / 3ʲ⁺¹, is known before plane j is: it has the sign of the level wherever it is not
zero, so digits are coded relative to that sign.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from compress.dtypes import Array

MAX_PLANES = 8


def plane_count(largest: int) -> int:
    """Count the planes that a magnitude needs; at least one."""
    planes = 1
    while magnitudes(planes) <= largest:
        planes += 1
    return planes


def magnitudes(planes: int) -> int:
    """Count the magnitudes that so many planes can write: (3^planes + 1) / 2."""
    return int(3**planes + 1) // 2


@cache
def digit_table(planes: int) -> tuple[Array, Array]:
    """Split every magnitude into digits.

    Returns:
        int16 [planes, magnitudes] digits, and the coarser value above each of them, never negative.
    """
    rest = np.arange(magnitudes(planes), dtype=np.int16)
    digits, coarser = [], []
    for _ in range(planes):
        digit = (rest + 1) % 3 - 1
        rest = (rest - digit) // 3
        digits.append(digit)
        coarser.append(rest)
    return np.stack(digits), np.stack(coarser)
