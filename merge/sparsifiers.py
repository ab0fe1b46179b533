"""Decide which entries of a task vector stay, over matrices that are seen a few rows at a time.

A sparsifier first looks at a whole matrix (for thresholds), then gives each block of rows with what
it drops set to 0 and the rest scaled. Every count is exact: of entries of equal magnitude the
earlier ones, row after row, give way or stay first. What is random depends on the seed and on the
matrix itself, never on the order in which adapters are named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from compress.dtypes import Array
from merge.options import Options

Rows = slice
#: float32 numbers of one block of Philox: 256 bits.
_DRAWN_TOGETHER = 8
#: Rows from which the range of a threshold is told, and how far to either side it reaches, as a
#: share of all entries.
_SAMPLED_ROWS = 128
_MARGIN = 0.02


class Matrix(Protocol):
    """Be a matrix that gives its rows in blocks, the same values every time."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        ...

    def rows(self, part: Rows) -> Array:
        """Give some rows, float32 or float64 [rows, columns], fresh to write to."""
        ...

    def fingerprint(self) -> bytes:
        """Give bytes that tell this matrix from others, the same for the same entries."""
        ...


#: Gives the rows of a matrix as they are after sparsification.
Sparse = Callable[[Rows], Array]
Sparsifier = Callable[[Matrix, "list[Rows]", Options], Sparse]


def keep_all(matrix: Matrix, parts: list[Rows], options: Options) -> Sparse:
    """Drop nothing."""
    del parts, options
    return matrix.rows


def magnitude(matrix: Matrix, parts: list[Rows], options: Options) -> Sparse:
    """Keep the int(density · n) largest: TIES's trim (arXiv 2306.01708), counted as PEFT does.

    One at least is kept, as mergekit does.
    """
    count = _count(matrix)
    kept = max(1, int(options.density * count))
    return _window(matrix, parts, count - kept, count)


def without_outliers(matrix: Matrix, parts: list[Rows], options: Options) -> Sparse:
    """Drop the γ · n largest, then the smallest until int(density · n) stay (arXiv 2312.06795).

    Where both cannot be, fewer of the largest go; a density of 1 keeps all (as mergekit has it).
    """
    count = _count(matrix)
    kept = max(1, int(options.density * count))
    low = max(0, count - kept - int(options.gamma * count))
    return _window(matrix, parts, low, low + kept)


def random(matrix: Matrix, parts: list[Rows], options: Options) -> Sparse:
    """Keep each entry with probability density and divide it by that (DARE, arXiv 2311.03099)."""
    if options.density >= 1:
        return matrix.rows
    root = _root(matrix, options)

    def sparse(part: Rows) -> Array:
        values = matrix.rows(part)
        drawn = _draws(root, part, values)
        values *= drawn < options.density
        values /= options.density
        return values

    del parts
    return sparse


def della(matrix: Matrix, parts: list[Rows], options: Options) -> Sparse:
    """Keep by chance that rises with an entry's rank in its row, and rescale (arXiv 2406.11617).

    The probability goes from density − ε for the smallest of a row to density + ε for the largest;
    what stays is divided by its probability (MagPrune, section 3.1; mergekit instead restores the
    L1 norm of the whole matrix).
    """
    del parts
    if options.density >= 1:
        return matrix.rows
    root = _root(matrix, options)
    columns = matrix.shape[1]
    chance = np.linspace(-options.epsilon, options.epsilon, columns) if columns > 1 else np.zeros(1)

    def sparse(part: Rows) -> Array:
        values = matrix.rows(part)
        order = np.argsort(np.abs(values), axis=1, kind="stable")
        chances = np.empty(values.shape, values.dtype)
        rising = (options.density + chance).astype(values.dtype)
        np.put_along_axis(chances, order, np.broadcast_to(rising, values.shape), axis=1)
        values *= _draws(root, part, values) < chances
        values /= chances
        return values

    return sparse


