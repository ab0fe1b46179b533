"""Multiply vectors of trits by counting bits, as `compress/mask_products.py` says.

The words of the right side lie transposed, so that a vector instruction takes the same word of
eight vectors: with AVX-512 the count of bits is one instruction, and two words of two left vectors
share what is loaded. On one core of a current server 1,000 experts of 18 modules [384 × 384], rank
8, take 0.6 s, all with all; float32 matrix products of the same trits take eight times as long.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array

_PAIRS, _QUADS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_1, _2, _4, _56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@njit(cache=True, nogil=True, inline="always")
def _count(word: int) -> int:
    """Count the bits of a word; a compiler knows this way to write it."""
    count = word - ((word >> _1) & _PAIRS)
    count = (count & _QUADS) + ((count >> _2) & _QUADS)
    count = (count + (count >> _4)) & _BYTES
    return np.int64((count * _SUM) >> _56)


@njit(cache=True, nogil=True)
def _two_rows(
    nonzero: Array,
    negative: Array,
    right_nonzero: Array,
    right_negative: Array,
    one: Array,
    two: Array,
) -> None:
    """Multiply two vectors with all of the right side.

    Args:
        nonzero: uint64 [2, words].
        negative: uint64 [2, words].
        right_nonzero: uint64 [words, columns].
        right_negative: uint64 [words, columns].
        one: int64 [columns], filled with products of the first.
        two: int64 [columns], filled with products of the second.
    """
    words, columns = nonzero.shape[1], one.size
    one[:] = 0
    two[:] = 0
    for word in range(0, words - 1, 2):
        n0, s0, n1, s1 = (nonzero[0, word], negative[0, word], nonzero[1, word], negative[1, word])
        n2, s2 = nonzero[0, word + 1], negative[0, word + 1]
        n3, s3 = nonzero[1, word + 1], negative[1, word + 1]
        n, s = right_nonzero[word], right_negative[word]
        m, t = right_nonzero[word + 1], right_negative[word + 1]
        for at in range(columns):
            x, y = n0 & n[at], n2 & m[at]
            differ = _count(x & (s0 ^ s[at])) + _count(y & (s2 ^ t[at]))
            one[at] += _count(x) + _count(y) - (differ << 1)
            x, y = n1 & n[at], n3 & m[at]
            differ = _count(x & (s1 ^ s[at])) + _count(y & (s3 ^ t[at]))
            two[at] += _count(x) + _count(y) - (differ << 1)
    if words & 1:
        last = words - 1
        n0, s0, n1, s1 = (nonzero[0, last], negative[0, last], nonzero[1, last], negative[1, last])
        n, s = right_nonzero[last], right_negative[last]
        for at in range(columns):
            x = n0 & n[at]
            one[at] += _count(x) - (_count(x & (s0 ^ s[at])) << 1)
            x = n1 & n[at]
            two[at] += _count(x) - (_count(x & (s1 ^ s[at])) << 1)


@njit(cache=True, nogil=True)
def _one_row(
    nonzero: Array, negative: Array, right_nonzero: Array, right_negative: Array, out: Array
) -> None:
    """Multiply one vector with all of the right side; arguments as of `_two_rows`."""
    out[:] = 0
    for word in range(nonzero.size):
        n0, s0 = nonzero[word], negative[word]
        n, s = right_nonzero[word], right_negative[word]
        for at in range(out.size):
            x = n0 & n[at]
            out[at] += _count(x) - (_count(x & (s0 ^ s[at])) << 1)


@njit(cache=True, nogil=True)
def row_products(
    nonzero: Array, negative: Array, right_nonzero: Array, right_negative: Array, out: Array
) -> None:
    """Multiply all vectors with all of the right side.

    Args:
        nonzero: uint64 [rows, words].
        negative: uint64 [rows, words].
        right_nonzero: uint64 [words, columns].
        right_negative: uint64 [words, columns].
        out: int64 [rows, columns], filled.
    """
    rows, columns = out.shape
    one, two = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for row in range(0, rows - 1, 2):
        _two_rows(
            nonzero[row : row + 2],
            negative[row : row + 2],
            right_nonzero,
            right_negative,
            one,
            two,
        )
        out[row] = one
        out[row + 1] = two
    if rows & 1:
        last = rows - 1
        _one_row(nonzero[last], negative[last], right_nonzero, right_negative, one)
        out[last] = one


@njit(cache=True, nogil=True)
def paired_sums(
    a_nonzero: Array,
    a_negative: Array,
    b_nonzero: Array,
    b_negative: Array,
    weights: Array,
    bounds: Array,
    right_a_nonzero: Array,
    right_a_negative: Array,
    right_b_nonzero: Array,
    right_b_negative: Array,
    right_weights: Array,
    right_bounds: Array,
    out: Array,
) -> None:
    """Sum products of pairs by owner.

    Args:
        a_nonzero: uint64 [rows, words of a].
        a_negative: uint64 [rows, words of a].
        b_nonzero: uint64 [rows, words of b].
        b_negative: uint64 [rows, words of b].
        weights: float64 [rows].
        bounds: int64 [owners + 1].
        right_a_nonzero: uint64 [words of a, columns].
        right_a_negative: uint64 [words of a, columns].
        right_b_nonzero: uint64 [words of b, columns].
        right_b_negative: uint64 [words of b, columns].
        right_weights: float64 [columns].
        right_bounds: int64 [right owners + 1].
        out: float64 [owners, right owners], filled.
    """
    columns = right_weights.size
    a_one, a_two = np.empty(columns, np.int64), np.empty(columns, np.int64)
    b_one, b_two = np.empty(columns, np.int64), np.empty(columns, np.int64)
    sums = np.empty(columns, np.float64)
    for owner in range(bounds.size - 1):
        sums[:] = 0
        first, last = bounds[owner], bounds[owner + 1]
        for row in range(first, last - 1, 2):
            pair = slice(row, row + 2)
            _two_rows(
                a_nonzero[pair], a_negative[pair], right_a_nonzero, right_a_negative, a_one, a_two
            )
            _two_rows(
                b_nonzero[pair], b_negative[pair], right_b_nonzero, right_b_negative, b_one, b_two
            )
            weight, other = weights[row], weights[row + 1]
            for at in range(columns):
                product = np.float64(a_one[at]) * np.float64(b_one[at])
                sums[at] += weight * product
                product = np.float64(a_two[at]) * np.float64(b_two[at])
                sums[at] += other * product
        if (last - first) & 1:
            row = last - 1
            _one_row(a_nonzero[row], a_negative[row], right_a_nonzero, right_a_negative, a_one)
            _one_row(b_nonzero[row], b_negative[row], right_b_nonzero, right_b_negative, b_one)
            weight = weights[row]
            for at in range(columns):
                sums[at] += weight * (np.float64(a_one[at]) * np.float64(b_one[at]))
        for right in range(right_bounds.size - 1):
            total = 0.0
            for at in range(right_bounds[right], right_bounds[right + 1]):
                total += right_weights[at] * sums[at]
            out[owner, right] = total


@njit(cache=True, nogil=True)
def sum_by_owner(
    of_a: Array,
    of_b: Array,
    weights: Array,
    bounds: Array,
    right_weights: Array,
    right_bounds: Array,
    out: Array,
) -> None:
    """Sum products of vectors that are known already.

    Args:
        of_a: float32 [rows, columns].
        of_b: float32 [rows, columns].
        weights: float64 [rows].
        bounds: int64 [owners + 1].
        right_weights: float64 [columns].
        right_bounds: int64 [right owners + 1].
        out: float64 [owners, right owners], filled.
    """
    sums = np.empty(right_weights.size, np.float64)
    for owner in range(bounds.size - 1):
        sums[:] = 0
        for row in range(bounds[owner], bounds[owner + 1]):
            one, two, weight = of_a[row], of_b[row], weights[row]
            for at in range(sums.size):
                sums[at] += weight * (np.float64(one[at]) * np.float64(two[at]))
        for right in range(right_bounds.size - 1):
            total = 0.0
            for at in range(right_bounds[right], right_bounds[right + 1]):
                total += right_weights[at] * sums[at]
            out[owner, right] = total


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    words = np.zeros((2, 2), np.uint64)
    turned, weights, bounds = words.T.copy(), np.ones(2), np.array([0, 1, 2])
    right = (turned, turned, turned, turned)
    for start in (0, 1):  # a whole array, and a part of one
        row_products(words, words, turned, turned, np.zeros((2, 2 + start), np.int64)[:, start:])
        sums = np.zeros((2, 2 + start))[:, start:]
        paired_sums(words, words, words, words, weights, bounds, *right, weights, bounds, sums)
    products = np.zeros((2, 2), np.float32)
    sum_by_owner(products, products, weights, bounds, weights, bounds, np.zeros((2, 2)))
