"""Hold one PEFT weight file with everything known about it, for the checks to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.validation.findings import Finding
from registry.validation.peft_types import PEFT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.validation.adapter_config import AdapterConfig
    from registry.validation.findings import FindingCode
    from registry.validation.safetensors_header import SafetensorsHeader, TensorInfo
    from registry.validation.tensor_scan import TensorScan

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class CheckedWeights:
    """Hold one PEFT weight file, its configuration and what its values look like.

    Attributes:
        file: its path.
        header: its checked header.
        scan: what its values look like.
        config: the configuration beside it.
        config_file: path of the configuration.
    """

    file: str
    header: SafetensorsHeader
    scan: TensorScan
    config: AdapterConfig
    config_file: str = "adapter_config.json"

    @property
    def adapter_tensors(self) -> list[TensorInfo]:
        """Return the tensors that carry a marker of the configuration's type."""
        row = PEFT_TYPES.get(self.config.peft_type)
        if row is None:
            return list(self.header.tensors)
        return [tensor for tensor in self.header if _carries(tensor.name, row.markers)]

    @property
    def other_tensors(self) -> list[TensorInfo]:
        """Return the tensors that carry no marker: heads, biases and what does not belong."""
        own = {tensor.name for tensor in self.adapter_tensors}
        return [tensor for tensor in self.header if tensor.name not in own]

    def finding(self, code: FindingCode, field: str, message: str, hint: str = "") -> Finding:
        """Return a finding about this file."""
        return Finding(code, self.file, field, message, hint)


def _carries(name: str, markers: tuple[str, ...]) -> bool:
    """Return whether a word of a name begins with a marker (`lora_model` holds a model)."""
    return any(word.startswith(markers) and word != "lora_model" for word in name.split("."))


def some(names: Iterable[str]) -> str:
    """List a few of many names."""
    listed = list(names)
    rest = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + rest


def size_of(tensors: Iterable[TensorInfo]) -> str:
    """Say how large tensors are together."""
    return f"{sum(tensor.size_bytes for tensor in tensors):,} bytes"
