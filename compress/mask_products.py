"""Multiply vectors of trits with one another by counting bits, all with all.

A product of two vectors is the number of places where both have a trit, less twice the number of
those where the signs differ: two counts of bits a word of 64 trits, and an integer. Machine code
(`kernels/cpu/mask_products.py`) does the same, with equal integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np

from compress import loops
from compress.dtypes import Array
from compress.trit_rows import TritRows, require_same_columns

#: Threads that machine code uses; every one fills places of its own, so the result is always equal.
THREADS = 2
#: What of the right side is multiplied at one time: its words stay in the nearest caches.
_BLOCK_BYTES, _FEWEST_ROWS, _MOST_ROWS = 64 << 10, 32, 256
#: Products of words that NumPy does in the time that one symbol of an entropy coder takes.
_PRODUCTS_PER_SYMBOL = 4
_REFERENCE_WORDS = 1 << 20


@dataclass(frozen=True, slots=True)
class Paired:
    """Hold pairs of vectors, those of one owner side by side, such as a_k and b_k of ΔW = Σ b aᵀ.

    Attributes:
        a: one vector of each pair.
        b: the other one, as many rows.
        weights: float64 [rows], what each pair counts.
        bounds: int64 [owners + 1], where the rows of every owner begin.
    """

    a: TritRows
    b: TritRows
    weights: Array
    bounds: Array

    @property
    def owners(self) -> int:
        """Count the owners."""
        return len(self.bounds) - 1

    def part(self, first: int, last: int) -> Paired:
        """Give the pairs of some of the owners."""
        start, stop = int(self.bounds[first]), int(self.bounds[last])
        bounds = self.bounds[first : last + 1] - start
        return Paired(
            self.a.part(start, stop), self.b.part(start, stop), self.weights[start:stop], bounds
        )


def row_products(left: TritRows, right: TritRows) -> Array:
    """Multiply every vector with every other one.

    Returns:
        int64 [left rows, right rows].

    Raises:
        OptionError: the vectors have different lengths.
    """
    require_same_columns([left, right])
    found = np.zeros((left.rows, right.rows), np.int64)
    code = _code(left.rows * right.rows * left.words)
    if code is None:
        _row_products(left, right, found)
        return found
    tasks = [
        partial(_fill_rows, code, left, right.part(start, stop), found[:, start:stop])
        for start, stop in _row_blocks(right)
    ]
    _run(tasks)
    return found


def paired_sums(left: Paired, right: Paired | None = None) -> Array:
    """Sum products of pairs by owner: Σ_k Σ_l w_k·w_l·(a_k·a_l)·(b_k·b_l).

    Args:
        left: pairs of some owners.
        right: pairs of others; None means the same, of which half is computed and mirrored.

    Returns:
        float64 [left owners, right owners], exact where the weights are integers below 2⁵³.

    Raises:
        OptionError: the vectors have different lengths.
    """
    other = left if right is None else right
    for one, two in ((left.a, other.a), (left.b, other.b)):
        require_same_columns([one, two])
    found = np.zeros((left.owners, other.owners))
    code = _code(left.a.rows * other.a.rows * (left.a.words + left.b.words))
    tasks: list[Callable[[], None]] = []
    for first, last in _owner_blocks(other):
        upper = last if right is None else left.owners
        place = found[:upper, first:last]
        tasks.append(partial(_fill_sums, code, left.part(0, upper), other.part(first, last), place))
    # the longest first, so that all threads end at about the same time
    _run(tasks[::-1])
    return mirrored(found) if right is None else found


def mirrored(products: Array) -> Array:
    """Put what lies above the diagonal of a square matrix below it too."""
    upper = np.triu(products, 1)
    full: Array = upper + upper.T
    np.fill_diagonal(full, np.diagonal(products))
    return full


def own_sums(pairs: Paired) -> Array:
    """Sum products of pairs of every owner with itself: the diagonal of `paired_sums`.

    Returns:
        float64 [owners].
    """
    found = np.zeros(pairs.owners)
    counts = np.diff(pairs.bounds)
    for count in np.unique(counts[counts > 0]):
        owners = np.flatnonzero(counts == count)
        at = pairs.bounds[owners][:, None] + np.arange(count)
        weights = pairs.weights[at]
        total = np.zeros(len(owners))
        for number in range(int(count)):
            products = _with_row(pairs.a, at, number) * _with_row(pairs.b, at, number)
            total += weights[:, number] * (weights * products).sum(axis=1)
        found[owners] = total
    return found


def _with_row(rows: TritRows, at: Array, number: int) -> Array:
    """Multiply every owner's vectors with one of them: int64 [owners, vectors]."""
    nonzero, negative = rows.nonzero[at], rows.negative[at]
    both = nonzero & nonzero[:, number : number + 1]
    differ = both & (negative ^ negative[:, number : number + 1])
    products: Array = _count(both) - 2 * _count(differ)
    return products


