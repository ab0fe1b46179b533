"""Check that all ways that are measured beside one another give the same cosines and sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import expert_similarity as measured
from compress.mask_products import row_products
from merge.compressed import Convention, TernaryTensor, all_cosines, linear_sum, ties
from merge.compressed.experts import CompressedExpert, as_floats

SHAPES = [("q", 3, 40, 70), ("v", 2, 65, 33)]


def library(kind: str) -> list[CompressedExpert]:
    """Draw some experts of one kind."""
    if kind == "rd":
        return measured.layered_library(9, SHAPES)
    return measured.ternary_library(9, SHAPES, 0.3)


@pytest.mark.parametrize("kind", ["compeft", "rd"])
def test_every_way_gives_the_same_cosines(kind: str) -> None:
    experts = library(kind)
    ours = all_cosines(experts)
    ready = [measured.decoded_factors(experts, name) for name in experts[0].modules]
    np.testing.assert_allclose(measured.torch_factors(experts), ours, atol=2e-6)
    np.testing.assert_allclose(measured.torch_factors(experts, ready=ready), ours, atol=2e-6)
    products = measured.numpy_factors(experts, ready)
    norms = np.sqrt(np.diagonal(products))
    np.testing.assert_allclose(products / (norms[:, None] * norms), ours, atol=2e-6)
    dense = measured.dense_cosines(measured.dense_deltas(experts))
    np.testing.assert_allclose(dense.numpy(), ours, atol=1e-5)
    assert measured.exactness(experts) < 1e-6


def test_planes_of_integers_multiply_to_the_integers() -> None:
    """The road not taken is a right one: products of planes, each times its power of three."""
    experts = library("rd")
    values = np.concatenate([as_floats(expert.modules["q"].a) for expert in experts])
    planes, _ = measured.ternary_planes(experts, "q")
    count = planes.rows // len(values)
    powers = np.repeat(3.0 ** np.arange(count), len(values))
    products = row_products(planes, planes) * powers[:, None] * powers
    shape = (count, len(values), count, len(values))
    np.testing.assert_array_equal(products.reshape(shape).sum(axis=(0, 2)), values @ values.T)


@pytest.mark.parametrize("density", [0.1, 0.6])
def test_sums_and_ties_are_those_of_torch_and_peft(density: float) -> None:
    experts = measured.ternary_library(5, SHAPES, density)
    parts = [
        TernaryTensor(getattr(expert.modules["q"], "a"), 0.5 + number / 8)  # noqa: B009
        for number, expert in enumerate(experts)
    ]
    weights = [0.2, 0.1, 0.4, 0.2, 0.1]
    shares = torch.tensor(weights)[:, None, None]
    values = measured.unpacked(parts)
    np.testing.assert_allclose(linear_sum(parts, weights), (values * shares).sum(0), atol=1e-6)
    merged = ties(parts, weights, convention=Convention.PEFT)
    np.testing.assert_allclose(merged, measured.peft_ties(values, shares), atol=1e-6)


def test_trits_have_the_density_that_was_asked_for() -> None:
    trits = measured.random_trits(np.random.default_rng(0), 200, 500, 0.1)
    assert np.abs(trits).mean() == pytest.approx(0.1, abs=0.005)
    assert (trits > 0).mean() == pytest.approx(0.05, abs=0.005)
    assert set(np.unique(trits)) == {-1, 0, 1}


def test_shapes_are_those_of_the_models() -> None:
    parameters = sum(rank * (d_out + d_in) for _, rank, d_out, d_in in measured.LARGE)
    assert len(measured.LARGE) == 224
    assert parameters == pytest.approx(40e6, rel=0.01)
    assert sum(rank * (d_out + d_in) for _, rank, d_out, d_in in measured.SMALL) == 110_592


@pytest.mark.parametrize("kind", ["compeft", "rd"])
def test_a_table_has_a_line_for_every_way(kind: str) -> None:
    lines = measured.compare("title", library(kind), 4)
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 10
    assert all(line.count("|") == 6 for line in rows)
    assert "compressed, all pairs" in lines[6]


def test_files_are_read_and_compared(tmp_path: Path) -> None:
    lines = measured.file_rows(3, tmp_path)
    assert [line.split("|")[1].strip() for line in lines[4:6]] == [
        "compeft, density 0.1",
        "rd, 0.5 bits",
    ]


def test_what_is_measured_on_a_part_is_scaled() -> None:
    assert measured.scaled((2.0, 3.0), 4) == (8.0, 12.0)
    wall, processor = measured.best_of(3, lambda: sum(range(10_000)))
    assert 0 < wall < 5
    assert processor <= 5
    assert measured.row_of("way", (4.0, 2.0), 2.0, "note") == "| way | 4.00 | 2.00 | 2.0 | note |"
