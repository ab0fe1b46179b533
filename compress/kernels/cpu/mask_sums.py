"""Visit the set bits of planes and add, as `compress/mask_sums.py` says."""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array

_0, _1 = np.uint64(0), np.uint64(1)
#: Words that are counted at one time: their counters stay in the nearest cache.
_BLOCK = 128
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
    minus: Array,
    scale: float,
    count: float,
    total: Array,
    counted: Array,
) -> None:
    """Add the trits of the elected sign, and what each counts.

    Args:
        nonzero: uint64 [rows, words].
        negative: uint64 [rows, words].
        minus: uint64 [rows, words], where − is elected.
        scale: what +1 stands for.
        count: what a trit counts.
        total: float64 [rows, columns], changed in place.
        counted: float64 [rows, columns], changed in place.
    """
    for row in range(nonzero.shape[0]):
        out, places = total[row], counted[row]
        for number in range(nonzero.shape[1]):
            signs = negative[row, number]
            word = nonzero[row, number] & ~(signs ^ minus[row, number])
            while word != _0:
                lowest = word & (~word + _1)
                bit = _PLACES[np.uintp((lowest * _SEQUENCE) >> _58)]
                at = np.uintp(64 * number + bit)
                out[at] += -scale if signs & lowest else scale
                places[at] += count
                word ^= lowest


@njit(cache=True, nogil=True)
def majority(nonzero: Array, negative: Array, bits: int, out: Array) -> None:
    """Elect the sign that more voters have, by counters that lie bit by bit across words.

    Args:
        nonzero: uint64 [voters, words].
        negative: uint64 [voters, words].
        bits: in which the number of voters can be written.
        out: uint64 [words], filled: where − is elected.
    """
    voters, words = nonzero.shape
    pluses, minuses = np.empty((bits, _BLOCK), np.uint64), np.empty((bits, _BLOCK), np.uint64)
    more, equal = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    for first in range(0, words, _BLOCK):
        width = min(_BLOCK, words - first)
        pluses[:] = 0
        minuses[:] = 0
        for voter in range(voters):
            some, signs = nonzero[voter, first:], negative[voter, first:]
            for at in range(width):
                more[at] = some[at] & ~signs[at]
                equal[at] = some[at] & signs[at]
            _add_votes(pluses, more, width)
            _add_votes(minuses, equal, width)
        for at in range(width):
            more[at] = _0
            equal[at] = ~_0
        for bit in range(bits - 1, -1, -1):
            plus, minus = pluses[bit], minuses[bit]
            for at in range(width):
                more[at] |= equal[at] & minus[at] & ~plus[at]
                equal[at] &= ~(minus[at] ^ plus[at])
        for at in range(width):
            out[first + at] = more[at]


@njit(cache=True, nogil=True)
def _add_votes(counters: Array, votes: Array, width: int) -> None:
    """Add one to the counter of every bit that is set.

    Args:
        counters: uint64 [bits, at least width], changed in place.
        votes: uint64 [at least width], overwritten with what is carried.
        width: how many words.
    """
    for bit in range(counters.shape[0]):
        counter = counters[bit]
        for at in range(width):
            carried = counter[at] & votes[at]
            counter[at] ^= votes[at]
            votes[at] = carried


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    words, total = np.zeros((1, 1), np.uint64), np.zeros((1, 64))
    add_scaled(words, words, 1.0, total)
    add_agreeing(words, words, words, 1.0, 1.0, total, total.copy())
    majority(words, words, 1, words[0])
