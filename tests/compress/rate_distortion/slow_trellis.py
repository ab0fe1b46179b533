"""Walk through the trellis one level at a time, and find the cheapest walk by trying them all.

Written from the definition: two quantisers, of which quantiser 0 reproduces even numbers and
quantiser 1 zero and odd numbers, and a machine of eight states, each with its two successors by
the parity of the level. The machine is given as a drawing of pairs, not as the project's array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

#: state: (after an even level, after an odd level).
MACHINE = {
    0: (0, 1),
    1: (2, 3),
    2: (5, 4),
    3: (7, 6),
    4: (1, 0),
    5: (3, 2),
    6: (4, 5),
    7: (6, 7),
}


def reproduce(level: int, state: int) -> int:
    """Give what a level stands for in a state, in steps."""
    if level == 0 or state % 2 == 0:
        return 2 * level
    return 2 * level - 1 if level > 0 else 2 * level + 1


def lane_of(position: int, lanes: int) -> int:
    """Give the lane of a position: pairs are dealt to the lanes in turn."""
    return position // 2 % lanes


def walk(levels: Sequence[int], lanes: int) -> list[int]:
    """Give the state before every level."""
    now = [0] * lanes
    states = []
    for position, level in enumerate(levels):
        lane = lane_of(position, lanes)
        states.append(now[lane])
        now[lane] = MACHINE[now[lane]][level % 2]
    return states


def cost(
    levels: Sequence[int],
    targets: Sequence[float],
    lanes: int,
    bits: Callable[[int, int, int], float],
    weights: Sequence[float],
) -> float:
    """Sum weighted squared errors and what the levels take.

    Args:
        levels: what was chosen.
        targets: what was to be described.
        lanes: walks side by side.
        bits: by position, quantiser and magnitude, what a level takes, in squared steps.
        weights: of the squared errors.
    """
    states = walk(levels, lanes)
    total = 0.0
    for position, (level, state, target) in enumerate(zip(levels, states, targets, strict=True)):
        gap = reproduce(level, state) - target
        total += weights[position] * gap * gap + bits(position, state % 2, abs(level))
    return total


def all_levels(count: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Give every sequence of so many levels."""
    return product(range(-largest, largest + 1), repeat=count)
