"""Pair up the tensors of a LoRA by name: which module, which factor, which shapes.

Every trainer spells its keys in its own way; one row of `_SUFFIXES` per spelling. The result,
a `LoraLayout`, says for each module what the base weight must look like. Start at `read_layout`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from registry.errors import LayoutError
from registry.validation.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.validation.safetensors_header import TensorInfo

_PEFT_PREFIX = "base_model.model."


class Family(StrEnum):
    """Name the trainer whose spelling a key follows."""

    PEFT = "peft"
    DIFFUSERS = "diffusers"
    KOHYA = "kohya"
    LYCORIS = "lycoris"
    CLONEOFSIMO = "cloneofsimo"


class Role(StrEnum):
    """Say what one tensor is to its module."""

    A = "A"
    B = "B"
    EMBEDDING_A = "embedding A"
    EMBEDDING_B = "embedding B"
    MAGNITUDE = "magnitude"
    ALPHA = "alpha"
    OTHER = "other"


# The adapter's name ("default") stands between factor and "weight" in a raw state dict.
_NAMED = r"(?:\.(?!weight$|bias$)[A-Za-z0-9_\-]+)?"
_SUFFIXES: tuple[tuple[Family, Role, re.Pattern[str]], ...] = tuple(
    (family, role, re.compile(suffix))
    for family, role, suffix in (
        (Family.PEFT, Role.A, rf"\.lora_A{_NAMED}(?:\.weight)?$"),
        (Family.PEFT, Role.B, rf"\.lora_B{_NAMED}(?:\.weight)?$"),
        (Family.PEFT, Role.EMBEDDING_A, rf"\.lora_embedding_A{_NAMED}$"),
        (Family.PEFT, Role.EMBEDDING_B, rf"\.lora_embedding_B{_NAMED}$"),
        (Family.PEFT, Role.MAGNITUDE, rf"\.lora_magnitude_vector{_NAMED}(?:\.weight)?$"),
        (Family.DIFFUSERS, Role.A, r"(?:_lora|\.lora|\.lora_linear_layer)\.down\.weight$"),
        (Family.DIFFUSERS, Role.B, r"(?:_lora|\.lora|\.lora_linear_layer)\.up\.weight$"),
        (Family.DIFFUSERS, Role.ALPHA, r"(?:_lora|\.lora|\.lora_linear_layer)\.alpha$"),
        (Family.KOHYA, Role.A, r"\.lora_down\.weight$"),
        (Family.KOHYA, Role.B, r"\.lora_up\.weight$"),
        (Family.KOHYA, Role.OTHER, r"\.lora_mid\.weight$"),
        (Family.KOHYA, Role.MAGNITUDE, r"\.dora_scale$"),
        (Family.LYCORIS, Role.OTHER, r"\.(?:hada|lokr)_[wt][12]?(?:_[ab])?$"),
        (
            Family.LYCORIS,
            Role.OTHER,
            r"\.(?:oft_blocks|oft_diag|diff|diff_b|on_input|w_norm|b_norm)$",
        ),
        (Family.KOHYA, Role.ALPHA, r"\.alpha$"),
        (Family.CLONEOFSIMO, Role.A, r":down$"),
        (Family.CLONEOFSIMO, Role.B, r":up$"),
        (Family.PEFT, Role.OTHER, r"\.lora_(?!model\.)\w+(?:\.[A-Za-z0-9_\-]+){0,2}$"),
    )
)


@dataclass(frozen=True, slots=True)
class LoraModule:
    """Hold the factors that belong to one module.

    Attributes:
        name: path of the module in the base model, PEFT's own prefix taken off.
        a: the factor next to the input, `[rank, d_in, …]`.
        b: the factor next to the output, `[d_out, rank, …]`.
        embedding: whether the base weight is an embedding table (`[d_in, d_out]`).
    """

    name: str
    a: TensorInfo
    b: TensorInfo
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Return the inner size of the pair."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Return `(d_out, d_in)` of ΔW; kernel positions count as inputs."""
        return self.b.shape[0], math.prod(self.a.shape[1:])


