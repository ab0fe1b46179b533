"""Describe one tensor as a safetensors header does, and the dtypes that there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
        "BOOL": 8, "U8": 8, "I8": 8,
        "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
        "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
        "I32": 32, "U32": 32, "F32": 32,
        "C64": 64, "F64": 64, "I64": 64, "U64": 64,
    }
)  # fmt: skip
"""Bits of one element of every dtype of safetensors 0.8."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Describe one tensor as its header does.

    Attributes:
        name: its key.
        dtype: a key of `DTYPE_BITS`.
        shape: its dimensions, outermost first.
        begin: offset of its first byte in the data area.
        end: offset after its last byte in the data area.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Return the length of its data."""
        return self.end - self.begin
