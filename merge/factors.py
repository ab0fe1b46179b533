"""Hold one module of one adapter as it is stored: A, B and the scale between them."""

from __future__ import annotations

from dataclasses import dataclass

from compress.dtypes import Array
from compress.trit_rows import TernaryTensor
from merge.delta_space import Delta


@dataclass(frozen=True, slots=True)
class Factors:
    """Hold the factors of one module.

    Attributes:
        a: float64 [rank, d_in]; further axes are flattened.
        b: float64 [d_out, rank].
        scale: alpha / rank, or alpha / √rank for rsLoRA.
        ternary: A and B once more as trits, row after row, where they are stored as such.
    """

    a: Array
    b: Array
    scale: float
    ternary: tuple[TernaryTensor, TernaryTensor] | None = None

    @property
    def delta(self) -> Delta:
        """Return ΔW with the scale folded into B."""
        return Delta(self.a, self.b * self.scale)

    @property
    def rank(self) -> int:
        """Return the inner size; 0 where the adapter does not have the module."""
        return int(self.a.shape[0])
