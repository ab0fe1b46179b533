"""Hold one safetensors file after its header was checked and its values were scanned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.validation.adapter_summary import WeightFile

if TYPE_CHECKING:
    from registry.validation.safetensors_header import SafetensorsHeader
    from registry.validation.tensor_scan import TensorScan


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """Hold one file of weights and what is known about it.

    Attributes:
        path: in the revision.
        size_bytes: its length.
        header: its checked header.
        scan: what its values look like.
    """

    path: str
    size_bytes: int
    header: SafetensorsHeader
    scan: TensorScan

    def as_weight_file(self) -> WeightFile:
        """Return the part that a summary keeps."""
        parameters: dict[str, int] = {}
        for tensor in self.header:
            parameters[tensor.dtype] = parameters.get(tensor.dtype, 0) + tensor.count
        return WeightFile(self.path, self.size_bytes, len(self.header.tensors), parameters)
