"""Find what a block of elements says twice, however far apart: the tensors that are saved twice.

PEFT keeps `modules_to_save` beside `original_module`, and both may be the same. Deflating looks
back 32 KiB only. Here anchors are chosen by the content of an element, so that both occurrences
have the same ones (A. Muthitacharoen et al., "A low-bandwidth network file system", 2001, section
3.1, for chunks); equal windows behind two anchors are then extended in both directions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.errors import TernDamagedError

#: A copy of fewer elements saves too little.
LEAST_ELEMENTS = 64
_COPY = struct.Struct("<III")
_COUNT = struct.Struct("<I")
_WINDOW = 16
#: One element in 64 is an anchor; where many more are, elements are of few kinds.
_ANCHOR_BITS, _MOST_ANCHORS = 6, 16
_MIX = 0x9E3779B97F4A7C15
_FIRST_STEP = 256


@dataclass(frozen=True, slots=True)
class Copy:
    """Say that elements from `target` on are those from `source` on, which ends before it."""

    target: int
    source: int
    length: int


def find(values: Array) -> list[Copy]:
    """Find repeated stretches of unsigned [n], in rising order, none within another."""
    places = _anchors(values)
    if len(places) < 2:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(values, _WINDOW)[places]
    powers = np.full(_WINDOW, _MIX, np.uint64).cumprod(dtype=np.uint64)
    prints = (windows * powers).sum(axis=1, dtype=np.uint64)
    _, first, which = np.unique(prints, return_index=True, return_inverse=True)
    sources = places[first[which]]
    again = np.flatnonzero(sources < places)
    copies: list[Copy] = []
    end = 0
    for place, source in zip(places[again].tolist(), sources[again].tolist(), strict=True):
        if place >= end:
            copy = _extend(values, place, source, end)
            if copy.length >= LEAST_ELEMENTS:
                copies.append(copy)
                end = copy.target + copy.length
    return copies


def remove(values: Array, copies: list[Copy]) -> Array:
    """Give the elements that are in no copy."""
    kept = np.ones(len(values), np.bool_)
    for copy in copies:
        kept[copy.target : copy.target + copy.length] = False
    return np.asarray(values[kept])


def insert(kept: Array, copies: list[Copy], *, count: int) -> Array:
    """Undo `remove`; give unsigned [count].

    Raises:
        TernDamagedError: copies and elements do not make so many.
    """
    if len(kept) + sum(copy.length for copy in copies) != count:
        raise TernDamagedError("copies make another number of elements", field="exact")
    values = np.empty(count, kept.dtype)
    at = used = 0
    for copy in copies:
        gap = copy.target - at
        if gap < 0 or copy.source + copy.length > copy.target or used + gap > len(kept):
            raise TernDamagedError("a copy is of elements that are not known", field="exact")
        values[at : copy.target] = kept[used : used + gap]
        used, at = used + gap, copy.target + copy.length
        values[copy.target : at] = values[copy.source : copy.source + copy.length]
    values[at:] = kept[used:]
    return values


def pack(copies: list[Copy]) -> bytes:
    """Write copies: u32 how many, then u32 target, source and length of each, little-endian."""
    packed = (_COPY.pack(copy.target, copy.source, copy.length) for copy in copies)
    return _COUNT.pack(len(copies)) + b"".join(packed)


def unpack(data: bytes, *, count: int) -> tuple[list[Copy], int]:
    """Read the copies of a block of `count` elements; give the bytes that they took too.

    Raises:
        TernDamagedError: cut off, or copies that `find` does not make.
    """
    if len(data) < _COUNT.size:
        raise TernDamagedError("copies are cut off", field="exact")
    stop = _COUNT.size + _COUNT.unpack_from(data)[0] * _COPY.size
    if stop > len(data):
        raise TernDamagedError("copies are cut off", field="exact")
    copies = [Copy(*fields) for fields in _COPY.iter_unpack(data[_COUNT.size : stop])]
    if any(copy.length < LEAST_ELEMENTS or copy.length > count for copy in copies):
        raise TernDamagedError("a copy is of no length that is made", field="exact")
    return copies, stop


def _anchors(values: Array) -> Array:
    """Choose places by content, the first of a run of equal elements only: intp [anchors]."""
    starts = values[: max(0, len(values) - _WINDOW + 1)]
    bits = 8 * values.itemsize
    mixed = starts * values.dtype.type(_MIX & ((1 << bits) - 1))
    chosen = mixed < values.dtype.type(1 << (bits - _ANCHOR_BITS))
    chosen[1:] &= starts[1:] != starts[:-1]
    places = np.flatnonzero(chosen)
    return places if len(places) * _MOST_ANCHORS <= len(values) else places[:0]


def _extend(values: Array, place: int, source: int, end: int) -> Copy:
    """Make the longest copy around two equal places that ends not before `end` and overlaps not."""
    back = _common(values[end:place][::-1], values[:source][::-1])
    place, source = place - back, source - back
    return Copy(place, source, _common(values[place:], values[source:place]))


def _common(one: Array, two: Array) -> int:
    """Count how many elements two stretches have in common from their beginnings on."""
    most, at, step = min(len(one), len(two)), 0, _FIRST_STEP
    while at < most:
        stop = min(at + step, most)
        differ = np.flatnonzero(one[at:stop] != two[at:stop])
        if len(differ):
            return at + int(differ[0])
        at, step = stop, 2 * step
    return most
