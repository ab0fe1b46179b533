"""Visit the set bits of planes and add, as `compress/mask_sums.py` says."""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array

_0, _1, _63 = np.uint64(0), np.uint64(1), np.uint64(63)
#: A number whose 64 windows of six bits all differ, and which bit each window stands for.
_SEQUENCE = np.uint64(0x03F79D71B4CB0A89)
_58 = np.uint64(58)


def _places() -> Array:
    places = np.zeros(64, np.int64)
    for bit in range(64):
        window = (int(_SEQUENCE) << bit & 0xFFFF_FFFF_FFFF_FFFF) >> 58
        places[window] = bit
    return places


_PLACES = _places()


@njit(cache=True, nogil=True)
def add_scaled(nonzero: Array, negative: Array, scale: float, total: Array) -> None:
    """Add scale · trit.

    Args:
        nonzero: uint64 [rows, words].
        negative: uint64 [rows, words].
        scale: what +1 stands for.
        total: float64 [rows, columns], changed in place.
    """
    for row in range(nonzero.shape[0]):
        out = total[row]
        for number in range(nonzero.shape[1]):
            word, signs = nonzero[row, number], negative[row, number]
            while word != _0:
                lowest = word & (~word + _1)
                bit = _PLACES[np.uintp((lowest * _SEQUENCE) >> _58)]
                at = np.uintp(64 * number + bit)
                out[at] += -scale if signs & lowest else scale
                word ^= lowest


@njit(cache=True, nogil=True)
def add_agreeing(
    nonzero: Array,
    negative: Array,
    wanted: Array,
    scale: float,
    count: float,
    total: Array,
    counted: Array,
) -> None:
    """Add the trits of the wanted sign, and what each counts.

    Args:
        nonzero: uint64 [rows, words].
        negative: uint64 [rows, words].
        wanted: int8 [rows, columns].
        scale: what +1 stands for.
        count: what a trit counts.
        total: float64 [rows, columns], changed in place.
        counted: float64 [rows, columns], changed in place.
    """
    for row in range(nonzero.shape[0]):
        for number in range(nonzero.shape[1]):
            word, signs = nonzero[row, number], negative[row, number]
            while word != _0:
                lowest = word & (~word + _1)
                bit = _PLACES[np.uintp((lowest * _SEQUENCE) >> _58)]
                at = np.uintp(64 * number + bit)
                minus = (signs & lowest) != _0
                if minus == (wanted[row, at] < 0):
                    total[row, at] += -scale if minus else scale
                    counted[row, at] += count
                word ^= lowest


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    words, total = np.zeros((1, 1), np.uint64), np.zeros((1, 64))
    add_scaled(words, words, 1.0, total)
    add_agreeing(words, words, np.ones((1, 64), np.int8), 1.0, 1.0, total, total.copy())