def _window(matrix: Matrix, parts: list[Rows], low: int, high: int) -> Sparse:
    """Keep the entries whose magnitudes have ranks low … high − 1, counted from the smallest."""
    count = _count(matrix)
    if low <= 0 and high >= count:
        return matrix.rows
    lower = _Edge(matrix, parts, low) if low > 0 else None
    upper = _Edge(matrix, parts, high) if high < count else None

    def sparse(part: Rows) -> Array:
        values = matrix.rows(part)
        magnitudes = np.abs(values)
        if lower is not None:
            values *= lower.above(magnitudes, part)
        if upper is not None:
            values *= ~upper.above(magnitudes, part)
        return values

    return sparse


class _Edge:
    """Split entries at a rank: the `rank` smallest lie below; of equal ones the earlier do.

    The magnitude of that rank is found exactly, by one pass as a rule: a sample of the rows tells
    between which two magnitudes it lies, the pass counts what is smaller and gathers what is
    between. Should it lie elsewhere, the pass is repeated with a wider range.
    """

    def __init__(self, matrix: Matrix, parts: list[Rows], rank: int) -> None:
        sample, margin = _sample(matrix), _MARGIN
        while True:
            low, high = _range(sample, rank / _count(matrix), margin)
            smaller, between = _gather(matrix, parts, low, high)
            found = np.concatenate(between)
            place = rank - 1 - smaller
            if 0 <= place < len(found):
                break
            margin *= 4
        self._threshold = np.partition(found, place)[place]
        #: How many of those on the threshold belong below.
        self._below = rank - smaller - int(np.count_nonzero(found < self._threshold))
        ties = [int(np.count_nonzero(own == self._threshold)) for own in between]
        self._split = self._below < sum(ties)
        before = np.cumsum([0, *ties]).tolist()
        self._before = {part.start: seen for part, seen in zip(parts, before, strict=False)}

    def above(self, magnitudes: Array, part: Rows) -> Array:
        """Give bool of the shape of some rows' magnitudes: what lies above the edge."""
        above: Array = magnitudes > self._threshold
        if self._split:
            left = max(0, self._below - self._before[part.start])
            places = np.flatnonzero(magnitudes == self._threshold)[left:]
            above.reshape(-1)[places] = True
        return above


def _sample(matrix: Matrix) -> Array:
    """Give the sorted magnitudes of some rows, evenly spaced."""
    step = max(1, matrix.shape[0] // _SAMPLED_ROWS)
    starts = range(0, matrix.shape[0], step)
    rows = [np.abs(matrix.rows(slice(start, start + 1))).ravel() for start in starts]
    return np.sort(np.concatenate(rows))


def _range(sample: Array, share: float, margin: float) -> tuple[float, float]:
    """Give magnitudes between which that of a share of all entries should lie."""
    low, high = int((share - margin) * len(sample)), int((share + margin) * len(sample)) + 1
    return (
        float(sample[low]) if low > 0 else 0.0,
        float(sample[high]) if high < len(sample) else np.inf,
    )


def _gather(matrix: Matrix, parts: list[Rows], low: float, high: float) -> tuple[int, list[Array]]:
    """Count the magnitudes below a range, and give those of each part that lie within."""
    smaller, between = 0, []
    for part in parts:
        magnitudes = np.abs(matrix.rows(part)).ravel()
        if low > 0:
            smaller += int(np.count_nonzero(magnitudes < low))
        within = np.flatnonzero((magnitudes >= low) & (magnitudes <= high))
        between.append(magnitudes[within])
    return smaller, between


def _count(matrix: Matrix) -> int:
    return matrix.shape[0] * matrix.shape[1]


def _root(matrix: Matrix, options: Options) -> int:
    told = hashlib.blake2b(matrix.fingerprint(), digest_size=8, key=b"merge")
    told.update(options.seed.to_bytes(8, "little"))
    return int.from_bytes(told.digest(), "little")


def _draws(root: int, part: Rows, values: Array) -> Array:
    """Draw float32 [rows, columns] in [0, 1) that depend on the root and the place alone.

    Philox counts blocks of eight such numbers; each row begins at a block of its own, so that it
    does not matter in how many pieces a matrix is seen.
    """
    rows, columns = values.shape
    blocks = -(-columns // _DRAWN_TOGETHER)
    stream = np.random.Generator(np.random.Philox(key=root, counter=part.start * blocks))
    drawn: Array = stream.random((rows, blocks * _DRAWN_TOGETHER), np.float32)[:, :columns]
    return drawn
