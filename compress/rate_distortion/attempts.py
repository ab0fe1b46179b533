"""Keep attempts at what is asked for: the best, and between which prices a better one lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from compress.rate_distortion.encoder import Options, Segment

#: How far below what is asked for is close enough, as a logarithm; more with every attempt.
_CLOSE = 0.004
#: What a slope may be against the usual one.
_FLATTEST, _STEEPEST = 0.15, 2.0
#: Logarithms of prices that hardly differ, and of sizes or errors that do.
_SAME_PRICE, _JUMP = 0.12, 0.02


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold an adapter as one step describes it.

    Attributes:
        options: the step and what goes with it.
        segments: what came out.
        size_bytes: of the compressed part, names and all.
        errors: estimated relative error by module.
        error: estimated relative error over all modules.
    """

    options: Options
    segments: tuple[Segment, ...]
    size_bytes: int
    errors: tuple[float, ...]
    error: float


#: Logarithm of a price, excess there, and the attempt.
_Point = tuple[float, float, Attempt]


@dataclass(frozen=True, slots=True)
class Goal:
    """Say what is wanted of an attempt.

    Attributes:
        excess: what it is more than asked for, as a logarithm; not above zero will do.
        cost: what is to be small among attempts that will do.
        slope: about how much the logarithm of the price of a bit moves the excess.
    """

    excess: Callable[[Attempt], float]
    cost: Callable[[Attempt], float]
    slope: float


class Tried:
    """Remember attempts at prices, choose the next price, and keep the best attempt."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self._points: list[tuple[float, float, Attempt]] = []
        self._best: tuple[bool, float, Attempt] | None = None
        self._nearest = math.inf
        self._last = (0.0, 0.0)

    @property
    def best(self) -> Attempt:
        """Give the cheapest attempt that will do, or the one that is nearest to it."""
        if self._best is None:
            raise ValueError("nothing was tried")
        return self._best[2]

    def add(self, at: float, attempt: Attempt) -> None:
        """Add an attempt at the logarithm of a price."""
        self._last = (at, self.consider(attempt))
        self._points.append((*self._last, attempt))
        self._points.sort(key=lambda point: point[0] * self.goal.slope)

    def consider(self, attempt: Attempt) -> float:
        """Keep an attempt if it is the best so far; give its excess."""
        excess = self.goal.excess(attempt)
        will_do = excess <= 0
        key = (not will_do, self.goal.cost(attempt) if will_do else excess)
        if self._best is None or key < self._best[:2]:
            self._best = (*key, attempt)
        if will_do:
            self._nearest = min(self._nearest, -excess)
        return excess

    def close_enough(self, done: int) -> bool:
        """Say whether one that will do is just below zero; after more attempts less just."""
        return self._nearest <= _CLOSE * (1 + done / 2)

    @property
    def jumps(self) -> bool:
        """Say whether the excess changes much between prices that hardly differ."""
        below, above = self._bracket()
        if below is None or above is None:
            return False
        apart = abs(above[0] - below[0])
        usual = 2 * abs(self.goal.slope) * apart
        return apart < _SAME_PRICE and above[1] - below[1] > _JUMP + usual

    def around(self) -> tuple[Attempt, Attempt]:
        """Give the attempts on both sides of a jump."""
        below, above = self._bracket()
        if below is None or above is None:
            raise ValueError("there is no jump")
        return below[2], above[2]

    def finer(self) -> Attempt:
        """Give the one of them with the finer step."""
        return min(self.around(), key=lambda attempt: attempt.options.step)

    def next_price(self) -> float:
        """Give the logarithm of the price to try next: within what is known, or beyond it."""
        below, above = self._bracket()
        aim = -_CLOSE / 2
        if below is not None and above is not None:
            share = (aim - below[1]) / (above[1] - below[1])
            share = min(0.9, max(0.1, share)) if len(self._points) % 3 else 0.5
            return below[0] + share * (above[0] - below[0])
        at, excess = self._last
        return at - (excess - aim) / self._seen_slope()

    def _bracket(self) -> tuple[_Point | None, _Point | None]:
        """Give the last point that will do before the first that will not, and that one."""
        above = next((point for point in self._points if point[1] > 0), None)
        before = self._points if above is None else self._points[: self._points.index(above)]
        return (before[-1] if before else None), above

    def _seen_slope(self) -> float:
        """Take the slope between the outermost points, within bounds around the usual one."""
        slope = self.goal.slope
        if len(self._points) < 2:
            return slope
        (at, excess, _), (other, beyond, _) = self._points[0], self._points[-1]
        if abs(at - other) < 1e-6:
            return slope
        share = (beyond - excess) / (other - at) / slope
        return slope * min(_STEEPEST, max(_FLATTEST, share))
