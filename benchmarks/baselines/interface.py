"""Say what every baseline gives, so that all of them are measured by the same few lines.

A `Method` is one published recipe at one setting; a `Baseline` is such a recipe at all settings
that are worth a row of the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from compress.measure import ERASED_ERROR, Energies, Factors, delta_energies


@dataclass(frozen=True, slots=True)
class Adapter:
    """Hold the LoRA modules of an adapter.

    Attributes:
        path: the PEFT folder or the safetensors file that they come from.
        modules: A [rank, d_in] and B [d_out, rank] in float64 by the module's name, in
            alphabetical order.
    """

    path: Path
    modules: Mapping[str, Factors]

    @property
    def parameters(self) -> int:
        """Count the elements of all A and B."""
        return sum(module.a.size + module.b.size for module in self.modules.values())

    @property
    def rank(self) -> int:
        """Give the largest rank of a module."""
        return max(len(module.a) for module in self.modules.values())


@dataclass(frozen=True, slots=True)
class Approximation:
    """Hold what a method makes of an adapter.

    Attributes:
        modules: what a decoder would give, by name; a module that is absent is zero. Its rank may
            be lower than before.
        size_bits: what a file holds for them.
        note: what was chosen on the way, such as an alpha.
    """

    modules: Mapping[str, Factors]
    size_bits: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """Hold one point of a rate–distortion curve.

    Attributes:
        label: method and setting.
        bits_per_param: bits for each element of A and B.
        error: relative error of ΔW over the adapter.
        erased_modules: modules with an effect whose error is at least `ERASED_ERROR`.
        note: what was chosen on the way.
        seconds: processor time of compressing, whatever is searched on the way included. Two runs
            differ in it, so it does not count when points are compared.
    """

    label: str
    bits_per_param: float
    error: float
    erased_modules: int
    note: str = ""
    seconds: float = field(default=0.0, compare=False)


class Method(Protocol):
    """Be one recipe at one setting."""

    @property
    def label(self) -> str:
        """Name recipe and setting, the same for every adapter."""

    def compress(self, adapter: Adapter) -> Approximation:
        """Approximate all modules and count the bits that a file of them takes."""


class Baseline(Protocol):
    """Be a recipe with all its settings."""

    @property
    def name(self) -> str:
        """Name the recipe."""

    def rows(self, adapter: Adapter) -> Iterable[Point]:
        """Measure the recipe on one adapter at every setting."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Make a baseline of the settings of one recipe.

    Attributes:
        name: of the recipe.
        settings: which methods are worth measuring on an adapter.
    """

    name: str
    settings: Callable[[Adapter], Iterable[Method]]

    def rows(self, adapter: Adapter) -> Iterable[Point]:
        """Measure every setting, one after another."""
        for method in self.settings(adapter):
            yield measure(method, adapter)


def measure(method: Method, adapter: Adapter) -> Point:
    """Compress an adapter and compare ΔW with what it was."""
    start = time.process_time()
    made = method.compress(adapter)
    seconds = time.process_time() - start
    by_module = compare(adapter, made)
    return Point(
        label=method.label,
        bits_per_param=made.size_bits / adapter.parameters,
        error=total(by_module).error,
        erased_modules=sum(_erased(energies) for energies in by_module.values()),
        note=made.note,
        seconds=seconds,
    )


def compare(adapter: Adapter, approximation: Approximation) -> dict[str, Energies]:
    """Compare ΔW before and after, by module."""
    found = {}
    for name, module in adapter.modules.items():
        made = approximation.modules.get(name)
        if made is None:
            found[name] = Energies(original=delta_energies(module, module).original)
        else:
            found[name] = delta_energies(module, made)
    return found


def total(by_module: Mapping[str, Energies]) -> Energies:
    """Add up the energies of all modules."""
    return sum(by_module.values(), start=Energies())


def _erased(energies: Energies) -> bool:
    return bool(energies.original) and energies.error >= ERASED_ERROR
