"""Run many merged ΔW on one encoder that stays in memory, each task with its own head.

A ΔW is added to the dense weights themselves and taken off again, which is far faster than loading
an adapter. Weights are held in bfloat16 unless said otherwise: on processors that multiply it this
halves the time, and single answers in a thousand change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from api.forward.evaluate import Batch, Score, encode, score
from api.forward.models import LoadedModel, load
from benchmarks.task_accuracy import BASE, MAX_TOKENS, draw, task_rows
from merge.delta_space import Delta
from merge.expert import open_expert

_PREFIX = "base_model.model."
_BATCH_ROWS = 32
#: Rows from which the test rows of a task are drawn, as the experts' READMEs have it.
_DRAWN_FROM = 700
Deltas = Mapping[str, Delta]


@dataclass(frozen=True, slots=True)
class Task:
    """Hold what one expert was trained for.

    Attributes:
        head: its classifier.
        test: what accuracy is measured on.
        validation: what settings are tuned on.
    """

    head: torch.nn.Linear
    test: Sequence[Batch]
    validation: Sequence[Batch]


@dataclass(frozen=True, slots=True)
class Rows:
    """Say how many rows a task is judged on.

    Attributes:
        test: of the test split, at most.
        validation: of other rows, at most.
    """

    test: int
    validation: int


class SharedEncoder:
    """Hold one encoder for all tasks, at first without any ΔW.

    Attributes:
        tasks: by the name of the expert.
    """

    def __init__(self, data: Path, names: Sequence[str], rows: Rows, dtype: torch.dtype) -> None:
        first = load(BASE, data / "experts" / names[0])
        model: Any = first.model.unload()
        self._loaded = dataclasses.replace(first, model=model, adapter=None)
        self.tasks = {name: self._task(data, name, rows, dtype) for name in names}
        linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        self._modules: dict[str, torch.nn.Linear] = linear
        self._base = {name: module.weight.detach().clone() for name, module in linear.items()}
        self._changed: set[str] = set()
        model.to(dtype)

    def put(self, deltas: Deltas, gain: float = 1.0) -> None:
        """Make every weight that of the base plus gain · ΔW; modules without ΔW are the base's."""
        given = {name.removeprefix(_PREFIX): delta for name, delta in deltas.items()}
        if unknown := sorted(set(given) - set(self._modules)):
            raise KeyError(unknown[0])
        for name in sorted(self._changed | set(given)):
            weight = self._base[name]
            if name in given and given[name].rank:
                a, b = (torch.from_numpy(f).float() for f in (given[name].a, given[name].b))
                weight = torch.addmm(weight, b, a, alpha=gain)
            self._modules[name].weight.copy_(weight)
        self._changed = set(given)

    def test(self, name: str) -> Score:
        """Judge what is put on by the test rows of a task."""
        return self._score(name, self.tasks[name].test)

    def validate(self, name: str) -> Score:
        """Judge what is put on by the validation rows of a task."""
        return self._score(name, self.tasks[name].validation)

    def _score(self, name: str, batches: Sequence[Batch]) -> Score:
        self._loaded.model.classifier = self.tasks[name].head
        return score(self._loaded, batches)

    def _task(self, data: Path, name: str, rows: Rows, dtype: torch.dtype) -> Task:
        folder = data / "experts" / name
        places = [data / "tasks" / part for part in (name, name.rsplit("-", 1)[0])]
        task = next(place for place in places if place.is_dir())
        test, validation, labels = task_rows(task, _DRAWN_FROM)
        head = _head(folder)
        own: LoadedModel = dataclasses.replace(self._loaded, outputs=head.out_features)
        tokens = partial(encode, own, labels=labels, max_tokens=MAX_TOKENS, batch_rows=_BATCH_ROWS)
        return Task(
            head.to(dtype),
            tokens(draw(test, rows.test)[0]),
            tokens(draw(validation, rows.validation)[0]),
        )


def read_deltas(folder: Path) -> dict[str, Delta]:
    """Read all ΔW of an adapter."""
    with open_expert(folder) as expert:
        return {name: expert.delta(name) for name in expert.modules}


def _head(folder: Path) -> torch.nn.Linear:
    tensors = load_file(folder / "adapter_model.safetensors")
    weight, bias = (tensors[f"{_PREFIX}classifier.{part}"] for part in ("weight", "bias"))
    head = torch.nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.requires_grad_(requires_grad=False)
