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
from compress.kernels.factor_tables import Launch, Spread, cut_columns, cut_rows
from compress.kernels.plane_batches import Place
from compress.kernels.restore import STORAGE
from compress.rate_distortion.decoder import Coded, Described
from compress.task_vector import Initial

#: Columns to a program at most.
MOST_WIDE = 64
#: Every tensor begins at a multiple of this many values.
ALIGNMENT = 128
#: Where all places are multiples of this, loads and stores are 16 bytes wide.
WIDE = 8
_NOWHERE = -1
#: What has no kernel is written as float32 and rounded by the reference.
_OTHERS = "F32"


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
    _rows: list[Spread] = field(default_factory=list)
    _columns: list[Spread] = field(default_factory=list)
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

    def _add(self, spreads: list[Spread], at: int, length: int, ranks: tuple[int, int]) -> int:
        described, rank = ranks
        # Work must not grow with a rank that costs a file nothing to claim.
        count = rank if rank <= MOST_WIDE else described
        self.zeroed |= count < rank
        if count:
            spreads.append(Spread(self._records, at, length, count, rank))
        return self._take(count)

    def add_vector(self, at: int, length: int, initial: float) -> int:
        """Write a vector, to which its initial value is added; give its record."""
        self._rows.append(Spread(self._records, at, length, 1, 1, added=True))
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
        groups: dict[tuple[int, bool, bool], list[Spread]] = {}
        for spread in self._rows:
            wide = not odd[spread.record : spread.record + spread.count].any()
            groups.setdefault((0, wide, False), []).append(spread)
        for spread in self._columns:
            wide = not odd[spread.record : spread.record + spread.count].any()
            width = min(MOST_WIDE, 1 << (spread.count - 1).bit_length())
            groups.setdefault((width, wide, spread.rank == width), []).append(spread)
        return [
            Launch(*key, cut_columns(spreads, key[0]) if key[0] else cut_rows(spreads))
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
