"""Test that low points are found in few calls, which are counted, bounded and repeatable."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import numpy as np
import pytest

from api.workflows.gradient_free import Box, Point, minimise, require_scipy
from compress.errors import OptionError

BOX = Box(low=-1.5, high=1.5, calls=40, seed=0)


def bowl(lowest: Point, seen: list[Point]) -> Callable[[Point], float]:
    """Give a turned, stretched bowl that notes where it is called."""
    rng = np.random.default_rng(len(lowest))
    turn, _ = np.linalg.qr(rng.standard_normal((len(lowest), len(lowest))))
    stretch = turn @ np.diag(np.geomspace(1.0, 0.1, len(lowest))) @ turn.T

    def function(point: Point) -> float:
        seen.append(point)
        away = np.array(point) - lowest
        return float(away @ stretch @ away)

    return function


@pytest.mark.parametrize(("count", "left"), [(1, 0.001), (2, 0.001), (4, 0.01), (8, 0.1)])
def test_the_lowest_point_is_nearly_found(count: int, left: float) -> None:
    lowest = tuple(np.linspace(0.9, -0.5, count))
    seen: list[Point] = []
    function = bowl(lowest, seen)
    start = (1 / count,) * count
    minimise(function, [start], BOX)
    first, best = function(start), min(function(point) for point in seen[:40])
    assert best < left * first


@pytest.mark.parametrize("calls", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_every_call_is_new_and_within_the_box(count: int, calls: int) -> None:
    seen: list[Point] = []
    starts = [(0.5,) * count, (0.0,) * count]
    minimise(bowl((5.0,) * count, seen), starts, Box(-1.5, 1.5, calls, 0))
    assert len(seen) == len(set(seen)) <= calls
    # A single number soon has nowhere new to go.
    assert len(seen) == calls or count == 1
    assert seen[:2] == starts[:calls]
    assert min(map(min, seen)) >= -1.5
    assert max(map(max, seen)) <= 1.5


def test_the_search_goes_on_from_the_best_start() -> None:
    seen: list[Point] = []
    minimise(bowl((1.0, 1.0), seen), [(-1.0, -1.0), (1.0, 0.9), (0.0, 0.0)], BOX)
    assert max(math.dist(point, (1.0, 0.9)) for point in seen[3:8]) < 1.0


def test_the_seed_decides_where_it_starts_again() -> None:
    paths = []
    for seed in (1, 1, 2):
        seen: list[Point] = []
        minimise(bowl((0.3, 0.3), seen), [(0.0, 0.0)], Box(-1.5, 1.5, 60, seed))
        paths.append(seen)
    assert paths[0] == paths[1] != paths[2]


def test_what_is_not_finite_is_avoided() -> None:
    seen: list[Point] = []
    slope = bowl((1.0, 1.0), seen)
    minimise(lambda point: slope(point) if point[0] < 0.8 else math.nan, [(0.0, 0.0)], BOX)
    best = min((point for point in seen if point[0] < 0.8), key=lambda p: math.dist(p, (1, 1)))
    assert math.dist(best, (0.8, 1.0)) < 0.4


def test_points_can_be_written_down() -> None:
    seen: list[Point] = []
    minimise(bowl((0.123456, 0.654321), seen), [(1 / 3, 1 / 3)], BOX)
    assert all(value == round(value, 4) for point in seen for value in point)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_scipy()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match=r"ternery\[merge\]"):
        require_scipy()
