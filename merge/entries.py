"""Merge entry by entry: sparsify each input, elect signs, sum or average what agrees.

ΔW has d_out · d_in entries, and what comes out of TIES and its kin has no low rank. So inputs are
multiplied out a few rows at a time, merged there, and the merged rows are brought back to factors:
exactly where one module's merged matrix is small, by subspace iteration where it is not. Memory
holds a few blocks of rows, however many inputs there are, and at most one merged matrix of
`KEPT_BYTES` for each core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from compress.dtypes import Array
from merge import probes, sparsifiers
from merge.delta_space import Delta, inner
from merge.options import Inner, Options
from merge.sparsifiers import Matrix, Rows, Sparsifier

#: Bytes of a block of rows, of which a few are there at a time: what a core's own cache holds.
BLOCK_BYTES = 1 << 19
#: A merged matrix up to this size is kept; a larger one is made again for every pass over it.
KEPT_BYTES = 256 << 20

T = TypeVar("T")
#: Merges float [n][rows, columns] blocks, given one by one and fresh to write to, and float64 [n]
#: weights into one block.
Election = Callable[[Iterable[Array], Array], Array]


class Product:
    """Be the matrix B A, multiplied out a few rows at a time in float32.

    Attributes:
        shape: d_out and d_in.
    """

    def __init__(self, delta: Delta) -> None:
        self.shape = delta.shape
        self._delta = delta
        self._a = delta.a.astype(np.float32)
        self._b = delta.b.astype(np.float32)

    def rows(self, part: Rows) -> Array:
        """Give some rows of B A."""
        product: Array = self._b[part] @ self._a
        return product

    def fingerprint(self) -> bytes:
        """Give bytes that B A determines, however it is factored."""
        delta = self._delta
        left = probes.signs(self.shape[0], 0) @ delta.b
        right = probes.signs(self.shape[1], 1) @ delta.a.T
        size = math.sqrt(max(inner(delta, delta), 0.0))
        return probes.fingerprint(size, np.sum(left * right, axis=1))


@dataclass(frozen=True, slots=True)
class Whole:
    """Be a matrix that is there as a whole.

    Attributes:
        values: float [rows, columns].
    """

    values: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    def rows(self, part: Rows) -> Array:
        """Give a copy of some rows."""
        return self.values[part].copy()

    def fingerprint(self) -> bytes:
        """Give bytes that the matrix determines, up to rounding."""
        left = probes.signs(self.shape[0], 0) @ self.values
        forms = np.sum(left * probes.signs(self.shape[1], 1), axis=1)
        return probes.fingerprint(float(np.linalg.norm(self.values)), forms)


@dataclass(frozen=True, slots=True)
class Rule:
    """Pair a way to sparsify with a way to merge what stays.

    Attributes:
        sparsify: which entries of an input stay.
        elect: what becomes of the entries of all inputs.
    """

    sparsify: Sparsifier
    elect: Election


def weighted_sum(blocks: Iterable[Array], weights: Array) -> Array:
    """Give Σ wᵢ τᵢ."""
    total: Array | None = None
    for block, weight in zip(blocks, weights.tolist(), strict=True):
        if weight != 1:
            np.multiply(block, weight, out=block)
        total = block if total is None else np.add(total, block, out=total)
    return _some(total)


def agreeing_mean(blocks: Iterable[Array], weights: Array) -> Array:
    """Elect a sign for every entry and average the inputs that have it (TIES, arXiv 2306.01708).

    The sign is that of Σ wᵢ τᵢ, a sum of 0 counts as +; the mean is weighted by |wᵢ|. So weights
    count in both steps, only their proportions matter, and equal weights give the publication's
    disjoint mean. (mergekit: the same for weights above 0. PEFT: weights after the election, and
    divided by the number that agrees.)
    """
    sides: Sides | None = None
    for block, weight in zip(blocks, weights.tolist(), strict=True):
        sides = sides or Sides(block)
        if weight != 1:
            np.multiply(block, weight, out=block)
        sides.add(block, block, abs(weight))
    return _some(sides).mean()


class Sides:
    """Add up positive and negative entries apart, one input after another, and the size of each.

    What is elected, and the mean of what has its sign, follow at the end: no more than one input is
    there at a time.
    """

    def __init__(self, like: Array) -> None:
        self._vote = np.zeros_like(like)
        self._up, self._down = np.zeros_like(like), np.zeros_like(like)
        self._up_size, self._down_size = np.zeros_like(like), np.zeros_like(like)

    def add(self, votes: Array, values: Array, size: float) -> None:
        """Take in an input.

        Args:
            votes: float [rows, columns], whose signs and sums elect.
            values: of the same shape, what is averaged.
            size: what an entry counts in the mean.
        """
        self._vote += votes
        for ours, total, sizes in (
            (votes > 0, self._up, self._up_size),
            (votes < 0, self._down, self._down_size),
        ):
            share = ours.astype(values.dtype)
            np.add(total, share * values, out=total)
            if size != 1:
                share *= size
            np.add(sizes, share, out=sizes)

    def mean(self) -> Array:
        """Give the mean of what has the elected sign; 0 where nothing does."""
        positive = self._vote >= 0
        total: Array = np.where(positive, self._up, self._down)
        sizes = np.where(positive, self._up_size, self._down_size)
        np.divide(total, sizes, out=total, where=sizes > 0)
        return total


def _some(value: T | None) -> T:
    if value is None:
        raise ValueError("nothing to merge")
    return value


#: By name what each of these methods is, in every space where it is offered.
RULES: dict[Inner, Rule] = {
    Inner.LINEAR: Rule(sparsifiers.keep_all, weighted_sum),
    Inner.TIES: Rule(sparsifiers.magnitude, agreeing_mean),
    Inner.DARE_LINEAR: Rule(sparsifiers.random, weighted_sum),
    Inner.DARE_TIES: Rule(sparsifiers.random, agreeing_mean),
    Inner.DELLA: Rule(sparsifiers.della, agreeing_mean),
    Inner.BREADCRUMBS: Rule(sparsifiers.without_outliers, weighted_sum),
    Inner.MAGNITUDE_PRUNE: Rule(sparsifiers.magnitude, weighted_sum),
}


class Merged:
    """Be the merged matrix, block of rows by block of rows, as often as it is asked for.

    Attributes:
        shape: rows and columns.
    """

    def __init__(
        self, matrices: Sequence[Matrix], weights: Array, rule: Rule, options: Options
    ) -> None:
        self.shape = matrices[0].shape
        self._parts = _parts(self.shape)
        self._sparse = [rule.sparsify(matrix, self._parts, options) for matrix in matrices]
        self._weights = weights
        self._elect = rule.elect
        self._kept: list[Array] | None = None

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all entries in float32."""
        return 4 * self.shape[0] * self.shape[1]

    def blocks(self) -> Iterator[tuple[Rows, Array]]:
        """Give each block of rows with its place."""
        if self._kept is None and self.size_bytes <= KEPT_BYTES:
            self._kept = [self._block(part) for part in self._parts]
        if self._kept is not None:
            yield from zip(self._parts, self._kept, strict=True)
            return
        for part in self._parts:
            yield part, self._block(part)

    def whole(self) -> Array:
        """Give all entries, float [rows, columns]."""
        return np.concatenate([block for _, block in self.blocks()])

    def _block(self, part: Rows) -> Array:
        return self._elect((sparse(part) for sparse in self._sparse), self._weights)


def merge_arrays(arrays: Sequence[Array], weights: Array, rule: Rule, options: Options) -> Array:
    """Merge matrices that are there as a whole, float64 [rows, columns] each."""
    return Merged([Whole(array) for array in arrays], weights, rule, options).whole()


def _parts(shape: tuple[int, int]) -> list[Rows]:
    rows, columns = shape
    height = max(1, BLOCK_BYTES // max(1, 4 * columns))
    return [slice(start, min(rows, start + height)) for start in range(0, rows, height)]
