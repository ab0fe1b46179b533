"""Check reductions of rank: against the SVD of the whole matrix, in memory and from files."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from merge import entries, low_rank
from merge.delta_space import Target
from merge.methods import METHODS
from merge.options import Inner, Options
from tests.merge.closed_form import best_of_rank
from tests.merge.kit import ON_DELTA, SHAPE, close, dense, lora, merge

_REDUCIBLE = [name for name in ON_DELTA if "energy" in METHODS[name].reducible]
_EQUAL_VALUES = {"iso"}


def inputs_of(name: str) -> list[Any]:
    return [lora(1), lora(2, 2), lora(3, 4)][: METHODS[name].inputs[1]]


@pytest.mark.parametrize("name", _REDUCIBLE)
def test_every_rank_is_the_best_approximation(name: str) -> None:
    full = merge(name, inputs_of(name), rank=min(SHAPE))
    whole = dense(full)
    s = np.linalg.svd(whole, compute_uv=False)
    size = float(np.linalg.norm(whole))
    assert full.dropped <= 1e-10 * full.energy
    errors = []
    for rank in range(1, min(SHAPE) + 1):
        found = merge(name, inputs_of(name), rank=rank)
        left = float(np.sum((whole - dense(found)) ** 2))
        errors.append(left)
        assert found.delta.rank <= rank
        assert found.energy == pytest.approx(full.energy, rel=1e-6)
        assert found.dropped == pytest.approx(left, abs=1e-6 * size**2)
        assert left == pytest.approx(float(np.sum(s[rank:] ** 2)), abs=1e-6 * size**2)
        if name not in _EQUAL_VALUES:
            close(dense(found), best_of_rank(whole, rank), 1e-4)
    assert all(after <= before + 1e-9 * size**2 for before, after in pairwise(errors))


@pytest.mark.parametrize("name", _REDUCIBLE)
@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999, 1.0])
def test_energy_takes_the_smallest_rank_that_reaches_it(name: str, energy: float) -> None:
    whole = dense(merge(name, inputs_of(name), rank=min(SHAPE)))
    s = np.linalg.svd(whole, compute_uv=False)
    shares = np.cumsum(s**2) / np.sum(s**2)
    found = merge(name, inputs_of(name), energy=energy)
    kept = float(np.sum(dense(found) ** 2) / np.sum(s**2))
    assert kept >= energy - 1e-6
    if energy < 1:
        assert found.delta.rank == int(np.argmax(shares >= energy - 1e-7)) + 1
    if energy == 1:
        close(dense(found), whole, 1e-4)


@pytest.mark.parametrize("shape", [(70, 50), (50, 70)])
@pytest.mark.parametrize("name", ["ties", "dare_linear", "breadcrumbs"])
@pytest.mark.parametrize("rank", [2, 5, 12, None])
def test_large_matrices_come_close_to_the_best(
    name: str, rank: int | None, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subspace iteration holds all but 1e-4 of what the exact SVD holds, kept or made again."""
    inputs = [lora(n, 4, shape) for n in range(3)]
    exact = merge(name, inputs, rank=rank)
    monkeypatch.setattr(low_rank, "EXACT_SIDE", 0)
    found = merge(name, inputs, rank=rank)
    held, best = exact.energy - exact.dropped, found.energy - found.dropped
    assert found.energy == pytest.approx(exact.energy, rel=1e-5)
    assert best >= held * (1 - 1e-4)
    assert best <= held * (1 + 1e-5)
    assert found.delta.rank == exact.delta.rank == (rank or 12)
    measured = float(np.sum(dense(found) ** 2))
    assert measured == pytest.approx(best, rel=1e-4)
    monkeypatch.setattr(entries, "KEPT_BYTES", 0)
    close(dense(merge(name, inputs, rank=rank)), dense(found), 1e-6)


def test_subspace_iteration_where_the_spectrum_hardly_falls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noise of full rank is the hardest case: no direction stands out."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((120, 90))
    s = np.linalg.svd(matrix, compute_uv=False)
    rule = entries.RULES[Inner.LINEAR]
    merged = entries.Merged([entries.Whole(matrix)], np.ones(1), rule, Options())
    monkeypatch.setattr(low_rank, "EXACT_SIDE", 0)
    start = np.linalg.qr(rng.standard_normal((90, 4)))[0].T
    found = low_rank.factorise(merged, Target(10), start)
    held = float(np.sum(s[:10] ** 2))
    assert found.energy - found.dropped >= held * (1 - 1e-2)
    assert found.energy == pytest.approx(float(np.sum(s**2)), rel=1e-5)


def test_a_merged_matrix_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = entries.Merged(
        [entries.Whole(np.zeros((30, 20)))],
        np.ones(1),
        entries.RULES[Inner.TIES],
        Options(density=0.5),
    )
    start = np.eye(3, 20)
    for side in (100, 0):
        monkeypatch.setattr(low_rank, "EXACT_SIDE", side)
        found = low_rank.factorise(merged, Target(3), start)
        assert not dense(found).any()
        assert found.energy == found.dropped == 0
