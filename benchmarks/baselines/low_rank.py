"""Truncated SVD: the best ΔW of a lower rank (Eckart and Young 1936), its factors in float16.

Every module keeps the same rank. Size: 16 bits for each value of √σᵢuᵢ and √σᵢvᵢ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.baselines.directions import directions
from benchmarks.baselines.interface import Adapter, Approximation
from compress.measure import Factors

VALUE_BITS = 16


@dataclass(frozen=True, slots=True)
class TruncatedSvd:
    """Keep the strongest singular directions of every module.

    Attributes:
        rank: how many, at least 1.
    """

    rank: int

    @property
    def label(self) -> str:
        """Name it: SVD fp16 rank 2."""
        return f"SVD fp16 rank {self.rank}"

    def compress(self, adapter: Adapter) -> Approximation:
        """Truncate all modules."""
        made, values = {}, 0
        for name, module in adapter.modules.items():
            a, b = (
                rows[: self.rank].astype(np.float16).astype(np.float32)
                for rows in directions(module).balanced()
            )
            made[name] = Factors(a, b.T, module.scale)
            values += a.size + b.size
        return Approximation(made, VALUE_BITS * values)
