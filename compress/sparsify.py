"""Find the k-th smallest magnitude of a vector too long to hold, and its moments, in a few passes.

The bits of a non-negative float, read as an integer, rise with its value. So the k-th smallest
magnitude is found exactly by radix selection: count the upper 16 bits, then, among the values of
the bin that holds rank k, the next 16, and so on. Two passes for float32, four for float64; memory
is one histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array, bit_view

_DIGIT = 16
_BINS = 1 << _DIGIT
Chunks = Callable[[], Iterable[Array]]
#: Finds the magnitude of a rank elsewhere: its bits, how many lie below it and on it; or declines.
Select = Callable[[], tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold what the passes over one vector found.

    Attributes:
        count: elements.
        std: unbiased standard deviation, mean removed; 0 for one element or a constant.
        mean_magnitude: mean of the magnitudes.
        energy: sum of the squares.
        threshold_bits: bit pattern of the magnitude of the rank asked for.
        above: elements whose magnitude is larger than that.
        ties: elements whose magnitude is equal to it.
    """

    count: int
    std: float
    mean_magnitude: float
    energy: float
    threshold_bits: int
    above: int
    ties: int


def magnitude_bits(values: Array) -> Array:
    """Give the bit patterns of |values| as unsigned integers, which rise with the magnitude."""
    bits = bit_view(values)
    magnitudes: Array = bits & bits.dtype.type((1 << (8 * bits.itemsize - 1)) - 1)
    return magnitudes


def survey(chunks: Chunks, rank: int, *, select: Select | None = None) -> Survey:
    """Measure a vector and find the magnitude of a rank.

    Args:
        chunks: gives the vector's pieces, float32 or float64 (one of both throughout), as often as
            called.
        rank: 1 for the smallest magnitude, up to the count for the largest; 0 means "below
            everything".
        select: who finds the magnitude; None, and what it declines, is done here.

    Returns:
        moments, threshold and how many values lie above and on it.
    """
    found = select() if select is not None and rank else None
    moments = _Moments()
    histogram = np.zeros(_BINS, np.int64)
    width = 32
    for values in chunks():
        moments.add(values)
        width = 8 * values.dtype.itemsize
        if found is None:
            histogram += _count_digits(magnitude_bits(values), width - _DIGIT)
    prefix, below, ties = found or (0, 0, moments.count)
    if rank and found is None:
        prefix, below, ties = _descend(chunks, rank, width, histogram)
    return Survey(
        count=moments.count,
        std=moments.std(),
        mean_magnitude=moments.magnitude / moments.count,
        energy=moments.energy,
        threshold_bits=prefix,
        above=moments.count - below - ties,
        ties=ties,
    )


def _descend(chunks: Chunks, rank: int, width: int, histogram: Array) -> tuple[int, int, int]:
    """Fix the digits from the highest to the lowest: threshold, count below it, count on it."""
    below, prefix = 0, 0
    shift = width - _DIGIT
    while True:
        cumulative = np.cumsum(histogram)
        digit = int(np.searchsorted(cumulative, rank - below))
        below += int(cumulative[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT | digit
        if not shift:
            return prefix, below, int(histogram[digit])
        shift -= _DIGIT
        histogram = np.zeros(_BINS, np.int64)
        for values in chunks():
            bits = magnitude_bits(values)
            histogram += _count_digits(bits[bits >> (shift + _DIGIT) == prefix], shift)


def _count_digits(bits: Array, shift: int) -> Array:
    digits = bits >> bits.dtype.type(shift)
    if shift + _DIGIT < 8 * bits.itemsize:
        digits &= bits.dtype.type(_BINS - 1)
    return np.bincount(digits.astype(np.intp), minlength=_BINS)


class _Moments:
    """Gather mean and variance chunk by chunk in float64 (Chan, Golub and LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.magnitude = 0.0
        self.energy = 0.0
        self._mean = 0.0
        self._squares = 0.0
        self._lowest = math.inf
        self._highest = -math.inf

    def add(self, values: Array) -> None:
        """Take in one chunk, float [n]."""
        wide = values.astype(np.float64)
        count, mean = len(wide), float(wide.mean())
        self.magnitude += float(np.abs(wide).sum())
        wide -= mean
        np.square(wide, out=wide)
        squares = float(wide.sum())
        total = self.count + count
        step = mean - self._mean
        self._squares += squares + step * step * (self.count * count / total)
        self._mean += step * count / total
        self.energy += squares + count * mean * mean
        self.count = total
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))

    def std(self) -> float:
        """Give the unbiased standard deviation, 0 where undefined or the vector is constant."""
        if self.count < 2 or self._lowest == self._highest:
            return 0.0
        return math.sqrt(self._squares / (self.count - 1))
