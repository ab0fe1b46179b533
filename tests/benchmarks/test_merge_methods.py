"""Check the measures of the table of merge methods against dense matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.merge_methods import (
    GROUPS,
    Group,
    best_gain,
    interference,
    products,
    table,
)
from compress.dtypes import Array
from merge.delta_space import Delta


def delta(seed: int, rank: int = 3) -> Delta:
    """Draw a ΔW of 12 × 20."""
    rng = np.random.default_rng(seed)
    return Delta(rng.normal(size=(rank, 20)), rng.normal(size=(12, rank)))


def dense(one: Delta) -> Array:
    """Multiply out."""
    return one.b @ one.a


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_interference_is_that_of_dense_matrices(gain: float) -> None:
    merged, inputs = delta(0, 5), [delta(1), delta(2, 1)]
    shares = []
    for own in inputs:
        difference = gain * dense(merged) - dense(own)
        shares.append(
            np.linalg.norm(difference @ dense(own).T) / np.linalg.norm(dense(own) @ dense(own).T)
        )
    sums = np.stack([products(merged, own) for own in inputs])
    assert interference(sums, gain) == pytest.approx(np.mean(shares))


def test_interference_of_nothing_and_of_an_input_itself() -> None:
    own = delta(1)
    assert interference(products(own, own)[None]) == pytest.approx(0, abs=1e-7)
    assert interference(products(own.times(0.0), own)[None]) == 1
    assert best_gain(products(own.times(0.5), own)[None]) == pytest.approx(2)
    assert best_gain(products(own.times(0.0), own)[None]) == 1


def test_the_best_gain_is_better_than_its_neighbours() -> None:
    merged, inputs = delta(0, 5), [delta(1), delta(2)]
    sums = np.stack([products(merged, own) for own in inputs])

    def loss(gain: float) -> float:
        whole, cross, own = sums.T
        return float(((gain**2 * whole - 2 * gain * cross + own) / own).mean())

    best = best_gain(sums)
    assert loss(best) < min(loss(best - 0.01), loss(best + 0.01))


def test_real_adapters_are_merged_by_every_kind_of_method(test_data: Path) -> None:
    names = ("linear", "wudi", "linear-factors", "model_stock", "slerp")
    lines = list(table(test_data, GROUPS[-1], names, 1))
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines[5:-1]}
    assert "| 1/n | 32 | 0.000 | 0.000 |" in rows["linear"]
    assert "refused: methods on factors need equal ranks" in rows["linear-factors"]
    assert "found by the method" in rows["model_stock"]
    assert "slerp, first 2" in rows
    assert {line.count("|") for line in lines[4:-1]} == {12}
    least = float(rows["wudi"].split(" | ")[7])
    assert least < float(rows["linear"].split(" | ")[7])


def test_groups_exist(test_data: Path) -> None:
    for group in GROUPS:
        assert isinstance(group, Group)
        assert all((test_data / place).is_dir() for place in group.folders)
