"""Check errors and bounds against dense arithmetic and published numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.adapter import open_adapter
from compress.lora import find_modules
from compress.measure import Energies, Factors, delta_energies, shannon_bits, vector_energies
from compress.water_filling import Spectrum, error_bound, spectrum


def factors(seed: int, rank: int = 3, scale: float = 2.0) -> Factors:
    """Make a random module."""
    rng = np.random.default_rng(seed)
    return Factors(rng.normal(size=(rank, 7)), rng.normal(size=(5, rank)), scale)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 5), st.floats(0.1, 4))
def test_energies_equal_dense_ones(seed: int, rank: int, other_rank: int, scale: float) -> None:
    left, right = factors(seed, rank), factors(seed + 1, other_rank, scale)
    x, y = left.scale * left.b @ left.a, right.scale * right.b @ right.a
    found = delta_energies(left, right)
    assert found.original == pytest.approx((x**2).sum())
    assert found.approximation == pytest.approx((y**2).sum())
    assert found.inner == pytest.approx((x * y).sum())
    assert found.error == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))


def test_energies_of_modules_add_up() -> None:
    total = delta_energies(factors(1), factors(2)) + delta_energies(factors(3), factors(4))
    dense = [f.scale * f.b @ f.a for f in map(factors, (1, 2, 3, 4))]
    x = np.concatenate([dense[0].ravel(), dense[2].ravel()])
    y = np.concatenate([dense[1].ravel(), dense[3].ravel()])
    assert total.error == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    assert total.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize(
    ("energies", "error", "cosine"),
    [
        (Energies(), 0.0, 0.0),
        (Energies(4, 0, 0), 1.0, 0.0),
        (Energies(4, 4, 4), 0.0, 1.0),
        (Energies(4, 4, -4), 2.0, -1.0),
        (Energies(0, 4, 0), math.inf, 0.0),
        (Energies(4, 4, 4.0000001), 0.0, 1.0),
    ],
)
def test_edges_of_the_error(energies: Energies, error: float, cosine: float) -> None:
    assert energies.error == pytest.approx(error, abs=1e-3)
    assert energies.cosine == pytest.approx(cosine)


def test_vectors() -> None:
    found = vector_energies(np.array([[1, 2]], np.float16), np.array([[2, 0]], np.float16))
    assert (found.original, found.approximation, found.inner) == (5, 4, 2)


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        ([0, 0, 0], 0),
        ([7, 0, 0], 0),
        ([1, 1], 2),
        ([5, 90, 5], 10 * math.log2(20) + 90 * math.log2(100 / 90)),
    ],
)
def test_shannon_bits(counts: list[int], bits: float) -> None:
    assert shannon_bits(np.array(counts)) == pytest.approx(bits)


@pytest.mark.parametrize(
    ("density", "bits"), [(0.05, 0.336), (0.1, 0.569), (0.2, 0.922), (0.3, 1.181), (0.5, 1.5)]
)
def test_the_published_entropy_table(density: float, bits: float) -> None:
    n = 1_000_000
    kept = round(n * density / 2)
    counts = np.array([kept, n - 2 * kept, kept])
    assert shannon_bits(counts) / n == pytest.approx(bits, abs=5e-4)


RATES = (0.1, 0.25, 0.5, 1, 2, 4)
KNOWN = {
    "adapters/gpt2-gurvineet-epoch3": (811_008, (0.6990, 0.4863, 0.3258, 0.1941, 0.0828, 0.0208)),
    "adapters/gpt2-gurvineet-epoch1": (811_008, (0.6929, 0.4797, 0.3264, 0.1969, 0.0861, 0.0224)),
    "adapters/gpt2-cls-deepbiolab": (811_008, (0.6607, 0.3829, 0.2318, 0.1350, 0.0618, 0.0157)),
    "adapters/gpt2-gurvineet-ckptbest": (811_008, (0.8253, 0.6862, 0.5425, 0.3756, 0.1962, 0.0504)),
    "adapters/distilbert-selfheal-raghava": (
        73_728,
        (0.8366, 0.6312, 0.4794, 0.3183, 0.1640, 0.0437),
    ),
    "adapters/roberta-agnews-aguleon-ckpt500": (
        221_184,
        (0.7849, 0.5470, 0.3627, 0.2313, 0.1139, 0.0298),
    ),
    "experts/sst2": (110_592, (0.5993, 0.3898, 0.2605, 0.1635, 0.0799, 0.0204)),
    "experts/banking77": (110_592, (0.7312, 0.5457, 0.3768, 0.2285, 0.1124, 0.0286)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_known_water_filling_bounds(name: str, test_data: Path) -> None:
    parameters, bounds = KNOWN[name]
    with open_adapter(test_data / name) as source:
        read = source.weights.read
        modules = [
            Factors(read(m.a).reshape(m.rank, -1), read(m.b).reshape(-1, m.rank), 1.0)
            for m in find_modules(source.weights, source.settings)
        ]
    components = spectrum(modules)
    assert components.parameters == parameters
    for rate, bound in zip(RATES, bounds, strict=True):
        assert error_bound(components, rate) == pytest.approx(bound, abs=1e-4)


def test_the_spectrum_is_that_of_the_dense_delta() -> None:
    module = factors(5)
    sigma = np.linalg.svd(module.scale * module.b @ module.a, compute_uv=False)[:3]
    np.testing.assert_allclose(np.sqrt(spectrum([module]).energies), sigma)


def test_more_bits_never_raise_the_bound() -> None:
    components = spectrum([factors(seed) for seed in range(4)])
    bounds = [error_bound(components, rate) for rate in (0.01, 0.1, 1, 4, 8)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] <= 1
    assert bounds[-1] < 0.05


def test_nothing_to_describe_costs_nothing() -> None:
    nothing = Spectrum(np.zeros(2), np.ones(2), np.ones(2), 4)
    assert error_bound(nothing, 1.0) == 0
