"""Merge adapters module by module: the use of a recipe on experts, and the folder that comes out.

Memory holds, of every input, as many modules as there are cores and two more. Start at
`merge_adapters`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from compress.places import new_folder
from merge.beside import settle_heads
from merge.compatibility import require_compatible
from merge.delta_space import Delta, Truncated
from merge.errors import MergeError
from merge.expert import Expert, module_names, open_expert
from merge.factors import Factors
from merge.folder import MergedFolder
from merge.method import Space
from merge.parallel import in_order
from merge.recipe import HeadPolicy, Recipe, WeightedAdapter

RECIPE_NAME = "merge_recipe.json"

#: Is told of modules done, of so many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MergedModule:
    """Hold one module of a merge.

    Attributes:
        name: the module.
        factors: of every input, of rank 0 where one does not have it.
        weights: that went in.
        delta: the result.
        energy: ‖ΔW‖² before its rank was reduced; 0 where it was not to be.
        dropped: ‖ΔW‖² of what that left out.
    """

    name: str
    factors: tuple[Factors, ...]
    weights: tuple[float, ...]
    delta: Delta
    energy: float
    dropped: float

    @property
    def inputs(self) -> tuple[Delta, ...]:
        """Return its ΔW in every input."""
        return tuple(own.delta for own in self.factors)


#: Looks at each module while it is there.
Observer = Callable[[MergedModule], None]


@dataclass(frozen=True, slots=True)
class MergeReport:
    """Say what a merge made.

    Attributes:
        method: how it was made.
        weights: of the inputs.
        modules: number of modules in the result (the union of the inputs').
        rank: largest rank of a module in the result.
        error: ‖ΔW_full − ΔW‖ / ‖ΔW_full‖ of the reduction of ranks; 0 without one.
        full_tensors: number of tensors beside the LoRA part.
        heads: what became of those of the inputs.
        warnings: what the person should know.
    """

    method: str
    weights: tuple[float, ...]
    modules: int
    rank: int
    error: float
    full_tensors: int
    heads: HeadPolicy
    warnings: tuple[str, ...] = ()


def merge_adapters(
    inputs: Sequence[WeightedAdapter],
    destination: Path,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> MergeReport:
    """Merge adapters into an ordinary PEFT folder.

    A module that an adapter does not have counts as ΔW = 0. The result has lora_alpha = r, so its
    scale is 1. Full tensors are averaged with the weights brought to the sum 1, taken from the
    first input, or left out; see `HeadPolicy`. `merge_recipe.json` beside the weights says what
    was done to what.

    Args:
        inputs: PEFT folders, at least one.
        destination: a new or empty folder; it appears whole or not at all.
        recipe: how.
        progress: is told of every module.
        observe: is shown every module.

    Raises:
        MergeOptionError: the recipe does not fit, or the method does not take so many adapters.
        IncompatibleError: the adapters cannot be merged, and why.
        DestinationError: the destination is taken or cannot be written.
    """
    weights = recipe.check([item.weight for item in inputs])
    with ExitStack() as stack:
        experts = [stack.enter_context(open_expert(item.path, base=item.base)) for item in inputs]
        require_compatible(experts, override=recipe.base_override)
        heads, warning = settle_heads(experts, weights, recipe.heads)
        recipe = replace(recipe, heads=heads)
        with new_folder(destination) as folder:
            merged = stack.enter_context(closing(MergedFolder(folder, experts, weights, recipe)))
            energy = dropped = 0.0
            total = len(module_names(experts))
            for done, module in enumerate(merged_modules(experts, weights, recipe), 1):
                merged.add(module.name, module.delta)
                energy, dropped = energy + module.energy, dropped + module.dropped
                if observe is not None:
                    observe(module)
                if progress is not None:
                    progress(done, total)
            rank, full_tensors = merged.finish()
            error = math.sqrt(dropped / energy) if energy else 0.0
            report = MergeReport(
                method=recipe.method,
                weights=weights,
                modules=total,
                rank=rank,
                error=error,
                full_tensors=full_tensors,
                heads=heads,
                warnings=(warning,) if warning else (),
            )
            _note(folder, experts, recipe, report)
    return report


def merged_modules(
    experts: Sequence[Expert], weights: Sequence[float], recipe: Recipe
) -> Iterator[MergedModule]:
    """Merge compatible experts one module at a time, in alphabetical order.

    Modules are merged on all cores, each on one: the result has the same bytes on any number.

    Args:
        experts: opened adapters.
        weights: one for each.
        recipe: how; checked.

    Raises:
        MergeError: a module cannot be merged so; the error names it.
    """
    row, options = recipe.row, recipe.settled
    array = np.asarray(weights, np.float64)

    def merge(name: str, factors: Sequence[Factors]) -> MergedModule:
        target = recipe.target([own.rank for own in factors])
        try:
            if any(own.rank for own in factors):
                found = row.merge(factors, array, options, target)
            else:
                found = Truncated(factors[0].delta, 0.0, 0.0)
        except MergeError as error:
            error.file = error.file or name
            raise
        return MergedModule(
            name,
            tuple(factors),
            tuple(weights),
            found.delta.times(options.scale),
            found.energy * options.scale**2,
            found.dropped * options.scale**2,
        )

    counted = _counted(weights, recipe)
    read = ((name, _factors(experts, name, counted)) for name in module_names(experts))
    yield from in_order(merge, read)


def _note(folder: Path, experts: Sequence[Expert], recipe: Recipe, report: MergeReport) -> None:
    """Put down what the result was made from and how, beside it."""
    inputs = [
        {"name": expert.path.name, "sha256": expert.weights_sha256(), "weight": weight}
        for expert, weight in zip(experts, report.weights, strict=True)
    ]
    told = {
        **recipe.to_parameters(),
        "base_model": experts[0].base,
        "inputs": inputs,
        "result": {"rank": report.rank, "error": report.error},
        "versions": {name: version(name) for name in ("ternery", "numpy")},
    }
    (folder / RECIPE_NAME).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def _counted(weights: Sequence[float], recipe: Recipe) -> list[bool]:
    """Say which inputs count: one of weight 0 is as if it were not there, on ΔW.

    On A and B it votes for signs all the same, as in PEFT; and where all weights are 0 it says only
    what shapes there are.
    """
    if recipe.row.space is Space.FACTORS or not any(weights):
        return [True] * len(weights)
    return [weight != 0 for weight in weights]


def _factors(experts: Sequence[Expert], name: str, counted: Sequence[bool]) -> list[Factors]:
    there = [
        expert.factors(name) if counts and name in expert.modules else None
        for expert, counts in zip(experts, counted, strict=True)
    ]
    some = next(expert for expert in experts if name in expert.modules)
    a_rest, b_rest = some.shapes(some.modules[name])
    nothing = Factors(np.zeros((0, math.prod(a_rest))), np.zeros((math.prod(b_rest), 0)), 1.0)
    return [own if own is not None else nothing for own in there]
