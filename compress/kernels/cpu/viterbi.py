"""Search the cheapest walk through the trellis, as `rate_distortion/viterbi.py` says."""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array
from compress.rate_distortion.trellis import FOLLOWING, NEXT, QUANTISER, STATES

#: Row pairs between two times that the totals are brought down, as the reference does.
_NORMALISE_EVERY = 32


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
def _cost(size: float, level: int, quantiser: int, weight: float, rate: float) -> float:
    """Give distortion and rate of a level of a value of this size, in float32."""
    reached = np.float32(2) * np.float32(level)
    if quantiser and level > 0:
        reached -= np.float32(1)
    reached -= size
    reached *= reached
    reached *= weight
    return np.float32(reached + rate)


@njit(cache=True, nogil=True)
def _branch(
    size: float, most: int, quantiser: int, rates: Array, offset: int, weight: float
) -> tuple[int, float, int, float]:
    """Give level and cost of even parity, then of odd, for one quantiser."""
    below = np.int64(min((size + np.float32(quantiser)) * np.float32(0.5), np.float32(most)))
    zero = _cost(size, 0, 0, weight, rates[offset])
    low = _cost(size, below, quantiser, weight, rates[np.uintp(offset + below)])
    high = _cost(size, below + 1, quantiser, weight, rates[np.uintp(offset + below + 1)])
    if below & 1:
        even, even_cost, odd, odd_cost = below + 1, high, below, low
    else:
        even, even_cost, odd, odd_cost = below, low, below + 1, high
    if zero < even_cost:
        return 0, zero, odd, odd_cost
    return even, even_cost, odd, odd_cost


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
        largest: int64 [classes], the largest magnitude of a class.
        weights: float32 [n], how much squared errors count, or empty.
        lanes: walks side by side.
        out: int16 [n], filled with levels.
    """
    count = targets.size
    per_class = rates.shape[2]
    flat = rates.reshape(2, -1)
    totals = np.full((lanes, STATES), np.float32(1e30))
    totals[:, 0] = np.float32(0)
    choices = np.zeros(count, np.uint8)
    costs = np.empty(4, np.float32)
    fresh = np.empty(STATES, np.float32)
    one = np.float32(1)
    for row, begin in enumerate(range(0, count, 2 * lanes)):
        for lane in range(min(lanes, (count - begin) // 2)):
            total = totals[lane]
            for column in range(2):
                at = begin + 2 * lane + column
                size, kind = np.float32(abs(targets[at])), np.int64(classes[at])
                weight = weights[at] if weights.size else one
                for quantiser in range(2):
                    _, even, _, odd = _branch(
                        size,
                        largest[kind] - 1,
                        quantiser,
                        flat[quantiser],
                        kind * per_class,
                        weight,
                    )
                    costs[2 * quantiser], costs[2 * quantiser + 1] = even, odd
                chosen = 0
                for state in range(STATES):
                    left = np.float32(total[_BEFORE[state, 0]] + costs[_ROWS[state, 0]])
                    right = np.float32(total[_BEFORE[state, 1]] + costs[_ROWS[state, 1]])
                    second = right < left
                    fresh[state] = right if second else left
                    chosen |= np.int64(second) << state
                choices[at] = chosen
                total[:] = fresh
                if column == 0 and row % _NORMALISE_EVERY == 0:
                    total -= total.min()
        if row % _NORMALISE_EVERY == 0:
            for lane in range((count - begin) // 2, lanes):
                totals[lane] -= totals[lane].min()
    _trace(targets, classes, flat, largest, weights, totals, choices, out)


@njit(cache=True, nogil=True)
def _trace(
    targets: Array,
    classes: Array,
    flat: Array,
    largest: Array,
    weights: Array,
    totals: Array,
    choices: Array,
    out: Array,
) -> None:
    """Walk back from the cheapest last states and write the levels."""
    lanes, count = totals.shape[0], targets.size
    per_class = flat.shape[1] // largest.size
    ends = np.empty(lanes, np.int64)
    for lane in range(lanes):
        ends[lane] = totals[lane].argmin()
    for begin in range((count - 1) // (2 * lanes) * 2 * lanes, -1, -2 * lanes):
        for lane in range(min(lanes, (count - begin) // 2)):
            for column in range(1, -1, -1):
                at = begin + 2 * lane + column
                state = ends[lane]
                side = np.int64(choices[at]) >> state & 1
                row = _ROWS[state, side]
                ends[lane] = _BEFORE[state, side]
                kind = np.int64(classes[at])
                even, _, odd, _ = _branch(
                    np.float32(abs(targets[at])),
                    largest[kind] - 1,
                    row >> 1,
                    flat[row >> 1],
                    kind * per_class,
                    weights[at] if weights.size else np.float32(1),
                )
                level = odd if row & 1 else even
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
