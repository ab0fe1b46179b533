"""Check the figures of conflicts against dense matrices, and their ends against what they mean."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.dtypes import Array
from merge import HeadPolicy, Recipe, WeightedAdapter, conflicts, merge_adapters
from merge.conflict_report import ConflictLog, ConflictReport
from merge.conflicts import measure_conflict
from merge.delta_space import Delta, truncate, weighted_sum

SHAPE = (13, 9)


def random_delta(seed: int, rank: int = 3, shape: tuple[int, int] = SHAPE) -> Delta:
    """Return a ΔW [d_out, d_in] of the given rank."""
    rng = np.random.default_rng(seed)
    return Delta(rng.standard_normal((rank, shape[1])), rng.standard_normal((shape[0], rank)))


def dense(delta: Delta) -> Array:
    return delta.b @ delta.a


def norm(matrix: Array) -> float:
    return float(np.linalg.norm(matrix))


def agreement(deltas: Sequence[Array], weights: Sequence[float]) -> float:
    """Count the mass on the elected side, entry by entry."""
    terms = np.stack([w * d for w, d in zip(weights, deltas, strict=True)])
    elected = np.sign(terms.sum(0))
    mass = np.abs(terms)
    return float(mass[np.sign(terms) == elected].sum() / mass.sum())


@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.1, 2), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_every_figure_is_that_of_dense_matrices(
    ranks: list[int], weights: list[float], seed: int
) -> None:
    deltas = [random_delta(seed + at, rank) for at, rank in enumerate(ranks)]
    weights = weights[: len(deltas)]
    merged = truncate(weighted_sum(list(zip(weights, deltas, strict=True))), 2).delta
    found = measure_conflict(deltas, weights, merged)
    full, total = [dense(d) for d in deltas], dense(merged)
    for value, own in zip(found.interference, full, strict=True):
        expected = norm((total - own) @ own.T) / norm(own @ own.T)
        assert value == pytest.approx(expected, rel=1e-7, abs=1e-7)
    rms = np.sqrt(np.mean([norm(own) ** 2 for own in full]))
    assert found.norm_kept == pytest.approx(norm(total) / rms)
    pairs = [
        float((x * y).sum()) / norm(x) / norm(y)
        for at, x in enumerate(full)
        for y in full[at + 1 :]
    ]
    assert found.cosine == (pytest.approx(np.mean(pairs)) if pairs else None)
    assert found.sign_agreement == pytest.approx(agreement(full, weights), rel=1e-5)
    assert (found.rows_read, found.rows) == (SHAPE[0], SHAPE[0])


def test_one_adapter_with_weight_1_conflicts_with_nothing() -> None:
    delta = random_delta(1)
    found = measure_conflict([delta], [1.0], delta)
    assert found.sign_agreement == 1.0
    assert found.interference[0] == pytest.approx(0.0, abs=1e-7)
    assert found.norm_kept == pytest.approx(1.0)
    assert found.cosine is None


def test_opposites_share_no_sign_and_lose_everything() -> None:
    delta = random_delta(1)
    opposite = Delta(delta.a, -delta.b)
    merged = weighted_sum([(0.5, delta), (0.5, opposite)])
    found = measure_conflict([delta, opposite], [0.5, 0.5], merged)
    assert found.sign_agreement == pytest.approx(0.5)
    assert list(found.interference) == pytest.approx([1.0, 1.0])
    assert found.norm_kept == pytest.approx(0.0, abs=1e-7)
    assert found.cosine == pytest.approx(-1.0)


def test_a_sum_of_adapters_with_different_inputs_acts_on_each_as_it_did() -> None:
    a = np.eye(6)
    one = Delta(a[:2], random_delta(1, 2).b)
    other = Delta(a[2:5], random_delta(2, 3).b)
    found = measure_conflict([one, other], [1, 1], weighted_sum([(1, one), (1, other)]))
    assert list(found.interference) == pytest.approx([0.0, 0.0], abs=1e-7)
    assert found.sign_agreement == pytest.approx(1.0)
    assert found.cosine == pytest.approx(0.0, abs=1e-12)


def test_figures_do_not_see_how_delta_was_factored() -> None:
    deltas = [random_delta(at) for at in range(3)]
    gauge = np.random.default_rng(9).standard_normal((3, 3))
    turned = [Delta(gauge @ d.a, d.b @ np.linalg.inv(gauge)) for d in deltas]
    merged = weighted_sum([(0.3, d) for d in deltas])
    plain = measure_conflict(deltas, [0.3] * 3, merged)
    other = measure_conflict(turned, [0.3] * 3, merged)
    assert other.sign_agreement == pytest.approx(plain.sign_agreement, rel=1e-6)
    assert other.interference == pytest.approx(plain.interference, rel=1e-6)
    assert other.cosine == pytest.approx(plain.cosine, rel=1e-6)


@pytest.mark.parametrize("absent", [None, Delta(np.zeros((0, 9)), np.zeros((13, 0)))])
def test_an_absent_input_has_no_figure_and_moves_no_other(absent: Delta | None) -> None:
    deltas = [random_delta(1), random_delta(2)]
    merged = weighted_sum([(0.5, d) for d in deltas])
    without = measure_conflict(deltas, [0.5, 0.5], merged)
    found = measure_conflict([deltas[0], absent, deltas[1]], [0.5, 7.0, 0.5], merged)
    assert found.interference == (without.interference[0], None, without.interference[1])
    assert found.sign_agreement == without.sign_agreement
    assert found.norm_kept == pytest.approx(without.norm_kept)
    assert found.cosine == pytest.approx(without.cosine)


def test_what_is_zero_has_no_direction() -> None:
    zero = Delta(np.ones((2, 9)), np.zeros((13, 2)))
    found = measure_conflict([zero, None], [1.0, 1.0], zero)
    assert found.interference == (None, None)
    assert found.sign_agreement is found.norm_kept is found.cosine is None
    assert found.mean_interference is None
    assert measure_conflict([None], [1.0], zero).sign_agreement is None


def test_signs_of_a_large_module_are_read_from_a_seeded_sample_in_small_tiles() -> None:
    shape = (2200, 2000)
    deltas = [random_delta(at, 4, shape) for at in range(2)]
    merged = weighted_sum([(0.5, d) for d in deltas])
    tracemalloc.start()
    found = measure_conflict(deltas, [0.5, 0.5], merged, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.rows_read, found.rows) == (conflicts.SAMPLED_ENTRIES // 2000, 2200)
    assert peak < 40 << 20
    exact = agreement([dense(d) for d in deltas], [0.5, 0.5])
    assert found.sign_agreement == pytest.approx(exact, abs=0.005)
    again = measure_conflict(deltas, [0.5, 0.5], merged, seed=1)
    other = measure_conflict(deltas, [0.5, 0.5], merged, seed=2)
    assert again == found
    assert other.sign_agreement != found.sign_agreement


@dataclass(frozen=True)
class Made:
    """Be one module of a merge."""

    name: str
    inputs: tuple[Delta, ...]
    weights: tuple[float, ...]
    delta: Delta


NOTHING = Delta(np.zeros((0, SHAPE[1])), np.zeros((SHAPE[0], 0)))


@pytest.fixture
def report() -> ConflictReport:
    """Merge two modules of three inputs, of which the third has one module only."""
    third = Delta(random_delta(2).a, -3 * random_delta(2).b)
    inputs = {
        "q": (random_delta(1), random_delta(3), NOTHING),
        "v": (random_delta(2), random_delta(4), third),
    }
    weights = (0.5, 0.5, 0.5)
    log = ConflictLog(["one", "two", "three"])
    for name, deltas in inputs.items():
        merged = weighted_sum(list(zip(weights, deltas, strict=True)))
        log.observe(Made(name, deltas, weights, merged))
    return log.report()


def test_totals_are_those_of_all_modules_side_by_side(report: ConflictReport) -> None:
    q, v = (c for _, c in report.modules)
    weights = [q.energies.sum(), v.energies.sum()]
    expected = np.average([q.sign_agreement or 0, v.sign_agreement or 0], weights=weights)
    assert report.sign_agreement == pytest.approx(expected)
    one = np.average(
        [q.interference[0] or 0, v.interference[0] or 0], weights=[q.energies[0], v.energies[0]]
    )
    assert report.interference[0] == pytest.approx(one)
    assert report.interference[2] == pytest.approx(v.interference[2])
    energies = q.energies + v.energies
    kept = np.sqrt((q.merged_energy + v.merged_energy) / energies.mean())
    assert report.norm_kept == pytest.approx(kept)


def test_the_pair_that_points_apart_is_named(report: ConflictReport) -> None:
    pair = report.worst_pair
    assert pair is not None
    assert (pair.first, pair.second) == ("one", "three")
    whole = report.modules[0][1].energies[0] + report.modules[1][1].energies[0]
    part = report.modules[1][1].energies[0]
    assert pair.cosine == pytest.approx(-np.sqrt(part / whole))
    assert pair.cosine < (report.cosine or 0)


def test_the_worst_modules_come_first(report: ConflictReport) -> None:
    worst = report.worst(10)
    values = [c.mean_interference or 0 for _, c in worst]
    assert values == sorted(values, reverse=True)
    assert report.worst(1) == worst[:1]


def test_a_report_is_plain_json(report: ConflictReport) -> None:
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [module["name"] for module in told["modules"]] == ["q", "v"]
    assert told["modules"][0]["interference"][2] is None
    assert told["worst_pair"]["inputs"] == ["one", "three"]
    assert told["weights"] == [0.5, 0.5, 0.5]
    alone = ConflictLog(["one"])
    alone.observe(Made("q", (random_delta(1),), (1.0,), random_delta(1)))
    assert alone.report().worst_pair is None
    assert alone.report().to_json()["cosine"] is None
    assert ConflictLog(["one"]).report().sign_agreement is None


def test_a_merge_of_real_experts_is_judged_as_it_goes(examples: Path, tmp_path: Path) -> None:
    inputs = [WeightedAdapter(examples / name) for name in ("sst2", "mr-rt-polarity")]
    found: dict[str, ConflictReport] = {}
    for method, options in (("linear", {}), ("wudi", {"ridge": 0.0})):
        log = ConflictLog([item.path.name for item in inputs])
        recipe = Recipe(method, options, heads=HeadPolicy.FIRST)
        report = merge_adapters(inputs, tmp_path / method, recipe, observe=log.observe)
        found[method] = log.report()
        assert len(found[method].modules) == report.modules
        assert found[method].weights == report.weights
    # What WUDI makes small it makes 0, at a price that the norm shows; a mean halves each input.
    assert [value or 0 for value in found["wudi"].interference] == pytest.approx([0, 0], abs=1e-4)
    assert all(0.01 < (value or 0) < 0.9 for value in found["linear"].interference)
    assert (found["linear"].norm_kept or 0) < 1 < (found["wudi"].norm_kept or 0)
    assert found["linear"].sign_agreement == pytest.approx(found["wudi"].sign_agreement)
