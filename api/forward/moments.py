"""Collect the second moments E[x xᵀ] of what enters each LoRA module, in a few forward passes.

An error E of a module's ΔW changes its output by E x, so that its mean square is tr(E M Eᵀ) with
M = E[x xᵀ]: the weight that makes the distortion of a compressed adapter the distortion of what the
model computes. Padding does not count. The file is plain safetensors: for each module a tensor
``<module>.second_moment``, float32 [d_in] (the diagonal of M) or [d_in, d_in] (all of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api.forward.evaluate import BATCH_ROWS, MAX_TOKENS, text_ids
from api.forward.models import LoadedModel, load, lora_layers, scaled
from compress.errors import OptionError
from compress.tensor_file import TensorInfo, TensorWriter

SUFFIX = ".second_moment"
#: Wider modules get the diagonal even where all of M is asked for: that takes 8 · d_in² bytes.
MAX_FULL_INPUTS = 2048
_METADATA = {"format": "ternery-moments", "version": "1"}

Moments = dict[str, NDArray[np.float32]]


def second_moments(
    base: Path,
    adapter: Path,
    texts: Sequence[str],
    *,
    full: bool = False,
    with_delta: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> Moments:
    """Run texts through a model and average x xᵀ over all their tokens, module by module.

    Args:
        base: folder of the base model.
        adapter: folder of the LoRA adapter, which says which modules count.
        texts: what to read; a few hundred are enough for the diagonal.
        full: give all of M for modules of at most `MAX_FULL_INPUTS` inputs, not its diagonal.
        with_delta: apply ΔW while reading; else only the base computes.
        max_tokens: longer texts lose their end.

    Returns:
        by module name as in `compress.lora.find_modules`: float32 [d_in] or [d_in, d_in]. For an
        embedding x is one-hot and its diagonal the share of each token. Modules that are neither
        linear nor an embedding are left out.

    Raises:
        OptionError: there are no texts, or the adapter is no LoRA.
        SourceError: a folder is not valid.
    """
    loaded = load(base, adapter)
    most = min(max_tokens, loaded.max_positions)
    coded = sorted((text_ids(loaded, text, most=most) for text in texts), key=len)
    coded = [ids for ids in coded if ids]
    if not coded:
        raise OptionError("there are no texts", field="texts", expected="at least one with tokens")
    gathering = _Gathering(full=full)
    delta = nullcontext() if with_delta else scaled(loaded, 0.0)
    with torch.inference_mode(), delta, _listening(loaded, gathering):
        for at in range(0, len(coded), BATCH_ROWS):
            gathering.read(loaded, coded[at : at + BATCH_ROWS])
    return {
        name: (total / gathering.tokens[name]).float().numpy()
        for name, total in sorted(gathering.sums.items())
    }


def write_moments(path: Path, moments: Mapping[str, NDArray[Any]], *, rows: int, base: str) -> None:
    """Write second moments as safetensors, the same bytes for the same numbers.

    Args:
        path: the new file.
        moments: what `second_moments` gives.
        rows: texts that they are averaged over.
        base: name of the base model.
    """
    arrays = {name + SUFFIX: np.ascontiguousarray(m, "<f4") for name, m in moments.items()}
    infos = [TensorInfo(name, "F32", array.shape) for name, array in arrays.items()]
    metadata = {**_METADATA, "rows": str(rows), "base": base}
    with TensorWriter(path, infos, metadata=metadata) as writer:
        for name, array in arrays.items():
            writer.write(name, array.tobytes())


@dataclass(slots=True)
class _Gathering:
    """Add up x xᵀ while the model reads.

    Attributes:
        full: add up all of it, where the module is not too wide.
        mask: bool [rows, tokens] of the batch that is being read: which tokens are real.
        sums: by module, float64 [d_in] or [d_in, d_in].
        tokens: by module, how many were added up.
    """

    full: bool
    mask: torch.Tensor = field(default_factory=lambda: torch.ones(0, 0, dtype=torch.bool))
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def read(self, loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> None:
        """Let the model read a batch."""
        width = max(len(row) for row in rows)
        ids = [[*row, *[loaded.pad_id] * (width - len(row))] for row in rows]
        mask = [[True] * len(row) + [False] * (width - len(row)) for row in rows]
        self.mask = torch.tensor(mask)
        loaded.model(input_ids=torch.tensor(ids), attention_mask=self.mask.long())

    def add(self, name: str, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Add up what enters a module."""
        x = inputs[0]
        if x.is_floating_point():
            real = x[self.mask] if x.shape[:-1] == self.mask.shape else x.flatten(0, -2)
            total = self._products(real.double())
        else:
            real = x[self.mask] if x.shape == self.mask.shape else x.flatten()
            total = torch.bincount(real, minlength=_tokens_known(layer)).double()
        self.sums[name] = self.sums.get(name, torch.zeros(())) + total
        self.tokens[name] = self.tokens.get(name, 0) + len(real)

    def _products(self, x: torch.Tensor) -> torch.Tensor:
        if self.full and x.shape[-1] <= MAX_FULL_INPUTS:
            return x.T @ x
        return (x * x).sum(0)


@contextmanager
def _listening(loaded: LoadedModel, gathering: _Gathering) -> Iterator[None]:
    """Call `gathering` before each linear or embedding LoRA module computes."""

    def hook(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        return partial(gathering.add, name)

    with ExitStack() as hooks:
        for name, layer in lora_layers(loaded).items():
            weight = getattr(layer.get_base_layer(), "weight", None)
            if weight is not None and weight.dim() == 2:
                hooks.callback(layer.register_forward_pre_hook(hook(name)).remove)
        yield


def _tokens_known(layer: torch.nn.Module) -> int:
    return int(getattr(layer, "in_features", 0))
