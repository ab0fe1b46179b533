"""Search the walk through the trellis that costs least: distortion plus price times bits."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from compress import loops
from compress.dtypes import Array
from compress.rate_distortion.trellis import NEXT, QUANTISER, STATES

_NORMALISE_EVERY = 64


@dataclass(frozen=True, slots=True)
class Price:
    """Hold what a level costs.

    Attributes:
        bits: float32 [classes, 2, levels]: bits of a level of this magnitude under a quantiser, its
            sign included.
        per_bit: what one bit is worth, in squared steps.
        largest: int16 [classes], the largest magnitude of a class; what is beyond saturates.
    """

    bits: Array
    per_bit: float
    largest: Array


@dataclass(frozen=True, slots=True)
class _Branches:
    """Hold, for both quantisers and both parities, the best level and its cost.

    Attributes:
        levels: int16 [4, n], magnitudes; row 2·quantiser + parity.
        costs: float32 [4, n].
    """

    levels: Array
    costs: Array


def search(
    targets: Array, classes: Array, price: Price, *, lanes: int, weights: Array | None = None
) -> Array:
    """Choose the levels of values in steps.

    Args:
        targets: float32 [n], n even, what is to be described, in steps.
        classes: uint8 [n], the row of `price.bits` of every value.
        price: what levels cost.
        lanes: walks side by side, as in `trellis.walk`.
        weights: float32 [n], how much the squared error of every value counts; None means 1.

    Returns:
        int16 [n] levels.
    """
    code = loops.machine_code("viterbi", symbols=len(targets))
    if code is not None:
        return _search_by(code, targets, classes, price, (lanes, weights))
    branches = _branches(targets, classes, price, weights)
    order = _lane_order(len(targets) // 2, lanes)
    choices, last = _forward(branches.costs, order, lanes=lanes)
    picked = _backward(choices, last, order, count=len(targets))
    magnitudes = branches.levels[picked, np.arange(len(targets))]
    return np.where(targets < 0, -magnitudes, magnitudes).astype(np.int16)


def _search_by(
    code: ModuleType,
    targets: Array,
    classes: Array,
    price: Price,
    how: tuple[int, Array | None],
) -> Array:
    """Have machine code choose the same levels."""
    lanes, weights = how
    rates = np.ascontiguousarray((price.bits * np.float32(price.per_bit)).swapaxes(0, 1))
    counted = np.empty(0, np.float32) if weights is None else weights
    levels = np.empty(len(targets), np.int16)
    largest = price.largest.astype(np.float32)
    code.search(targets, classes, rates, largest, counted, lanes, levels)
    return levels


def _branches(targets: Array, classes: Array, price: Price, weights: Array | None) -> _Branches:
    """For each quantiser take the two levels around a value, one of either parity, or zero."""
    sizes = np.abs(targets)
    most = price.largest.take(classes) - np.int16(1)
    levels = np.empty((4, len(sizes)), np.int16)
    costs = np.empty((4, len(sizes)), np.float32)
    for quantiser in (0, 1):
        below = np.minimum((sizes + quantiser) * np.float32(0.5), most).astype(np.int16)
        table = price.bits[:, quantiser]
        flat = (table * np.float32(price.per_bit)).reshape(-1)
        offset = classes.astype(np.int32) * table.shape[1]
        rates = _Rates(flat, offset, weights)
        zero = _cost(sizes, np.zeros_like(below), 0, rates)
        pair = [_cost(sizes, below + up, quantiser, rates) for up in (0, 1)]
        odd = (below & 1).astype(bool)
        even_cost = np.where(odd, pair[1], pair[0])
        even_level = below + odd
        row = 2 * quantiser
        to_zero = zero < even_cost
        costs[row] = np.where(to_zero, zero, even_cost)
        levels[row] = np.where(to_zero, 0, even_level)
        costs[row + 1] = np.where(odd, pair[0], pair[1])
        levels[row + 1] = below + ~odd
    return _Branches(levels, costs)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Hold what bits cost: flat table, every value's place in it, and the weights of errors."""

    table: Array
    offset: Array
    weights: Array | None


def _cost(sizes: Array, levels: Array, quantiser: int, rates: _Rates) -> Array:
    reached = 2 * levels.astype(np.float32)
    if quantiser:
        reached -= levels > 0
    reached -= sizes
    reached *= reached
    if rates.weights is not None:
        reached *= rates.weights
    reached += rates.table.take(rates.offset + levels)
    return reached


def _lane_order(pairs: int, lanes: int) -> Array:
    """Give the position of every lane's values in order of its walk: int64 [steps, lanes]."""
    rows = -(-pairs // lanes)
    index = np.arange(rows * lanes * 2).reshape(rows, lanes, 2)
    return index.transpose(0, 2, 1).reshape(rows * 2, lanes)


def _forward(costs: Array, order: Array, *, lanes: int) -> tuple[Array, Array]:
    """Run all walks.

    Returns:
        which of two predecessors was cheaper, bool [steps, 8, lanes], and the cheapest last state
        of every lane.
    """
    (first, first_row), (second, second_row) = _predecessors()
    total = np.full((STATES, lanes), np.float32(1e30))
    total[0] = 0
    choices = np.zeros((len(order), STATES, lanes), np.bool_)
    one, two = np.empty_like(total), np.empty_like(total)
    for step, at in enumerate(order):
        here = _filled(at, costs.shape[1])
        branch = costs.take(at[:here], axis=1)
        left, right = one[:, :here], two[:, :here]
        np.add(total[first, :here], branch[first_row], out=left)
        np.add(total[second, :here], branch[second_row], out=right)
        np.less(right, left, out=choices[step, :, :here])
        np.minimum(left, right, out=total[:, :here])
        if step % _NORMALISE_EVERY == 0:
            total -= total.min(axis=0)
    return choices, total.argmin(axis=0)


def _backward(choices: Array, states: Array, order: Array, *, count: int) -> Array:
    """Walk back from the last states; give the row of `_Branches` of every value: int64 [count]."""
    (first, first_row), (second, second_row) = _predecessors()
    before = np.stack([first, second], axis=1).reshape(-1)
    rows = np.stack([first_row, second_row], axis=1).reshape(-1)
    picked = np.empty(count, np.intp)
    lane = np.arange(choices.shape[2])
    for step in range(len(order) - 1, -1, -1):
        here = _filled(order[step], count)
        state = states[:here]
        which = 2 * state + choices[step, state, lane[:here]]
        picked[order[step, :here]] = rows.take(which)
        states[:here] = before.take(which)
    return picked


def _filled(positions: Array, count: int) -> int:
    """Count the lanes that still have a value in this step: the first ones."""
    return len(positions) if positions[-1] < count else int(np.searchsorted(positions, count))


def _predecessors() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Give, for every state, its two predecessors and the row of branches that leads from each."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(STATES)]
    for state in range(STATES):
        for parity in (0, 1):
            row = 2 * int(QUANTISER[state]) + parity
            found[int(NEXT[state, parity])].append((state, row))
    sides = [np.array([pair[side] for pair in found]).T for side in (0, 1)]
    return (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1])
