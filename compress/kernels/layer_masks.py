"""Split values in steps into bit planes of ternary tensors, in one pass over them.

The reference is `compress/rate_distortion/layer_masks.py`. Decoding needs the integers anyway, each
plane being refined by the next; no values of any storage type are made.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compress.kernels.masks import DeviceMasks
from compress.masks import word_count

_BLOCK = 64


def split(values: torch.Tensor, planes: int) -> list[DeviceMasks]:
    """Split int16 [n] values on their device into planes, coarsest first, and odd signs."""
    count = len(values)
    words = word_count(count)
    bits = torch.empty((planes + 1, 2, words), dtype=torch.int32, device=values.device)
    if words:
        _split[(triton.cdiv(words, _BLOCK),)](
            values, bits, count, words, planes=planes, block=_BLOCK
        )
    return [DeviceMasks(count, positive, negative) for positive, negative in bits]


@triton.jit(do_not_specialize=["words"])
def _split(
    values: tl.tensor,
    bits: tl.tensor,
    count: tl.int32,
    words: tl.int32,
    planes: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Set bits; one program processes `block` words of every plane.

    Args:
        values: int16 [count], in steps.
        bits: int32 [planes + 1, 2, words]: by plane, coarsest first, and for the signs of odd
            values, where trits are +1, and where −1.
        count: values.
        words: words of one plane.
        planes: planes of the levels.
        block: words to a program.
    """
    word = tl.program_id(0) * block + tl.arange(0, block)
    bit = tl.arange(0, 32)[None, :]
    at = word[:, None] * 32 + bit
    value = tl.load(values + at, mask=at < count, other=0).to(tl.int32)
    negative = value < 0
    size = tl.abs(value)
    kept = word < words
    to = bits + tl.full((), 2 * planes, tl.int64) * words + word
    odd = (size & 1) << bit
    tl.store(to, tl.sum(tl.where(negative, 0, odd), axis=1), mask=kept)
    tl.store(to + words, tl.sum(tl.where(negative, odd, 0), axis=1), mask=kept)
    rest = (size + 1) >> 1
    for _ in tl.static_range(planes):
        to -= 2 * words
        # (rest + 1) // 3 for numbers below 2^14, without a division.
        above = ((rest + 1) * 43691) >> 17
        digit = rest - 3 * above
        up, down = (digit == 1).to(tl.int32) << bit, (digit == -1).to(tl.int32) << bit
        tl.store(to, tl.sum(tl.where(negative, down, up), axis=1), mask=kept)
        tl.store(to + words, tl.sum(tl.where(negative, up, down), axis=1), mask=kept)
        rest = above
