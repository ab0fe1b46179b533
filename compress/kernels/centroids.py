"""Sum up values by level in one pass, in float64 and in an order that never changes.

The reference is `compress/centroids.py`. Most values lie on level zero, so counters that all
threads add to would be hot; every program sums its own piece, level by level.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compress.centroids import level_range
from compress.kernels.tensors import bits_of, widen

_BLOCK = 4096


def level_sums(levels: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum values by their level.

    Args:
        levels: int8 or int16 [n], flat on the values' device.
        values: float32, bfloat16 or float16 [n], as many.

    Returns:
        float64 sums and int64 counts on the device, both [256], level q at q + 128, or for int16
        [65536], q + 32768.
    """
    count = values.numel()
    size, zero = level_range(levels.element_size())
    sums = torch.zeros(size, dtype=torch.float64, device=values.device)
    counts = torch.zeros(size, dtype=torch.int64, device=values.device)
    if not count:
        return sums, counts
    low, high = (int(end) for end in torch.aminmax(levels))
    present = high - low + 1
    blocks = triton.cdiv(count, _BLOCK)
    sum_parts = torch.empty((blocks, present), dtype=torch.float64, device=values.device)
    count_parts = torch.empty((blocks, present), dtype=torch.int32, device=values.device)
    bits, kind = bits_of(values)
    _sum_levels[(blocks,)](
        levels, bits, sum_parts, count_parts, count, low, present, kind=kind.code, block=_BLOCK
    )
    place = slice(low + zero, high + zero + 1)
    sums[place] = sum_parts.sum(dim=0)
    counts[place] = count_parts.sum(dim=0)
    return sums, counts


@triton.jit(do_not_specialize=["low", "present"])
def _sum_levels(
    levels: tl.tensor,
    bits: tl.tensor,
    sums: tl.tensor,
    counts: tl.tensor,
    count: tl.int32,
    low: tl.int32,
    present: tl.int32,
    kind: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Sum a piece by level; one program processes `block` values.

    Args:
        levels: int8 or int16 [count].
        bits: int16 or int32 [count], the patterns of the values.
        sums: float64 [programs, present].
        counts: int32 [programs, present].
        count: values.
        low: the lowest level.
        present: levels from the lowest to the highest.
        kind: the code of the values' `FloatKind`.
        block: values to a program.
    """
    program = tl.program_id(0)
    at = program * block + tl.arange(0, block)
    inside = at < count
    place = tl.load(levels + at, mask=inside, other=0).to(tl.int32) - low
    place = tl.where(inside, place, -1)
    value = widen(tl.load(bits + at, mask=inside, other=0), kind).to(tl.float64)
    row = program.to(tl.int64) * present
    for level in range(present):
        here = place == level
        tl.store(sums + row + level, tl.sum(tl.where(here, value, 0.0), axis=0))
        tl.store(counts + row + level, tl.sum(here.to(tl.int32), axis=0))