def _count(words: Array) -> Array:
    counted: Array = np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    return counted


def _row_products(left: TritRows, right: TritRows, out: Array) -> None:
    """Multiply as the formula says, some rows at a time: int64 [left rows, right rows]."""
    step = max(1, _REFERENCE_WORDS // max(1, right.rows * right.words))
    for start in range(0, left.rows, step):
        nonzero, negative = (
            plane[start : start + step, None] for plane in (left.nonzero, left.negative)
        )
        both = nonzero & right.nonzero
        out[start : start + step] = _count(both) - 2 * _count(both & (negative ^ right.negative))


def _fill_rows(code: ModuleType, left: TritRows, right: TritRows, out: Array) -> None:
    turned = (np.ascontiguousarray(plane.T) for plane in (right.nonzero, right.negative))
    code.row_products(left.nonzero, left.negative, *turned, out)


def _fill_sums(code: ModuleType | None, left: Paired, right: Paired, out: Array) -> None:
    if code is None:
        _sum_products(left, right, out)
        return
    turned = [
        np.ascontiguousarray(plane.T)
        for rows in (right.a, right.b)
        for plane in (rows.nonzero, rows.negative)
    ]
    code.paired_sums(
        left.a.nonzero,
        left.a.negative,
        left.b.nonzero,
        left.b.negative,
        left.weights,
        left.bounds,
        *turned,
        right.weights,
        right.bounds,
        out,
    )


def _sum_products(left: Paired, right: Paired, out: Array) -> None:
    of_a, of_b = (np.zeros((left.a.rows, right.a.rows), np.int64) for _ in "ab")
    _row_products(left.a, right.a, of_a)
    _row_products(left.b, right.b, of_b)
    _sum_by_owner(of_a, of_b, (left.weights, left.bounds), (right.weights, right.bounds), out)


def sum_by_owner(
    of_a: Array, of_b: Array, left: tuple[Array, Array], right: tuple[Array, Array]
) -> Array:
    """Sum products that are known already: Σ_k Σ_l w_k·w_l·(a_k·a_l)·(b_k·b_l).

    Args:
        of_a: float32 [left rows, right rows], a_k·a_l.
        of_b: float32 [left rows, right rows], b_k·b_l.
        left: weights, float64 [left rows], and bounds, int64 [left owners + 1].
        right: the same of the other side.

    Returns:
        float64 [left owners, right owners].
    """
    found = np.zeros((len(left[1]) - 1, len(right[1]) - 1))
    code = _code(of_a.size)
    if code is None:
        _sum_by_owner(of_a, of_b, left, right, found)
    else:
        code.sum_by_owner(of_a, of_b, *left, *right, found)
    return found


def _sum_by_owner(
    of_a: Array, of_b: Array, left: tuple[Array, Array], right: tuple[Array, Array], out: Array
) -> None:
    weights, bounds = left
    right_weights, right_bounds = right
    products = of_a.astype(np.float64) * of_b * right_weights
    products *= weights[:, None]
    # a running sum would lose digits; every owner's own does not
    ends = np.flatnonzero(np.diff(right_bounds))
    begins = right_bounds[ends]
    for owner in range(len(bounds) - 1):
        row = products[bounds[owner] : bounds[owner + 1]].sum(axis=0)
        out[owner, ends] = np.add.reduceat(row, begins) if len(ends) else 0.0


def _rows_at_once(words: int) -> int:
    return min(_MOST_ROWS, max(_FEWEST_ROWS, _BLOCK_BYTES // (16 * max(1, words))))


def _row_blocks(rows: TritRows) -> Iterator[tuple[int, int]]:
    step = _rows_at_once(rows.words)
    for start in range(0, rows.rows, step):
        yield start, min(start + step, rows.rows)


def _owner_blocks(pairs: Paired) -> Iterator[tuple[int, int]]:
    """Gather owners until their rows are enough for a block."""
    most = _rows_at_once(max(pairs.a.words, pairs.b.words))
    first = 0
    for owner in range(1, pairs.owners + 1):
        if owner == pairs.owners or pairs.bounds[owner + 1] - pairs.bounds[first] > most:
            yield first, owner
            first = owner


def _code(products: int) -> ModuleType | None:
    return loops.machine_code("mask_products", symbols=products // _PRODUCTS_PER_SYMBOL)


def _run(tasks: Sequence[Callable[[], None]]) -> None:
    """Do all tasks, some side by side."""
    if len(tasks) < 2:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(task) for task in tasks]:
            done.result()
