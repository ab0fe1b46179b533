"""Add up, over the modules of a merge, where its inputs contradict one another.

A `ConflictLog` is shown each module while it is there, so that nothing is read or computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from compress.dtypes import Array
from merge.conflicts import ModuleConflict, cosines, mean_cosine, measure_conflict, norm_kept
from merge.delta_space import Delta


class Merged(Protocol):
    """Be one module of a merge, as `merge.merging.MergedModule` is."""

    @property
    def name(self) -> str:
        """Give the module's name."""
        ...

    @property
    def inputs(self) -> Sequence[Delta]:
        """Give its ΔW in every input, of rank 0 where one does not have it."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """Give the weights that went in."""
        ...

    @property
    def delta(self) -> Delta:
        """Give the result."""
        ...


@dataclass(frozen=True, slots=True)
class PairConflict:
    """Name two inputs and how far the whole of one points along the other.

    Attributes:
        first: name of one input.
        second: name of the other.
        cosine: of their ΔW over all modules, in [−1, 1].
    """

    first: str
    second: str
    cosine: float


@dataclass(frozen=True, slots=True)
class ConflictReport:
    """Hold the conflicts of a whole merge.

    Attributes:
        inputs: names of the inputs.
        weights: their weights.
        modules: name and figures of each module, in the order of the merge.
    """

    inputs: tuple[str, ...]
    weights: tuple[float, ...]
    modules: tuple[tuple[str, ModuleConflict], ...]

    @property
    def sign_agreement(self) -> float | None:
        """Give the mean over modules, weighted by the energy Σᵢ ‖ΔWᵢ‖² of each."""
        return _mean([(c.sign_agreement, float(c.energies.sum())) for _, c in self.modules])

    @property
    def interference(self) -> tuple[float | None, ...]:
        """Give each input's mean over modules, weighted by ‖ΔWᵢ‖² of each."""
        return tuple(
            _mean([(c.interference[at], float(c.energies[at])) for _, c in self.modules])
            for at in range(len(self.inputs))
        )

    @property
    def norm_kept(self) -> float | None:
        """Give ‖ΔW‖ / root mean square of ‖ΔWᵢ‖, each over all modules."""
        merged = sum(c.merged_energy for _, c in self.modules)
        return norm_kept(merged, np.diagonal(self._products()))

    @property
    def cosine(self) -> float | None:
        """Give the mean over pairs of the cosine of their ΔW over all modules."""
        return mean_cosine(self._products())

    @property
    def worst_pair(self) -> PairConflict | None:
        """Give the two inputs whose ΔW over all modules have the least cosine."""
        found = cosines(self._products())
        rows, columns = np.triu_indices(len(found), 1)
        pairs = found[rows, columns]
        if not np.isfinite(pairs).any():
            return None
        at = int(np.nanargmin(pairs))
        return PairConflict(self.inputs[rows[at]], self.inputs[columns[at]], float(pairs[at]))

    def worst(self, count: int) -> list[tuple[str, ModuleConflict]]:
        """Give the modules with the highest mean interference; of equal ones, by name."""
        known = [(name, c) for name, c in self.modules if c.mean_interference is not None]
        return sorted(known, key=lambda item: (-(item[1].mean_interference or 0.0), item[0]))[
            :count
        ]

    def to_json(self) -> dict[str, Any]:
        """Give plain values; what has no meaning is null."""
        pair = self.worst_pair
        return {
            "inputs": list(self.inputs),
            "weights": list(self.weights),
            "sign_agreement": self.sign_agreement,
            "interference": list(self.interference),
            "norm_kept": self.norm_kept,
            "cosine": self.cosine,
            "worst_pair": pair and {"inputs": [pair.first, pair.second], "cosine": pair.cosine},
            "modules": [
                {
                    "name": name,
                    "sign_agreement": c.sign_agreement,
                    "interference": list(c.interference),
                    "norm_kept": c.norm_kept,
                    "cosine": c.cosine,
                    "energy": float(c.energies.sum()),
                    "rows_read": c.rows_read,
                    "rows": c.rows,
                }
                for name, c in self.modules
            ],
        }

    def _products(self) -> Array:
        """Give ⟨ΔWᵢ, ΔWⱼ⟩ over all modules, float64 [inputs, inputs]."""
        total = np.zeros((len(self.inputs), len(self.inputs)))
        return sum((c.products for _, c in self.modules), total)


class ConflictLog:
    """Note the conflicts of each module while adapters are merged.

    Attributes:
        inputs: names of the inputs.
        seed: draws the rows that are read of large modules.
    """

    def __init__(self, inputs: Sequence[str], *, seed: int = 0) -> None:
        self.inputs = tuple(inputs)
        self.seed = seed
        self._weights: tuple[float, ...] = ()
        self._modules: list[tuple[str, ModuleConflict]] = []

    def observe(self, module: Merged) -> None:
        """Note one module; see `measure_conflict`. Fits `observe` of `merge_adapters`."""
        self._weights = tuple(module.weights)
        found = measure_conflict(module.inputs, module.weights, module.delta, seed=self.seed)
        self._modules.append((module.name, found))

    def report(self) -> ConflictReport:
        """Give what was noted."""
        return ConflictReport(self.inputs, self._weights, tuple(self._modules))


def _mean(pairs: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None
