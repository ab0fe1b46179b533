"""Find the LoRA modules among tensor names: which A belongs to which B, and how ΔW is scaled.

Names understood: PEFT (``….lora_A.weight``, with or without an adapter's name,
``lora_embedding_A``), diffusers (``…to_k_lora.down.weight``, ``….lora.up.weight``), kohya
(``….lora_down.weight`` with ``.alpha``) and cloneofsimo (``unet:3:down``). ΔW = scale · B A, with A
[rank, d_in] and B [d_out, rank]; further axes (convolution) are flattened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compress import patterns
from compress.adapter import LoraSettings
from compress.dtypes import WEIGHT_DTYPES
from compress.tensor_file import TensorInfo
from compress.weights import Weights


class Role(IntEnum):
    """Say what a tensor is to the task vector. The numbers are part of the `.tern` format."""

    EXACT = 0
    A = 1
    B = 2
    OTHER = 3
    HEAD = 4


@dataclass(frozen=True, slots=True)
class LoraModule:
    """Name the two factors of one module and its scale.

    Attributes:
        name: the module's name.
        a: name of the tensor A [rank, d_in…].
        b: name of the tensor B [d_out, rank…].
        rank: inner size.
        scale: what multiplies B A.
        middle: name of AdaLoRA's diagonal E [rank, 1], or empty.
    """

    name: str
    a: str
    b: str
    rank: int
    scale: float
    middle: str = ""


_PEFT = re.compile(
    r"(?P<module>.+)\.(?:[a-z0-9]+_)?lora_(?:embedding_)?(?P<role>[AB])(?:\.[^.]+){0,2}"
)
_DIFFUSERS = re.compile(r"(?P<module>.+)[._]lora[._](?P<role>down|up)(?:\.weight)?")
_KOHYA = re.compile(r"(?P<module>.+)\.lora_(?P<role>down|up)(?:\.weight)?")
_CLONEOFSIMO = re.compile(r"(?P<module>[^:]+:[0-9]+):(?P<role>down|up)")
_KEYS = (_PEFT, _KOHYA, _DIFFUSERS, _CLONEOFSIMO)
#: kohya's trainer makes alpha an integer where a person gave one.
_WHOLE_NUMBERS = {f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)}
FACTORS = (Role.A, Role.B)
_ROLES = {"A": Role.A, "down": Role.A, "B": Role.B, "up": Role.B}


def split_key(name: str) -> tuple[str, Role]:
    """Split a tensor's name into its module and its role; `Role.EXACT` if it is no LoRA factor."""
    if name.endswith(".bias"):
        return name, Role.EXACT
    for key in _KEYS:
        if found := key.fullmatch(name):
            return found["module"], _ROLES[found["role"]]
    return name, Role.EXACT


def find_modules(weights: Weights, settings: LoraSettings) -> list[LoraModule]:
    """Pair up the factors, in alphabetical order of the modules.

    Left out are factors without a partner, pairs whose inner sizes differ (grouped convolutions),
    and pairs whose ΔW is not their product: with a core between them (LoCon's ``lora_mid``), or of
    many experts at a time (PEFT's `target_parameters`).
    """
    return [
        _module(name, {Role.A: a, Role.B: b}, weights, settings)
        for name, a, b in pair_up(weights.tensors.values())
        if f"{name}.lora_mid.weight" not in weights.tensors and not _many(a, settings)
    ]


def _many(a: TensorInfo, settings: LoraSettings) -> bool:
    """Say whether a factor holds those of many experts, rank after rank."""
    return settings.of_parameters and a.shape[0] != settings.rank


def pair_up(tensors: Iterable[TensorInfo]) -> list[tuple[str, TensorInfo, TensorInfo]]:
    """Pair up factors by their names: module, A and B, in alphabetical order of the modules."""
    factors: dict[str, dict[Role, TensorInfo]] = {}
    for info in tensors:
        module, role = split_key(info.name)
        if role is not Role.EXACT and len(info.shape) >= 2 and info.size:
            factors.setdefault(module, {})[role] = info
    return [
        (module, pair[Role.A], pair[Role.B])
        for module, pair in sorted(factors.items())
        if len(pair) == 2 and _inner_sizes_agree(pair[Role.A], pair[Role.B])
    ]


def _inner_sizes_agree(a: TensorInfo, b: TensorInfo) -> bool:
    return a.shape[0] == b.shape[1] and math.prod(b.shape[2:]) == 1


def _module(
    name: str, pair: Mapping[Role, TensorInfo], weights: Weights, settings: LoraSettings
) -> LoraModule:
    rank = pair[Role.A].shape[0]
    middle = f"{name}.lora_E"
    return LoraModule(
        name=name,
        a=pair[Role.A].name,
        b=pair[Role.B].name,
        rank=rank,
        scale=_scale(name, rank, weights, settings),
        middle=middle if middle in weights.tensors else "",
    )


def _scale(module: str, rank: int, weights: Weights, settings: LoraSettings) -> float:
    alpha = weights.tensors.get(f"{module}.alpha")
    if alpha is not None and alpha.size == 1:
        if alpha.dtype in WEIGHT_DTYPES:
            return float(weights.read(alpha.name)[0]) / rank
        if alpha.dtype in _WHOLE_NUMBERS:
            stored = weights.read_bytes(alpha.name)
            return int(np.frombuffer(stored, _WHOLE_NUMBERS[alpha.dtype])[0]) / rank
    return module_scale(module, rank, settings)


def module_scale(module: str, rank: int, settings: LoraSettings) -> float:
    """Give alpha/rank, or alpha/√rank for rsLoRA; 1 where nothing says what alpha is."""
    key = patterns.first_match(settings.alpha_pattern, module.removeprefix("base_model.model."))
    alpha = settings.alpha if key is None else settings.alpha_pattern[key]
    if alpha is None:
        return 1.0
    return alpha / (math.sqrt(rank) if settings.rank_stabilised else rank)


def unread_patterns(settings: LoraSettings) -> list[str]:
    """List the keys of `alpha_pattern` that are not understood and so not applied."""
    return [key for key in settings.alpha_pattern if not patterns.is_understood(key)]
