"""Sum up the values that fell on each level of a quantiser: a centroid is sum over count.

S. Lloyd, "Least squares quantization in PCM" (1982): the best value for a level is the mean of what
it stands for.
"""

from __future__ import annotations

import numpy as np

from compress.dtypes import Array


def level_range(itemsize: int) -> tuple[int, int]:
    """Count the levels that integers of so many bytes tell apart, and find the place of level 0."""
    count = 1 << 8 * itemsize
    return count, count // 2


def level_sums(levels: Array, values: Array) -> tuple[Array, Array]:
    """Sum values by their level.

    Args:
        levels: int8 or int16 [n].
        values: float [n].

    Returns:
        float64 sums and int64 counts, both [256], level q at q + 128, or for int16
        [65536], q + 32768.
    """
    count, zero = level_range(levels.itemsize)
    index = levels.astype(np.intp) + zero
    sums = np.bincount(index, weights=values.astype(np.float64), minlength=count)
    return sums, np.bincount(index, minlength=count)
