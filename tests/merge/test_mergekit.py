"""Compare methods with mergekit's on dense ΔW; each has its twin in `test_methods.py`.

mergekit merges whole models, tensor by tensor: here its base is zero, so that its tensors are ΔW.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from compress.dtypes import Array
from merge import sparsifiers
from merge.entries import Whole
from merge.options import Options
from tests.merge.kit import close, dense, lora, merge

torch: Any = pytest.importorskip("torch", reason="mergekit needs it")
_WHY = "an optional oracle: pip install -e .[oracle]"
methods: Any = pytest.importorskip("mergekit.merge_methods", reason=_WHY)
sparsify: Any = pytest.importorskip("mergekit.sparsify", reason=_WHY)

INPUTS = [lora(1), lora(2, 2), lora(3, 4)]
FLOAT32 = 3e-6


def theirs(name: str, matrices: list[Array], *, base: bool = True, **parameters: Any) -> Array:
    tensors = [torch.from_numpy(matrix) for matrix in matrices]
    if base:
        tensors.insert(0, torch.zeros_like(tensors[0]))
    found = methods.merge_tensors(
        tensors, name, parameters=parameters, base_index=0 if base else None
    )
    return np.asarray(found.numpy())


def per_input(values: tuple[float, ...]) -> dict[int, float]:
    """Name values by place: the base is 0."""
    return dict(enumerate(values, 1))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("density", [0.1, 0.3, 0.75, 1.0])
def test_ties_with_any_weights_above_0(weights: tuple[float, ...], density: float) -> None:
    found = merge("ties", INPUTS, weights, density=density, rank=9)
    share = per_input((density,) * 3)
    expected = theirs(
        "ties", [dense(own) for own in INPUTS], weight=per_input(weights), density=share
    )
    close(dense(found), expected, FLOAT32)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, -1.0, 2.0)])
@pytest.mark.parametrize("density", [0.3, 0.75, 0.9])
def test_breadcrumbs(weights: tuple[float, ...], density: float) -> None:
    found = merge("breadcrumbs", INPUTS, weights, density=density, gamma=0.05, rank=9)
    expected = theirs(
        "breadcrumbs",
        [dense(own) for own in INPUTS],
        weight=per_input(weights),
        density=per_input((density,) * 3),
        gamma=per_input((0.05,) * 3),
    )
    close(dense(found), expected, FLOAT32)


def test_task_arithmetic() -> None:
    weights = (0.5, -1.0, 2.0)
    expected = theirs("task_arithmetic", [dense(own) for own in INPUTS], weight=per_input(weights))
    close(dense(merge("linear", INPUTS, weights)), expected, 1e-12)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_slerp(share: float) -> None:
    pair = [dense(own) for own in INPUTS[:2]]
    tensors = [torch.from_numpy(matrix) for matrix in pair]
    expected = methods.merge_tensors(tensors, "slerp", parameters={"t": share}, base_index=0)
    found = merge("slerp", INPUTS[:2], (1 - share, share))
    close(dense(found), np.asarray(expected.numpy()), 1e-6)


def test_multislerp() -> None:
    weights = (0.5, 1.0, 2.0)
    expected = theirs(
        "multislerp", [dense(own) for own in INPUTS], base=False, weight=dict(enumerate(weights))
    )
    close(dense(merge("multislerp", INPUTS, weights)), expected, 1e-7)


def test_karcher() -> None:
    matrices = [dense(own) for own in INPUTS]
    expected = theirs("karcher", matrices, base=False, max_iter=500, tol=1e-7)
    close(dense(merge("karcher", INPUTS)), expected, 1e-6)


def test_model_stock() -> None:
    common = dense(lora(8, 2))
    matrices = [dense(own) + common for own in INPUTS]
    found = merge("model_stock", [_exact(matrix) for matrix in matrices])
    close(dense(found), theirs("model_stock", matrices), 1e-6)


def _exact(matrix: Array) -> Any:
    own = lora(0, matrix.shape[1])
    return type(own)(np.eye(matrix.shape[1]), matrix, 1.0)


@pytest.mark.parametrize("size", [5, 99, 1000, 5000])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.99])
def test_what_is_trimmed(size: int, density: float) -> None:
    values = np.random.default_rng(size).standard_normal((1, size)).astype(np.float32)
    tensor, rows = torch.from_numpy(values), slice(0, 1)
    options = Options(density=density, gamma=0.01)
    for ours, expected in (
        (sparsifiers.magnitude, sparsify.magnitude(tensor, density)),
        (sparsifiers.without_outliers, sparsify.magnitude_outliers(tensor, density, gamma=0.01)),
    ):
        if not int(density * size):
            continue
        found = ours(Whole(values), [rows], options)(rows)
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("name", ["random", "della"])
def test_what_is_drawn(name: str) -> None:
    """Both draw their own masks: shares by rank are compared, not entries."""
    density, epsilon, rows = 0.5, 0.3, 4000
    values = np.tile(np.arange(1.0, 9.0, dtype=np.float32), (rows, 1))
    torch.manual_seed(0)
    tensor, part = torch.from_numpy(values), slice(0, rows)
    if name == "random":
        expected = sparsify.bernoulli(tensor, density)
        found = sparsifiers.random(Whole(values), [part], Options(density=density))(part)
    else:
        expected = sparsify.della_magprune(tensor, density, epsilon)
        options = Options(density=density, epsilon=epsilon)
        found = sparsifiers.della(Whole(values), [part], options)(part)
    ours, other = (found != 0).mean(axis=0), (expected.numpy() != 0).mean(axis=0)
    np.testing.assert_allclose(ours, other, atol=4 * math.sqrt(2 * 0.25 / rows))


def test_elected_signs() -> None:
    get_mask = pytest.importorskip(
        "mergekit.merge_methods.generalized_task_arithmetic", reason=_WHY
    ).get_mask
    matrices = [dense(own) for own in INPUTS]
    stack = torch.from_numpy(np.stack(matrices))
    mask = get_mask(stack, "sum").numpy().astype(bool)
    expected = (np.stack(matrices) * mask).sum(0) / np.maximum(mask.sum(0), 1)
    close(dense(merge("ties", INPUTS, density=1.0, rank=9)), expected, FLOAT32)
