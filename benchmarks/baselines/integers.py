"""Plain rounding of A and B to 8 or 4 bits by their largest magnitude.

The baseline that every claim must beat. The factors are taken as they are. Size: the levels packed
or deflated, whichever is smaller for the adapter, and a float16 scale per group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.baselines.interface import Adapter, Approximation
from benchmarks.baselines.levels import (
    Rounded,
    absmax,
    by_groups,
    components,
    deflated_bits,
    packed_bits,
)
from compress.measure import Factors


@dataclass(frozen=True, slots=True)
class Integers:
    """Round every group of values of a row of A, or of a column of B, to integers.

    Attributes:
        bits: per value, 2 to 8.
        group: values that share a scale; None is the whole row or column.
    """

    bits: int
    group: int | None = None

    @property
    def label(self) -> str:
        """Name it: int4 g64."""
        return f"int{self.bits}" + (f" g{self.group}" if self.group else " per component")

    def compress(self, adapter: Adapter) -> Approximation:
        """Round all factors."""
        made, parts = {}, list[Rounded]()
        for name, module in adapter.modules.items():
            a, b = (
                by_groups(rows, self.group or rows.shape[1], partial(absmax, bits=self.bits))
                for rows in components(module)
            )
            made[name] = Factors(a.values, b.values.T, module.scale)
            parts += [a, b]
        levels = [part.levels for part in parts]
        stored = min(packed_bits(levels, self.bits), deflated_bits(levels, self.bits))
        return Approximation(made, stored + sum(part.side_bits for part in parts))
