"""Check how many entries stay, which, and that it does not matter in how many pieces one looks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.dtypes import Array
from merge import entries, sparsifiers
from merge.entries import Whole
from merge.options import Options
from merge.sparsifiers import Sparsifier
from tests.merge.closed_form import breadcrumbs_mask, trim
from tests.merge.kit import close, dense, lora, merge

EVERY = (
    sparsifiers.magnitude,
    sparsifiers.without_outliers,
    sparsifiers.random,
    sparsifiers.della,
)


def applied(
    sparsify: Sparsifier, values: Array, options: Options, cuts: tuple[int, ...] = ()
) -> Array:
    """Sparsify a matrix that is seen in parts which end at some rows."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(values)}), len(values)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    sparse = sparsify(Whole(values), parts, options)
    return np.concatenate([sparse(part) for part in parts])


_SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 10))


@given(shape=_SHAPES, density=st.floats(1e-3, 1), seed=st.integers(0, 9), coarse=st.booleans())
def test_exactly_so_many_stay(
    shape: tuple[int, int], density: float, seed: int, coarse: bool
) -> None:
    """Counts are exact for every size, with equal magnitudes too."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if coarse:
        values = np.sign(values) * np.ceil(np.abs(values) * 2)
    for sparsify, expected in (
        (sparsifiers.magnitude, trim(values, density)),
        (
            sparsifiers.without_outliers,
            values * breadcrumbs_mask(values, density, 0.1),
        ),
    ):
        found = applied(sparsify, values, Options(density=density, gamma=0.1), (3, 7))
        assert np.count_nonzero(found) == max(1, int(density * values.size))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 2, 5, 99, 100, 101, 199, 200])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.29, 0.5, 0.9, 0.999, 1.0])
def test_counts_of_small_matrices(size: int, density: float) -> None:
    """Published code has zeroed whole tensors of fewer than a hundred values."""
    values = np.random.default_rng(size).standard_normal((1, size))
    for sparsify in (sparsifiers.magnitude, sparsifiers.without_outliers):
        found = applied(sparsify, values, Options(density=density, gamma=0.01))
        assert np.count_nonzero(found) == max(1, int(density * size))


@given(
    shape=_SHAPES,
    density=st.floats(0.2, 0.8),
    cuts=st.lists(st.integers(1, 20), max_size=4),
    which=st.sampled_from(EVERY),
    wide=st.booleans(),
)
def test_parts_do_not_matter(
    shape: tuple[int, int], density: float, cuts: list[int], which: Sparsifier, wide: bool
) -> None:
    values = np.random.default_rng(1).integers(-3, 4, shape).astype(float)
    values = values if wide else values.astype(np.float32)
    options = Options(density=density, epsilon=0.1)
    np.testing.assert_array_equal(
        applied(which, values, options, tuple(cuts)), applied(which, values, options)
    )


@pytest.mark.parametrize(
    "name", ["ties", "dare_linear", "dare_ties", "della", "breadcrumbs", "magnitude_prune"]
)
def test_results_do_not_depend_on_the_size_of_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [lora(n, 3, (31, 17)) for n in range(3)]
    expected = dense(merge(name, inputs))
    for size in (1, 4 * 17 * 3, 4 * 17 * 3 * 10):
        monkeypatch.setattr(entries, "BLOCK_BYTES", size)
        close(dense(merge(name, inputs)), expected, 1e-6)


def test_what_one_adapter_draws_does_not_depend_on_the_others() -> None:
    own, zero = lora(1), lora(2)
    alone = merge("dare_linear", [own], [1.0], rank=9)
    beside = merge("dare_linear", [zero, own], [0.0, 1.0], rank=9)
    close(dense(beside), dense(alone), 1e-6)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_random_keeps_its_share_and_the_mean(density: float) -> None:
    values = np.ones((200, 333), np.float32)
    found = applied(sparsifiers.random, values, Options(density=density))
    share = np.count_nonzero(found) / found.size
    spread = np.sqrt(density * (1 - density) / found.size)
    assert abs(share - density) < 4 * spread
    np.testing.assert_allclose(found[found != 0], 1 / density, rtol=1e-6)
    rows, columns = (found != 0).mean(axis=1), (found != 0).mean(axis=0)
    assert np.abs(rows - density).max() < 6 * np.sqrt(density * (1 - density) / 333)
    assert np.abs(columns - density).max() < 6 * np.sqrt(density * (1 - density) / 200)


def test_della_keeps_the_large_more_often() -> None:
    values = np.tile(np.arange(1.0, 12.0), (4000, 1))
    found = applied(sparsifiers.della, values, Options(density=0.5, epsilon=0.3))
    shares = (found != 0).mean(axis=0)
    np.testing.assert_allclose(shares, np.linspace(0.2, 0.8, 11), atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(found.mean(axis=0), values[0], rtol=0.15)


def test_della_of_a_single_column_keeps_its_density() -> None:
    found = applied(sparsifiers.della, np.ones((9000, 1)), Options(density=0.5, epsilon=0.3))
    assert abs((found != 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(9000)


def test_density_1_drops_nothing() -> None:
    values = np.random.default_rng(0).standard_normal((5, 6))
    for sparsify in (*EVERY, sparsifiers.keep_all):
        np.testing.assert_array_equal(applied(sparsify, values, Options(density=1.0)), values)
