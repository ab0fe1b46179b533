"""Find the k-th smallest magnitude by radix selection: no sort, and one or two reads of the data.

A magnitude's bits, read as an integer, rise with it. One pass counts how many patterns lie below a
range and, within the range, a histogram of one digit (18 to 22 bits) of what remains; the bin that
holds rank k is the next range. A digit that a GPU counts for *every* value is slow, because the
counters are few and hot; so the first range is guessed from a random sample of 65 536 patterns,
about 2 % of the data, and then only the few values inside touch a counter. The pass itself proves
the guess: if rank k is not inside, plain selection over the whole range runs instead. The result is
exact either way.

The reference is `compress/sparsify.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from compress.errors import OptionError
from compress.kernels.moments import moments
from compress.kernels.tensors import FloatKind, bits_of
from compress.sparsify import Survey

_BLOCK = 4096
#: A digit has at least and at most so many bits; more where counters are few beside the values.
_MIN_DIGIT, _MAX_DIGIT = 18, 22
_LEAST_VALUES_PER_COUNTER_BITS = 6
_MIN_BINS = 256
_SAMPLE = 1 << 16
#: Half the width of the guessed range in standard deviations of a sample's rank.
_DEVIATIONS = 4.5


@dataclass(frozen=True, slots=True)
class Range:
    """Hold patterns [low, high] among which rank k is sought."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Selected:
    """Hold the pattern of rank k, how many lie below it and how many on it."""

    threshold_bits: int
    below: int
    ties: int


def survey(values: torch.Tensor, rank: int) -> Survey:
    """Measure float [n] values, flat on their device, and find the magnitude of a rank.

    Args:
        values: float32, bfloat16 or float16 [n], n > 0.
        rank: 1 for the smallest magnitude, up to n for the largest; 0 means "below everything".

    Returns:
        moments, threshold (bits of the values' own type) and how many values lie above and on it.
    """
    found = moments(values)
    chosen = radix_select(values, rank) if rank else Selected(0, 0, found.count)
    return Survey(
        count=found.count,
        std=found.std(),
        mean_magnitude=found.magnitude / found.count,
        energy=found.energy,
        threshold_bits=chosen.threshold_bits,
        above=found.count - chosen.below - chosen.ties,
        ties=chosen.ties,
    )


def radix_select(values: torch.Tensor, rank: int) -> Selected:
    """Find the rank-th smallest magnitude of float [n] values, exactly.

    Raises:
        OptionError: the rank is not in 1…n.
    """
    bits, kind = bits_of(values)
    guess = _guess(bits, kind, rank)
    selected = _descend(bits, kind, rank, guess) if guess else None
    selected = selected or _descend(bits, kind, rank, Range(0, kind.magnitude))
    if selected is None:
        raise OptionError(
            "no value has this rank",
            field="rank",
            expected=f"1 to {bits.numel()}",
            actual=str(rank),
        )
    return selected


def _guess(bits: torch.Tensor, kind: FloatKind, rank: int) -> Range | None:
    """Guess patterns between which rank k lies, from a spread sample; None for a short vector."""
    count = bits.numel()
    if count < 8 * _SAMPLE or not 1 <= rank <= count:
        return None
    # One place in every stretch, at a scattered offset: a plain stride could follow one column.
    step = torch.arange(_SAMPLE, dtype=torch.int64, device=bits.device)
    stretch = count // _SAMPLE
    at = step * stretch + (step * 2654435761 >> 7) % stretch
    sample = torch.sort(bits[at].to(torch.int32) & kind.magnitude).values
    share = (rank - 0.5) / count
    centre = share * _SAMPLE
    margin = _DEVIATIONS * math.sqrt(_SAMPLE * share * (1 - share)) + 8
    first, last = math.floor(centre - margin), math.ceil(centre + margin)
    ends = sample[[max(first, 0), min(last, _SAMPLE - 1)]].tolist()
    return Range(ends[0] if first >= 0 else 0, ends[1] if last < _SAMPLE else kind.magnitude)