@dataclass(frozen=True, slots=True)
class LoraLayout:
    """Say how the tensors of a file form a LoRA.

    Attributes:
        modules: complete pairs, sorted by name.
        families: the spellings that occur.
        adapter: names of all tensors that follow a LoRA spelling.
        others: names of all other tensors.
    """

    modules: tuple[LoraModule, ...]
    families: frozenset[Family]
    adapter: frozenset[str]
    others: tuple[str, ...]

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Return `(d_out, d_in)` by module name."""
        return {module.name: module.shape for module in self.modules}


def module_name(key: str) -> str:
    """Take PEFT's own prefix off a module's path."""
    return key.removeprefix(_PEFT_PREFIX)


def read_layout(
    tensors: Iterable[TensorInfo], *, file: str = "", free_ranks: bool = False
) -> LoraLayout:
    """Pair up the factors among a file's tensors.

    Args:
        tensors: of one file.
        file: how errors call it.
        free_ranks: let A and B differ in rank (block-diagonal and expert-wise variants do).

    Raises:
        LayoutError: a factor lacks its partner, or the two do not fit.
    """
    pairs: dict[tuple[str, bool], dict[Role, TensorInfo]] = {}
    families: set[Family] = set()
    adapter: set[str] = set()
    others: list[str] = []
    for tensor in tensors:
        found = classify(tensor.name)
        if found is None:
            others.append(tensor.name)
            continue
        family, role, module = found
        families.add(family)
        adapter.add(tensor.name)
        if role in (Role.A, Role.B):
            pairs.setdefault((module, False), {})[role] = tensor
        elif role in (Role.EMBEDDING_A, Role.EMBEDDING_B):
            plain = Role.A if role is Role.EMBEDDING_A else Role.B
            pairs.setdefault((module, True), {})[plain] = tensor
    modules = [
        _pair(module_name(name), pair, embedding=embedding, file=file, free_ranks=free_ranks)
        for (name, embedding), pair in sorted(pairs.items())
    ]
    return LoraLayout(tuple(modules), frozenset(families), frozenset(adapter), tuple(others))


def classify(key: str) -> tuple[Family, Role, str] | None:
    """Return family, role and module path of a tensor's name, or None for no LoRA tensor."""
    if key.endswith(".bias") and ".lora_B" in key:
        return Family.PEFT, Role.OTHER, key.rpartition(".lora_B")[0]
    for family, role, suffix in _SUFFIXES:
        match = suffix.search(key)
        if match:
            return family, role, key[: match.start()]
    return None


def _pair(
    name: str, pair: Mapping[Role, TensorInfo], *, embedding: bool, file: str, free_ranks: bool
) -> LoraModule:
    a, b = pair.get(Role.A), pair.get(Role.B)
    if a is None or b is None:
        missing = "A" if a is None else "B"
        there = a or b
        raise LayoutError(
            f"{file}: module {name!r} has a LoRA factor without its partner {missing}",
            reason=Reason.KEYS_UNPAIRED,
            file=file,
            field=name,
            expected="both factors, A and B",
            actual=there.name if there else "",
            hint="the file is incomplete: save the adapter again",
        )
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise _shape_error(file, name, a, b, "factors of at least two dimensions")
    grouped = (
        len(b.shape) > 2 and b.shape[1] and a.shape[0] % b.shape[1] == 0
    )  # a grouped convolution
    if b.shape[1] != a.shape[0] and not grouped and not free_ranks:
        raise _shape_error(file, name, a, b, f"B with {a.shape[0]} columns, A's rank")
    return LoraModule(name, a, b, embedding)


def _shape_error(file: str, name: str, a: TensorInfo, b: TensorInfo, expected: str) -> LayoutError:
    return LayoutError(
        f"{file}: the factors of module {name!r} do not fit: A {list(a.shape)}, B {list(b.shape)}",
        reason=Reason.SHAPE_MISMATCH,
        file=file,
        field=name,
        expected=expected,
        actual=f"A {list(a.shape)}, B {list(b.shape)}",
        hint="the file was put together from two adapters: save the adapter again",
    )
