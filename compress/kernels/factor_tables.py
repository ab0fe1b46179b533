"""Cut rows and columns of tensors into the blocks that programs process: the tables of launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array

ROW_BLOCK = 1024
COLUMN_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Launch:
    """Hold the programs of one launch.

    Attributes:
        width: columns to a program; 0 for rows.
        wide: places are multiples of `factor_plans.WIDE`.
        whole: all columns of a tensor are in one program, as many as `width`.
        table: int64 [programs, 5]. Of rows: record, first value of the row, its length, first
            value of the block within it, whether something is added. Of columns: first record, its
            first value, columns, columns of the tensor, first row.
    """

    width: int
    wide: bool
    whole: bool
    table: Array


@dataclass(frozen=True, slots=True)
class Spread:
    """Say how the records of one tensor, its rows or its columns, are spread.

    Attributes:
        record: the first of them.
        at: where the tensor begins.
        length: of a row or a column.
        count: how many are written; the rest is zero before.
        rank: how many the tensor has.
        added: whether something is added to them.
    """

    record: int
    at: int
    length: int
    count: int
    rank: int
    added: bool = False


def cut_rows(spreads: Sequence[Spread]) -> Array:
    """Cut the rows of tensors into blocks: the table of a launch."""
    record, at, length, count, _, added = _fields(spreads)
    blocks = -(-length // ROW_BLOCK)
    tensor, place = _unrolled(count * blocks)
    row, block = np.divmod(place, blocks[tensor])
    columns = (
        record[tensor] + row,
        at[tensor] + row * length[tensor],
        length[tensor],
        block * ROW_BLOCK,
        added[tensor],
    )
    return np.stack(columns, axis=1)


def cut_columns(spreads: Sequence[Spread], width: int) -> Array:
    """Cut the columns of tensors into tiles: the table of a launch."""
    record, at, length, count, rank, _ = _fields(spreads)
    tiles = -(-count // width)
    tensor, place = _unrolled(tiles * -(-length // COLUMN_BLOCK))
    block, tile = np.divmod(place, tiles[tensor])
    columns = (
        record[tensor] + tile * width,
        at[tensor] + tile * width,
        np.minimum(width, count[tensor] - tile * width),
        rank[tensor],
        block * COLUMN_BLOCK,
    )
    return np.stack(columns, axis=1)


def _fields(spreads: Sequence[Spread]) -> Array:
    rows = [(one.record, one.at, one.length, one.count, one.rank, one.added) for one in spreads]
    return np.array(rows, np.int64).T


def _unrolled(counts: Array) -> tuple[Array, Array]:
    """Number programs: which tensor each is of, and its place among those of the tensor."""
    tensor = np.repeat(np.arange(len(counts)), counts)
    return tensor, np.arange(len(tensor)) - np.repeat(np.cumsum(counts) - counts, counts)
