"""Check counted products and visited sums against integers, and machine code against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import loops, masks
from compress.errors import OptionError
from compress.mask_products import Paired, own_sums, paired_sums, row_products, sum_by_owner
from compress.mask_sums import add_agreeing, add_scaled, majority
from compress.trit_rows import TritRows, pack_rows, stack, unpack_rows

Array = NDArray[Any]
SIZES = [1, 2, 63, 64, 65, 127, 128, 129, 997]
loops.load()


def random_trits(rows: int, columns: int, *, seed: int = 0, density: float = 0.4) -> Array:
    """Draw int8 [rows, columns]."""
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, columns)) < density
    trits: Array = (kept * rng.choice([-1, 1], (rows, columns))).astype(np.int8)
    return trits


def pairs_of(ranks: list[int], columns: tuple[int, int], *, seed: int = 0) -> Paired:
    """Draw pairs of vectors for owners of these ranks."""
    rng = np.random.default_rng(seed)
    rows = sum(ranks)
    a, b = (pack_rows(random_trits(rows, n, seed=seed + n)) for n in columns)
    return Paired(a, b, rng.normal(size=rows), np.cumsum([0, *ranks]))


def deltas(pairs: Paired) -> list[Array]:
    """Form the dense Σ w b aᵀ of every owner."""
    a, b = (unpack_rows(rows).astype(np.float64) for rows in (pairs.a, pairs.b))
    return [
        (b[start:stop].T * pairs.weights[start:stop]) @ a[start:stop]
        for start, stop in zip(pairs.bounds[:-1], pairs.bounds[1:], strict=True)
    ]


@pytest.mark.parametrize("columns", SIZES)
def test_planes_hold_the_trits_and_nothing_beyond(columns: int) -> None:
    trits = random_trits(3, columns, seed=columns)
    rows = pack_rows(trits)
    assert rows.words == -(-columns // 64)
    assert rows.nonzero.dtype == np.uint64
    np.testing.assert_array_equal(unpack_rows(rows), trits)
    assert int(np.bitwise_count(rows.nonzero).sum()) == int(np.abs(trits).sum())
    assert not (rows.negative & ~rows.nonzero).any()
    assert rows.size_bytes == 2 * 8 * 3 * rows.words


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize(("left", "right"), [(1, 1), (2, 3), (5, 64), (3, 257), (7, 300)])
def test_products_are_exact_and_equal(columns: int, left: int, right: int) -> None:
    one, two = random_trits(left, columns), random_trits(right, columns, seed=1)
    fast = row_products(pack_rows(one), pack_rows(two))
    with loops.only_numpy():
        slow = row_products(pack_rows(one), pack_rows(two))
    assert fast.tobytes() == slow.tobytes()
    np.testing.assert_array_equal(fast, one.astype(np.int64) @ two.T.astype(np.int64))
    assert fast[0, 0] == masks.dot(masks.pack_masks(one[0]), masks.pack_masks(two[0]))


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.tuples(st.integers(1, 140), st.integers(1, 140)),
    st.integers(0, 99),
)
def test_sums_are_those_of_dense_matrices(
    ranks: list[int], columns: tuple[int, int], seed: int
) -> None:
    pairs = pairs_of(ranks, columns, seed=seed)
    dense = deltas(pairs)
    expected = np.array([[float((one * two).sum()) for two in dense] for one in dense])
    scale = np.abs(expected).max() + 1
    found = paired_sums(pairs)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, expected, atol=1e-11 * scale)
    np.testing.assert_allclose(paired_sums(pairs, pairs), expected, atol=1e-11 * scale)
    np.testing.assert_allclose(own_sums(pairs), np.diagonal(expected), atol=1e-11 * scale)
    with loops.only_numpy():
        np.testing.assert_allclose(paired_sums(pairs), found, atol=1e-12 * scale)


def test_sums_of_whole_weights_are_exact_and_equal() -> None:
    pairs = pairs_of([8] * 70 + [3, 1, 5], (384, 200))
    whole = Paired(pairs.a, pairs.b, np.ones(len(pairs.weights)), pairs.bounds)
    fast = paired_sums(whole)
    with loops.only_numpy():
        assert fast.tobytes() == paired_sums(whole).tobytes()
    assert (fast == np.round(fast)).all()


@pytest.mark.parametrize("ranks", [[1], [2, 0, 3], [4] * 9])
def test_known_products_are_summed_alike(ranks: list[int]) -> None:
    pairs = pairs_of(ranks, (65, 31))
    of_a, of_b = (row_products(x, x).astype(np.float32) for x in (pairs.a, pairs.b))
    side = pairs.weights, pairs.bounds
    fast = sum_by_owner(of_a, of_b, side, side)
    with loops.only_numpy():
        np.testing.assert_allclose(sum_by_owner(of_a, of_b, side, side), fast, atol=1e-10)
    np.testing.assert_allclose(fast, paired_sums(pairs), atol=1e-10)


def test_other_lengths_are_refused() -> None:
    one, two = pack_rows(random_trits(1, 64)), pack_rows(random_trits(1, 65))
    with pytest.raises(OptionError, match="65"):
        row_products(one, two)
    with pytest.raises(OptionError, match="65"):
        stack([one, two])
    pairs = pairs_of([2], (10, 20))
    with pytest.raises(OptionError, match="10"):
        paired_sums(pairs, pairs_of([2], (20, 10)))


def test_flat_rows_multiply_as_one_vector() -> None:
    one, two = random_trits(3, 70), random_trits(3, 70, seed=1)
    found = row_products(pack_rows(one).flat(), pack_rows(two).flat())
    assert found.tolist() == [[int((one.astype(int) * two).sum())]]


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_sums_visit_every_set_bit(columns: int, density: float) -> None:
    trits = [random_trits(2, columns, seed=seed, density=density) for seed in range(3)]
    scales = (0.1, -2.5, 0.3)

    def added(parts: list[TritRows]) -> Array:
        total = np.zeros((2, columns))
        for rows, scale in zip(parts, scales, strict=True):
            add_scaled(total, rows, scale)
        return total

    rows = [pack_rows(each) for each in trits]
    fast = added(rows)
    with loops.only_numpy():
        assert fast.tobytes() == added(rows).tobytes()
    expected = sum(scale * each for scale, each in zip(scales, trits, strict=True))
    np.testing.assert_allclose(fast, expected, atol=1e-14)


@pytest.mark.parametrize("columns", SIZES)
def test_only_what_agrees_is_added(columns: int) -> None:
    trits = random_trits(2, columns, seed=5, density=0.7)
    wanted = random_trits(2, columns, seed=6, density=1.0)
    minus = pack_rows(wanted).negative
    rows = pack_rows(trits)
    found: list[tuple[Array, Array]] = []
    for _ in range(2):
        total, counted = np.full((2, columns), 0.5), np.zeros((2, columns))
        if found:
            with loops.only_numpy():
                add_agreeing(total, counted, rows, minus, (-0.25, 3.0))
        else:
            add_agreeing(total, counted, rows, minus, (-0.25, 3.0))
        found.append((total, counted))
    agree = trits == wanted
    for total, counted in found:
        np.testing.assert_array_equal(total, 0.5 + np.where(agree, -0.25 * trits, 0.0))
        np.testing.assert_array_equal(counted, 3.0 * agree)


@pytest.mark.parametrize("columns", [*SIZES, 64 * 129])
@pytest.mark.parametrize("voters", [1, 2, 3, 4, 7, 8, 9, 31])
def test_the_majority_is_counted_alike(columns: int, voters: int) -> None:
    trits = [random_trits(2, columns, seed=seed, density=0.8) for seed in range(voters)]
    rows = [pack_rows(each) for each in trits]
    fast = majority(rows)
    with loops.only_numpy():
        assert fast.tobytes() == majority(rows).tobytes()
    balance = np.sum([each.astype(int) for each in trits], axis=0)
    np.testing.assert_array_equal(fast, pack_rows((balance < 0) * np.int8(-1)).negative)
