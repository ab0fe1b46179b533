"""Check every baseline against its published formula, written out on dense matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines.integers import Integers
from benchmarks.baselines.interface import (
    Adapter,
    Approximation,
    Method,
    Sweep,
    compare,
    measure,
    total,
)
from benchmarks.baselines.low_rank import TruncatedSvd
from benchmarks.baselines.mixed_bits import LoraQuant, split
from benchmarks.baselines.peft_folder import read_adapter
from benchmarks.baselines.signs import BitDelta
from benchmarks.baselines.sparse_ternary import Stc, sparsify
from benchmarks.baselines.tern_files import ALPHAS, BestCompeft
from compress import Compeft, Scope, compress_adapter
from compress import entropy as entropy_coder
from compress.measure import Factors
from tests.benchmarks.conftest import (
    RANK,
    Array,
    MakeFolder,
    dense,
    dense_error,
    factors,
    small_adapter,
)

PARAMETERS = RANK * (40 + 100 + 56 + 72)


def matrices(modules: Mapping[str, Factors]) -> list[Array]:
    """List all factors."""
    return [matrix for module in modules.values() for matrix in (module.a, module.b)]


def flat(modules: Mapping[str, Factors]) -> Array:
    """Put the values of all factors into one vector."""
    return np.concatenate([matrix.ravel() for matrix in matrices(modules)])


def entropy(values: Array) -> float:
    """Compute the entropy of the signs of all values, times their number."""
    _, counts = np.unique(np.sign(values), return_counts=True)
    return sum(-int(n) * math.log2(n / values.size) for n in counts)


@pytest.mark.parametrize(
    "method",
    [
        Stc(0.3, Scope.TENSOR),
        BitDelta(),
        Integers(8),
        Integers(4, 64),
        TruncatedSvd(2),
        LoraQuant(2, 0.8),
        LoraQuant(3, 0.9, refined=True, deflated=True),
    ],
    ids=lambda method: method.label,
)
def test_the_measured_error_is_the_dense_one(method: Method) -> None:
    adapter = small_adapter()
    made = method.compress(adapter)
    point = measure(method, adapter)
    assert point.error == pytest.approx(dense_error(adapter.modules, made.modules), rel=1e-9)
    assert 0 < point.error < 1
    assert point.bits_per_param == made.size_bits / PARAMETERS
    assert point.label == method.label
    assert {m.scale for m in made.modules.values()} == {2.0}


def test_stc_takes_the_mean_of_magnitudes() -> None:
    before = np.random.default_rng(0).normal(scale=0.01, size=10_000)
    (trits,), value = sparsify([before], 0.05)
    kept = np.sort(np.abs(before))[-500:]
    assert value == float(np.float16(kept.mean()))
    signed = float(before[trits != 0].mean())
    # The mistake to avoid: the signed mean of what is kept is next to nothing.
    assert value > 0.02 > 20 * abs(signed)
    assert np.count_nonzero(trits) == 500
    np.testing.assert_array_equal(trits[np.abs(before) >= kept[0]] > 0, before[trits != 0] > 0)


def test_stc_over_the_whole_adapter() -> None:
    adapter = small_adapter()
    made = Stc(0.2).compress(adapter)
    before, after = flat(adapter.modules), flat(made.modules)
    order = np.argsort(-np.abs(before))[: int(0.2 * PARAMETERS)]
    expected = np.zeros(PARAMETERS)
    expected[order] = np.sign(before[order]) * np.float16(np.abs(before[order]).mean())
    np.testing.assert_array_equal(after, expected)


def test_stc_by_tensor_keeps_the_share_of_each() -> None:
    adapter = small_adapter()
    made = Stc(0.25, Scope.TENSOR).compress(adapter)
    for before, after in zip(matrices(adapter.modules), matrices(made.modules), strict=True):
        assert np.count_nonzero(after) == before.size // 4
        largest = np.sort(np.abs(before).ravel())[-(before.size // 4) :]
        assert set(np.abs(after[after != 0]).tolist()) == {float(np.float16(largest.mean()))}


def test_stc_by_factor_compares_a_with_a() -> None:
    adapter = small_adapter()
    made = Stc(0.5, Scope.FACTOR).compress(adapter)
    for side in ("a", "b"):
        before, after = (
            np.concatenate([getattr(m, side).ravel() for m in of.modules.values()])
            for of in (adapter, made)
        )
        assert np.count_nonzero(after) == before.size // 2
        assert np.abs(before[after != 0]).min() >= np.abs(before[after == 0]).max()


@pytest.mark.parametrize(("scope", "scales"), [(Scope.GLOBAL, 1), (Scope.FACTOR, 2)])
def test_stc_costs_the_entropy_of_its_trits(scope: Scope, scales: int) -> None:
    rng = np.random.default_rng(1)
    module = Factors(rng.normal(size=(16, 3_000)), 0.7 * rng.normal(size=(3_000, 16)), 1.0)
    adapter = Adapter(Path("nowhere"), {"q": module})
    made = Stc(0.1, scope).compress(adapter)
    bound = entropy(made.modules["q"].a) + entropy(made.modules["q"].b) + 16 * scales
    assert 0.99 * bound <= made.size_bits <= 1.02 * bound + 8 * 160
    segments = (
        entropy_coder.encode_segment(np.sign(side).astype(np.int8).ravel())
        for side in (made.modules["q"].a, made.modules["q"].b)
    )
    assert made.size_bits == 8 * sum(map(len, segments)) + 16 * scales


def test_bitdelta_keeps_signs_and_the_mean_magnitude() -> None:
    adapter = small_adapter()
    made = BitDelta().compress(adapter)
    for before, after in zip(matrices(adapter.modules), matrices(made.modules), strict=True):
        scale = sum(abs(value) for value in before.ravel().tolist()) / before.size
        np.testing.assert_allclose(after, np.sign(before) * scale, rtol=2**-11)
    assert made.size_bits == PARAMETERS + 4 * 16


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_error_of_svd_is_the_tail_of_the_spectrum(rank: int) -> None:
    adapter = small_adapter()
    point = measure(TruncatedSvd(rank), adapter)
    kept, energy = 0.0, 0.0
    for module in adapter.modules.values():
        sigma = np.linalg.svd(dense(module), compute_uv=False)
        kept += float((sigma[:rank] ** 2).sum())
        energy += float((sigma**2).sum())
    tail = math.sqrt(max(0.0, 1 - kept / energy))
    assert point.error == pytest.approx(tail, rel=1e-3, abs=1e-3)
    assert point.bits_per_param == 16 * rank / RANK


def test_int8_has_a_scale_per_component() -> None:
    adapter = small_adapter()
    made = Integers(8).compress(adapter)
    scales = 16 * 2 * 2 * RANK
    assert 6.5 * PARAMETERS < made.size_bits - scales <= 8 * PARAMETERS
    for name, module in adapter.modules.items():
        after = made.modules[name]
        for before, found in ((module.a, after.a), (module.b.T, after.b.T)):
            step = np.abs(before).max(axis=1, keepdims=True) / 127
            assert (np.abs(found - before) <= 0.57 * step).all()


def test_int4_has_a_scale_per_64_values() -> None:
    adapter = Adapter(Path("nowhere"), {"q": factors(seed=0, shape=(128, 100))})
    made = Integers(4, 64).compress(adapter)
    scales = 16 * RANK * (2 + 2)
    assert made.size_bits <= 4 * RANK * 228 + scales
    after, before = made.modules["q"].a, adapter.modules["q"].a
    for at, end in ((0, 64), (64, 100)):
        step = np.abs(before[:, at:end]).max(axis=1, keepdims=True) / 7
        assert (np.abs(after - before)[:, at:end] <= 0.51 * step).all()
        assert (np.abs(after - before)[:, at:end] > 0.4 * step).any()


def test_int4_never_costs_more_than_packed_and_less_where_values_are_alike() -> None:
    module = factors(seed=0, rank=8, shape=(4_096, 4_096))
    made = Integers(4, 64).compress(Adapter(Path("nowhere"), {"q": module}))
    values = 8 * 2 * 4_096
    levels = 4 * values
    scales = 16 * values // 64
    assert 0.8 * levels < made.size_bits - scales < 0.99 * levels


@pytest.mark.parametrize(
    ("ratio", "head"), [(0.1, 1), (0.66, 1), (0.67, 2), (0.83, 2), (0.84, 3), (1.0, 3)]
)
def test_the_head_is_the_least_that_holds_the_energy(ratio: float, head: int) -> None:
    assert split(np.array([2.0, 1.0, 1.0]), ratio) == head


def test_the_head_of_nothing() -> None:
    assert split(np.zeros(3), 0.9) == 1


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95, 1.0])
def test_loraquant_counts_every_bit(bits: int, ratio: float) -> None:
    adapter = small_adapter(rank=8)
    levels = side = 0
    for module in adapter.modules.values():
        sigma = np.linalg.svd(dense(module), compute_uv=False)[:8]
        energies = (sigma**2).tolist()
        head = next(h for h in range(1, 9) if sum(energies[:h]) >= ratio * sum(energies) - 1e-12)
        for size in (module.a.shape[1], module.b.shape[0]):
            levels += head * size * bits + (8 - head) * size
            side += head * (16 + bits) + (8 - head) * 16  # sizes up to 128 are one group
    assert LoraQuant(bits, ratio).compress(adapter).size_bits == pytest.approx(
        levels + side, abs=14
    )


def test_loraquant_rounds_the_balanced_factors() -> None:
    module = factors(seed=3, rank=2, shape=(150, 90))
    after = LoraQuant(2, 0.5).compress(Adapter(Path("nowhere"), {"q": module})).modules["q"]
    u, sigma, vt = np.linalg.svd(module.b @ module.a, full_matrices=False)
    weak = math.sqrt(sigma[1]) * u[:, 1]
    groups = [weak[:128], weak[128:]]
    expected = np.concatenate([np.sign(g) * np.float16(np.abs(g).mean()) for g in groups])
    found = after.b[:, 1] * np.sign(after.b[0, 1] * u[0, 1])  # u is known up to its sign
    np.testing.assert_allclose(found, expected, rtol=2**-10)
    strong = math.sqrt(sigma[0]) * vt[0]
    step = (strong.max() - strong.min()) / 3
    grid = np.unique(np.round(after.a[0] / step, 2))
    assert len(grid) <= 4
    np.testing.assert_allclose(grid, np.round(grid), atol=0.011)


def test_loraquant_is_better_refined_and_smaller_deflated() -> None:
    adapter = Adapter(Path("nowhere"), {"q": factors(seed=3, rank=8, shape=(2_000, 2_000))})
    plain, refined, deflated = (
        measure(LoraQuant(2, 0.9, refined=r, deflated=d), adapter)
        for r, d in ((False, False), (True, False), (True, True))
    )
    assert refined.error < 0.8 * plain.error
    assert refined.bits_per_param == plain.bits_per_param
    assert deflated.error == refined.error
    assert deflated.bits_per_param < refined.bits_per_param


@pytest.mark.parametrize("scope", list(Scope))
def test_compeft_takes_the_best_alpha_of_all_files(
    scope: Scope, make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder(more={"base_model.model.score.weight": np.ones((3, 9), np.float32)})
    method = BestCompeft(0.2, scope)
    made = method.compress(read_adapter(folder))
    reports = {
        alpha: compress_adapter(folder, tmp_path / "x.tern", method=Compeft(0.2, alpha, scope))
        for alpha in ALPHAS
    }
    errors = {alpha: report.delta_error or 0.0 for alpha, report in reports.items()}
    best = min(errors, key=lambda alpha: errors[alpha])
    assert made.note == f"alpha {best:g}"
    assert made.size_bits == 8 * (reports[best].size.lossy - 1024)
    point = measure(method, read_adapter(folder))
    assert point.error == pytest.approx(errors[best])
    assert point.erased_modules == len(reports[best].erased)


def test_compeft_takes_the_alpha_that_it_is_given(make_folder: MakeFolder) -> None:
    made = BestCompeft(0.2, alpha=7.0).compress(read_adapter(make_folder()))
    assert made.note == "alpha 7"


def test_compeft_erases_a_small_b(make_folder: MakeFolder) -> None:
    modules = {
        name: Factors(module.a, 1e-4 * module.b, module.scale)
        for name, module in small_adapter().modules.items()
    }
    adapter = read_adapter(make_folder(adapter=Adapter(Path("nowhere"), modules)))
    point = measure(BestCompeft(0.05), adapter)
    assert (point.error, point.erased_modules) == (1.0, 2)


def test_a_module_that_is_absent_is_zero() -> None:
    adapter = small_adapter()
    kept = Approximation({"q": adapter.modules["q"]}, 0)
    lost, left = (float((dense(adapter.modules[name]) ** 2).sum()) for name in ("v", "q"))
    energies = compare(adapter, kept)
    assert energies["v"].error == 1.0
    assert energies["q"].error == pytest.approx(0, abs=1e-6)
    assert total(energies).error == pytest.approx(math.sqrt(lost / (lost + left)))


def test_what_had_no_effect_is_not_erased() -> None:
    zero = Factors(np.ones((2, 9)), np.zeros((7, 2)), 1.0)
    adapter = Adapter(Path("nowhere"), {"q": factors(seed=0), "z": zero})
    assert measure(TruncatedSvd(2), adapter).erased_modules == 0
    for method in (Stc(0.1), BitDelta(), Integers(4, 64), LoraQuant()):
        assert np.isfinite(measure(method, adapter).error)


@dataclass(frozen=True, slots=True)
class Swap:
    """Give the modules of another adapter, for nothing."""

    modules: Mapping[str, Factors]
    label: str = "swap"

    def compress(self, adapter: Adapter) -> Approximation:
        """Pay no attention."""
        return Approximation(self.modules, 0)


def test_an_effect_out_of_nothing_is_an_error_but_erases_nothing() -> None:
    zero = Factors(np.ones((2, 9)), np.zeros((7, 2)), 1.0)
    one = Factors(np.ones((2, 9)), np.ones((7, 2)), 1.0)
    point = measure(Swap({"z": one}), Adapter(Path("nowhere"), {"z": zero}))
    assert (point.error, point.erased_modules) == (math.inf, 0)
    opposite = measure(
        Swap({"z": Factors(one.a, -one.b, 1.0)}), Adapter(Path("nowhere"), {"z": one})
    )
    assert (opposite.error, opposite.erased_modules) == (2.0, 1)


def test_a_sweep_measures_every_setting_in_order() -> None:
    sweep = Sweep("svd", lambda adapter: map(TruncatedSvd, range(1, adapter.rank + 1)))
    labels = [point.label for point in sweep.rows(small_adapter(rank=3))]
    assert labels == ["SVD fp16 rank 1", "SVD fp16 rank 2", "SVD fp16 rank 3"]
