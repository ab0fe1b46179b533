"""Code and decode rows of lanes, as `compress/rans.py` says, one symbol after another."""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array
from compress.rans import LOW

_LOW, _WORD, _WORD_BITS = np.uint32(LOW), np.uint32(0xFFFF), np.uint32(16)


@njit(cache=True, nogil=True)
def encode_rows(
    states: Array,
    index: Array,
    widths: Array,
    starts: Array,
    bits: int,
    words: Array,
    takers: Array,
) -> int:
    """Run all lanes from the last symbol to the first; leave their final states.

    Args:
        states: uint32 [lanes], changed in place.
        index: unsigned [n], every symbol's place in the flat tables.
        widths: uint32 [contexts * symbols].
        starts: uint32 [contexts * symbols].
        bits: widths of a context sum to 2^bits.
        words: uint16 [n], filled from its end.
        takers: uint16 [n], the lane that takes each word, likewise.

    Returns:
        where the words begin, or −1 where a symbol has no width.
    """
    lanes, count = states.size, index.size
    at = words.size
    top, shift = np.uint32(32 - bits), np.uint32(bits)
    for begin in range((count - 1) // lanes * lanes, -1, -lanes):
        row = index[begin : begin + lanes]
        for lane in range(row.size - 1, -1, -1):
            place = np.uintp(row[lane])
            width = np.uint32(widths[place])
            if width == 0:
                return -1
            x = np.uint32(states[lane])
            if np.uint32(x >> top) >= width:
                at -= 1
                words[at] = x & _WORD
                takers[at] = lane
                x = np.uint32(x >> _WORD_BITS)
            quotient = np.uint32(x // width)
            rest = np.uint32(x - np.uint32(quotient * width))
            states[lane] = np.uint32(quotient << shift) + rest + np.uint32(starts[place])
    return at


@njit(cache=True, nogil=True)
def decode_rows(
    states: Array,
    words: Array,
    at: Array,
    group_lanes: int,
    contexts: Array,
    slots: Array,
    symbols: Array,
    bits: int,
    out: Array,
) -> None:
    """Run all lanes; fill symbols, leave the final states and where every group's words end.

    Args:
        states: uint32 [lanes], changed in place.
        words: uint16, and as many more as a group has lanes; who takes more than there are ends.
        at: int64 [groups], where every group's words begin, changed in place.
        group_lanes: how many lanes share words.
        contexts: unsigned [count].
        slots: uint32 [contexts << bits], of `rans.Tables`.
        symbols: uint8 [contexts << bits].
        bits: of the tables.
        out: uint8 [count].
    """
    lanes, count = states.size, out.size
    mask, shift, wide = np.uint32((1 << bits) - 1), np.uint32(bits), np.uintp(bits)
    for begin in range(0, count, lanes):
        here = min(lanes, count - begin)
        for group in range(-(-here // group_lanes)):
            first = group * group_lanes
            last = min(first + group_lanes, here)
            x_row, symbol_row = states[first:last], out[begin + first : begin + last]
            context_row = contexts[begin + first : begin + last]
            position = np.uintp(at[group])
            if position + np.uintp(last - first) > np.uintp(words.size):
                return
            for lane in range(last - first):
                x = np.uint32(x_row[lane])
                slot = np.uintp(context_row[lane]) << wide | np.uintp(x & mask)
                entry = np.uint32(slots[slot])
                symbol_row[lane] = symbols[slot]
                width, place = np.uint32(entry & _WORD), np.uint32(entry >> _WORD_BITS)
                x = np.uint32(np.uint32(np.uint32(x >> shift) * width) + place)
                empty = x < _LOW
                word = np.uint32(words[position])
                x_row[lane] = np.uint32(x << _WORD_BITS) | word if empty else x
                position += np.uintp(empty)
            at[group] = position


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    states, places = np.full(1, LOW, np.uint32), np.zeros(1, np.int64)
    words, symbols = np.zeros(2, np.uint16), np.zeros(1, np.uint8)
    widths, starts = np.full(1, 1 << 4, np.uint32), np.zeros(1, np.uint32)
    for index in (symbols, np.zeros(1, np.uint32)):
        encode_rows(states, index, widths, starts, 4, words, words.copy())
    slots, of_slots = np.full(1 << 4, 1 << 4, np.uint32), np.zeros(1 << 4, np.uint8)
    for contexts in (symbols, np.zeros(1, np.uint16)):
        decode_rows(states, words, places, 1, contexts, slots, of_slots, 4, symbols)
