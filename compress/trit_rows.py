"""Hold many vectors of trits as rows of two bit planes, in words of 64 bits.

`compress.masks` holds one flat tensor as kernels of a GPU want it; here every vector begins with a
word of its own, so that any of them can be multiplied with any other of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.errors import OptionError

BITS_PER_WORD = 64


@dataclass(frozen=True, slots=True)
class TritRows:
    """Hold the bit planes of some vectors of equal length.

    Attributes:
        columns: the length of a vector; the bits beyond it are zero.
        nonzero: uint64 [rows, ⌈columns/64⌉], where a trit is not zero.
        negative: uint64 [rows, ⌈columns/64⌉], where it is −1: a part of `nonzero`.
    """

    columns: int
    nonzero: Array
    negative: Array

    @property
    def rows(self) -> int:
        """Count the vectors."""
        return int(self.nonzero.shape[0])

    @property
    def words(self) -> int:
        """Count the words of one plane of a vector."""
        return int(self.nonzero.shape[1])

    @property
    def size_bytes(self) -> int:
        """Count the bytes of both planes."""
        return int(self.nonzero.nbytes + self.negative.nbytes)

    def flat(self) -> TritRows:
        """See all vectors as one; where they join, padding stays between them."""
        return TritRows(
            self.rows * self.words * BITS_PER_WORD,
            self.nonzero.reshape(1, -1),
            self.negative.reshape(1, -1),
        )

    def part(self, start: int, stop: int) -> TritRows:
        """Give some of the vectors."""
        return TritRows(self.columns, self.nonzero[start:stop], self.negative[start:stop])


@dataclass(frozen=True, slots=True)
class TernaryTensor:
    """Hold a tensor of scale · trit.

    Attributes:
        rows: its trits, [rows, columns].
        scale: what +1 stands for.
    """

    rows: TritRows
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Give rows and columns."""
        return self.rows.rows, self.rows.columns


def word_count(columns: int) -> int:
    """Count the words of one plane of a vector."""
    return -(-columns // BITS_PER_WORD)


def pack_rows(trits: Array) -> TritRows:
    """Pack int8 [rows, columns] of −1, 0 and +1."""
    return TritRows(trits.shape[1], _pack(trits != 0), _pack(trits < 0))


def unpack_rows(rows: TritRows) -> Array:
    """Unpack into int8 [rows, columns]."""
    nonzero, negative = (_unpack(plane, rows.columns) for plane in (rows.nonzero, rows.negative))
    trits: Array = nonzero - 2 * negative
    return trits


def stack(parts: Sequence[TritRows]) -> TritRows:
    """Put the vectors of all parts, at least one, below one another.

    Raises:
        OptionError: they have different lengths.
    """
    require_same_columns(parts)
    if len(parts) == 1:
        return parts[0]
    return TritRows(
        parts[0].columns,
        np.concatenate([part.nonzero for part in parts]),
        np.concatenate([part.negative for part in parts]),
    )


def require_same_columns(parts: Sequence[TritRows]) -> None:
    """Refuse vectors of different lengths.

    Raises:
        OptionError: they have.
    """
    for part in parts[1:]:
        if part.columns != parts[0].columns:
            raise OptionError(
                "vectors of different lengths cannot be combined",
                field="columns",
                expected=str(parts[0].columns),
                actual=str(part.columns),
            )


def _pack(present: Array) -> Array:
    rows, columns = present.shape
    plane = np.zeros((rows, 8 * word_count(columns)), np.uint8)
    packed = np.packbits(present, axis=1, bitorder="little")
    plane[:, : packed.shape[1]] = packed
    return plane.view("<u8")


def _unpack(plane: Array, columns: int) -> Array:
    as_bytes = np.ascontiguousarray(plane).view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, count=columns, bitorder="little").view(np.int8)
