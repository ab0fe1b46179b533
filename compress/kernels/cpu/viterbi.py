"""Search the cheapest walk through the trellis, as `rate_distortion/viterbi.py` says.

Lanes are walked in blocks, small enough for the nearest cache, and every step takes a whole block:
its loops have no branches, so that they become wide instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array
from compress.rate_distortion.trellis import FOLLOWING, NEXT, QUANTISER, STATES

#: Rows of pairs between two times that totals are brought down, as the reference does.
_NORMALISE_EVERY = 32
_BLOCK = 256
_HALF, _1, _2 = np.float32(0.5), np.float32(1), np.float32(2)


def _predecessors() -> tuple[Array, Array]:
    """Give every state's two predecessors and the rows of branches that lead from them."""
    states, rows = np.zeros((STATES, 2), np.int64), np.zeros((STATES, 2), np.int64)
    filled = [0] * STATES
    for state in range(STATES):
        for parity in (0, 1):
            after = int(NEXT[state, parity])
            states[after, filled[after]] = state
            rows[after, filled[after]] = 2 * int(QUANTISER[state]) + parity
            filled[after] += 1
    return states, rows


_BEFORE, _ROWS = _predecessors()


@njit(cache=True, nogil=True)
def search(
    targets: Array,
    classes: Array,
    rates: Array,
    largest: Array,
    weights: Array,
    lanes: int,
    out: Array,
) -> None:
    """Choose the levels of values in steps.

    Args:
        targets: float32 [n], n even.
        classes: uint8 [n].
        rates: float32 [2, classes, levels], what levels cost by quantiser.
        largest: float32 [classes], the largest magnitude of a class.
        weights: float32 [n], how much squared errors count, or empty.
        lanes: walks side by side.
        out: int16 [n], filled with levels.
    """
    rows = -(-targets.size // (2 * lanes))
    width = min(lanes, _BLOCK)
    choices = np.empty((rows, 2, width), np.uint8)
    for first in range(0, lanes, width):
        totals = np.empty((STATES, min(width, lanes - first)), np.float32)
        _forward(targets, classes, rates, largest, weights, lanes, first, totals, choices)
        _backward(targets, classes, rates, largest, weights, lanes, first, totals, choices, out)


@njit(cache=True, nogil=True)
def _forward(
    targets: Array,
    classes: Array,
    rates: Array,
    largest: Array,
    weights: Array,
    lanes: int,
    first: int,
    totals: Array,
    choices: Array,
) -> None:
    """Run the walks of a block; leave the totals of all states and which predecessor was cheaper.

    Args:
        targets: float32 [n]; so are classes, rates, largest and weights as in `search`.
        classes: uint8 [n].
        rates: float32 [2, classes, levels].
        largest: float32 [classes].
        weights: float32 [n] or empty.
        lanes: of all blocks.
        first: lane of the block.
        totals: float32 [8, block].
        choices: uint8 [rows, 2, at least block], a bit for every state.
    """
    width = totals.shape[1]
    costs, fresh = np.empty((4, width), np.float32), np.empty((STATES, width), np.float32)
    sizes, counted = np.empty(width, np.float32), np.ones(width, np.float32)
    picked, below = np.empty(width, np.int32), np.empty(width, np.int32)
    paid = np.empty((2, width), np.float32)
    for state in range(STATES):
        for lane in range(width):
            totals[state, lane] = np.float32(1e30) if state else np.float32(0)
    for row in range(choices.shape[0]):
        begin = 2 * (row * lanes + first)
        here = max(0, min(width, (targets.size - begin) // 2))
        for column in range(2):
            for lane in range(here):
                sizes[lane] = abs(targets[begin + column + 2 * lane])
            if weights.size:
                for lane in range(here):
                    counted[lane] = weights[begin + column + 2 * lane]
            start = 0
            while start < here:
                kind = np.int64(classes[begin + column + 2 * start])
                stop = start + 1
                while stop < here and classes[begin + column + 2 * stop] == kind:
                    stop += 1
                for quantiser in range(2):
                    _branches(
                        sizes[start:stop],
                        counted[start:stop],
                        rates[quantiser, kind],
                        np.float32(largest[kind] - _1),
                        np.float32(quantiser),
                        costs[2 * quantiser, start:stop],
                        costs[2 * quantiser + 1, start:stop],
                        below,
                        paid,
                    )
                start = stop
            _step(totals, costs, fresh, picked, choices[row, column], here)
            if column == 0 and row % _NORMALISE_EVERY == 0:
                _bring_down(totals)


@njit(cache=True, nogil=True)
def _bring_down(totals: Array) -> None:
    """Take from the totals of every lane, float32 [8, block], the least of them."""
    for lane in range(totals.shape[1]):
        least = totals[0, lane]
        for state in range(1, STATES):
            least = min(least, totals[state, lane])
        for state in range(STATES):
            totals[state, lane] -= least


@njit(cache=True, nogil=True)
def _branches(
    sizes: Array,
    weights: Array,
    rates: Array,
    most: float,
    lift: float,
    even_costs: Array,
    odd_costs: Array,
    below: Array,
    paid: Array,
) -> None:
    """Give what the best level of even parity, or zero, costs, and the best of odd parity.

    Args:
        sizes: float32 [n], magnitudes of values of one class.
        weights: float32 [n], how much their squared errors count.
        rates: float32 [levels], of that class under the quantiser.
        most: the largest level below a value.
        lift: 0 or 1, the quantiser.
        even_costs: float32 [n], filled.
        odd_costs: float32 [n], filled.
        below: int32 [at least n], overwritten.
        paid: float32 [2, at least n], overwritten.
    """
    low_rates, high_rates, nothing = paid[0], paid[1], rates[0]
    for at in range(sizes.size):
        half = np.float32(sizes[at] + lift) * _HALF
        below[at] = np.int32(half if half < most else most)  # noqa: FURB136  # NaN becomes the most
    for at in range(sizes.size):
        level = np.uintp(below[at])
        low_rates[at], high_rates[at] = rates[level], rates[level + np.uintp(1)]
    for at in range(sizes.size):
        size, weight, level = sizes[at], weights[at], below[at]
        low = np.float32(_2 * np.float32(level) - lift * np.float32(level > 0)) - size
        high = np.float32(_2 * np.float32(level + 1) - lift) - size
        zero_cost = np.float32(np.float32(size * size) * weight) + nothing
        low_cost = np.float32(np.float32(low * low) * weight) + low_rates[at]
        high_cost = np.float32(np.float32(high * high) * weight) + high_rates[at]
        odd = (level & 1) != 0
        even = high_cost if odd else low_cost
        even_costs[at] = min(even, zero_cost)
        odd_costs[at] = low_cost if odd else high_cost


@njit(cache=True, nogil=True)
def _step(
    totals: Array, costs: Array, fresh: Array, picked: Array, choices: Array, here: int
) -> None:
    """Take one step of the first lanes of a block.

    Args:
        totals: float32 [8, block], changed in place.
        costs: float32 [4, block].
        fresh: float32 [8, block], overwritten.
        picked: int32 [block], overwritten.
        choices: uint8 [at least here], filled.
        here: how many lanes.
    """
    for lane in range(here):
        picked[lane] = 0
    for state in range(STATES):
        one, two = totals[_BEFORE[state, 0]], totals[_BEFORE[state, 1]]
        to_one, to_two = costs[_ROWS[state, 0]], costs[_ROWS[state, 1]]
        best, bit = fresh[state], np.int32(1 << state)
        for lane in range(here):
            left, right = one[lane] + to_one[lane], two[lane] + to_two[lane]
            second = right < left
            best[lane] = right if second else left
            picked[lane] |= bit if second else np.int32(0)
    for state in range(STATES):
        total, best = totals[state], fresh[state]
        for lane in range(here):
            total[lane] = best[lane]
    for lane in range(here):
        choices[lane] = picked[lane]


@njit(cache=True, nogil=True)
def _backward(
    targets: Array,
    classes: Array,
    rates: Array,
    largest: Array,
    weights: Array,
    lanes: int,
    first: int,
    totals: Array,
    choices: Array,
    out: Array,
) -> None:
    """Walk back from the cheapest last states of a block and write the levels.

    Args:
        targets: float32 [n]; so are classes, rates, largest and weights as in `search`.
        classes: uint8 [n].
        rates: float32 [2, classes, levels].
        largest: float32 [classes].
        weights: float32 [n] or empty.
        lanes: of all blocks.
        first: lane of the block.
        totals: float32 [8, block].
        choices: uint8 [rows, 2, at least block].
        out: int16 [n], filled where the block's values are.
    """
    width = totals.shape[1]
    flat, per_class = rates.reshape(-1), np.int32(rates.shape[2])
    quantiser_size = np.int32(rates.shape[1] * rates.shape[2])
    before, rows = _BEFORE.reshape(-1), _ROWS.reshape(-1)
    weighted = weights.size > 0
    ends = np.empty(width, np.int64)
    for lane in range(width):
        ends[lane] = 0
        for state in range(1, STATES):
            if totals[state, lane] < totals[ends[lane], lane]:
                ends[lane] = state
    for row in range(choices.shape[0] - 1, -1, -1):
        begin = 2 * (row * lanes + first)
        for column in range(1, -1, -1):
            chosen = choices[row, column]
            for lane in range(min(width, (targets.size - begin) // 2)):
                at = begin + 2 * lane + column
                state = ends[lane]
                which = np.uintp(2 * state + (np.int64(chosen[lane]) >> state & 1))
                branch = np.int32(rows[which])
                ends[lane] = before[which]
                parity, quantiser = branch & 1, branch >> 1
                size, kind = np.float32(abs(targets[at])), np.int32(classes[at])
                lift = np.float32(quantiser)
                half = np.float32(size + lift) * _HALF
                most = np.float32(largest[kind] - _1)
                below = np.int32(half if half < most else most)  # noqa: FURB136  # as above
                level = below + ((below ^ parity) & 1)
                offset = quantiser * quantiser_size + kind * per_class
                weight = weights[at] if weighted else _1
                gap = np.float32(_2 * np.float32(level) - lift * np.float32(level > 0)) - size
                cost = np.float32(gap * gap * weight) + flat[np.uintp(offset + level)]
                zero = np.float32(size * size * weight) + flat[np.uintp(offset)]
                level = np.int32(0) if (zero < cost) & (parity == 0) else level
                out[at] = -level if targets[at] < 0 else level


@njit(cache=True, nogil=True)
def walk(levels: Array, lanes: int, out: Array) -> None:
    """Find the state in which every level was chosen.

    Args:
        levels: int16 [2 pairs].
        lanes: walks side by side, each from state 0.
        out: uint8 [2 pairs], filled.
    """
    states = np.zeros(lanes, np.uint8)
    for begin in range(0, levels.size, 2 * lanes):
        for lane in range(min(lanes, (levels.size - begin) // 2)):
            at = begin + 2 * lane
            state = np.int64(states[lane])
            out[at] = state
            state = np.int64(FOLLOWING[np.uintp(2 * state + (np.int64(levels[at]) & 1))])
            out[at + 1] = state
            states[lane] = FOLLOWING[np.uintp(2 * state + (np.int64(levels[at + 1]) & 1))]


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    targets, classes = np.zeros(2, np.float32), np.zeros(2, np.uint8)
    rates, largest = np.ones((2, 1, 2), np.float32), np.ones(1, np.float32)
    levels = np.zeros(2, np.int16)
    search(targets, classes, rates, largest, targets[:0], 1, levels)
    walk(levels, 1, np.zeros(2, np.uint8))
