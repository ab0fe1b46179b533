"""Decode planes of levels on a device: states and words in, levels or values in steps out.

The reference is `compress/rate_distortion/segment.py`. One program decodes one group of lanes in
step, as `entropy.py` does for trits; planes follow one another from coarse to fine, each launch
taking the same plane of all segments, so that segments of many adapters fill a GPU together. A
pair of levels is one 32-bit word, which a finer plane reads, refines and writes back.

What symbol a slot belongs to is found by comparing, first by threes: the tables are 16 bytes to a
context and stay in the fastest cache, where those of a CPU, a word to a slot, would not. All lanes
of a program mostly lie in one class; only where they do not, every lane looks for its own.

Every address is masked by what `plane_batches.py` checked on the host. Levels become values in
`factors.py` and bit planes in `level_masks.py`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compress import rans
from compress.errors import TernDamagedError
from compress.kernels.entropy import ranks
from compress.kernels.plane_batches import PlaneBatch, Step
from compress.rate_distortion.models import BITS
from compress.rate_distortion.trellis import FOLLOWING, STATES

_LANES_PER_WARP, _MOST_WARPS = 128, 32
#: The state after an even level, four bits for every state; after an odd one it is that xor 1.
_AFTER_EVEN = sum(int(FOLLOWING[2 * state]) << 4 * state for state in range(STATES))


def decode_planes(batch: PlaneBatch) -> torch.Tensor:
    """Decode all planes of all segments.

    Returns:
        int16 [2 · batch.pairs] on their device: values in steps of segments whose finest plane is
        there, else levels. What lies beyond the known pairs of a segment is undefined.

    Raises:
        TernDamagedError: the words or states of a plane are not those of an encoder.
    """
    levels = torch.empty(batch.pairs, dtype=torch.int32, device=batch.states.device)
    faults = [_launch(batch, step, levels) for step in batch.steps]
    if faults and bool(torch.stack(faults).any()):
        raise TernDamagedError("a plane does not end where it should", field="layer")
    return levels.view(torch.int16)


def _launch(batch: PlaneBatch, step: Step, levels: torch.Tensor) -> torch.Tensor:
    """Start a program for every group of a step; give whether one found a fault: bool []."""
    faults = torch.empty(len(step.plan), dtype=torch.int32, device=levels.device)
    _decode_groups[(len(step.plan),)](
        step.plan,
        batch.states,
        batch.words,
        batch.tables,
        batch.classes,
        levels,
        faults,
        low=rans.LOW,
        slot_bits=BITS,
        after_even=_AFTER_EVEN,
        finest=step.finest,
        block=step.block,
        num_warps=min(max(1, step.block // _LANES_PER_WARP), _MOST_WARPS),
    )
    return faults.any()


@triton.jit
def _find_class(
    classes: tl.tensor, count: tl.tensor, place: tl.tensor, first: tl.tensor
) -> tl.tensor:
    """Find what class pairs are in: their entries, and the first pair beyond the first's class."""
    entry = tl.zeros_like(place)
    until = tl.full((), 0x7FFFFFFF, tl.int32)
    for number in range(count):
        start = tl.load(classes + 2 * number)
        entry = tl.where(place >= start, tl.load(classes + 2 * number + 1), entry)
        until = tl.where((start > first) & (start < until), start, until)
    return entry, until


@triton.jit
def _kind(above: tl.tensor, kinds: tl.tensor) -> tl.tensor:
    """Tell coarser values apart: 0 for zero, 2 for even ones where there are three kinds, or 1."""
    even = (kinds == 3) & ((above & 1) == 0)
    return tl.where(above == 0, 0, tl.where(even, 2, 1))


@triton.jit
def _context(
    above1: tl.tensor, above2: tl.tensor, entry: tl.tensor, state: tl.tensor, finest: tl.constexpr
) -> tl.tensor:
    """Find the context of pairs, of those of the plane, by class, coarser values and state."""
    kinds = entry & 3
    context = _kind(above1, kinds) * kinds + _kind(above2, kinds)
    if finest:
        context = context * 8 + state
    return (entry >> 2) + context


@triton.jit
def _symbol(table: tl.tensor, slot: tl.tensor, active: tl.tensor) -> tl.tensor:
    """Find two digits, 0 to 2 each, the first slot and the width of what a slot belongs to."""
    inner = tl.load(table, mask=active, other=0)
    outer = tl.load(table + 1, mask=active, other=0)
    ends = (outer >> 32).to(tl.int32)
    third, sixth = ends & 0xFFFF, (ends >> 16) & 0xFFFF
    over, top = slot >= third, slot >= sixth
    low = tl.where(top, sixth, tl.where(over, third, 0))
    high = tl.where(top, 4096, tl.where(over, sixth, third))
    word = tl.where(over, (inner >> 32).to(tl.int32), inner.to(tl.int32))
    word = tl.where(top, outer.to(tl.int32), word)
    one, two = word & 0xFFFF, (word >> 16) & 0xFFFF
    beyond, last = slot >= one, slot >= two
    start = tl.where(last, two, tl.where(beyond, one, low))
    end = tl.where(last, high, tl.where(beyond, two, one))
    first = over.to(tl.int32) + top.to(tl.int32)
    return first, beyond.to(tl.int32) + last.to(tl.int32), start, end - start


