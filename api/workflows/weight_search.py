"""Search the weights of a merge on a few rows of the task that it is for (LoraHub, 2307.13269).

The base is loaded once. Each step merges with other weights, puts ΔW into the loaded model and
measures the mean loss L on the rows; what is made small is L + 0.05 · Σ |wᵢ| / n. It works with
every method that takes weights. The head, where there is one, is that of the first adapter all the
time: the rows belong to one task, and an average of heads would change with the weights. So the
result must be merged with the heads of the first as well. torch and SciPy are imported inside the
functions.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from api.forward import require_torch
from api.forward.rows import read_rows
from api.workflows.gradient_free import Box, Point, minimise, require_scipy
from api.workflows.search_curve import SearchOptions, SearchPoint, SearchResult, search_refusal
from merge import HeadPolicy, MergeError, MergeOptionError, Recipe, WeightedAdapter, merge_adapters
from merge.delta_space import Delta
from merge.expert import Expert, open_expert
from merge.merging import merged_modules

if TYPE_CHECKING:
    from api.forward.deltas import DeltaSlots
    from api.forward.evaluate import Batch
    from api.forward.models import LoadedModel

#: Merges with some weights: gives names of modules and their ΔW.
Merge = Callable[[Sequence[float]], Iterable[tuple[str, Delta]]]


@dataclass(frozen=True, slots=True)
class SearchTask:
    """Say what weights are judged by.

    Attributes:
        rows: JSON Lines of the task, a few dozen to a few hundred, which no input was trained on.
        base_model: folder of the model that the adapters belong to.
        labels: all classes in the order of the head; None takes those of the rows, sorted.
    """

    rows: Path
    base_model: Path
    labels: tuple[str, ...] | None = None


#: Is told of each point as it is measured.
OnStep = Callable[[SearchPoint], None]


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """Hold a model with slots for merges, and the rows as tokens.

    Attributes:
        loaded: the model with an adapter that has every module of every input, and the head.
        batches: what is judged.
    """

    loaded: LoadedModel
    batches: Sequence[Batch]


def search(
    merge: Merge,
    usual: Sequence[float],
    task: LoadedTask,
    *,
    options: SearchOptions,
    on_step: OnStep = lambda _: None,
) -> SearchResult:
    """Search the weights of any merge on a loaded model, whose factors it leaves changed.

    The first points are the usual weights, all 0 (the base alone) and each input alone while they
    take no more than a third of the steps; the search goes on from the best of them.

    Args:
        merge: what gives a result for weights; may refuse some of them with a `MergeError`.
        usual: the weights that the method takes if nobody says.
        task: the model and the rows.
        options: how.
        on_step: is told of each point.

    Raises:
        OptionError: SciPy is absent, the usual weights are out of bounds, or the loss there is not
            a finite number.
        BaseMismatchError: the merge gives modules that the model does not have.
        MergeError: the method refuses its usual weights.
    """
    from api.forward.deltas import DeltaSlots  # noqa: PLC0415 - torch only where a model runs

    require_scipy()
    if not all(options.low <= weight <= options.high for weight in usual):
        given = ", ".join(f"{weight:g}" for weight in usual)
        raise search_refusal("weight", f"from {options.low:g} to {options.high:g}", given)
    trying = _Trying(merge, task, DeltaSlots(task.loaded), options, on_step)
    box = Box(options.low, options.high, options.steps, options.seed)
    minimise(trying.objective, _starts(usual, options.steps), box)
    rows = sum(len(batch.ids) for batch in task.batches)
    return SearchResult(tuple(trying.curve), rows)


@dataclass(slots=True)
class _Trying:
    merge: Merge
    task: LoadedTask
    slots: DeltaSlots
    options: SearchOptions
    on_step: OnStep
    curve: list[SearchPoint] = field(default_factory=list)

    def objective(self, weights: Point) -> float:
        """Merge with these weights, measure, note and tell."""
        loss, accuracy = self._measured(weights)
        penalty = self.options.penalty * sum(map(abs, weights)) / len(weights)
        point = SearchPoint(weights, loss, accuracy, loss + penalty)
        self.curve.append(point)
        self.on_step(point)
        return point.objective

    def _measured(self, weights: Point) -> tuple[float, float]:
        from api.forward.evaluate import score  # noqa: PLC0415

        try:
            self.slots.fill(self.merge(weights))
        except MergeError:
            if not self.curve:
                raise
            return math.inf, 0.0
        found = score(self.task.loaded, self.task.batches)
        if math.isfinite(found.loss):
            return found.loss, found.accuracy
        if not self.curve:
            raise search_refusal("loss", "a finite number at the usual weights", found.loss)
        return math.inf, 0.0


def search_weights(
    inputs: Sequence[WeightedAdapter],
    recipe: Recipe,
    task: SearchTask,
    *,
    options: SearchOptions | None = None,
    on_step: OnStep = lambda _: None,
) -> SearchResult:
    """Search the weights of a merge of adapters; nothing but a small scaffold is written meanwhile.

    Args:
        inputs: PEFT folders; weights, where given, are where the search starts.
        recipe: how they are merged; its heads must be those of the first where there are any.
        task: what the weights are judged by.
        options: how they are searched.
        on_step: is told of each point.

    Raises:
        OptionError: a package is absent, the rows do not fit, or the loss is not a finite number.
        SourceError: the rows or the model are not valid.
        MergeOptionError: the method takes no weights, or averages heads.
        MergeError: the adapters cannot be merged.
    """
    require_torch()
    require_scipy()
    recipe.check([1.0] * len(inputs))
    usual = recipe.check([item.weight for item in inputs])
    rows = read_rows(task.rows)
    from api.forward.evaluate import encode  # noqa: PLC0415
    from api.forward.models import load  # noqa: PLC0415

    with ExitStack() as stack:
        experts = [stack.enter_context(open_expert(item.path, base=item.base)) for item in inputs]
        _require_steady_head(experts, recipe)
        folder = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adapters-"))) / "slots"
        )
        scaffold = replace(recipe, method="linear", options={}, rank=1, energy=None)
        merge_adapters([replace(item, weight=1.0) for item in inputs], folder, scaffold)
        loaded = load(task.base_model, folder)
        ready = LoadedTask(loaded, encode(loaded, rows, labels=task.labels))

        def merge(weights: Sequence[float]) -> Iterator[tuple[str, Delta]]:
            for module in merged_modules(experts, recipe.check(weights), recipe):
                yield module.name, module.delta

        settled = options or SearchOptions()
        return search(merge, usual, ready, options=settled, on_step=on_step)


def _require_steady_head(experts: Sequence[Expert], recipe: Recipe) -> None:
    averaged = recipe.heads in {HeadPolicy.AUTO, HeadPolicy.AVERAGE}
    if averaged and any(expert.full_tensors for expert in experts):
        raise MergeOptionError(
            "an average of heads would change with the weights that are searched",
            field="heads",
            expected="those of the first adapter",
            actual=str(recipe.heads),
            hint="name the adapter of the task first, and take its head: --heads first",
        )


def _starts(usual: Sequence[float], steps: int) -> list[Point]:
    count = len(usual)
    alone = [tuple(float(i == at) for i in range(count)) for at in range(count)]
    starts = [tuple(float(w) for w in usual), (0.0,) * count]
    return starts + alone if len(starts) + count <= steps // 3 else starts
