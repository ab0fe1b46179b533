"""Merge adapters as the weighted sum of their ΔW (task arithmetic, arXiv 2212.04089, on LoRA's ΔW).

ΔW = Σ wᵢ sᵢ Bᵢ Aᵢ, exactly, by stacking factors; with `rank` the best approximation of that rank
(truncated SVD). This is not the average of A and of B: their product has cross terms BᵢAⱼ that no
adapter ever had.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from compress.adapter import CONFIG_NAME, WEIGHTS_NAME
from compress.dtypes import WEIGHT_DTYPES, Array
from compress.places import new_folder
from compress.tensor_file import TensorInfo, TensorWriter
from merge.compatibility import require_compatible, require_same_full_tensors
from merge.delta_space import Delta, padded, truncate, weighted_sum
from merge.errors import MergeOptionError
from merge.expert import Expert, open_expert


class HeadPolicy(StrEnum):
    """Say what becomes of full tensors beside the LoRA part, such as classifier heads."""

    AVERAGE = "average"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """Name one input of a merge: a PEFT folder and its weight."""

    path: Path
    weight: float


@dataclass(frozen=True, slots=True)
class MergeReport:
    """Say what a merge made.

    Attributes:
        modules: number of modules in the result (the union of the inputs').
        rank: rank of every module in the result.
        error: ‖ΔW_full − ΔW‖ / ‖ΔW_full‖ of the reduction to that rank; 0 without one.
        full_tensors: number of tensors beside the LoRA part.
    """

    modules: int
    rank: int
    error: float
    full_tensors: int


def merge_linear(
    inputs: Sequence[WeightedAdapter],
    destination: Path,
    *,
    rank: int | None = None,
    heads: HeadPolicy = HeadPolicy.AVERAGE,
) -> MergeReport:
    """Write the weighted sum of adapters as an ordinary PEFT folder.

    A module that an adapter does not have counts as ΔW = 0. The result has lora_alpha = r, so its
    scale is 1. Full tensors are averaged with the weights normalised to sum 1, or taken from the
    first input.

    Args:
        inputs: PEFT folders and weights, at least one.
        destination: a new or empty folder; it appears whole or not at all.
        rank: rank of the result; None keeps all of ΔW.
        heads: what becomes of full tensors.

    Raises:
        MergeOptionError: no inputs, a weight that is not finite, or a rank below 1.
        IncompatibleError: the adapters cannot be merged, and why.
        DestinationError: the destination is taken or cannot be written.
    """
    _check_options(inputs, rank)
    with ExitStack() as stack:
        experts = [stack.enter_context(open_expert(item.path)) for item in inputs]
        require_compatible(experts)
        merge = _Merge(experts, [item.weight for item in inputs], rank, heads)
        with new_folder(destination) as folder:
            return merge.write(folder)


class _Merge:
    def __init__(
        self,
        experts: Sequence[Expert],
        weights: Sequence[float],
        rank: int | None,
        heads: HeadPolicy,
    ) -> None:
        self.experts = experts
        self.weights = weights
        self.truncated = rank is not None
        self.heads = heads
        self.modules = sorted({name for expert in experts for name in expert.modules})
        self.rank = rank or max(self._full_rank(name) for name in self.modules)

    def write(self, folder: Path) -> MergeReport:
        """Compute module by module, so that memory holds one module at a time."""
        full_tensors = self._full_tensor_homes()
        infos = [info for name in self.modules for info in self._factor_infos(name)]
        infos += [TensorInfo(n, e.dtype(n), e.shape(n)) for n, e in full_tensors.items()]
        energy = dropped = 0.0
        with TensorWriter(folder / WEIGHTS_NAME, infos, metadata={"format": "pt"}) as writer:
            for name in self.modules:
                delta, module_energy, module_dropped = self._reduced(name)
                energy, dropped = energy + module_energy, dropped + module_dropped
                for info, values in zip(self._factor_infos(name), (delta.a, delta.b), strict=True):
                    writer.write(info.name, _stored(values, info.dtype))
            for name, expert in full_tensors.items():
                writer.write(name, _stored(self._full_tensor(name), expert.dtype(name)))
        (folder / CONFIG_NAME).write_text(
            json.dumps(self._config(), indent=2, sort_keys=True) + "\n"
        )
        error = math.sqrt(dropped / energy) if energy else 0.0
        return MergeReport(len(self.modules), self.rank, error, len(full_tensors))

    def _owners(self, name: str) -> list[tuple[float, Expert]]:
        pairs = zip(self.weights, self.experts, strict=True)
        return [(weight, expert) for weight, expert in pairs if name in expert.modules]

    def _full_rank(self, name: str) -> int:
        return sum(expert.modules[name].rank for _, expert in self._owners(name))

    def _reduced(self, name: str) -> tuple[Delta, float, float]:
        total = weighted_sum([(w, expert.delta(name)) for w, expert in self._owners(name)])
        if not self.truncated:
            return padded(total, self.rank), 0.0, 0.0
        best = truncate(total, self.rank)
        return best.delta, best.energy, best.dropped

    def _factor_infos(self, name: str) -> tuple[TensorInfo, TensorInfo]:
        owners = self._owners(name)
        module, expert = owners[0][1].modules[name], owners[0][1]
        a_rest, b_rest = expert.shapes(module)
        types = {e.dtype(t) for _, e in owners for t in (e.modules[name].a, e.modules[name].b)}
        dtype = types.pop() if len(types) == 1 else "F32"
        return (
            TensorInfo(module.a, dtype, (self.rank, *a_rest)),
            TensorInfo(module.b, dtype, (b_rest[0], self.rank, *b_rest[1:])),
        )

    def _full_tensor_homes(self) -> dict[str, Expert]:
        homes = dict.fromkeys(self.experts[0].full_tensors, self.experts[0])
        if self.heads is HeadPolicy.FIRST:
            return homes
        for expert in self.experts[1:]:
            require_same_full_tensors(self.experts[0], expert)
        if len(self.experts) > 1 and homes and not abs(sum(self.weights)) > 1e-12:
            raise MergeOptionError(
                "weights that sum to 0 cannot average the heads",
                field="weight",
                expected="a sum other than 0",
                actual="0",
                hint="take the heads of the first adapter: --heads first",
            )
        return homes

    def _full_tensor(self, name: str) -> Array:
        if self.heads is HeadPolicy.FIRST or len(self.experts) == 1:
            return self.experts[0].tensor(name)
        total = sum(self.weights)
        average = np.zeros(self.experts[0].shape(name))
        for weight, expert in zip(self.weights, self.experts, strict=True):
            average += weight / total * expert.tensor(name)
        return average

    def _config(self) -> dict[str, object]:
        targets = [expert.config.get("target_modules") for expert in self.experts]
        listed = sorted({t for item in targets if isinstance(item, list) for t in item})
        patterns = [item for item in targets if isinstance(item, str)]
        saved = [expert.config.get("modules_to_save") or [] for expert in self.experts]
        full_names = listed if not patterns else sorted(_module_paths(self.modules))
        return {
            **self.experts[0].config,
            "r": self.rank,
            "lora_alpha": self.rank,
            "rank_pattern": {},
            "alpha_pattern": {},
            "use_rslora": False,
            "init_lora_weights": True,
            "target_modules": full_names,
            "modules_to_save": sorted({n for names in saved for n in names}) or None,
        }


def _module_paths(modules: Sequence[str]) -> set[str]:
    return {name.removeprefix("base_model.model.") for name in modules}


def _stored(values: Array, dtype: str) -> bytes:
    with np.errstate(over="ignore"):
        return values.astype(WEIGHT_DTYPES[dtype]).tobytes()


def _check_options(inputs: Sequence[WeightedAdapter], rank: int | None) -> None:
    if not inputs:
        raise MergeOptionError("nothing to merge", field="inputs", expected="1 or more", actual="0")
    for item in inputs:
        if not math.isfinite(item.weight):
            raise MergeOptionError(
                "a weight is not a finite number",
                file=str(item.path),
                field="weight",
                expected="finite",
                actual=str(item.weight),
            )
    if rank is not None and rank < 1:
        raise MergeOptionError(
            "a rank is at least 1", field="rank", expected="≥ 1", actual=str(rank)
        )
