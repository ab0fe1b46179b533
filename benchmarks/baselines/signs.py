"""BitDelta: the sign of every value and one scale per matrix.

J. Liu et al., "BitDelta" (arXiv 2402.10193), §3.1: Δ ≈ α · sign(Δ), α = mean|Δ| per matrix. We
apply it to the factors A and B. Its own Δ is dense; on a LoRA the dense ΔW has d_in · d_out values
against the rank · (d_in + d_out) of the factors, so one bit for each is more than the adapter in
fp16 at small ranks, and no PEFT adapter can hold the result. The paper's second step, which distils
the scales on data, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.baselines.interface import Adapter, Approximation
from benchmarks.baselines.levels import Rounded, packed_bits, sign_mean
from compress.measure import Factors


@dataclass(frozen=True, slots=True)
class BitDelta:
    """Keep a bit per value, packed, and a float16 scale for each A and each B."""

    @property
    def label(self) -> str:
        """Name it."""
        return "BitDelta on A and B"

    def compress(self, adapter: Adapter) -> Approximation:
        """Take the signs of all factors."""
        made, parts = {}, list[Rounded]()
        for name, module in adapter.modules.items():
            a, b = (sign_mean(matrix.reshape(1, -1)) for matrix in (module.a, module.b))
            made[name] = Factors(
                a.values.reshape(module.a.shape), b.values.reshape(module.b.shape), module.scale
            )
            parts += [a, b]
        size = packed_bits([part.levels for part in parts], 1)
        return Approximation(made, size + sum(part.side_bits for part in parts))
