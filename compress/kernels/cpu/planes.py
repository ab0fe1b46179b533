"""Decode a plane of digits onto the values above it, as `rate_distortion/pairs.py` says.

Three loops, so that the first and the last become wide instructions: contexts from coarser values;
the entropy decoder, which finds both digits of a pair by four comparisons instead of tables of
4096 slots for hundreds of contexts; and levels from coarser values and digits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array
from compress.rans import LOW
from compress.rate_distortion.models import BITS, ONE
from compress.rate_distortion.trellis import FOLLOWING

#: Bounds of the nine symbols of a context, 0 and 4096 among them.
BOUNDS = 10
_SYMBOLS = BOUNDS - 1
_LOW, _MASK, _SHIFT = np.uint32(LOW), np.uint32(ONE - 1), np.uint32(BITS)
_WORD_BITS = np.uint32(16)
_1, _2, _3, _6, _9 = (np.uintp(n) for n in (1, 2, 3, 6, 9))


@njit(cache=True, nogil=True)
def contexts(
    levels: Array, pair_bounds: Array, bases: Array, kinds: Array, states: int, out: Array
) -> None:
    """Give the context of every pair, for state 0.

    Args:
        levels: int16 [2 pairs], the coarser values.
        pair_bounds: int64 [classes + 1], where every class begins, in pairs.
        bases: int64 [classes], the first context of every class.
        kinds: int64 [classes], how many kinds of coarser values it tells apart: 1 to 3.
        states: contexts to a kind.
        out: uint16 [pairs], filled.
    """
    for number in range(bases.size):
        base, count = np.int32(bases[number]), kinds[number]
        first, last = pair_bounds[number], pair_bounds[number + 1]
        row, above = out[first:last], levels[2 * first : 2 * last]
        if count == 1:
            for pair in range(row.size):
                row[pair] = base
            continue
        even = np.int32(count == 3)
        one_step, step = np.int32(count * states), np.int32(states)
        for pair in range(last - first):
            one, two = np.int32(above[2 * pair]), np.int32(above[2 * pair + 1])
            kind_one = np.int32(one != 0) + (np.int32(one != 0) & ~one & even)
            kind_two = np.int32(two != 0) + (np.int32(two != 0) & ~two & even)
            row[pair] = base + kind_one * one_step + kind_two * step


@njit(cache=True, nogil=True)
def decode_rows(
    states: Array,
    words: Array,
    at: Array,
    group_lanes: int,
    of_pair: Array,
    bounds: Array,
    following: Array,
    symbols: Array,
    before: Array,
) -> None:
    """Run all lanes; fill symbols, leave the final states and where every group's words end.

    Args:
        states: uint32 [lanes], changed in place.
        words: uint16, and as many more as a group has lanes; who takes more than there are ends.
        at: int64 [groups], where every group's words begin, changed in place.
        group_lanes: how many lanes share words.
        of_pair: uint16 [pairs], contexts for state 0.
        bounds: uint16 [contexts * 10], of `BOUNDS`.
        following: uint8 [contexts * 9], the state of the trellis after every symbol; empty but in
            the finest plane.
        symbols: uint8 [pairs], filled.
        before: uint8 [pairs], there the state before every pair; empty in other planes.
    """
    lanes, count, finest = states.size, of_pair.size, following.size > 0
    walks = np.zeros(lanes, np.uint8)
    for begin in range(0, count, lanes):
        here = min(lanes, count - begin)
        for group in range(-(-here // group_lanes)):
            first = group * group_lanes
            last = min(first + group_lanes, here)
            x_row, walk_row = states[first:last], walks[first:last]
            context_row = of_pair[begin + first : begin + last]
            symbol_row = symbols[begin + first : begin + last]
            before_row = before[begin + first : begin + last]
            position = np.uintp(at[group])
            if position + np.uintp(last - first) > np.uintp(words.size):
                return
            for lane in range(last - first):
                x = np.uint32(x_row[lane])
                context = np.uintp(context_row[lane])
                if finest:
                    before_row[lane] = walk_row[lane]
                    context += np.uintp(walk_row[lane])
                slot = np.uint32(x & _MASK)
                bound = context * np.uintp(BOUNDS)
                digit = np.uintp(slot >= bounds[bound + _3]) + np.uintp(slot >= bounds[bound + _6])
                bound += _3 * digit
                other = np.uintp(slot >= bounds[bound + _1]) + np.uintp(slot >= bounds[bound + _2])
                bound += other
                symbol = _3 * digit + other
                symbol_row[lane] = symbol
                if finest:
                    walk_row[lane] = following[_9 * context + symbol]
                low = np.uint32(bounds[bound])
                width = np.uint32(np.uint32(bounds[bound + _1]) - low)
                x = np.uint32(np.uint32(np.uint32(x >> _SHIFT) * width) + np.uint32(slot - low))
                empty = x < _LOW
                word = np.uint32(words[position])
                x_row[lane] = np.uint32(x << _WORD_BITS) | word if empty else x
                position += np.uintp(empty)
            at[group] = position


@njit(cache=True, nogil=True)
def put_digits(levels: Array, symbols: Array) -> None:
    """Turn coarser values into levels of this plane: 3 · coarser + digit, relative to its sign.

    Args:
        levels: int16 [2 pairs], changed in place.
        symbols: uint8 [pairs], both digits.
    """
    for pair in range(symbols.size):
        symbol = np.int16(symbols[pair])
        digit = np.int16(symbol * np.int16(11)) >> np.int16(5)
        other = symbol - np.int16(3) * digit - np.int16(1)
        digit -= np.int16(1)
        one, two = levels[2 * pair], levels[2 * pair + 1]
        turn_one, turn_two = one >> np.int16(15), two >> np.int16(15)
        levels[2 * pair] = np.int16(3) * one + ((digit ^ turn_one) - turn_one)
        levels[2 * pair + 1] = np.int16(3) * two + ((other ^ turn_two) - turn_two)


@njit(cache=True, nogil=True)
def values(levels: Array, before: Array, out: Array) -> None:
    """Give what levels stand for, in steps.

    Args:
        levels: int16 [2 pairs].
        before: uint8 [pairs], the state of the trellis before every pair.
        out: float32 [2 pairs], filled.
    """
    for pair in range(before.size):
        one, two = np.int32(levels[2 * pair]), np.int32(levels[2 * pair + 1])
        state = np.int32(before[pair])
        between = np.int32(FOLLOWING[np.uintp(2 * state + (one & 1))])
        sign_one = (one >> 31) | np.int32(one != 0)
        sign_two = (two >> 31) | np.int32(two != 0)
        out[2 * pair] = np.float32(2 * one - sign_one * (state & 1))
        out[2 * pair + 1] = np.float32(2 * two - sign_two * (between & 1))


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    levels, pairs, steps = np.zeros(2, np.int16), np.zeros(1, np.uint8), np.zeros(2, np.float32)
    numbers, of_pair = np.zeros(2, np.int64), np.zeros(1, np.uint16)
    contexts(levels, np.array([0, 1]), numbers[:1], np.ones(1, np.int64), 1, of_pair)
    bounds, states = np.arange(BOUNDS, dtype=np.uint16), np.full(1, LOW, np.uint32)
    following = np.zeros(_SYMBOLS, np.uint8)
    words, lanes = np.zeros(2, np.uint16), numbers[:1]
    decode_rows(states, words, lanes, 1, of_pair, bounds, following, pairs, pairs.copy())
    put_digits(levels, pairs)
    values(levels, pairs, steps)
