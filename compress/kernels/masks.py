"""Turn packed symbols into two bit planes, without a dense tensor in between.

The reference is `compress/masks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from compress.kernels.segments import PLACES, Spans
from compress.masks import word_count

_BLOCK = 128


@dataclass(frozen=True, slots=True)
class DeviceMasks:
    """Hold the two bit planes of a ternary tensor on a device, as `compress.masks.Masks` does.

    Attributes:
        trits: how many there are; the bits beyond them are zero.
        positive: int32 [⌈trits/32⌉], where a trit is +1.
        negative: int32 [⌈trits/32⌉], where a trit is −1.
    """

    trits: int
    positive: torch.Tensor
    negative: torch.Tensor


def pack_masks(symbols: torch.Tensor, spans: Spans) -> list[DeviceMasks]:
    """Pack the trits of every segment.

    Args:
        symbols: uint8, as `decode_symbols` gives them.
        spans: where each segment lies.

    Returns:
        The planes of every segment on the symbols' device, views of one buffer.
    """
    words = spans.size // PLACES
    planes = torch.empty((2, words), dtype=torch.int32, device=symbols.device)
    if words:
        _pack[(triton.cdiv(word_count(spans.longest), _BLOCK), len(spans.places))](
            symbols, spans.table, planes, words, block=_BLOCK
        )
    masks = []
    for place, trits in spans.places:
        here = slice(place // PLACES, place // PLACES + word_count(trits))
        masks.append(DeviceMasks(trits, planes[0, here], planes[1, here]))
    return masks


@triton.jit(do_not_specialize=["words"])
def _pack(
    symbols: tl.tensor,
    spans: tl.tensor,
    planes: tl.tensor,
    words: tl.int32,
    block: tl.constexpr,
) -> None:
    """Set bits; one program processes `block` words of one segment.

    Args:
        symbols: uint8 [all symbols].
        spans: int64 [segments, 3]: first symbol, place of the first trit, trits.
        planes: int32 [2, words]: where trits are +1, and where −1.
        words: words of one plane.
        block: words to a program.
    """
    span = spans + tl.program_id(1) * 3
    count = tl.load(span + 2).to(tl.int32)
    if tl.program_id(0) * block * 32 >= count:
        return
    word = tl.program_id(0) * block + tl.arange(0, block)
    bit = tl.arange(0, 32)[None, :]
    at = word[:, None] * 32 + bit
    place = at // 5
    # Beyond the end lies a symbol of zero trits; the last symbol itself is filled up with zeros.
    inside = place * 5 < count
    symbol = tl.load(symbols + tl.load(span) + place, mask=inside, other=121).to(tl.int32)
    digit = _digit(symbol, at - 5 * place)
    to = planes + tl.load(span + 1) // 32 + word
    kept = word * 32 < count
    tl.store(to, tl.sum((digit == 2).to(tl.int32) << bit, axis=1), mask=kept)
    tl.store(to + words, tl.sum((digit == 0).to(tl.int32) << bit, axis=1), mask=kept)


@triton.jit
def _digit(symbol: tl.tensor, place: tl.tensor) -> tl.tensor:
    """Give the digit, 0 to 2, at a place, 0 to 4, of symbols below 243, without a division."""
    # ⌈2^16 / 3^place⌉: the upper half of the product is the quotient for every symbol below 256.
    magic = tl.where(place == 1, 21846, 65536)
    magic = tl.where(place == 2, 7282, magic)
    magic = tl.where(place == 3, 2428, magic)
    magic = tl.where(place == 4, 810, magic)
    quotient = (symbol * magic) >> 16
    return quotient - 3 * ((quotient * 171) >> 9)
