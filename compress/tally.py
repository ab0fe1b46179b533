"""Count and measure while trits are made, so that every result says what was lost and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from compress.compeft import Ternariser
from compress.container import Stored, in_table_order
from compress.dtypes import Array
from compress.lora import LoraModule
from compress.measure import ERASED_ERROR, Energies, Factors, delta_energies, vector_energies
from compress.reports import ModuleReport
from compress.restore import restore
from compress.task_vector import Part, TaskVector
from compress.water_filling import Spectrum, module_spectrum
from compress.weights import Weights


@dataclass(slots=True)
class Tally:
    """Gather counts per tensor, and energies of the tensors that are no LoRA factor.

    Attributes:
        nonzero: kept values by tensor.
        positive: positive ones among them, all tensors together.
        energies: by tensor.
    """

    nonzero: dict[str, int] = field(default_factory=dict)
    positive: int = 0
    energies: dict[str, Energies] = field(default_factory=dict)

    def add(self, part: Part, trits: Array) -> None:
        """Count one slice."""
        name = part.info.name
        self.nonzero[name] = self.nonzero.get(name, 0) + int(np.count_nonzero(trits))
        self.positive += int(np.count_nonzero(trits > 0))

    def add_energy(self, part: Part, values: Array, trits: Array, scale: float) -> None:
        """Measure one slice of a tensor that is no LoRA factor."""
        name = part.info.name
        unit = vector_energies(values, trits)
        measured = Energies(unit.original, unit.approximation * scale**2, unit.inner * scale)
        self.energies[name] = self.energies.get(name, Energies()) + measured

    def counts(self, size: int) -> Array:
        """Give how often −1, 0 and +1 came among so many trits."""
        total = sum(self.nonzero.values())
        return np.array([total - self.positive, size - total, self.positive])


def code(
    vector: TaskVector, ternariser: Ternariser, tally: Tally, *, lora: frozenset[str]
) -> Iterator[tuple[int, Iterator[Array]]]:
    """Give the runs of trits, one for every role, counting as they pass.

    Args:
        vector: where the values come from.
        ternariser: what turns them into trits.
        tally: what counts.
        lora: names of the tensors whose error is measured per module instead.

    Yields:
        number of trits, and their pieces.
    """

    def pieces(parts: list[Part]) -> Iterator[Array]:
        for part, start, values in vector.chunks(parts):
            trits = ternariser.trits(part, start, values)
            tally.add(part, trits)
            if part.info.name not in lora:
                tally.add_energy(part, values, trits, ternariser.group_of(part).scale)
            yield trits

    by_name = vector.by_name
    ordered = in_table_order(Stored(part.info) for part in vector.parts)
    for role in sorted({part.role for part in vector.parts}):
        parts = [by_name[stored.info.name] for stored in ordered]
        run = [part for part in parts if part.role is role]
        yield sum(part.info.size for part in run), pieces(run)


def lora_energies(
    module: LoraModule, weights: Weights, vector: TaskVector, ternariser: Ternariser
) -> tuple[Energies, Spectrum]:
    """Compare ΔW of one module before and after, with the values as they will be stored.

    Returns:
        energies of both, and the spectrum that it had before.
    """
    parts = vector.by_name
    sides: list[tuple[Array, Array]] = []
    for name in (module.a, module.b):
        part = parts[name]
        stored = Stored(part.info, part.role, part.initial)
        scale = ternariser.group_of(part).scale
        sides.append((vector.read(part), restore(ternariser.whole(part), stored, scale)))
    middle = weights.read(module.middle) if module.middle else None
    before = as_factors(module, sides[0][0], sides[1][0], middle)
    after = as_factors(module, sides[0][1], sides[1][1], middle)
    return delta_energies(before, after), module_spectrum(before)


def as_factors(module: LoraModule, a: Array, b: Array, middle: Array | None) -> Factors:
    """Shape flat values into the factors of a module, AdaLoRA's diagonal multiplied into A."""
    rows = a.reshape(module.rank, -1).astype(np.float64)
    if middle is not None:
        rows *= middle.astype(np.float64).reshape(-1, 1)
    return Factors(rows, b.reshape(-1, module.rank).astype(np.float64), module.scale)


def module_report(
    module: LoraModule, sizes: dict[str, int], nonzero: dict[str, int], energies: Energies | None
) -> ModuleReport:
    """Make the row of one LoRA module; without energies there is nothing to compare with."""
    empty = not nonzero[module.a] or not nonzero[module.b]
    compared = energies is not None and bool(energies.original)
    error = energies.error if energies is not None and compared else None
    lost = empty if error is None else empty or error >= ERASED_ERROR
    return ModuleReport(
        name=module.name,
        parameters=sizes[module.a] + sizes[module.b],
        rank=module.rank,
        scale=module.scale,
        density_a=nonzero[module.a] / sizes[module.a],
        density_b=nonzero[module.b] / sizes[module.b],
        norm=energies.original**0.5 if energies is not None else None,
        error=error,
        cosine=energies.cosine if energies is not None and compared else None,
        erased=lost if compared or energies is None else False,
    )


def tensor_report(name: str, size: int, nonzero: int, energies: Energies | None) -> ModuleReport:
    """Make the row of one tensor that is no LoRA factor."""
    compared = energies is not None and bool(energies.original)
    return ModuleReport(
        name=name,
        parameters=size,
        rank=None,
        scale=None,
        density_a=nonzero / size,
        density_b=None,
        norm=energies.original**0.5 if energies is not None else None,
        error=energies.error if energies is not None and compared else None,
        cosine=energies.cosine if energies is not None and compared else None,
        erased=compared and not nonzero,
    )
