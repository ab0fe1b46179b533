"""Hold what compressing and inspecting found out, as plain values for people and for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Describe values that competed with each other and share a scale.

    Attributes:
        name: "all", a role or a tensor.
        parameters: elements.
        kept: elements whose magnitude reached the threshold.
        sigma: standard deviation of the elements.
        scale: alpha · sigma, what +1 stands for.
    """

    name: str
    parameters: int
    kept: int
    sigma: float
    scale: float


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """Describe one LoRA module, or one tensor of another kind.

    Attributes:
        name: the module or the tensor.
        parameters: elements in its task vector.
        rank: inner size of a LoRA module, else None.
        scale: alpha / rank of a LoRA module, else None.
        density_a: share of A that is not zero, or of the tensor if it is no LoRA.
        density_b: share of B that is not zero, else None.
        norm: ‖ΔW‖ of a LoRA module, or of the task vector; None where it was not computed.
        error: relative error of ΔW, or of the task vector; None where there is nothing to compare
            with.
        cosine: cosine with the original, None likewise.
        erased: nothing of a module that had an effect is left.
    """

    name: str
    parameters: int
    rank: int | None
    scale: float | None
    density_a: float
    density_b: float | None
    norm: float | None
    error: float | None
    cosine: float | None
    erased: bool


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Describe what a file holds up to one of its layers.

    Attributes:
        bytes: of all layers up to this one.
        error: relative error of ΔW that is left with them.
    """

    bytes: int
    error: float


@dataclass(frozen=True, slots=True)
class HeadReport:
    """Describe a tensor beside the task vector that was rounded to few bits.

    Attributes:
        name: the tensor.
        bytes: what it takes.
        source_bytes: what it took.
        error: relative error of its values.
    """

    name: str
    bytes: int
    source_bytes: int
    error: float


@dataclass(frozen=True, slots=True)
class PartBytes:
    """Count the bytes of a `.tern` file by what they hold.

    Attributes:
        lossy: what was compressed: header, index (names, scales, config) and trits or layers.
        exact: what was kept exactly.
        config: how much of the lossy part is the config.
        heads: heads that were rounded to few bits.
    """

    lossy: int
    exact: int
    config: int
    heads: int = 0

    @property
    def total(self) -> int:
        """Count all bytes of the file."""
        return self.lossy + self.exact + self.heads


#: Names, shapes and config of a file, which bounds leave out.
_FREE_BYTES = 1024


def bounded_bits(lossy_bytes: int, parameters: int) -> float:
    """Give the bits per parameter that bounds are compared at: of a file less 1 KiB, at least 0."""
    return max(0.0, 8 * (lossy_bytes - _FREE_BYTES) / parameters) if parameters else 0.0


@dataclass(frozen=True, slots=True)
class CompressionReport:
    """Tell what `compress_adapter` or `compress_residual` did.

    Attributes:
        method: its name.
        settings: its options, and what was decided, by name.
        peft_type: of the config, empty without one.
        treatment: why these tensors were compressed.
        baseline_dtype: the type or types that ratios refer to.
        parameters: elements that were compressed lossily.
        nonzero: how many of them are not zero afterwards.
        exact_tensors: names of the tensors that were kept exactly.
        source_bytes: size of the weights that came.
        lossy_source_bytes: size of the compressed tensors in them.
        size: bytes of the new file.
        shannon_bytes: entropy of the file's own symbols: of `compeft` all trits in one
            distribution, of `rd` all digits given what each is coded with, and the components'
            energies and gains.
        error_bound: water-filling bound of the error of ΔW at this rate, None where not all that is
            compressed is LoRA.
        delta_error: relative error of ΔW over all LoRA modules, None without any.
        delta_cosine: likewise the cosine.
        vector_error: relative error over tensors that are no LoRA, None without any.
        groups: thresholds and scales of `compeft`.
        layers: what `rd` tells up to each layer.
        heads: tensors that were rounded to few bits.
        modules: one row per LoRA module or other tensor.
        erased: names of the modules of which nothing is left.
        warnings: what else the person should know.
    """

    method: str
    settings: Mapping[str, str]
    peft_type: str
    treatment: str
    baseline_dtype: str
    parameters: int
    nonzero: int
    exact_tensors: tuple[str, ...]
    source_bytes: int
    lossy_source_bytes: int
    size: PartBytes
    shannon_bytes: float
    error_bound: float | None
    delta_error: float | None
    delta_cosine: float | None
    vector_error: float | None
    groups: tuple[GroupReport, ...]
    layers: tuple[LayerReport, ...]
    heads: tuple[HeadReport, ...]
    modules: tuple[ModuleReport, ...]
    erased: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Give weights before ÷ file after, in bytes on disk."""
        return self.source_bytes / self.size.total

    @property
    def lossy_ratio(self) -> float:
        """Give the same for the compressed tensors alone, header and all."""
        return self.lossy_source_bytes / self.size.lossy

    @property
    def bits_per_param(self) -> float:
        """Give the bits of the lossy part for each of its parameters."""
        return 8 * self.size.lossy / self.parameters if self.parameters else 0.0

    def to_json(self) -> dict[str, Json]:
        """Give everything as plain JSON values."""
        return plain(self, ratio=self.ratio, bits_per_param=self.bits_per_param)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Tell what an adapter or a `.tern` file holds.

    Attributes:
        path: what was looked at.
        encoding: "peft", "lora-raw" or "tern".
        peft_type: of the config, empty without one.
        treatment: which tensors have a task vector, and why.
        size: bytes by part; for an adapter that is not compressed, lossy counts its task vector.
        parameters: elements with a task vector.
        exact_parameters: elements that are kept exactly.
        exact_tensors: their names.
        nonzero: elements of the task vector that are not zero.
        properties: what the file says about itself (method, parameters, digest, error).
        delta_error: relative error of ΔW against the original, None if there was none.
        delta_cosine: likewise the cosine.
        modules: one row per LoRA module or other tensor.
        erased: modules of which nothing is left, or whose factors are zero.
        warnings: what else the person should know.
    """

    path: str
    encoding: str
    peft_type: str
    treatment: str
    size: PartBytes
    parameters: int
    exact_parameters: int
    exact_tensors: tuple[str, ...]
    nonzero: int
    properties: Mapping[str, str]
    delta_error: float | None
    delta_cosine: float | None
    modules: tuple[ModuleReport, ...]
    erased: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def bits_per_param(self) -> float:
        """Give the bits of the lossy part for each of its parameters."""
        return 8 * self.size.lossy / self.parameters if self.parameters else 0.0

    def to_json(self) -> dict[str, Json]:
        """Give everything as plain JSON values."""
        return plain(self, bits_per_param=self.bits_per_param)


def plain(value: CompressionReport | Inspection, **more: float) -> dict[str, Json]:
    """Turn a report into JSON values; numbers that JSON does not know become None."""
    return {key: _plain(item) for key, item in {**asdict(value), **more}.items()}


def _plain(value: object) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)
