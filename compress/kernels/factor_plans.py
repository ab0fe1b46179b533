"""Lay out where every vector of the levels goes: rows of A, columns of B, and vectors alone.

Places are computed on the host from the shapes of the index and from layouts that were checked; a
kernel reads and writes nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compress.container import Stored
from compress.dtypes import Array
from compress.kernels.plane_batches import Place
from compress.kernels.restore import STORAGE
from compress.rate_distortion.decoder import Coded, Described
from compress.task_vector import Initial

ROW_BLOCK = 1024
COLUMN_BLOCK = 256
#: Columns to a program at most.
MOST_WIDE = 64
#: Every tensor begins at a multiple of this many values.
ALIGNMENT = 128
#: Where all places are multiples of this, loads and stores are 16 bytes wide.
WIDE = 8
_NOWHERE = -1
#: What has no kernel is written as float32 and rounded by the reference.
_OTHERS = "F32"


@dataclass(frozen=True, slots=True)
class Launch:
    """Hold the programs of one launch.

    Attributes:
        width: columns to a program; 0 for rows.
        wide: places are multiples of `WIDE`.
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
class _Spread:
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


@dataclass(slots=True)
class FactorPlan:
    """Gather what is written to the tensors of one storage type.

    Attributes:
        size: values in the buffer of all tensors.
        zeroed: whether the buffer must hold zeros before, because not all of it is written.
        tensors: number of every tensor in the order of all, where it begins, and what it is.
        added: what is added to the records of vectors that begin at another value than zero.
    """

    size: int = 0
    zeroed: bool = False
    tensors: list[tuple[int, int, Stored]] = field(default_factory=list)
    added: dict[int, float] = field(default_factory=dict)
    _records: int = 0
    _rows: list[_Spread] = field(default_factory=list)
    _columns: list[_Spread] = field(default_factory=list)
    _told: list[tuple[int, int, float]] = field(default_factory=list)
    _found: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def place(self, number: int, tensor: Stored) -> int:
        """Make room for a tensor; give where it begins."""
        at = self.size
        self.tensors.append((number, at, tensor))
        self.size += -(-tensor.info.size // ALIGNMENT) * ALIGNMENT
        return at

    def add_rows(self, at: int, length: int, ranks: tuple[int, int]) -> int:
        """Write the rows of a tensor, `ranks` described and in all; give the first's record."""
        return self._add(self._rows, at, length, ranks)

    def add_columns(self, at: int, length: int, ranks: tuple[int, int]) -> int:
        """Write the columns of a tensor, likewise."""
        return self._add(self._columns, at, length, ranks)

    def _add(self, spreads: list[_Spread], at: int, length: int, ranks: tuple[int, int]) -> int:
        described, rank = ranks
        # Work must not grow with a rank that costs a file nothing to claim.
        count = rank if rank <= MOST_WIDE else described
        self.zeroed |= count < rank
        if count:
            spreads.append(_Spread(self._records, at, length, count, rank))
        return self._take(count)

    def add_vector(self, at: int, length: int, initial: float) -> int:
        """Write a vector, to which its initial value is added; give its record."""
        self._rows.append(_Spread(self._records, at, length, 1, 1, added=True))
        self.added[self._records] = initial
        return self._take(1)

    def tell(self, record: int, start: int, gain: float) -> None:
        """Say where a record's vector begins in its segment, and what it is multiplied with."""
        self._told.append((record, start, gain))

    def end_segment(self, place: Place) -> None:
        """Find the vectors that were told of in a segment; those of unknown planes are zero."""
        told = np.array(self._told, np.float64).reshape(-1, 3)
        self._told.clear()
        starts = told[:, 1].astype(np.int64)
        told, starts = told[starts < 2 * place.known], starts[starts < 2 * place.known]
        kinds = np.searchsorted(place.starts, starts // 2, side="right") - 1
        factors = np.stack([place.scales[kinds], told[:, 2].astype(np.float32)], axis=1)
        self._found.append((told[:, 0].astype(np.int64), starts + 2 * place.first, factors))

    def records(self) -> tuple[Array, Array]:
        """Give of every record its vector's first level, or -1, and length; and its factors.

        Returns:
            int64 [records, 2], and float32 [records, 3]: scale, gain and what is added.
        """
        sources = np.full((self._records, 2), _NOWHERE, np.int64)
        factors = np.zeros((self._records, 3), np.float32)
        for spread in (*self._rows, *self._columns):
            sources[spread.record : spread.record + spread.count, 1] = spread.length
        for at, starts, own in self._found:
            sources[at, 0] = starts
            factors[at, :2] = own
        factors[list(self.added), 2] = list(self.added.values())
        return sources, factors

    def launches(self, sources: Array) -> list[Launch]:
        """Give all programs, those of tensors that are spread alike in one launch."""
        odd = np.asarray((np.where(sources == _NOWHERE, 0, sources) % WIDE).any(axis=1))
        groups: dict[tuple[int, bool, bool], list[_Spread]] = {}
        for spread in self._rows:
            wide = not odd[spread.record : spread.record + spread.count].any()
            groups.setdefault((0, wide, False), []).append(spread)
        for spread in self._columns:
            wide = not odd[spread.record : spread.record + spread.count].any()
            width = min(MOST_WIDE, 1 << (spread.count - 1).bit_length())
            groups.setdefault((width, wide, spread.rank == width), []).append(spread)
        return [
            Launch(*key, _columns(spreads, key[0]) if key[0] else _rows(spreads))
            for key, spreads in sorted(groups.items())
        ]

    def _take(self, count: int) -> int:
        self._records += count
        return self._records - count


def plan_factors(segments: Sequence[Coded], places: Sequence[Place]) -> dict[str, FactorPlan]:
    """Plan the tensors of all segments, in the order of `Coded.tensors`, by storage type."""
    plans: dict[str, FactorPlan] = {}
    number = 0
    for coded, place in zip(segments, places, strict=True):
        for module, parts in zip(coded.modules, coded.parts, strict=True):
            records = _plan_module(plans, number, module, len(parts))
            number += len(records)
            # u goes to B, v to A; a vector alone has but one
            for row, (gain, starts) in enumerate(parts):
                for (plan, record), start in zip(records, starts, strict=True):
                    plan.tell(record + row, start, gain)
        for plan in plans.values():
            plan.end_segment(place)
    return plans


def _plan_module(
    plans: dict[str, FactorPlan], number: int, module: Described, described: int
) -> list[tuple[FactorPlan, int]]:
    """Plan the tensors of one module; give by vector of a component where its records begin."""
    if module.a is None:
        plan = _plan_of(plans, module.b)
        at = plan.place(number, module.b)
        initial = 1.0 if module.b.initial is Initial.ONE else 0.0
        return [(plan, plan.add_vector(at, module.b.info.size, initial))]
    d_out, d_in = module.sizes
    of_a, of_b = _plan_of(plans, module.a), _plan_of(plans, module.b)
    ranks = described, module.rank
    rows = of_a.add_rows(of_a.place(number, module.a), d_in, ranks)
    columns = of_b.add_columns(of_b.place(number + 1, module.b), d_out, ranks)
    return [(of_b, columns), (of_a, rows)]


def _plan_of(plans: dict[str, FactorPlan], tensor: Stored) -> FactorPlan:
    dtype = tensor.info.dtype if tensor.info.dtype in STORAGE else _OTHERS
    return plans.setdefault(dtype, FactorPlan())


def _rows(spreads: Sequence[_Spread]) -> Array:
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


def _columns(spreads: Sequence[_Spread], width: int) -> Array:
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


def _fields(spreads: Sequence[_Spread]) -> Array:
    rows = [(one.record, one.at, one.length, one.count, one.rank, one.added) for one in spreads]
    return np.array(rows, np.int64).T


def _unrolled(counts: Array) -> tuple[Array, Array]:
    """Number programs: which tensor each is of, and its place among those of the tensor."""
    tensor = np.repeat(np.arange(len(counts)), counts)
    return tensor, np.arange(len(tensor)) - np.repeat(np.cumsum(counts) - counts, counts)
