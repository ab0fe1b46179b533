"""Check the arithmetic on factors against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.delta_space import Delta, padded, thin_qr, truncate, weighted_sum


def random_delta(seed: int, rank: int, shape: tuple[int, int] = (11, 7)) -> Delta:
    """Return a ΔW [d_out, d_in] of the given rank."""
    rng = np.random.default_rng(seed)
    return Delta(rng.standard_normal((rank, shape[1])), rng.standard_normal((shape[0], rank)))


@given(st.lists(st.tuples(st.floats(-3, 3), st.integers(1, 5)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_the_sum_is_exact(terms: list[tuple[float, int]]) -> None:
    deltas = [(w, random_delta(i, r)) for i, (w, r) in enumerate(terms)]
    total = weighted_sum(deltas)
    dense = sum(w * d.b @ d.a for w, d in deltas)
    np.testing.assert_allclose(total.b @ total.a, dense, atol=1e-12)
    assert total.rank == sum(r for _, r in terms)


@pytest.mark.parametrize("rank", [1, 3, 6, 7, 9, 20])
def test_truncation_is_the_best_one(rank: int) -> None:
    delta = random_delta(1, 9)
    dense = delta.b @ delta.a
    u, s, vt = np.linalg.svd(dense, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    reduced = truncate(delta, rank)
    assert reduced.delta.a.shape == (rank, 7)
    assert reduced.delta.b.shape == (11, rank)
    np.testing.assert_allclose(reduced.delta.b @ reduced.delta.a, best, atol=1e-10)
    assert reduced.energy == pytest.approx((s**2).sum())
    assert reduced.dropped == pytest.approx((s[rank:] ** 2).sum(), abs=1e-9)


def test_truncation_does_not_see_the_gauge() -> None:
    delta = random_delta(2, 4)
    gauge = np.random.default_rng(3).standard_normal((4, 4))
    turned = Delta(gauge @ delta.a, delta.b @ np.linalg.inv(gauge))
    one, other = truncate(delta, 2).delta, truncate(turned, 2).delta
    np.testing.assert_allclose(one.b @ one.a, other.b @ other.a, atol=1e-9)


def test_factors_come_out_balanced() -> None:
    reduced = truncate(random_delta(5, 4), 4).delta
    np.testing.assert_allclose(
        np.linalg.norm(reduced.a, axis=1), np.linalg.norm(reduced.b, axis=0), rtol=1e-9
    )


def test_padding_changes_nothing_but_the_rank() -> None:
    delta = random_delta(6, 2)
    wide = padded(delta, 5)
    assert wide.rank == 5
    np.testing.assert_array_equal(wide.b @ wide.a, delta.b @ delta.a)
    assert padded(delta, 2) is delta


@pytest.mark.parametrize("dependent", ["no", "nearly", "wholly"])
@pytest.mark.parametrize("shape", [(300, 64), (300, 20), (70, 64), (40, 64)])
def test_thin_qr_is_exact_for_columns_of_any_kind(dependent: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    stack = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape[1])
    if dependent != "no":
        half = shape[1] // 2
        noise = 1e-7 * rng.standard_normal(stack[:, half:].shape) if dependent == "nearly" else 0
        stack[:, half:] = stack[:, :half] * (1 + noise)
    q, r = thin_qr(stack)
    np.testing.assert_allclose(q.T @ q, np.eye(q.shape[1]), atol=1e-13)
    np.testing.assert_allclose(q @ r, stack, atol=1e-13 * np.abs(stack).max() * shape[1])
