"""Check sums of masks against dense definitions, and TIES against PEFT's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge

from compress import loops
from compress.trit_rows import pack_rows
from merge.compressed import Convention, Election, TernaryTensor, elect_signs, linear_sum, ties
from merge.errors import MergeOptionError

Array = NDArray[Any]
loops.load()
COLUMNS = [1, 63, 64, 65, 997]


def draw(
    count: int, columns: int, *, seed: int = 0, equal: bool = False
) -> tuple[list[TernaryTensor], Array]:
    """Draw tensors [3, columns], and the same ones dense: float64 [count, 3, columns]."""
    rng = np.random.default_rng(seed)
    shape = (count, 3, columns)
    trits = ((rng.random(shape) < 0.5) * rng.choice([-1, 1], shape)).astype(np.int8)
    scales = np.full(count, 0.5) if equal else rng.integers(1, 9, count) / 8
    tensors = [TernaryTensor(pack_rows(t), s) for t, s in zip(trits, scales.tolist(), strict=True)]
    return tensors, scales[:, None, None] * trits


def by_definition(
    dense: Array, weights: Array, *, convention: Convention, election: Election
) -> Array:
    """Merge by TIES as merging.md tells it, value by value."""
    shares = weights[:, None, None]
    voting = dense if convention is Convention.PEFT else dense * shares
    votes = np.sign(voting) if election is Election.FREQUENCY else voting
    elected = np.where(votes.sum(axis=0) >= 0, 1, -1)
    agree = np.sign(voting) == elected
    total = (dense * shares * agree).sum(axis=0)
    divisor = (agree if convention is Convention.PEFT else agree * shares).sum(axis=0).astype(float)
    divisor[np.abs(divisor) < 1e-8] = 1
    merged: Array = total / divisor
    return merged


@given(
    st.integers(1, 6),
    st.sampled_from(COLUMNS),
    st.integers(0, 99),
    st.sampled_from(list(Convention)),
    st.sampled_from(list(Election)),
)
def test_ties_is_its_definition(
    count: int, columns: int, seed: int, convention: Convention, election: Election
) -> None:
    tensors, dense = draw(count, columns, seed=seed)
    weights = np.random.default_rng(seed + 1).integers(-4, 9, count) / 4
    found = ties(tensors, weights.tolist(), convention=convention, election=election)
    expected = by_definition(dense, weights, convention=convention, election=election)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    with loops.only_numpy():
        slow = ties(tensors, weights.tolist(), convention=convention, election=election)
    assert slow.tobytes() == found.tobytes()


@pytest.mark.parametrize("election", list(Election))
@pytest.mark.parametrize("equal", [False, True])
def test_the_convention_of_peft_is_peft(election: Election, equal: bool) -> None:
    tensors, dense = draw(5, 300, seed=3, equal=equal)
    weights = [0.5, 1.0, 0.25, 2.0, 1.0]
    values = torch.from_numpy(dense)
    mask = calculate_majority_sign_mask(values, method=election.value)
    expected = disjoint_merge(values * torch.tensor(weights)[:, None, None], mask)
    found = ties(tensors, weights, election=election)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_conventions_differ_where_weights_do() -> None:
    tensors = [TernaryTensor(pack_rows(np.array([[s]], np.int8)), 1.0) for s in (1, -1, -1)]
    weights = [4.0, 1.0, 1.0]
    assert ties(tensors, weights, convention=Convention.PEFT).tolist() == [[-1.0]]
    assert ties(tensors, weights, convention=Convention.MERGEKIT).tolist() == [[1.0]]


@pytest.mark.parametrize("convention", list(Convention))
def test_a_sum_of_zero_elects_plus(convention: Convention) -> None:
    tensors = [TernaryTensor(pack_rows(np.array([[s, 0]], np.int8)), 0.1) for s in (-1, 1)]
    assert elect_signs(tensors).tolist() == [[1, 1]]
    found = ties(tensors, [1.0, 1.0], convention=convention)
    np.testing.assert_allclose(found, [[0.1, 0.0]], rtol=1e-6)


def test_equal_scales_elect_by_majority() -> None:
    tensors, _ = draw(7, 200, equal=True)
    by_count = elect_signs(tensors, election=Election.FREQUENCY)
    np.testing.assert_array_equal(elect_signs(tensors), by_count)


@pytest.mark.parametrize("columns", COLUMNS)
def test_linear_sums_are_dense_sums(columns: int) -> None:
    tensors, dense = draw(4, columns)
    weights = [0.3, -1.0, 0.0, 2.5]
    expected = np.tensordot(weights, dense, 1)
    np.testing.assert_allclose(linear_sum(tensors, weights), expected, rtol=1e-6, atol=1e-7)


@given(st.permutations(range(4)))
def test_order_does_not_matter(order: list[int]) -> None:
    tensors, _ = draw(4, 70)
    weights = [0.5, 1.0, 0.25, 2.0]
    for convention in Convention:
        np.testing.assert_allclose(
            ties([tensors[n] for n in order], [weights[n] for n in order], convention=convention),
            ties(tensors, weights, convention=convention),
            rtol=1e-6,
        )


def test_one_tensor_is_itself() -> None:
    tensors, dense = draw(1, 70)
    for convention in Convention:
        np.testing.assert_array_equal(ties(tensors, [1.0], convention=convention), dense[0])
    np.testing.assert_array_equal(linear_sum(tensors, [1.0]), dense[0])


def test_what_does_not_fit_is_refused() -> None:
    tensors, _ = draw(2, 64)
    wide, _ = draw(1, 65)
    tall = [TernaryTensor(pack_rows(np.ones((2, 64), np.int8)), 1.0)]
    for bad, weights in (([], []), (tensors, [1.0]), (tensors + wide, [1.0] * 3)):
        with pytest.raises(MergeOptionError):
            linear_sum(bad, weights)
    with pytest.raises(MergeOptionError, match=r"\(3, 64\)|shapes"):
        ties(tensors + tall, [1.0] * 3)
