"""Code one plane of digits: two neighbours at a time, at their entropy.

A pair of digits is one of nine symbols. Its probability is the product of two digits' own, each by
its class, the coarser value above it and, in the finest plane, the quantiser that holds, which the
first digit may change for the second. So a coder in the finest plane also carries the state of the
trellis: a lane of the entropy coder is a walk through the trellis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from types import ModuleType

import numpy as np

from compress import lane_groups, loops, rans
from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.lane_groups import GROUP_LANES, Words, group_count
from compress.rate_distortion.models import BITS, ODD, ONE
from compress.rate_distortion.trellis import FOLLOWING, STATES

_SYMBOLS = 9
_NO_STATES: Array = np.zeros(0, np.uint8)
#: int16 [9]: the two digits of every symbol.
_FIRST: Array = (np.arange(_SYMBOLS) // 3 - 1).astype(np.int16)
_SECOND: Array = (np.arange(_SYMBOLS) % 3 - 1).astype(np.int16)


@dataclass(frozen=True, slots=True)
class PlaneTables:
    """Hold the tables of one plane of a segment.

    Attributes:
        tables: one context for every class, kind of both coarser values and state.
        bases: int64 [classes], the first context of every class.
        kinds: int64 [classes], how many kinds of coarser values a class tells apart.
        following: uint8 [contexts * 9], the state after every symbol; None but in the finest plane.
    """

    tables: rans.Tables
    bases: Array
    kinds: Array
    following: Array | None


def build_tables(digits: Sequence[Array], kinds: Sequence[int], *, finest: bool) -> PlaneTables:
    """Build the tables of a plane.

    Args:
        digits: by class, int64 [2, 3, 3] weights as in `models.ClassModel`.
        kinds: by class, how many kinds of coarser values come: 1 to 3.
        finest: whether the trellis runs along.
    """
    widths, following, sizes = frequencies(digits, kinds, finest=finest)
    return PlaneTables(
        tables=rans.Tables(BITS, widths),
        bases=np.cumsum([0, *sizes[:-1]]),
        kinds=np.array(kinds),
        following=following if finest else None,
    )


def frequencies(
    digits: Sequence[Array], kinds: Sequence[int], *, finest: bool
) -> tuple[Array, Array, list[int]]:
    """Give how often each symbol comes, without the tables of a coder.

    Args:
        digits: by class, int64 [2, 3, 3] weights as in `models.ClassModel`.
        kinds: by class, how many kinds of coarser values come: 1 to 3.
        finest: whether the trellis runs along.

    Returns:
        uint32 [contexts, 9], uint8 [contexts * 9] states after every symbol, and by class how many
        contexts it has.
    """
    states = STATES if finest else 1
    rows, following, sizes = [], [], []
    for count, group in groupby(zip(kinds, digits, strict=True), key=lambda pair: pair[0]):
        weights = np.stack([weights for _, weights in group])
        first, second, after = _product(weights, count, states)
        rows.append((first * second).reshape(-1, _SYMBOLS))
        following.append(after.reshape(-1))
        sizes += [count * count * states] * len(weights)
    widths = _normalise(np.concatenate(rows))
    return widths, np.concatenate(following).astype(np.uint8), sizes


def _product(weights: Array, kinds: int, states: int) -> tuple[Array, Array, Array]:
    """Give the weights of first and second digit and the state after both.

    Args:
        weights: int64 [classes, 2, 3, 3].
        kinds: of coarser values, in all these classes.
        states: 8 where the trellis runs along, else 1.

    Returns:
        three arrays of shape [classes, kinds, kinds, states, 3, 3]: kind of the first and of the
        second coarser value, state before, first and second digit.
    """
    shape = (len(weights), kinds, kinds, states, 3, 3)
    number, kind1, kind2, state, digit1, digit2 = (
        np.arange(size).reshape([-1 if axis == place else 1 for axis in range(len(shape))])
        for place, size in enumerate(shape)
    )
    if states == 1:
        first = weights[number, 0, kind1, digit1]
        second = weights[number, 0, kind2, digit2]
        return np.broadcast_to(first, shape), second, np.zeros(shape, np.uint8)
    between = FOLLOWING[2 * state + _parity(kind1, digit1)].astype(np.int64)
    first = weights[number, state & 1, kind1, digit1]
    second = weights[number, between & 1, kind2, digit2]
    after = FOLLOWING[2 * between + _parity(kind2, digit2)]
    return first, second, np.broadcast_to(after, shape)


def _parity(kind: Array, digit: Array) -> Array:
    """Give the parity of 3·coarser + digit."""
    return np.asarray((kind == ODD) ^ (digit != 1)).astype(np.int64)


def _normalise(products: Array) -> Array:
    """Scale rows whose sum is 4096² to a sum of 4096, nothing below 1."""
    frequencies = np.maximum(products >> BITS, 1)
    rows = np.arange(len(frequencies))
    frequencies[rows, frequencies.argmax(axis=1)] += ONE - frequencies.sum(axis=1)
    return np.asarray(frequencies, np.uint32)


def contexts(plane: PlaneTables, coarser: Array, bounds: Array) -> Array:
    """Give the context of every pair, for state 0: uint16 [n].

    Args:
        plane: the tables.
        coarser: int16 [2 n], the coarser value above every digit.
        bounds: int64 [classes + 1], where every class begins.
    """
    states = STATES if plane.following is not None else 1
    of_pair = np.repeat(plane.bases, np.diff(bounds) // 2).astype(np.uint16)
    for number, kinds in enumerate(plane.kinds):
        if kinds == 1:
            continue
        above = np.abs(coarser[bounds[number] : bounds[number + 1]])
        kind = (above != 0).astype(np.uint16)
        if kinds == 3:
            kind += (above != 0) & (above & 1 == 0)
        part = of_pair[bounds[number] // 2 : bounds[number + 1] // 2]
        part += (kind[::2] * np.uint16(kinds) + kind[1::2]) * np.uint16(states)
    return of_pair


def encode(digits: Array, of_pair: Array, plane: PlaneTables, *, lanes: int) -> rans.Stream:
    """Code digits, relative to the signs above them, of pairs with known contexts.

    Args:
        digits: int16 [2 n].
        of_pair: unsigned [n], context with its state.
        plane: the tables.
        lanes: of the coder.
    """
    symbols = (digits[::2] * 3 + digits[1::2] + 4).astype(np.uint8)
    return rans.encode_stream(symbols, of_pair, plane.tables, lanes=lanes)


def check(stream: rans.Stream, count: int) -> None:
    """Refuse lanes, states and groups that no encoder leaves for so many pairs.

    Raises:
        TernDamagedError: they are not valid.
    """
    lanes = len(stream.states)
    if not 0 < lanes <= count or int(stream.states.min()) < rans.LOW:
        raise TernDamagedError("the lanes of a plane are not valid", field="layer")
    lane_groups.check(stream.words, stream.group_words, lanes=lanes)


def decode(
    stream: rans.Stream, coarser: Array, bounds: Array, plane: PlaneTables
) -> tuple[Array, Array]:
    """Undo `encode`, and put the digits onto the values above them.

    Args:
        stream: states and words.
        coarser: int16 [2 n], the values above this plane; it may be overwritten.
        bounds: int64 [classes + 1], where every class begins.
        plane: the tables.

    Returns:
        levels of this plane, int16 [2 n], and in the finest one the state before every pair,
        uint8 [n].

    Raises:
        TernDamagedError: no encoder gives this.
    """
    lanes, count = len(stream.states), len(coarser) // 2
    check(stream, count)
    x = stream.states.astype(np.uint32)
    before = np.empty(count if plane.following is not None else 0, np.uint8)
    code = loops.machine_code("planes", symbols=count)
    if code is None:
        source = lane_groups.source(stream.words, stream.group_words)
        levels = _decode_by_rows((x, source), (coarser, bounds), plane, before)
        spent = source.spent
    else:
        spans = lane_groups.Spans(stream.words, stream.group_words, lanes=lanes)
        levels = np.ascontiguousarray(coarser)
        _decode_by(code, (x, spans), (levels, bounds), plane, before)
        spent = spans.spent
    if not spent or (x != rans.LOW).any():
        raise TernDamagedError("a plane does not end where it should", field="layer")
    return levels, before


def _decode_by(
    code: ModuleType,
    lanes: tuple[Array, lane_groups.Spans],
    above: tuple[Array, Array],
    plane: PlaneTables,
    before: Array,
) -> None:
    """Have machine code run all lanes; turn coarser values into levels."""
    (x, spans), (levels, bounds) = lanes, above
    frequencies = plane.tables.frequencies
    of_symbols = np.zeros((len(frequencies), code.BOUNDS), np.uint16)
    np.cumsum(frequencies, axis=1, out=of_symbols[:, 1:], dtype=np.uint16)
    following = _NO_STATES if plane.following is None else plane.following
    symbols, of_pair = np.empty(len(levels) // 2, np.uint8), np.empty(len(levels) // 2, np.uint16)
    states = 1 if plane.following is None else STATES
    code.contexts(levels, bounds // 2, plane.bases, plane.kinds, states, of_pair)
    places = (spans.words, spans.at, spans.lanes)
    code.decode_rows(x, *places, of_pair, of_symbols.reshape(-1), following, symbols, before)
    code.put_digits(levels, symbols)


def _decode_by_rows(
    lanes: tuple[Array, lane_groups.Words],
    above: tuple[Array, Array],
    plane: PlaneTables,
    before: Array,
) -> Array:
    """Run all lanes with NumPy; give the levels."""
    (x, source), (coarser, bounds) = lanes, above
    of_pair = contexts(plane, coarser, bounds)
    symbols = np.empty(len(of_pair), np.uint8)
    if plane.following is None:
        rans.decode_rows(x, source, of_pair, plane.tables, symbols)
    else:
        _decode_rows(x, source, of_pair, plane, (symbols, before))
    digits = np.empty(2 * len(symbols), np.int16)
    _FIRST.take(symbols, out=digits[::2], mode="clip")
    _SECOND.take(symbols, out=digits[1::2], mode="clip")
    np.negative(digits, out=digits, where=coarser < 0)
    return np.asarray(coarser * np.int16(3) + digits)


def _decode_rows(
    states: Array, source: Words, of_pair: Array, plane: PlaneTables, out: tuple[Array, Array]
) -> None:
    """Run all lanes; fill symbols and states before them, leave the final states."""
    tables = plane.tables
    following = plane.following if plane.following is not None else _NO_STATES
    lanes = len(states)
    mask, half = np.uint32(ONE - 1), np.uint32(0xFFFF)
    shift, word, low = np.uint32(BITS), np.uint32(16), np.uint32(rans.LOW)
    context_row, index_row = np.empty(lanes, np.intp), np.empty(lanes, np.intp)
    entry_row, width_row = np.empty(lanes, np.uint32), np.empty(lanes, np.uint32)
    below_row = np.zeros(group_count(lanes) * GROUP_LANES, np.bool_)
    state_row = np.zeros(lanes, np.uint8)
    for begin in range(0, len(of_pair), lanes):
        symbol, before = out[0][begin : begin + lanes], out[1][begin : begin + lanes]
        n = len(symbol)
        x, context, index = states[:n], context_row[:n], index_row[:n]
        entry, width, below, state = entry_row[:n], width_row[:n], below_row[:n], state_row[:n]
        before[:] = state
        context[:] = of_pair[begin : begin + lanes]
        context += state
        np.left_shift(context, BITS, out=index)
        np.bitwise_and(x, mask, out=width)
        index += width
        tables.slots.take(index, out=entry, mode="clip")
        tables.symbols.take(index, out=symbol, mode="clip")
        context *= _SYMBOLS
        context += symbol
        following.take(context, out=state, mode="clip")
        np.right_shift(x, shift, out=x)
        np.bitwise_and(entry, half, out=width)
        np.multiply(x, width, out=x)
        np.right_shift(entry, word, out=entry)
        np.add(x, entry, out=x)
        np.less(x, low, out=below)
        below_row[n:lanes] = False
        empty = below.nonzero()[0]
        if len(empty):
            x[empty] = x.take(empty) << word | source.take(below_row, len(empty))