@triton.jit
def _refined(above: tl.tensor, digit: tl.tensor) -> tl.tensor:
    """Put a digit, 0 to 2 and relative to the sign above it, onto the value above it."""
    relative = digit - 1
    return 3 * above + tl.where(above < 0, -relative, relative)


@triton.jit
def _value(level: tl.tensor, state: tl.tensor) -> tl.tensor:
    """Give what a level stands for in the quantiser that holds in a state, in steps."""
    sign = (level > 0).to(tl.int32) - (level < 0).to(tl.int32)
    return 2 * level - sign * (state & 1)


@triton.jit
def _after(state: tl.tensor, level: tl.tensor, after_even: tl.constexpr) -> tl.tensor:
    """Give the state of the trellis after a level."""
    return ((after_even >> (4 * state)) & 7) ^ (level & 1)


@triton.jit
def _walked(
    level1: tl.tensor, level2: tl.tensor, state: tl.tensor, after_even: tl.constexpr
) -> tl.tensor:
    """Turn two levels into values, and walk on: both values, and the state after them."""
    between = _after(state, level1, after_even)
    following = _after(between, level2, after_even)
    return _value(level1, state), _value(level2, between), following


@triton.jit
def _decode_groups(
    plan: tl.tensor,
    states: tl.tensor,
    words: tl.tensor,
    tables: tl.tensor,
    classes: tl.tensor,
    levels: tl.tensor,
    faults: tl.tensor,
    low: tl.constexpr,
    slot_bits: tl.constexpr,
    after_even: tl.constexpr,
    finest: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Decode lanes that share words; one program processes one group of up to `block` lanes.

    Args:
        plan: int64 [programs, 12]: first state; lanes; first lane; lanes of the plane; pairs of the
            plane; first word; words; first pair of the segment; pairs that the coarser plane holds;
            first class; classes; first context.
        states: int32 [all lanes].
        words: int16 [all words].
        tables: int64 [contexts, 2], first slots of symbols as in `PlaneBatch`.
        classes: int32 [classes, 2]: first pair; first context · 4 + kinds.
        levels: int32 [all pairs], two int16 each: coarser values, then levels of this plane, or in
            the finest one values in steps.
        faults: int32 [programs]: 0 if words and states end exactly where the encoder began.
        low: the lowest state, where the encoder began.
        slot_bits: widths sum to 2^slot_bits.
        after_even: the state after an even level, four bits for every state.
        finest: whether lanes walk through the trellis.
        block: lanes to a program.
    """
    program = tl.program_id(0)
    row = plan + program.to(tl.int64) * 12
    lanes, stride = tl.load(row + 1).to(tl.int32), tl.load(row + 3).to(tl.int32)
    first, count = tl.load(row + 2).to(tl.int32), tl.load(row + 4).to(tl.int32)
    available, known = tl.load(row + 6).to(tl.int32), tl.load(row + 8).to(tl.int32)
    word_at = words + tl.load(row + 5)
    level_at = levels + tl.load(row + 7)
    class_at = classes + 2 * tl.load(row + 9)
    class_count = tl.load(row + 10).to(tl.int32)
    table_at = tables + 2 * tl.load(row + 11)
    lane = tl.arange(0, block)
    used = lane < lanes
    x = tl.load(states + tl.load(row) + lane, mask=used, other=low).to(tl.uint32, bitcast=True)
    state = tl.zeros((block,), tl.int32)
    position = tl.full((), 0, tl.int32)
    until = tl.full((), 0, tl.int32)
    entry = tl.zeros((block,), tl.int32)
    pair = tl.load(level_at + first + lane, mask=used & (first + lane < known), other=0)
    for begin in range(0, count, stride):
        place = begin + first + lane
        active = used & (place < count)
        # What the next row refines is on its way while this one is decoded.
        ahead = place + stride
        coming = tl.load(level_at + ahead, mask=used & (ahead < known), other=0)
        if begin + first + block > until:
            entry, until = _find_class(class_at, class_count, place, begin + first)
        above1, above2 = (pair << 16) >> 16, pair >> 16
        table = table_at + 2 * _context(above1, above2, entry, state, finest)
        slot = (x & ((1 << slot_bits) - 1)).to(tl.int32)
        digit1, digit2, start, width = _symbol(table, slot, active)
        level1, level2 = _refined(above1, digit1), _refined(above2, digit2)
        moved = (x >> slot_bits) * width.to(tl.uint32) + (slot - start).to(tl.uint32)
        needs = active & (moved < low)
        rank, taken = ranks(needs, lane, block)
        at = position + rank
        word = tl.load(word_at + at, mask=needs & (at < available), other=0)
        refilled = moved << 16 | (word.to(tl.uint32) & 0xFFFF)
        x = tl.where(active, tl.where(needs, refilled, moved), x)
        position += taken
        if finest:
            level1, level2, state = _walked(level1, level2, state, after_even)
        tl.store(level_at + place, (level1 & 0xFFFF) | (level2 << 16), mask=active)
        pair = coming
    # A group that ran out of words has counted on beyond them.
    left = (position != available).to(tl.int32)
    tl.store(faults + program, tl.sum((used & (x != low)).to(tl.int32), axis=0) + left)
