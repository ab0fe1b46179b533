"""Turn floats into packed trits in one pass, and count the symbols on the way.

The references are `ternary.pack` and `compeft.Ternariser.trits`. The entropy coder fits its model
to the symbol counts; how many trits are −1, 0 and +1 follows from them (`backend.trit_counts`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compress.kernels.tensors import bits_of
from compress.ternary import SYMBOLS, symbol_count

_BLOCK = 1024
_TIE_BLOCK = 4096
#: Programs take turns over the data, so that few histograms have to be merged.
_MAX_PROGRAMS = 2048
_BINS = 256


def ternarise_pack(
    values: torch.Tensor, threshold_bits: int, *, ties: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the sign of magnitudes from a threshold on, and pack five trits into a byte.

    Args:
        values: float32, bfloat16 or float16 [n], flat on their device.
        threshold_bits: the smallest kept magnitude, as bits of the values' type.
        ties: how many values on the threshold are kept, in order of position; None keeps all.

    Returns:
        uint8 [⌈n/5⌉] symbols and int64 [243] counts of them, both on the device.
    """
    bits, kind = bits_of(values)
    count = values.numel()
    end = count if ties is None else _end_of_ties(values, threshold_bits, ties)
    symbols = torch.empty(symbol_count(count), dtype=torch.uint8, device=values.device)
    programs = min(triton.cdiv(len(symbols), _BLOCK), _MAX_PROGRAMS)
    histogram = torch.zeros((programs, _BINS), dtype=torch.int32, device=values.device)
    if programs:
        _ternarise_pack[(programs,)](
            bits,
            symbols,
            histogram,
            count,
            threshold_bits,
            end,
            magnitude=kind.magnitude,
            infinity=kind.infinity,
            block=_BLOCK,
        )
    return symbols, histogram.sum(dim=0)[:SYMBOLS]


def _end_of_ties(values: torch.Tensor, threshold_bits: int, ties: int) -> int:
    """Find the position before which exactly so many values lie on the threshold, or the end."""
    bits, kind = bits_of(values)
    blocks = triton.cdiv(len(bits), _TIE_BLOCK)
    found = torch.zeros(blocks, dtype=torch.int32, device=bits.device)
    if blocks:
        _count_ties[(blocks,)](
            bits, found, len(bits), threshold_bits, magnitude=kind.magnitude, block=_TIE_BLOCK
        )
    cumulative = torch.cumsum(found, 0)
    block = int(torch.searchsorted(cumulative, ties))
    if block == blocks:
        return len(bits)
    start = block * _TIE_BLOCK
    piece = bits[start : start + _TIE_BLOCK].to(torch.int32) & kind.magnitude
    wanted = ties - int(cumulative[block]) + int(found[block])
    places = torch.nonzero(piece == threshold_bits).view(-1)
    return start + (int(places[wanted - 1]) + 1 if wanted else 0)


@triton.jit(do_not_specialize=["threshold", "end"])
def _ternarise_pack(
    bits: tl.tensor,
    symbols: tl.tensor,
    histogram: tl.tensor,
    count: tl.int32,
    threshold: tl.int32,
    end: tl.int32,
    magnitude: tl.constexpr,
    infinity: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Pack trits; one program processes every so-many-th run of `block` symbols.

    Args:
        bits: int16 or int32 [count], the patterns of the values.
        symbols: uint8 [⌈count/5⌉].
        histogram: int32 [programs, 256], how often each symbol came.
        count: values.
        threshold: the smallest kept pattern.
        end: from this position on a pattern equal to the threshold is dropped.
        magnitude: the mask of all bits but the sign.
        infinity: larger patterns are NaN and have no sign.
        block: symbols to a turn.
    """
    program = tl.program_id(0)
    rows = tl.cdiv(count, 5)
    seen = tl.zeros((256,), tl.int32)
    for turn in range(program, tl.cdiv(rows, block), tl.num_programs(0)):
        row = turn * block + tl.arange(0, block)
        symbol = tl.zeros((block,), tl.int32)
        power = 1
        for place in tl.static_range(5):
            at = row * 5 + place
            inside = at < count
            pattern = tl.load(bits + at, mask=inside, other=0).to(tl.int32)
            size = pattern & magnitude
            keep = (size > threshold) | ((size == threshold) & (at < end))
            keep = keep & (size > 0) & (size <= infinity) & inside
            symbol += tl.where(keep, tl.where(pattern < 0, 0, 2), 1) * power
            power *= 3
        tl.store(symbols + row, symbol.to(tl.uint8), mask=row < rows)
        # A row beyond the end goes to a bin that no symbol has.
        seen += tl.histogram(tl.where(row < rows, symbol, 255), 256)
    tl.store(histogram + program * 256 + tl.arange(0, 256), seen)


@triton.jit(do_not_specialize=["threshold"])
def _count_ties(
    bits: tl.tensor,
    found: tl.tensor,
    count: tl.int32,
    threshold: tl.int32,
    magnitude: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Count patterns equal to a threshold; one program processes `block` values.

    Args:
        bits: int16 or int32 [count], the patterns of the values.
        found: int32 [programs].
        count: values.
        threshold: the pattern.
        magnitude: the mask of all bits but the sign.
        block: values to a program.
    """
    program = tl.program_id(0)
    at = program * block + tl.arange(0, block)
    inside = at < count
    pattern = tl.load(bits + at, mask=inside, other=0).to(tl.int32) & magnitude
    tl.store(found + program, tl.sum((inside & (pattern == threshold)).to(tl.int32), axis=0))
