"""Hold what inspection learnt about an adapter: the words that listings and `show` use."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from registry.manifest import ConfigSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.validation.file_sources import FileSource
    from registry.validation.findings import Finding

_MAX_TARGETS = 64


class Kind(StrEnum):
    """Name the kinds of adapter that no PEFT type names.

    With a configuration the kind is its `peft_type` as written.
    """

    LORA_RAW = "lora-raw"
    SPARSE_DELTA = "sparse-delta"
    FULL_RESIDUAL = "full-residual"
    FULL_MODEL = "full-model"
    TERN = "tern"


class Encoding(StrEnum):
    """Say how the weights are written down."""

    PEFT = "peft"
    TERN = "tern"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class TernContent:
    """Hold what a codec read inside a `.tern`; the registry itself cannot decode one.

    Attributes:
        kind: what it is where it carries no configuration.
        config: the `adapter_config.json` that it carries, empty where there was none.
        parameters: number of scalars by dtype before compression.
        module_shapes: `(d_out, d_in)` of every LoRA module.
        compressible: whether some tensor is compressed; else all are kept exactly.
        kept_exactly: what is kept exactly, for people.
    """

    kind: Kind = Kind.LORA_RAW
    config: bytes = b""
    parameters: Mapping[str, int] = field(default_factory=dict)
    module_shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    compressible: bool = True
    kept_exactly: str = ""


TernReader: TypeAlias = "Callable[[FileSource], TernContent]"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Describe one file of weights.

    Attributes:
        path: in the revision.
        size_bytes: length of the file.
        tensors: how many it holds.
        parameters: number of scalars by dtype, before compression; empty where that is not known.
    """

    path: str
    size_bytes: int
    tensors: int
    parameters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """Describe an upload that was accepted.

    Attributes:
        kind: `peft_type` as written, or a `Kind`.
        encoding: how the weights are written down.
        base_model: the base as the configuration wrote it, or None.
        task_type: as the configuration wrote it, or None.
        rank: LoRA rank, or None where there is none or there are several.
        alpha: LoRA alpha, or None.
        target_modules: as declared, bounded in number.
        module_shapes: `(d_out, d_in)` of every LoRA module by its path in the base model.
        weight_files: the files of the adapter's own weights.
        compressible: whether some tensor belongs to a task vector.
        kept_exactly: what compression would leave as it is, for people.
        warnings: what is odd.
    """

    kind: str
    encoding: Encoding
    base_model: str | None = None
    task_type: str | None = None
    rank: int | None = None
    alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    module_shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    weight_files: tuple[WeightFile, ...] = ()
    compressible: bool = False
    kept_exactly: str = ""
    warnings: tuple[Finding, ...] = ()

    @property
    def parameters(self) -> Mapping[str, int]:
        """Return the number of scalars by dtype over all weight files."""
        total: dict[str, int] = {}
        for file in self.weight_files:
            for dtype, count in file.parameters.items():
                total[dtype] = total.get(dtype, 0) + count
        return total

    def config_summary(self) -> ConfigSummary:
        """Return the part that a manifest keeps."""
        return ConfigSummary(
            kind=self.kind,
            encoding=self.encoding.value,
            base_model=self.base_model,
            rank=self.rank,
            alpha=self.alpha,
            target_modules=self.target_modules[:_MAX_TARGETS],
            parameters=sum(self.parameters.values()),
            compressible=self.compressible,
            kept_exactly=self.kept_exactly,
        )
