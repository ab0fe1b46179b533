"""Put one module of many experts together: trits in one place, other numbers in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.mask_products import Paired
from compress.trit_rows import TritRows, stack
from merge.compressed.experts import CompressedExpert, CompressedModule, as_floats

#: Values of trits that are unpacked at one time: 256 MiB of float32.
_UNPACKED = 1 << 26


@dataclass(frozen=True, slots=True)
class Dense:
    """Hold pairs of vectors of floats or small integers, those of one owner side by side.

    Attributes:
        a: float32 [rows, d_in].
        b: float32 [rows, d_out].
        weights: float64 [rows].
        bounds: int64 [owners + 1]; every owner has a row.
    """

    a: Array
    b: Array
    weights: Array
    bounds: Array

    @property
    def owners(self) -> int:
        """Count the owners."""
        return len(self.bounds) - 1

    def part(self, first: int, last: int) -> Dense:
        """Give the pairs of some of the owners."""
        start, stop = int(self.bounds[first]), int(self.bounds[last])
        bounds = self.bounds[first : last + 1] - start
        return Dense(self.a[start:stop], self.b[start:stop], self.weights[start:stop], bounds)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Hold one module of many experts.

    Attributes:
        modules: by owner, for who needs more than its vectors.
        trits: pairs of ternary vectors, or None where no expert has such.
        trit_owners: int64, the experts that `trits` belongs to.
        dense: other pairs, or None.
        dense_owners: int64, likewise.
    """

    modules: dict[int, CompressedModule]
    trits: Paired | None
    trit_owners: Array
    dense: Dense | None
    dense_owners: Array


def gather(experts: Sequence[CompressedExpert], name: str) -> Gathered:
    """Put a module together; who lacks it, or has nothing in it, is left out."""
    modules = {
        number: expert.modules[name]
        for number, expert in enumerate(experts)
        if name in expert.modules and expert.modules[name].rank
    }
    of_trits = [number for number, module in modules.items() if module.ternary]
    others = [number for number, module in modules.items() if not module.ternary]
    return Gathered(
        modules=modules,
        trits=_paired([modules[number] for number in of_trits]) if of_trits else None,
        trit_owners=np.array(of_trits, np.int64),
        dense=_dense([modules[number] for number in others]) if others else None,
        dense_owners=np.array(others, np.int64),
    )


def unpacked(module: Gathered) -> Iterator[tuple[Array, Dense]]:
    """Unpack the trits of a module, some owners at a time: who they are, and pairs of floats."""
    trits = module.trits
    if trits is None:
        return
    per_row = trits.a.columns + trits.b.columns
    first = 0
    for last in range(1, trits.owners + 1):
        more = last < trits.owners
        if more and int(trits.bounds[last + 1] - trits.bounds[first]) * per_row <= _UNPACKED:
            continue
        part = trits.part(first, last)
        floats = Dense(as_floats(part.a), as_floats(part.b), part.weights, part.bounds)
        yield module.trit_owners[first:last], floats
        first = last


def _paired(modules: Sequence[CompressedModule]) -> Paired:
    sides = [
        stack([side for side in found if isinstance(side, TritRows)])
        for found in ([module.a for module in modules], [module.b for module in modules])
    ]
    return Paired(sides[0], sides[1], _weights(modules), _bounds(modules))


def _dense(modules: Sequence[CompressedModule]) -> Dense:
    a, b = (
        np.concatenate([as_floats(side) for side in found])
        for found in ([module.a for module in modules], [module.b for module in modules])
    )
    return Dense(a, b, _weights(modules), _bounds(modules))


def _weights(modules: Sequence[CompressedModule]) -> Array:
    return np.concatenate([module.weights for module in modules])


def _bounds(modules: Sequence[CompressedModule]) -> Array:
    return np.cumsum([0, *(module.rank for module in modules)])
