"""Check each method against its definition on dense matrices, written from the publication."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.dtypes import Array
from merge import sparsifiers
from merge.delta_space import Delta
from merge.entries import Product, Whole
from merge.factors import Factors
from merge.methods import METHODS
from merge.options import Options
from merge.wudi import wudi_loss
from tests.merge import closed_form as define
from tests.merge.kit import SHAPE, close, dense, lora, merge

FLOAT32 = 3e-6
FULL = min(SHAPE)
INPUTS = [lora(1), lora(2, 2), lora(3, 4)]
MATRICES = [dense(own) for own in INPUTS]
WEIGHTS = (0.5, 1.0, 1.5)
_METHODS = st.sampled_from(["ties", "magnitude_prune", "breadcrumbs"])


def masked(sparsify: sparsifiers.Sparsifier, factors: Factors, options: Options) -> Array:
    """Return what a sparsifier leaves of a ΔW, as a merge sees it."""
    rows = slice(0, factors.b.shape[0])
    return sparsify(Product(factors.delta), [rows], options)(rows).astype(np.float64)


@given(
    density=st.floats(0.01, 1),
    weights=st.lists(st.floats(-2, 2).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=4),
    method=_METHODS,
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_methods_on_entries(density: float, weights: list[float], method: str, seed: int) -> None:
    inputs = [lora(seed + n, 1 + n % 4) for n in range(len(weights))]
    matrices = [dense(own) for own in inputs]
    if method == "ties":
        expected = define.ties(matrices, weights, density)
    elif method == "magnitude_prune":
        expected = define.total([define.trim(own, density) for own in matrices], weights)
    else:
        kept = [own * define.breadcrumbs_mask(own, density, 0.03) for own in matrices]
        expected = define.total(kept, weights)
    extra: dict[str, Any] = {"gamma": 0.03} if method == "breadcrumbs" else {}
    found = merge(method, inputs, weights, density=density, rank=FULL, **extra)
    close(dense(found), expected, 1e-5)


@pytest.mark.parametrize(
    ("method", "sparsify", "mean"),
    [
        ("dare_linear", sparsifiers.random, define.total),
        ("dare_ties", sparsifiers.random, define.elect),
        ("della", sparsifiers.della, define.elect),
    ],
)
def test_methods_that_draw(method: str, sparsify: sparsifiers.Sparsifier, mean: Any) -> None:
    """What was drawn taken as given, the rest is the definition."""
    options = Options(density=0.6, epsilon=0.2, seed=7)
    extra: dict[str, Any] = {"epsilon": 0.2} if method == "della" else {}
    left = [masked(sparsify, own, options) for own in INPUTS]
    for sparse, own in zip(left, MATRICES, strict=True):
        chance = np.full(SHAPE, 0.6)
        if method == "della":
            chance = define.della_chances(own, 0.6, 0.2)
        close(sparse, np.where(sparse != 0, own / chance, 0), FLOAT32)
        assert 0.3 < np.count_nonzero(sparse) / sparse.size < 0.9
    found = merge(method, INPUTS, WEIGHTS, density=0.6, seed=7, rank=FULL, **extra)
    close(dense(found), mean(left, WEIGHTS), FLOAT32)


def test_seeds_draw_differently() -> None:
    one, other = (dense(merge("dare_linear", INPUTS, seed=seed)) for seed in (1, 2))
    assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize("inner", ["linear", "ties", "breadcrumbs", "magnitude_prune"])
@pytest.mark.parametrize("space", ["core", "knots"])
def test_methods_in_shared_spaces(space: str, inner: str) -> None:
    if space == "core":
        u, v, tasks = define.core_axes(MATRICES)
    else:
        (u, tasks), v = define.knots_axes(MATRICES), np.eye(SHAPE[1])
    if inner == "ties":
        merged = define.ties(tasks, WEIGHTS, 0.3)
    elif inner == "linear":
        merged = define.total(tasks, WEIGHTS)
    elif inner == "breadcrumbs":
        kept = [task * define.breadcrumbs_mask(task, 0.3, 0.01) for task in tasks]
        merged = define.total(kept, WEIGHTS)
    else:
        merged = define.total([define.trim(task, 0.3) for task in tasks], WEIGHTS)
    options: dict[str, Any] = {} if inner == "linear" else {"density": 0.3}
    found = merge(space, INPUTS, WEIGHTS, inner=inner, **options)
    close(dense(found), u @ merged @ v.T, FLOAT32)


@pytest.mark.parametrize(("method", "twin"), [("tsv", define.tsv), ("iso", define.iso)])
@pytest.mark.parametrize("ranks", [(2, 2, 2), (3, 1, 4), (9, 9, 9)])
def test_spectral_methods(method: str, twin: Any, ranks: tuple[int, ...]) -> None:
    inputs = [lora(n, rank) for n, rank in enumerate(ranks)]
    matrices = [w * dense(own) for w, own in zip(WEIGHTS, inputs, strict=True)]
    close(dense(merge(method, inputs, WEIGHTS)), twin(matrices), 1e-9)
    if min(ranks) == 9:
        close(dense(merge(method, inputs, WEIGHTS)), twin(matrices, restricted=False), 1e-9)


@pytest.mark.parametrize("method", ["tsv", "iso"])
def test_spectral_methods_are_determined(method: str) -> None:
    """The published forms change by 87 % here, since they take singular vectors of value 0."""
    shape = (64, 64)
    inputs = [lora(n, 4, shape) for n in range(4)]
    moved = []
    for n, own in enumerate(inputs):
        rng = np.random.default_rng(100 + n)
        noise = 1e-13 * np.linalg.norm(own.b)
        moved.append(Factors(own.a, own.b + noise * rng.standard_normal(own.b.shape) / 16, 1.0))
    close(dense(merge(method, moved)), dense(merge(method, inputs)), 1e-9)


def test_iso_stays_where_the_adapters_are() -> None:
    inputs = [lora(n, 3, (40, 30)) for n in range(3)]
    found = dense(merge("iso", inputs))
    columns, _ = np.linalg.qr(np.concatenate([own.b for own in inputs], axis=1))
    rows, _ = np.linalg.qr(np.concatenate([own.a for own in inputs]).T)
    close(columns @ (columns.T @ found @ rows) @ rows.T, found, 1e-12)
    assert np.linalg.matrix_rank(found) == 9


def test_iso_at_a_lower_rank_keeps_the_strongest_directions() -> None:
    """All its singular values are equal: the order of those of the sum decides."""
    u, s, vt = np.linalg.svd(np.asarray(sum(MATRICES)), full_matrices=False)
    found = merge("iso", INPUTS, rank=4)
    close(dense(found), s.mean() * u[:, :4] @ vt[:4], 1e-9)
    assert found.dropped == pytest.approx(5 * s.mean() ** 2)


def test_wudi_is_where_the_loss_is_flat() -> None:
    found = dense(merge("wudi", INPUTS, WEIGHTS, ridge=0.0))
    slope = define.wudi_gradient(found, MATRICES, WEIGHTS)
    assert np.linalg.norm(slope) < 1e-10 * sum(np.linalg.norm(own) for own in MATRICES)


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (1.0, 0.1, 10.0)])
def test_wudi_is_flat_for_weak_directions_too(sizes: tuple[float, ...]) -> None:
    """Spectra over four decades: the squares in the normal equations would lose the weak ones."""
    inputs = []
    for n, size in enumerate(sizes):
        own = lora(n, 4, (12, 20))
        falling = size * 10.0 ** -np.arange(0, 6, 1.5)
        inputs.append(Factors(own.a, own.b * falling, 1.0))
    found = dense(merge("wudi", inputs, ridge=0.0))
    for own in inputs:
        u, s, vt = np.linalg.svd(dense(own), full_matrices=False)
        for n in range(4):
            close(found @ vt[n], u[:, n] * s[n], 1e-4)


def test_wudi_leaves_every_task_alone_where_it_can() -> None:
    """Rows that are independent: τ τᵢᵀ = τᵢ τᵢᵀ for all, at a rank of the sum of ranks."""
    inputs = [lora(n, 2, (12, 20)) for n in range(4)]
    found = merge("wudi", inputs, ridge=0.0)
    matrices = [dense(own) for own in inputs]
    assert define.wudi_loss(dense(found), matrices, (1, 1, 1, 1)) < 1e-20
    assert wudi_loss(found.delta, [own.delta for own in inputs]) < 1e-12
    for own in matrices:
        close(dense(found) @ own.T, own @ own.T, 1e-10)


def test_wudi_steps_go_downhill_to_what_is_solved() -> None:
    inputs = [lora(n, 4, (10, 8)) for n in range(4)]
    deltas = [own.delta for own in inputs]

    def loss(**options: Any) -> float:
        return wudi_loss(merge("wudi", inputs, ridge=0.0, **options).delta, deltas)

    start = wudi_loss(merge("linear", inputs, [1.0] * 4).delta, deltas)
    few, many = loss(steps=10, learning_rate=0.01), loss(steps=2000, learning_rate=0.01)
    solved = loss()
    assert solved <= many * (1 + 1e-9)
    assert many < few < start
    assert many == pytest.approx(solved, rel=0.05)


@pytest.mark.parametrize("ridge", [1e-3, 0.1])
def test_wudi_with_a_ridge(ridge: float) -> None:
    inputs = [lora(n, 4, (10, 8)) for n in range(3)]
    matrices = [dense(own) for own in inputs]
    found = dense(merge("wudi", inputs, WEIGHTS, ridge=ridge))
    close(found, define.wudi_ridge(matrices, WEIGHTS, ridge), 1e-9)


def test_the_loss_is_that_of_the_paper() -> None:
    other = lora(9)
    expected = define.wudi_loss(dense(other), MATRICES, (1, 1, 1))
    found = wudi_loss(other.delta, [own.delta for own in INPUTS])
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp(share: float) -> None:
    found = merge("slerp", INPUTS[:2], (1 - share, share))
    close(dense(found), define.slerp(MATRICES[0], MATRICES[1], share), 1e-12)


def test_slerp_of_nearly_parallel_ones_is_linear() -> None:
    near = Factors(INPUTS[0].a * 3, INPUTS[0].b + 1e-4, 1.0)
    found = merge("slerp", [INPUTS[0], near], (0.4, 0.6))
    close(dense(found), 0.4 * MATRICES[0] + 0.6 * dense(near), 1e-12)


def test_multislerp() -> None:
    found = merge("multislerp", INPUTS, WEIGHTS)
    close(dense(found), define.multislerp(MATRICES, WEIGHTS), 1e-10)
    same = [INPUTS[0], Factors(INPUTS[1].a, INPUTS[1].b, 1.0)]
    size = np.linalg.norm(MATRICES[0]) / np.linalg.norm(MATRICES[1])
    same[1] = Factors(same[1].a, same[1].b * size, 1.0)
    close(dense(merge("multislerp", same)), dense(merge("slerp", same)), 1e-12)


def test_karcher_has_no_pull_left() -> None:
    found = dense(merge("karcher", INPUTS, WEIGHTS))
    assert np.linalg.norm(define.karcher_pull(found, MATRICES, WEIGHTS)) < 1e-10
    sizes = [np.linalg.norm(own) for own in MATRICES]
    assert np.linalg.norm(found) == pytest.approx(np.average(sizes, weights=WEIGHTS))


def test_model_stock() -> None:
    common = lora(8, 2)
    inputs = [
        Factors(np.concatenate([common.a, own.a]), np.concatenate([common.b, own.b], 1), 1.0)
        for own in INPUTS
    ]
    found = merge("model_stock", inputs)
    close(dense(found), define.model_stock([dense(own) for own in inputs]), 1e-12)


def test_linear_cat_and_svd() -> None:
    expected = define.total(MATRICES, WEIGHTS)
    close(dense(merge("linear", INPUTS, WEIGHTS)), expected, 1e-14)
    close(dense(merge("cat", INPUTS, WEIGHTS)), expected, 1e-14)
    close(dense(merge("svd", INPUTS, WEIGHTS)), define.best_of_rank(expected, 4), 1e-12)


def test_without_weights_sums_take_shares_and_the_rest_takes_all() -> None:
    close(dense(merge("linear", INPUTS)), define.total(MATRICES, (1 / 3,) * 3), 1e-14)
    assert METHODS["ties"].weights(None, 3) == (1.0, 1.0, 1.0)
    assert METHODS["linear"].weights(None, 4) == (0.25,) * 4


def test_lego_gives_units_back_where_there_are_enough() -> None:
    found = merge("lego", [lora(1, 2), lora(2, 2)], rank=4)
    mean_rank, clusters = 2, 4
    gain = np.sqrt(mean_rank / clusters)
    close(dense(found), gain * (dense(lora(1, 2)) + dense(lora(2, 2))), 1e-9)


def test_lego_joins_units_that_point_the_same_way() -> None:
    own = lora(1, 2)
    near = Factors(own.a + 1e-6, own.b, 1.0)
    close(dense(merge("lego", [own, near], rank=2)), dense(own), 1e-5)


def test_factor_methods_are_those_of_peft() -> None:
    inputs, weights = [lora(n, 3, scale=0.5 + n) for n in range(3)], (0.5, -1.0, 1.5)
    signed = [w * own.scale for w, own in zip(weights, inputs, strict=True)]
    roots = np.sqrt(np.abs(signed)).tolist()
    on_a = (np.sign(signed) * roots).tolist()
    a, b = [own.a for own in inputs], [own.b for own in inputs]
    pairs: dict[str, Array] = {
        "linear-factors": define.total(b, roots) @ define.total(a, on_a),
        "magnitude_prune-factors": define.total([define.trim(x, 0.4) for x in b], roots)
        @ define.total([define.trim(x, 0.4) for x in a], on_a),
        "ties-factors": define.elect_as_peft([define.trim(x, 0.4) for x in b], roots)
        @ define.elect_as_peft([define.trim(x, 0.4) for x in a], on_a),
    }
    for name, expected in pairs.items():
        options: dict[str, Any] = {} if name == "linear-factors" else {"density": 0.4}
        close(dense(merge(name, inputs, weights, **options)), expected, 1e-12)


def test_mhr_mu() -> None:
    inputs = [lora(n, 3, scale=2.0) for n in range(3)]
    a = np.mean([own.a for own in inputs], axis=0)
    b = np.mean([own.b for own in inputs], axis=0)
    close(dense(merge("mhr_mu", inputs)), 2.0 * b @ a, 1e-12)


def test_zero_sums_count_as_positive() -> None:
    one = np.array([[1.0, -1.0, 2.0]])
    found = define.elect([one, -one], (1, 1))
    column = np.ones((1, 1))
    ours = merge("ties", [Factors(one, column, 1.0), Factors(-one, column, 1.0)], density=1.0)
    np.testing.assert_allclose(dense(ours), found, atol=1e-6)
    np.testing.assert_allclose(found, [[1.0, 1.0, 2.0]])


def test_matrices_are_told_apart_by_what_they_are() -> None:
    product = Product(Delta(INPUTS[0].a, INPUTS[0].b))
    assert product.fingerprint() == Whole(MATRICES[0]).fingerprint()
    assert product.fingerprint() != Whole(MATRICES[1]).fingerprint()
    assert product.fingerprint() != Whole(2 * MATRICES[0]).fingerprint()
    assert Whole(np.zeros((2, 3))).fingerprint() == b""
