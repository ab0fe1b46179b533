"""Do arithmetic on ΔW = B A through its factors; a dense ΔW is never formed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array


@dataclass(frozen=True, slots=True)
class Delta:
    """Hold one module's ΔW = B A, its scale folded into B.

    Attributes:
        a: float64 [rank, d_in].
        b: float64 [d_out, rank].
    """

    a: Array
    b: Array

    @property
    def rank(self) -> int:
        """Return the inner size."""
        return int(self.a.shape[0])


@dataclass(frozen=True, slots=True)
class Truncated:
    """Hold the best approximation of a ΔW at some rank, and the squared norms before and after."""

    delta: Delta
    energy: float
    dropped: float


def weighted_sum(deltas: Sequence[tuple[float, Delta]]) -> Delta:
    """Give Σ wᵢ ΔWᵢ exactly, by stacking: [w₁B₁ | … | wₙBₙ] · [A₁; …; Aₙ].

    Args:
        deltas: weight and ΔW of each input; all have the same d_out and d_in.

    Returns:
        A ΔW whose rank is the sum of the ranks.
    """
    return Delta(
        np.concatenate([delta.a for _, delta in deltas]),
        np.concatenate([weight * delta.b for weight, delta in deltas], axis=1),
    )


def truncate(delta: Delta, rank: int) -> Truncated:
    """Reduce to the best approximation of this rank (Eckart–Young), balanced between factors.

    With thin QR of B and Aᵀ only a matrix of rank × rank is decomposed: R_B R_Aᵀ = U S Vᵀ.

    Args:
        delta: what to reduce.
        rank: the rank of the result, at least 1; directions beyond the rank of `delta` are zero.

    Returns:
        B' = Q_B U √S and A' = √S Vᵀ Q_Aᵀ of exactly `rank` columns and rows.
    """
    q_b, r_b = np.linalg.qr(delta.b)
    q_a, r_a = np.linalg.qr(delta.a.T)
    u, s, vt = np.linalg.svd(r_b @ r_a.T)
    keep = min(rank, len(s))
    root = np.sqrt(s[:keep])
    b = (q_b @ u[:, :keep]) * root
    a = root[:, None] * (vt[:keep] @ q_a.T)
    energy, dropped = float(s @ s), float(s[keep:] @ s[keep:])
    return Truncated(padded(Delta(a, b), rank), energy, dropped)


def padded(delta: Delta, rank: int) -> Delta:
    """Add zero directions until the rank is `rank`; ΔW stays the same."""
    missing = rank - delta.rank
    if missing <= 0:
        return delta
    return Delta(np.pad(delta.a, ((0, missing), (0, 0))), np.pad(delta.b, ((0, 0), (0, missing))))
