"""Like LoRAQuant: few bits for the strong singular directions of ΔW, one bit for the weak ones.

A. R. Mirzaei, Y. Wen, Y. Cao, L. Mou, "LoRAQuant" (arXiv 2510.26690). B A = U S Vᵀ becomes B' = U
√S and A' = √S Vᵀ; the first h directions, h the least number that holds the share ρ of the energy
Σσ², are rounded to nearest in groups of 128 values of a column of B' or a row of A' (2 or 3 bits,
least to largest value), the others to sign times mean magnitude in such groups. Where we differ:
the paper refines the strong directions by gradient, we not at all or by trying smaller ranges for
every group (`refined`), which does not need a gradient; scales are float16 and counted, with the
offset of a group (the published averages count neither); scales below 1e-5 are not raised to it,
which would spoil small adapters; and h is the least such number, where the published code takes one
direction fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.baselines.directions import directions
from benchmarks.baselines.interface import Adapter, Approximation
from benchmarks.baselines.levels import (
    Rounded,
    best_range,
    by_groups,
    deflated_bits,
    min_max,
    packed_bits,
    sign_mean,
)
from compress.dtypes import Array
from compress.measure import Factors

GROUP = 128


@dataclass(frozen=True, slots=True)
class LoraQuant:
    """Mix bit widths by energy.

    Attributes:
        bits: of the strong directions, 2 or 3 as published.
        ratio: ρ, the share of energy that they hold, in (0, 1].
        refined: choose the range of every group of the strong directions for the least error.
        deflated: count the levels after deflate, which the paper does not do, instead of packed.
    """

    bits: int = 2
    ratio: float = 0.8
    refined: bool = False
    deflated: bool = False

    @property
    def label(self) -> str:
        """Name it as the paper does, bits@ratio."""
        name = f"LoRAQuant-like {self.bits}@{self.ratio:g}"
        return name + " refined" * self.refined + " deflated" * self.deflated

    def compress(self, adapter: Adapter) -> Approximation:
        """Round the directions of all modules."""
        made, strong, weak = {}, list[Rounded](), list[Rounded]()
        rounding = partial(best_range if self.refined else min_max, bits=self.bits)
        for name, module in adapter.modules.items():
            found = directions(module)
            head = split(found.sigma, self.ratio)
            sides = []
            for rows in found.balanced():
                first = by_groups(rows[:head], GROUP, rounding)
                last = by_groups(rows[head:], GROUP, sign_mean)
                sides.append(np.concatenate([first.values, last.values]))
                strong.append(first)
                weak.append(last)
            made[name] = Factors(sides[0], sides[1].T, module.scale)
        size = self._size_bits(strong, self.bits) + self._size_bits(weak, 1)
        return Approximation(made, size)

    def _size_bits(self, parts: list[Rounded], width: int) -> int:
        levels = [part.levels for part in parts]
        stored = packed_bits(levels, width)
        if self.deflated:
            stored = min(stored, deflated_bits(levels, width))
        return stored + sum(part.side_bits for part in parts)


def split(sigma: Array, ratio: float) -> int:
    """Give the least number of directions that holds a share of the energy, at least 1.

    Args:
        sigma: singular values [n], falling.
        ratio: the share, in (0, 1].
    """
    held = np.cumsum(sigma**2)
    return min(int(np.searchsorted(held, ratio * held[-1])) + 1, len(sigma))