def _descend(bits: torch.Tensor, kind: FloatKind, rank: int, patterns: Range) -> Selected | None:
    """Narrow a range digit by digit to one pattern; None if rank k is not in it."""
    while True:
        shift = max(0, (patterns.high - patterns.low).bit_length() - _digit_bits(bits.numel()))
        below, histogram = _count(bits, kind, patterns, shift)
        cumulative = torch.cumsum(histogram, 0)
        digit = torch.searchsorted(cumulative, (rank - below).view(1))
        digit = digit.clamp(max=len(histogram) - 1)
        found = [digit, below.view(1), cumulative[digit], histogram[digit]]
        place, lower, upto, ties = torch.cat(found).tolist()
        if not 0 < rank - lower <= upto:
            return None
        low = patterns.low + (place << shift)
        if not shift:
            return Selected(low, lower + upto - ties, ties)
        patterns = Range(low, min(low + (1 << shift) - 1, patterns.high))


def _digit_bits(count: int) -> int:
    """Choose the bits of a digit for so many values."""
    wide = count.bit_length() - 1 - _LEAST_VALUES_PER_COUNTER_BITS
    return min(max(wide, _MIN_DIGIT), _MAX_DIGIT)


def _count(
    bits: torch.Tensor, kind: FloatKind, patterns: Range, shift: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count patterns below a range: int64 []; and those inside by digit: int64 [bins]."""
    span = ((patterns.high - patterns.low) >> shift) + 1
    bins = max(_MIN_BINS, 1 << (span - 1).bit_length())
    # Fewer bins than counters are repeated, programs taking turns, so that no counter is hot.
    copies = (1 << _digit_bits(bits.numel())) // bins
    blocks = triton.cdiv(bits.numel(), _BLOCK)
    below = torch.empty((blocks, 2), dtype=torch.int32, device=bits.device)
    histogram = torch.zeros((copies, bins), dtype=torch.int32, device=bits.device)
    _count_digits[(blocks,)](
        bits,
        below,
        histogram,
        bits.numel(),
        patterns.low,
        patterns.high,
        shift,
        bins,
        copies,
        magnitude=kind.magnitude,
        block=_BLOCK,
    )
    under, lowest = below.sum(dim=0)
    merged = histogram.sum(dim=0)
    merged[0] += lowest
    return under, merged


# Loads as wide as an aligned address allows would lie in other threads than the counters, and every
# value would pass through shared memory; a warp's narrow loads are as contiguous.
@triton.jit(
    do_not_specialize=["count", "low", "high", "shift", "bins", "copies"],
    do_not_specialize_on_alignment=["bits"],
)
def _count_digits(
    bits: tl.tensor,
    below: tl.tensor,
    histogram: tl.tensor,
    count: tl.int32,
    low: tl.int32,
    high: tl.int32,
    shift: tl.int32,
    bins: tl.int32,
    copies: tl.int32,
    magnitude: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Count patterns below and inside a range; one program processes `block` values.

    Args:
        bits: int16 or int32 [count], the patterns of the values.
        below: int32 [programs, 2]: magnitudes below `low`, and equal to it.
        histogram: int32 [copies, bins], zero before: magnitudes of (low, high] by digit. The lowest
            has no counter, because vectors full of zeros would make it a hot one.
        count: values.
        low: the first pattern of the range.
        high: the last pattern of the range.
        shift: the digit of pattern p is (p − low) >> shift.
        bins: digits, at least ((high − low) >> shift) + 1.
        copies: histograms among which the programs take turns.
        magnitude: the mask of all bits but the sign.
        block: values to a program.
    """
    program = tl.program_id(0)
    at = program * block + tl.arange(0, block)
    inside = at < count
    pattern = tl.load(bits + at, mask=inside, other=0).to(tl.int32) & magnitude
    tl.store(below + 2 * program, tl.sum((inside & (pattern < low)).to(tl.int32), axis=0))
    tl.store(below + 2 * program + 1, tl.sum((inside & (pattern == low)).to(tl.int32), axis=0))
    match = inside & (pattern > low) & (pattern <= high)
    counter = histogram + (program % copies) * bins + ((pattern - low) >> shift)
    tl.atomic_add(counter, 1, mask=match, sem="relaxed")
