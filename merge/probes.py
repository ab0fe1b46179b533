"""Tell matrices apart by a few numbers that do not depend on how each was factored.

What is drawn at random for a matrix must follow from the matrix alone: not from its place among the
inputs, nor from which of its many B and A are stored. So its size and four bilinear forms of it are
rounded to twelve bits each, which the rounding of arithmetic hardly ever reaches (below 1e-8 for
float64, 1e-3 for factors that were turned and stored as float32).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from compress.dtypes import Array

_PROBES = 4
_STEPS = 1 << 12


@lru_cache(maxsize=64)
def signs(length: int, side: int) -> Array:
    """Give float64 [4, length] of ±1 that are the same every time.

    Args:
        length: of the rows or columns that are probed.
        side: 0 for rows, 1 for columns.
    """
    stream = np.random.Generator(np.random.Philox(key=[length, side]))
    return stream.integers(0, 2, (_PROBES, length)) * 2.0 - 1


def fingerprint(size: float, forms: Array) -> bytes:
    """Give bytes that are equal for equal matrices.

    Args:
        size: the Frobenius norm.
        forms: float64 [4], uᵀ M v for the probes u of its rows and v of its columns.
    """
    if not size:
        return b""
    numbers = np.append(forms / size, math.log2(size))
    told: bytes = np.rint(numbers * _STEPS).astype(np.int64).tobytes()
    return told
