"""Decode segments of trits on a device: states and words in, packed symbols out.

One program decodes one group of lanes in step; which word a lane takes is a running count over the
group. Large segments give every 32 lanes, a warp, words of their own (`lane_groups.py`). In a small
one, or one of version 1, all lanes are one group, so it keeps one multiprocessor busy and many are
needed to fill a GPU. Both layouts, and segments of many adapters, decode in one call.

Every address is masked by what `segments.py` checked on the host, and a program whose words run out
or whose states do not end where the encoder began says so. Symbols become values in `restore.py`
and bit planes in `masks.py`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compress import rans
from compress.errors import TernDamagedError
from compress.kernels.segments import Batch

_LANES_PER_WARP = 256


def decode_symbols(batch: Batch) -> torch.Tensor:
    """Decode all segments into uint8 [batch.symbols] of base-243 symbols on their device.

    Raises:
        TernDamagedError: the words or states of a segment are not those of an encoder.
    """
    symbols = torch.empty(batch.symbols, dtype=torch.uint8, device=batch.states.device)
    for start, length, symbol in batch.constants:
        symbols[start : start + length] = symbol
    faults = [_launch(batch, plan, symbols, block) for block, plan in batch.plans]
    if faults and bool(torch.stack(faults).any()):
        raise TernDamagedError("a segment does not end where it should", field="trits")
    return symbols


def _launch(batch: Batch, plan: torch.Tensor, symbols: torch.Tensor, block: int) -> torch.Tensor:
    """Start a program for every group of a plan; give whether one found a fault: bool []."""
    faults = torch.empty(len(plan), dtype=torch.int32, device=plan.device)
    _decode_groups[(len(plan),)](
        plan,
        batch.states,
        batch.words,
        batch.slots,
        batch.entries,
        symbols,
        faults,
        low=rans.LOW,
        block=block,
        num_warps=max(1, block // _LANES_PER_WARP),
    )
    return faults.any()


@triton.jit
def ranks(needs: tl.tensor, lane: tl.tensor, block: tl.constexpr) -> tl.tensor:
    """Count for every lane the lanes before it that need a word, and all that do."""
    if block == 32:
        # A sum of single bits is the warp's ballot; counting its bits beats five rounds of a scan.
        ballot = tl.sum(tl.where(needs, 1, 0) << lane, axis=0).to(tl.uint32, bitcast=True)
        before = (tl.full((), 1, tl.uint32) << lane.to(tl.uint32)) - 1
        rank = _count_bits(ballot & before)
        taken = _count_bits(ballot)
    else:
        need = needs.to(tl.int32)
        rank = tl.cumsum(need, axis=0) - need
        taken = tl.sum(need, axis=0)
    return rank, taken


@triton.jit
def _count_bits(x: tl.tensor) -> tl.tensor:
    """Count the set bits of uint32, in the form that compilers turn into one instruction."""
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def _decode_groups(
    plan: tl.tensor,
    states: tl.tensor,
    words: tl.tensor,
    slots: tl.tensor,
    entries: tl.tensor,
    symbols: tl.tensor,
    faults: tl.tensor,
    low: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Decode lanes that share words; one program processes one group of up to `block` lanes.

    Args:
        plan: int64 [programs, 10]: first state; lanes; first lane; lanes of the segment; symbols of
            the segment; first word; words; first symbol; first slot; first entry, and from bit 48
            the bits of a slot.
        states: int32 [all lanes].
        words: int16 [all words].
        slots: uint8 [Σ 2^bits].
        entries: int32 [segments, 256].
        symbols: uint8 [all symbols].
        faults: int32 [programs]: 0 if words and states end exactly where the encoder began.
        low: the lowest state, where the encoder began.
        block: lanes to a program.
    """
    program = tl.program_id(0)
    row = plan + program.to(tl.int64) * 10
    lanes, stride = tl.load(row + 1).to(tl.int32), tl.load(row + 3).to(tl.int32)
    first, count = tl.load(row + 2).to(tl.int32), tl.load(row + 4).to(tl.int32)
    available = tl.load(row + 6).to(tl.int32)
    packed = tl.load(row + 9)
    bits = (packed >> 48).to(tl.uint32)
    word_at = words + tl.load(row + 5)
    out_at = symbols + tl.load(row + 7)
    slot_at = slots + tl.load(row + 8)
    entry_at = entries + (packed & 0xFFFFFFFF)
    lane = tl.arange(0, block)
    used = lane < lanes
    x = tl.load(states + tl.load(row) + lane, mask=used, other=low).to(tl.uint32, bitcast=True)
    mask = (tl.full((), 1, tl.uint32) << bits) - 1
    position = tl.full((), 0, tl.int32)
    for begin in range(0, count, stride):
        place = begin + first + lane
        active = used & (place < count)
        slot = x & mask
        symbol = tl.load(slot_at + slot.to(tl.int32), mask=active, other=0)
        entry = tl.load(entry_at + symbol.to(tl.int32), mask=active, other=0)
        entry = entry.to(tl.uint32, bitcast=True)
        moved = (x >> bits) * (entry >> 16) + slot - (entry & 0xFFFF)
        needs = active & (moved < low)
        rank, taken = ranks(needs, lane, block)
        at = position + rank
        word = tl.load(word_at + at, mask=needs & (at < available), other=0)
        refilled = moved << 16 | (word.to(tl.uint32) & 0xFFFF)
        x = tl.where(active, tl.where(needs, refilled, moved), x)
        tl.store(out_at + place, symbol, mask=active)
        position += taken
    # A group that ran out of words has counted on beyond them.
    left = (position != available).to(tl.int32)
    tl.store(faults + program, tl.sum((used & (x != low)).to(tl.int32), axis=0) + left)
