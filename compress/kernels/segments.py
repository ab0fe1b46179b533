"""Check segments on the host, bring them to a device and lay out the work of every program.

Nothing that a segment claims is believed: what `entropy.read_segment` accepts has sizes that
agree, and every place that a kernel reads or writes is computed here from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compress.dtypes import Array
from compress.entropy import Segment, read_segment
from compress.errors import OptionError
from compress.kernels.tensors import MAX_ELEMENTS, integers_on_device
from compress.lane_groups import GROUP_LANES

#: Every segment's symbols begin at a multiple of this, so that rows of lanes fill whole sectors.
_ALIGNMENT = 128
#: Every segment's trits begin at a multiple of this: a word of a mask, and wide stores of values.
PLACES = 32
#: The second dimension of a grid holds no more.
_MAX_SEGMENTS = 65_535
_ENTRIES = 256
#: Lanes to a program, rounded up to one of these: few variants to compile.
_BLOCKS = (32, 128, 512, 2048, 4096, 8192)
#: Columns of the plan of a group; `entropy._decode_groups` reads them in this order.
_PLAN = 10


@dataclass(frozen=True, slots=True)
class Spans:
    """Say where each segment's symbols lie, and where what is made of its trits goes.

    Places of trits are multiples of 32, so that stores are wide and no word of a mask is shared.

    Attributes:
        table: int64 [segments, 3] on the device: first symbol, place of the first trit, trits.
        places: (place of the first trit, trits) of every segment.
        size: places in all, a multiple of 32.
        longest: trits of the longest segment.
    """

    table: torch.Tensor
    places: tuple[tuple[int, int], ...]
    size: int
    longest: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold segments on a device, checked as far as that goes without decoding.

    Attributes:
        spans: where each segment's symbols and trits go.
        symbols: bytes that all symbols take.
        constants: place, length and symbol of segments that are one symbol throughout.
        plans: int64 [groups, 10] for each number of lanes that a program holds.
        states: int32 [all lanes].
        words: int16 [all words].
        slots: uint8 [Σ 2^bits], the symbol of every slot.
        entries: int32 [segments, 256], first slot and, from bit 16, width of every symbol.
    """

    spans: Spans
    symbols: int
    constants: tuple[tuple[int, int, int], ...]
    plans: tuple[tuple[int, torch.Tensor], ...]
    states: torch.Tensor
    words: torch.Tensor
    slots: torch.Tensor
    entries: torch.Tensor


def upload(segments: Sequence[bytes | memoryview], device: str) -> Batch:
    """Check segments of either layout on the host and bring them to a device.

    Raises:
        TernDamagedError: the checksum or the structure of a segment is wrong.
        OptionError: they are more than 65 535 or hold more than 2^30 trits; decode them in several
            calls.
    """
    if len(segments) > _MAX_SEGMENTS:
        raise _too_many("segments", limit=_MAX_SEGMENTS, actual=len(segments))
    read = [read_segment(segment) for segment in segments]
    trits = sum(segment.trits for segment in read)
    if trits > MAX_ELEMENTS:
        raise _too_many("trits", limit=MAX_ELEMENTS, actual=trits)
    starts = _starts([-(-segment.symbols // _ALIGNMENT) * _ALIGNMENT for segment in read])
    return Batch(
        spans=_spans(read, starts, device),
        symbols=starts[-1],
        constants=tuple(
            (start, segment.symbols, segment.constant)
            for segment, start in zip(read, starts, strict=False)
            if segment.constant is not None
        ),
        plans=tuple(
            (block, integers_on_device(plan, device)) for block, plan in _plans(read, starts)
        ),
        states=integers_on_device(_joined([s.states for s in read], np.uint32), device),
        words=integers_on_device(_joined([s.words for s in read], np.uint16), device),
        slots=integers_on_device(_joined([_slots(s) for s in read], np.uint8), device),
        entries=integers_on_device(_joined([_entries(s) for s in read], np.uint32), device),
    )


def _plans(segments: Sequence[Segment], starts: Sequence[int]) -> list[tuple[int, Array]]:
    """Lay out what every program needs, by the number of lanes that it holds."""
    groups: dict[int, list[Array]] = {}
    states_at = _starts([len(segment.states) for segment in segments])
    words_at = _starts([len(segment.words) for segment in segments])
    slots_at = _starts([len(_slots(segment)) for segment in segments])
    for index, segment in enumerate(segments):
        lanes = len(segment.states)
        if not lanes:
            continue
        grouped = segment.group_words
        group_lanes = lanes if grouped is None else GROUP_LANES
        first = np.arange(0, lanes, group_lanes)
        shared = np.array([len(segment.words)], np.int64)
        counts = shared if grouped is None else grouped.astype(np.int64)
        plan = np.empty((len(first), _PLAN), np.int64)
        plan[:, 0] = states_at[index] + first
        plan[:, 1] = np.minimum(group_lanes, lanes - first)
        plan[:, 2] = first
        plan[:, 3] = lanes
        plan[:, 4] = segment.symbols
        plan[:, 5] = words_at[index] + np.cumsum(counts) - counts
        plan[:, 6] = counts
        plan[:, 7] = starts[index]
        plan[:, 8] = slots_at[index]
        plan[:, 9] = index * _ENTRIES | segment.bits << 48
        block = next(size for size in _BLOCKS if size >= min(group_lanes, lanes))
        groups.setdefault(block, []).append(plan)
    return [(block, np.concatenate(plans)) for block, plans in sorted(groups.items())]


def _spans(segments: Sequence[Segment], starts: Sequence[int], device: str) -> Spans:
    trits = [segment.trits for segment in segments]
    places = _starts([-(-count // PLACES) * PLACES for count in trits])
    table = np.array(list(zip(starts, places, trits, strict=False)), np.int64)
    return Spans(
        table=integers_on_device(table.reshape(len(segments), 3), device),
        places=tuple(zip(places, trits, strict=False)),
        size=places[-1],
        longest=max(trits, default=0),
    )


def _slots(segment: Segment) -> Array:
    if not len(segment.states):
        return np.empty(0, np.uint8)
    return np.repeat(np.arange(len(segment.frequencies), dtype=np.uint8), segment.frequencies)


def _entries(segment: Segment) -> Array:
    entries = np.zeros(_ENTRIES, np.uint32)
    if len(segment.states):
        widths = segment.frequencies
        first = np.cumsum(widths, dtype=np.uint32) - widths
        # A symbol that cannot come may start at 2^16; it is in no slot, so its entry is never read.
        entries[: len(widths)] = widths << np.uint32(16) | first & np.uint32(0xFFFF)
    return entries


def _too_many(what: str, *, limit: int, actual: int) -> OptionError:
    return OptionError(
        f"too many {what} for one launch",
        field="segments",
        expected=f"at most {limit}",
        actual=str(actual),
        hint="decode fewer segments at a time",
    )


def _starts(lengths: Sequence[int]) -> list[int]:
    """Give where each piece starts when all lie one behind another, and where the last ends."""
    return [0, *np.cumsum(np.array(lengths, np.int64)).tolist()]


def _joined(pieces: Sequence[Array], dtype: type[np.unsignedinteger[Any]]) -> Array:
    """Join pieces; never empty, so that a kernel always has an address."""
    return np.concatenate([*pieces, np.zeros(1, dtype)]).astype(dtype, copy=False)
