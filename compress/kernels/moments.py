"""Measure a vector in one pass: sum, squares, magnitudes, smallest and largest.

Sums are kept in float64. Squares are taken about the vector's first value, so that a mean far from
zero costs no digits (the shifted-data form of T. Chan, G. Golub and R. LeVeque, 1983).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from compress.kernels.tensors import bits_of, widen

_BLOCK = 4096
_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Moments:
    """Hold what one pass found, all in float64.

    Attributes:
        count: elements, above 0.
        total: Σ x.
        magnitude: Σ |x|.
        energy: Σ x².
        spread: Σ (x − mean)².
        lowest: the smallest value.
        highest: the largest value.
    """

    count: int
    total: float
    magnitude: float
    energy: float
    spread: float
    lowest: float
    highest: float

    def std(self) -> float:
        """Give the unbiased standard deviation, 0 where undefined or the vector is constant."""
        if self.count < 2 or self.lowest == self.highest:
            return 0.0
        return math.sqrt(self.spread / (self.count - 1))


def moments(values: torch.Tensor) -> Moments:
    """Measure float [n] values that are flat on their device, n > 0."""
    bits, kind = bits_of(values)
    count = values.numel()
    blocks = triton.cdiv(count, _BLOCK)
    partial = torch.empty((blocks, _COLUMNS), dtype=torch.float64, device=values.device)
    _measure[(blocks,)](bits, partial, count, kind=kind.code, block=_BLOCK)
    sums = partial[:, :3].sum(dim=0)
    ends = torch.stack([partial[:, 3].min(), partial[:, 4].max(), values[0].double()])
    shifted, squares, magnitude, lowest, highest, pivot = torch.cat([sums, ends]).tolist()
    return Moments(
        count=count,
        total=shifted + count * pivot,
        magnitude=magnitude,
        energy=squares + 2 * pivot * shifted + count * pivot * pivot,
        spread=max(0.0, squares - shifted * shifted / count),
        lowest=lowest,
        highest=highest,
    )


@triton.jit
def _measure(
    bits: tl.tensor,
    partial: tl.tensor,
    count: tl.int32,
    kind: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Sum up pieces of a vector; one program processes `block` values.

    Args:
        bits: int16 or int32 [count], the patterns of the values.
        partial: float64 [programs, 5]: Σ (x − x₀), Σ (x − x₀)², Σ |x|, smallest, largest.
        count: values, above 0.
        kind: the code of their `FloatKind`.
        block: values to a program.
    """
    program = tl.program_id(0)
    at = program * block + tl.arange(0, block)
    inside = at < count
    pivot = widen(tl.load(bits), kind).to(tl.float64)
    # What lies beyond the end is read as the first value: it adds nothing and bounds nothing new.
    value = tl.where(inside, widen(tl.load(bits + at, mask=inside, other=0), kind), pivot)
    wide = value.to(tl.float64)
    shifted = wide - pivot
    row = partial + program * 5
    tl.store(row, tl.sum(shifted, axis=0))
    tl.store(row + 1, tl.sum(shifted * shifted, axis=0))
    tl.store(row + 2, tl.sum(tl.where(inside, tl.abs(wide), 0.0), axis=0))
    tl.store(row + 3, tl.min(wide, axis=0))
    tl.store(row + 4, tl.max(wide, axis=0))
