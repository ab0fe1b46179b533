"""Add ternary tensors, and merge them by TIES, from bit masks and scales.

TIES: P. Yadav et al., "TIES-Merging: Resolving Interference When Merging Models" (NeurIPS 2023,
arXiv 2306.01708), section 3: elect a sign for every value, then average the values that have it.
Trimming is what made the tensors ternary. Where weights enter, programs differ: see `Convention`.
Everything here is element-wise, so that on factors it is the PEFT-compatible mode, not a merge of
ΔW.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from compress.dtypes import Array
from compress.errors import OptionError
from compress.mask_sums import add_agreeing, add_scaled, majority
from compress.trit_rows import (
    TernaryTensor,
    TritRows,
    pack_rows,
    require_same_columns,
    unpack_rows,
)
from merge.errors import MergeOptionError

#: Sums of weights that are nearer to zero than this divide nothing, as in mergekit.
_NOTHING = 1e-8


class Convention(StrEnum):
    """Say where weights enter a merge by TIES.

    `peft`: signs are elected without weights; what agrees is weighted and divided by how many agree
    (PEFT's `ties`). `mergekit`: values are weighted first, and divided by the sum of the weights of
    those that agree. A sum of zero elects + in both.
    """

    PEFT = "peft"
    MERGEKIT = "mergekit"


class Election(StrEnum):
    """Say what elects a sign: the sum of the values, or how many values have it."""

    TOTAL = "total"
    FREQUENCY = "frequency"


def linear_sum(tensors: Sequence[TernaryTensor], weights: Sequence[float]) -> Array:
    """Compute Σ weightᵢ · tensorᵢ.

    Returns:
        float32 [rows, columns], summed in float64.

    Raises:
        MergeOptionError: there are none, or shapes or counts differ.
    """
    total = np.zeros(_shape(tensors, weights))
    for tensor, weight in zip(tensors, weights, strict=True):
        add_scaled(total, tensor.rows, weight * tensor.scale)
    return total.astype(np.float32)


def elect_signs(
    tensors: Sequence[TernaryTensor],
    weights: Sequence[float] | None = None,
    *,
    election: Election = Election.TOTAL,
) -> Array:
    """Elect the sign of every value.

    Args:
        tensors: of one shape.
        weights: what the values are multiplied with first; None means 1.
        election: by the sum of values, or of their signs.

    Returns:
        int8 [rows, columns] of +1 and −1; a sum of zero gives +1.

    Raises:
        MergeOptionError: there are none, or shapes or counts differ.
    """
    minus = _elected_minus(tensors, weights, election)
    rows, columns = tensors[0].shape
    elected = unpack_rows(TritRows(columns, minus, np.zeros_like(minus)))
    return np.where(elected.reshape(rows, columns) != 0, np.int8(-1), np.int8(1))


def _elected_minus(
    tensors: Sequence[TernaryTensor], weights: Sequence[float] | None, election: Election
) -> Array:
    """Say where − is elected: uint64 [rows, words].

    Values that are all as large elect by majority, which is counted 64 at a time.
    """
    shares = [1.0] * len(tensors) if weights is None else weights
    shape = _shape(tensors, shares)
    votes = [weight * tensor.scale for tensor, weight in zip(tensors, shares, strict=True)]
    voting = [(tensor.rows, vote) for tensor, vote in zip(tensors, votes, strict=True) if vote]
    if not voting:
        return np.zeros_like(tensors[0].rows.nonzero)
    if election is Election.FREQUENCY or len({abs(vote) for _, vote in voting}) == 1:
        return majority([rows if vote > 0 else _turned(rows) for rows, vote in voting])
    total = np.zeros(shape)
    for rows, vote in voting:
        add_scaled(total, rows, vote)
    return pack_rows(-(total < 0).astype(np.int8)).negative


def _turned(rows: TritRows) -> TritRows:
    """Change all signs."""
    return TritRows(rows.columns, rows.nonzero, rows.nonzero ^ rows.negative)


def ties(
    tensors: Sequence[TernaryTensor],
    weights: Sequence[float],
    *,
    convention: Convention = Convention.PEFT,
    election: Election = Election.TOTAL,
) -> Array:
    """Merge tensors by TIES; see `Convention` for where the weights enter.

    Returns:
        float32 [rows, columns]; 0 where no value has the elected sign.

    Raises:
        MergeOptionError: there are none, or shapes or counts differ.
    """
    shape = _shape(tensors, weights)
    after = convention is Convention.PEFT
    minus = _elected_minus(tensors, None if after else weights, election)
    plus = ~minus
    total, counted = np.zeros(shape), np.zeros(shape)
    for tensor, weight in zip(tensors, weights, strict=True):
        voted = tensor.scale if after else weight * tensor.scale
        if voted:
            scales = (weight * tensor.scale, 1.0 if after else weight)
            add_agreeing(total, counted, tensor.rows, minus if voted > 0 else plus, scales)
    counted[np.abs(counted) < _NOTHING] = 1.0
    return (total / counted).astype(np.float32)


def _shape(tensors: Sequence[TernaryTensor], weights: Sequence[float]) -> tuple[int, int]:
    """Give the shape that all tensors have.

    Raises:
        MergeOptionError: they have not, or there are none, or not as many weights.
    """
    if not tensors or len(tensors) != len(weights):
        raise MergeOptionError(
            "every tensor needs a weight",
            field="weights",
            expected=f"{max(1, len(tensors))}",
            actual=str(len(weights)),
        )
    try:
        require_same_columns([tensor.rows for tensor in tensors])
    except OptionError as error:
        raise MergeOptionError(
            error.message, field="columns", expected=error.expected, actual=error.actual
        ) from error
    for tensor in tensors:
        if tensor.shape != tensors[0].shape:
            raise MergeOptionError(
                "tensors of different shapes cannot be added",
                field="rows",
                expected=str(tensors[0].shape),
                actual=str(tensor.shape),
            )
    return tensors[0].shape
