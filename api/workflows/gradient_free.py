"""Find a low point of a function of a few numbers in a few dozen calls, without gradients.

SciPy is the extra `merge`. LoraHub (arXiv 2307.13269) lets Nevergrad choose an optimiser; with so
few calls it chooses SciPy's COBYLA, with a first step of 1. On test functions of 2 and 4 numbers a
first step of 1/4 comes as close to the lowest point, on those of 8 and 16 closer (5 % of the way
are left, not 10 %; 16 %, not 30 %). Nevergrad 1.0.12 warns, and its surrogate model fails, beside
NumPy 2.4 and SciPy 1.17; so COBYLA is called directly.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.errors import OptionError

Point = tuple[float, ...]
_FIRST_STEP, _LAST_STEP = 0.25, 0.005
#: Numbers are rounded to so many decimals before they are tried, so that they can be written down.
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Box:
    """Hold where to search and for how long.

    Attributes:
        low: lowest value of every number.
        high: highest value.
        calls: how often the function is called, at most.
        seed: draws where to start again once a search has converged.
    """

    low: float
    high: float
    calls: int
    seed: int


def require_scipy() -> None:
    """Check that SciPy is installed, without importing it.

    Raises:
        OptionError: it is absent.
    """
    if importlib.util.find_spec("scipy") is None:
        raise OptionError(
            "searching needs a package that is not installed",
            field="search",
            expected="scipy",
            actual="no scipy",
            hint="install the extra: pip install 'ternery[merge]'",
        )


def minimise(function: Callable[[Point], float], starts: Sequence[Point], box: Box) -> None:
    """Call a function where it may be low; whoever gave it keeps what it saw.

    The starts are tried first, in their order. From the best of them COBYLA (linear models in a
    trust region, Powell 1994) goes on; if it converges early it starts again at a random point
    within its first step of the best one. No point is tried twice. The same function, starts and
    box lead to the same calls.

    Args:
        function: what to make small; a value that is not finite counts as worse than all others.
        starts: points to begin with, at least one.
        box: where, and how often.
    """
    trials = _Trials(function, box)
    try:
        for start in starts:
            trials.value(np.asarray(start))
        _descend(trials)
    except _SpentError:
        return


class _SpentError(Exception):
    """Say that the function has been called often enough."""


class _Trials:
    """Remember what was tried, and stop when the calls are spent."""

    def __init__(self, function: Callable[[Point], float], box: Box) -> None:
        self._function = function
        self.box = box
        self._seen: dict[Point, float] = {}

    @property
    def best(self) -> Point:
        """Give the lowest point so far; of equal ones the first."""
        return min(self._seen, key=lambda point: self._seen[point])

    def value(self, at: NDArray[np.float64]) -> float:
        """Give the value at a point, which is called if it is new."""
        inside = np.clip(np.round(at, _DECIMALS), self.box.low, self.box.high)
        point = tuple(float(x) + 0.0 for x in inside)
        if point not in self._seen:
            if len(self._seen) >= self.box.calls:
                raise _SpentError
            found = self._function(point)
            self._seen[point] = found if math.isfinite(found) else self._worse()
        return self._seen[point]

    def _worse(self) -> float:
        return 1.0 + 2.0 * max([0.0, *map(abs, self._seen.values())])


def _descend(trials: _Trials) -> None:
    from scipy.optimize import minimize  # noqa: PLC0415 - an extra

    box, rng = trials.box, np.random.default_rng(trials.box.seed)
    start = np.asarray(trials.best)
    # Each restart makes at least one new call, but for points that rounding makes equal.
    for _ in range(box.calls):
        minimize(
            trials.value,
            start,
            method="COBYLA",
            bounds=[(box.low, box.high)] * len(start),
            options={
                "rhobeg": _FIRST_STEP,
                "tol": _LAST_STEP,
                "maxiter": box.calls + len(start) + 2,
            },
        )
        best = np.asarray(trials.best)
        start = np.clip(best + rng.uniform(-_FIRST_STEP, _FIRST_STEP, len(best)), box.low, box.high)
