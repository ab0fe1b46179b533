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

Vector = tuple[int, float, float]


@dataclass(frozen=True, slots=True)
class Launch:
    """Hold the programs of one launch.

    Attributes:
        width: columns to a program; 0 for rows.
        wide: places are multiples of `WIDE`.
        whole: all columns of a tensor are in one program, as many as `width`.
        table: int64 [programs, 5]. Of rows: first record, first value of the tensor's row, length
            of the row, first value of the block, whether something is added. Of columns: first
            record, first value of the tensor's column, columns, tensor's columns, first row; and
            the rows of a column are the length of its records.
    """

    width: int
    wide: bool
    whole: bool
    table: Array


@dataclass(slots=True)
class FactorPlan:
    """Gather what is written to tensors of one storage type.

    Attributes:
        size: values in the buffer of all tensors.
        tensors: number of every tensor in the order of all, where it begins, and what it is.
        sources: of every record, where its vector begins in the levels, or -1; and its length.
        factors: of every record, the scale of its class, its gain, and what is added.
    """

    size: int = 0
    tensors: list[tuple[int, int, Stored]] = field(default_factory=list)
    sources: list[tuple[int, int]] = field(default_factory=list)
    factors: list[tuple[float, float, float]] = field(default_factory=list)
    _rows: list[tuple[int, int, int, bool]] = field(default_factory=list)
    _columns: list[tuple[int, int, int, int]] = field(default_factory=list)

    def place(self, number: int, tensor: Stored) -> int:
        """Make room for a tensor; give where it begins."""
        at = self.size
        self.tensors.append((number, at, tensor))
        self.size += -(-tensor.info.size // ALIGNMENT) * ALIGNMENT
        return at

    def add_rows(self, at: int, vectors: Sequence[Vector], length: int, rows: int) -> None:
        """Write vectors as the rows of a tensor, and zeros to the rest of its rows."""
        for row in range(rows):
            self._rows.append((len(self.sources), at + row * length, length, False))
            self._add_record(vectors[row] if row < len(vectors) else None, length)

    def add_columns(self, at: int, vectors: Sequence[Vector], length: int, columns: int) -> None:
        """Write vectors as the columns of a tensor, and zeros to the rest of its columns."""
        self._columns.append((len(self.sources), at, columns, length))
        for column in range(columns):
            self._add_record(vectors[column] if column < len(vectors) else None, length)

    def add_vector(self, at: int, vectors: Sequence[Vector], length: int, initial: float) -> None:
        """Write a vector, or zeros, plus its initial value."""
        self._rows.append((len(self.sources), at, length, True))
        self._add_record(vectors[0] if vectors else None, length, added=initial)

    def _add_record(self, vector: Vector | None, length: int, *, added: float = 0.0) -> None:
        start, scale, gain = vector or (_NOWHERE, 0.0, 0.0)
        self.sources.append((start, length))
        self.factors.append((scale, gain, added))

    def launches(self) -> list[Launch]:
        """Give all programs, those with places alike in one launch."""
        groups: dict[tuple[int, bool, bool], list[Array]] = {}
        sources = np.array(self.sources, np.int64).reshape(-1, 2)
        for record, at, length, added in self._rows:
            wide = _all_wide(sources[record], at)
            blocks = np.arange(0, length, ROW_BLOCK)
            groups.setdefault((0, wide, False), []).append(
                _table(len(blocks), record, at, length, blocks, added)
            )
        for record, at, columns, length in self._columns:
            blocks = np.arange(0, length, COLUMN_BLOCK)
            width = min(MOST_WIDE, 1 << (columns - 1).bit_length())
            whole = columns == width
            for first in range(0, columns, width):
                held = min(width, columns - first)
                own = sources[record + first : record + first + held]
                groups.setdefault((width, _all_wide(own, at), whole), []).append(
                    _table(len(blocks), record + first, at + first, held, columns, blocks)
                )
        return [Launch(*key, np.concatenate(tables)) for key, tables in sorted(groups.items())]


def plan_factors(segments: Sequence[Coded], places: Sequence[Place]) -> dict[str, FactorPlan]:
    """Plan the tensors of all segments, in the order of `Coded.tensors`, by storage type."""
    plans: dict[str, FactorPlan] = {}
    number = 0
    for coded, place in zip(segments, places, strict=True):
        for module, parts in zip(coded.modules, coded.parts, strict=True):
            vectors = [[_vector(place, start, gain) for start in starts] for gain, starts in parts]
            number = _plan_module(plans, number, module, vectors)
    return plans


def _plan_module(
    plans: dict[str, FactorPlan],
    number: int,
    module: Described,
    vectors: Sequence[Sequence[Vector]],
) -> int:
    """Plan one module; give the number of the next tensor."""
    if module.a is None:
        plan = _plan_of(plans, module.b)
        at = plan.place(number, module.b)
        initial = 1.0 if module.b.initial is Initial.ONE else 0.0
        plan.add_vector(at, [both[0] for both in vectors], module.b.info.size, initial)
        return number + 1
    d_out, d_in = module.sizes
    plan = _plan_of(plans, module.a)
    at = plan.place(number, module.a)
    plan.add_rows(at, [v for _, v in vectors], d_in, module.rank)
    plan = _plan_of(plans, module.b)
    at = plan.place(number + 1, module.b)
    plan.add_columns(at, [u for u, _ in vectors], d_out, module.rank)
    return number + 2


def _plan_of(plans: dict[str, FactorPlan], tensor: Stored) -> FactorPlan:
    dtype = tensor.info.dtype if tensor.info.dtype in STORAGE else _OTHERS
    return plans.setdefault(dtype, FactorPlan())


def _vector(place: Place, start: int, gain: float) -> Vector:
    """Find a vector in the buffer of all levels; one whose class no known plane holds is zero."""
    if start >= 2 * place.known:
        return _NOWHERE, 0.0, 0.0
    kind = int(np.searchsorted(place.starts, start // 2, side="right")) - 1
    return 2 * place.first + start, float(place.scales[kind]), gain


def _all_wide(sources: Array, at: int) -> bool:
    """Say whether vectors begin and end at multiples of `WIDE`, and their tensor too.

    One that is nowhere lies at zero as far as this goes, since it is not read.
    """
    return not (np.where(sources == _NOWHERE, 0, sources) % WIDE).any() and not at % WIDE


def _table(count: int, *columns: int | Array) -> Array:
    table = np.empty((count, len(columns)), np.int64)
    for place, column in enumerate(columns):
        table[:, place] = column
    return table
