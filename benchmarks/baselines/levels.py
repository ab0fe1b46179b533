"""Round vectors to few levels, and count the bits that such levels and their scales take.

Every scale is a float16, as in the published sizes. Vectors stand in rows: the rows of A and the
columns of B, so that one scale serves values of one component.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.measure import Factors

SCALE_BITS = 16
#: Shares of a row's range that `best_range` tries.
SHRINKS = tuple(step / 20 for step in range(20, 5, -1))


@dataclass(frozen=True, slots=True)
class Rounded:
    """Hold vectors that were rounded.

    Attributes:
        values: float32 [vectors, size], what a decoder gives.
        levels: uint8 [vectors, size], what is stored of each value.
        side_bits: scales and offsets of all of them.
    """

    values: Array
    levels: Array
    side_bits: int


Rounding = Callable[[Array], Rounded]


def by_groups(vectors: Array, size: int, rounding: Rounding) -> Rounded:
    """Round every run of `size` values of each vector by itself; the last run may be shorter.

    Args:
        vectors: floating [vectors, d].
        size: values per group.
        rounding: what rounds a matrix whose rows have a scale each.
    """
    runs = [rounding(vectors[:, at : at + size]) for at in range(0, vectors.shape[1], size)]
    return Rounded(
        np.concatenate([run.values for run in runs], axis=1),
        np.concatenate([run.levels for run in runs], axis=1),
        sum(run.side_bits for run in runs),
    )


def absmax(vectors: Array, *, bits: int) -> Rounded:
    """Round to the integers −m…m times a scale per row, m = 2^(bits−1) − 1, max|row| being m."""
    most = 2 ** (bits - 1) - 1
    scale = half(np.abs(vectors).max(axis=1, keepdims=True) / most)
    levels = np.clip(np.rint(_ratio(vectors, scale)), -most, most)
    values = (levels * scale).astype(np.float32)
    return Rounded(values, (levels + most).astype(np.uint8), SCALE_BITS * len(vectors))


def min_max(vectors: Array, *, bits: int, shrink: float = 1.0) -> Rounded:
    """Round to 2^bits even steps between a row's least and largest value.

    The offset is a whole number of steps of `bits` bits, so that zero stays zero.

    Args:
        vectors: floating [n, d].
        bits: per value, 1 to 8.
        shrink: what the range is multiplied by, above 0; values beyond it are clipped.
    """
    most = 2**bits - 1
    low, high = (shrink * end(vectors, axis=1, keepdims=True) for end in (np.min, np.max))
    scale = half((high - low) / most)
    zero = np.clip(np.rint(_ratio(-low, scale)), 0, most)
    levels = np.clip(np.rint(_ratio(vectors, scale)) + zero, 0, most)
    values = ((levels - zero) * scale).astype(np.float32)
    return Rounded(values, levels.astype(np.uint8), (SCALE_BITS + bits) * len(vectors))


def best_range(vectors: Array, *, bits: int) -> Rounded:
    """Round as `min_max`, every row with the range of `SHRINKS` that leaves the least error."""
    found = [min_max(vectors, bits=bits, shrink=shrink) for shrink in SHRINKS]
    errors = np.array([((made.values - vectors) ** 2).sum(axis=1) for made in found])
    choice = errors.argmin(axis=0)
    rows = np.arange(len(vectors))
    values = np.stack([made.values for made in found])[choice, rows]
    levels = np.stack([made.levels for made in found])[choice, rows]
    return Rounded(values, levels, found[0].side_bits)


def sign_mean(vectors: Array) -> Rounded:
    """Round to the sign times the mean magnitude of a row; one bit knows no zero, it becomes +."""
    scale = half(np.abs(vectors).mean(axis=1, keepdims=True))
    positive = vectors >= 0
    values = np.where(positive, scale, -scale).astype(np.float32)
    return Rounded(values, positive.astype(np.uint8), SCALE_BITS * len(vectors))


def packed_bits(levels: Iterable[Array], width: int) -> int:
    """Count the bits of all levels packed one after another, whole bytes."""
    count = sum(part.size for part in levels)
    return 8 * -(-count * width // 8)


def deflated_bits(levels: Iterable[Array], width: int) -> int:
    """Count the bits of all levels after deflate: as many whole levels as fit into a byte, Huffman.

    A match that deflate might find in such noise costs more than it saves, so it looks for none.
    """
    flat = np.concatenate([part.ravel() for part in levels])
    each = 8 // width
    filled = np.zeros(-(-flat.size // each) * each, np.uint8)
    filled[: flat.size] = flat
    symbols = np.zeros(len(filled) // each, np.uint8)
    for column in range(each):
        symbols |= filled[column::each] << np.uint8(column * width)
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return 8 * len(coder.compress(symbols.tobytes()) + coder.flush())


def half(values: Array) -> Array:
    """Round numbers to float16, as they are stored."""
    return values.astype(np.float16).astype(np.float64)


def components(module: Factors) -> tuple[Array, Array]:
    """Give the rows of A [rank, d_in] and the columns of B as rows [rank, d_out]."""
    return module.a, module.b.T


def _ratio(values: Array, scale: Array) -> Array:
    """Divide; where the scale has vanished, as it does for zeros, give 0."""
    found = np.zeros(values.shape)
    np.divide(values, scale, out=found, where=scale > 0)
    return found
