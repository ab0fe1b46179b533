"""Compare A and B as vectors of numbers, as ComPEFT does: experts of equal ranks only.

The answer depends on how ΔW was factored, so that this is for who trained all experts from one
initial A, or wants the figure that is published. All vectors of a factor count as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.mask_products import row_products
from compress.trit_rows import TritRows, stack
from merge.compressed.experts import Rows, as_floats
from merge.compressed.gathering import Gathered


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Hold one factor of some experts, each as one vector times a scale."""

    owners: Array
    scales: Array
    sides: Sequence[Rows]

    def trits(self) -> TritRows | None:
        """Give all as rows of bits, or None where they are floats."""
        flat = [side.flat() for side in self.sides if isinstance(side, TritRows)]
        return stack(flat) if flat else None

    def floats(self) -> Array:
        """Give all as float32 [owners, values]."""
        return np.stack([as_floats(side).reshape(-1) for side in self.sides])


def add(found: Array, left: Gathered, right: Gathered) -> None:
    """Add the inner products of some experts with others in one module: float64 [left, right]."""
    for factor in (0, 1):
        for one in _vectors(left, factor):
            for two in _vectors(right, factor):
                bits, other_bits = one.trits(), two.trits()
                if bits is not None and other_bits is not None:
                    products = row_products(bits, other_bits)
                else:
                    products = one.floats() @ two.floats().T
                scales = one.scales[:, None] * two.scales
                found[np.ix_(one.owners, two.owners)] += scales * products


def add_own(found: Array, module: Gathered) -> None:
    """Add the squared norms of experts: float64 [experts]."""
    for factor in (0, 1):
        for vectors in _vectors(module, factor):
            bits = vectors.trits()
            if bits is not None:
                energies = np.bitwise_count(bits.nonzero).sum(axis=1, dtype=np.int64)
            else:
                energies = np.square(vectors.floats(), dtype=np.float64).sum(axis=1)
            found[vectors.owners] += vectors.scales**2 * energies


def _vectors(module: Gathered, factor: int) -> Iterator[_Vectors]:
    """Take A, 0, or B, 1, of those who hold trits, then of those who hold floats."""
    for owners in (module.trit_owners, module.dense_owners):
        modules = [module.modules[number] for number in owners.tolist()]
        scales = [(each.scales or (1.0, 1.0))[factor] for each in modules]
        if modules:
            sides = [(each.a, each.b)[factor] for each in modules]
            yield _Vectors(owners, np.array(scales), sides)
