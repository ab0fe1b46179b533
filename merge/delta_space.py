"""Do arithmetic on ΔW = B A through its factors; a dense ΔW is never formed.

B and A of one adapter are arbitrary up to B G⁻¹, G A, so nothing here depends on them one by one:
sums stack factors, norms and products go through their small Gram matrices, reductions through thin
QR and the SVD of a matrix of rank × rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array

#: Singular values below this share of the largest are those of rounding, and no direction. Factors
#: are float32 as a rule: the same ΔW in another pair of them differs by some 1e-7, and what TSV-M,
#: KnOTS or Core Space made of such a difference was as large as ΔW.
RANK_TOLERANCE = 1e-6
_WIDE = 48
#: Powers of two, up and down, that leave float32 its precision in sums and squares.
_USUAL = 30
#: Largest entry of QᵀQ − I after one Cholesky step from which the second gives full accuracy.
_NEARLY_ORTHONORMAL = 1e-3


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
        """Return the inner size; 0 for a module that an adapter does not have."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Return d_out and d_in."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    def times(self, factor: float) -> Delta:
        """Return factor · ΔW."""
        return self if factor == 1 else Delta(self.a, self.b * factor)


@dataclass(frozen=True, slots=True)
class SvdForm:
    """Hold ΔW = U · diag(s) · Vᵀ without directions of no size: the form that B and A share.

    Attributes:
        u: float64 [d_out, k], orthonormal columns.
        s: float64 [k], falling and positive.
        vt: float64 [k, d_in], orthonormal rows.
    """

    u: Array
    s: Array
    vt: Array

    @property
    def rank(self) -> int:
        """Return the numerical rank."""
        return len(self.s)


@dataclass(frozen=True, slots=True)
class Target:
    """Say to which rank a ΔW is reduced.

    Attributes:
        rank: the most that it may have; None for all of it.
        energy: keep the fewest directions that hold this share of ‖ΔW‖², in (0, 1]; None for all.
    """

    rank: int | None = None
    energy: float | None = None

    def count(self, s: Array, energy: float) -> int:
        """Count the directions to keep.

        Args:
            s: float64 [k], falling singular values.
            energy: ‖ΔW‖², to which directions beyond `s` may have contributed.
        """
        most = len(s) if self.rank is None else min(self.rank, len(s))
        if self.energy is None or not energy:
            return most
        reached = np.cumsum(np.square(s)) >= self.energy * energy * (1 - 1e-12)
        enough = int(np.argmax(reached)) + 1 if reached.any() else len(s)
        return min(most, enough)


ALL = Target()


@dataclass(frozen=True, slots=True)
class Truncated:
    """Hold the best approximation of a ΔW at some rank.

    Attributes:
        delta: the approximation.
        energy: ‖ΔW‖² before; 0 where nothing was to be cut, and nobody computed it.
        dropped: ‖ΔW‖² of what was left out.
    """

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


def inner(left: Delta, right: Delta) -> float:
    """Compute ⟨ΔW, ΔW'⟩ = Σ (BᵀB') ∘ (AA'ᵀ)."""
    return float(np.sum((left.b.T @ right.b) * (left.a @ right.a.T)))


def gram(deltas: Sequence[Delta]) -> Array:
    """Compute all inner products of ΔW, float64 [n, n], from the stacks of all factors."""
    a = np.concatenate([delta.a for delta in deltas])
    b = np.concatenate([delta.b for delta in deltas], axis=1)
    products = (b.T @ b) * (a @ a.T)
    edges = np.cumsum([0, *(delta.rank for delta in deltas)])
    kept = [n for n, delta in enumerate(deltas) if delta.rank]
    found = np.zeros((len(deltas), len(deltas)))
    if kept:
        starts = edges[kept]
        sums = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)
        found[np.ix_(kept, kept)] = sums
    return found


def of_usual_size(deltas: Sequence[Delta]) -> tuple[float, Sequence[Delta]]:
    """Divide ΔW that float32 cannot multiply out by one power of two, where they are such.

    Returns:
        that power, which is 1 for what people train, and the ΔW in units of it.
    """
    largest = max((math.sqrt(max(inner(own, own), 0.0)) for own in deltas), default=0.0)
    if not largest or abs(math.log2(largest)) <= _USUAL:
        return 1.0, deltas
    unit = 2.0 ** round(math.log2(largest))
    return unit, [own.times(1 / unit) for own in deltas]


def svd_form(delta: Delta, *, tolerance: float = RANK_TOLERANCE) -> SvdForm:
    """Decompose a ΔW through thin QR of B and Aᵀ: only R_B R_Aᵀ, rank × rank, needs an SVD.

    Args:
        delta: what to decompose.
        tolerance: directions below this share of the largest are left out; 0 keeps all.
    """
    q_b, r_b = thin_qr(delta.b)
    q_a, r_a = thin_qr(delta.a.T)
    u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    keep = numerical_rank(s, tolerance)
    return SvdForm(q_b @ u[:, :keep], s[:keep], vt[:keep] @ q_a.T)


def thin_qr(stack: Array) -> tuple[Array, Array]:
    """Decompose a tall matrix into orthonormal columns [d, k] and a triangle [k, k].

    Wide stacks go through two Cholesky factors of small Gram matrices (Yamamoto and others, 2015,
    "CholeskyQR2"), which is half the work; where columns nearly depend on one another, as those of
    equal adapters do, and for narrow ones Householder's reflections do it.
    """
    rows, columns = stack.shape
    if columns >= _WIDE and rows >= 2 * columns:
        try:
            once, first = _cholesky_qr(stack)
            gram = once.T @ once
            if np.abs(gram - np.eye(columns)).max() < _NEARLY_ORTHONORMAL:
                twice, second = _cholesky_qr(once, gram)
                return twice, second @ first
        except np.linalg.LinAlgError:
            pass
    found: tuple[Array, Array] = np.linalg.qr(stack)
    return found


def _cholesky_qr(stack: Array, gram: Array | None = None) -> tuple[Array, Array]:
    lower = np.linalg.cholesky(stack.T @ stack if gram is None else gram)
    return stack @ np.linalg.inv(lower).T, lower.T


def numerical_rank(s: Array, tolerance: float = RANK_TOLERANCE) -> int:
    """Count the falling singular values that are more than rounding; 0 if all are 0."""
    return int(np.count_nonzero(s > tolerance * s[0])) if s.size else 0


def truncate(delta: Delta, rank: int) -> Truncated:
    """Reduce to the best approximation of this rank (Eckart–Young), balanced between factors.

    Args:
        delta: what to reduce.
        rank: the rank of the result, at least 1; directions beyond the rank of `delta` are zero.

    Returns:
        B' = U √S and A' = √S Vᵀ of exactly `rank` columns and rows.
    """
    reduced = reduce(delta, Target(rank))
    return Truncated(padded(reduced.delta, rank), reduced.energy, reduced.dropped)


def reduce(delta: Delta, target: Target) -> Truncated:
    """Reduce to what a target asks for: B' = U √S and A' = √S Vᵀ; as it is where it asks nothing.

    Args:
        delta: what to reduce.
        target: the rank or the share of ‖ΔW‖² to keep.
    """
    if target == ALL or not delta.rank:
        return Truncated(delta, 0.0, 0.0)
    return cut(svd_form(delta, tolerance=0.0), target)


def cut(form: SvdForm, target: Target) -> Truncated:
    """Keep as many of the first directions as a target asks for.

    Args:
        form: of the ΔW to reduce. Where singular values are equal its order decides.
        target: the rank or the share of ‖ΔW‖² to keep.
    """
    energy = float(form.s @ form.s)
    keep = target.count(form.s, energy)
    return Truncated(balanced(form, keep), energy, float(form.s[keep:] @ form.s[keep:]))


def balanced(form: SvdForm, keep: int | None = None) -> Delta:
    """Give the first directions as factors of equal size: U √S and √S Vᵀ."""
    root = np.sqrt(form.s[:keep])
    return Delta(root[:, None] * form.vt[:keep], form.u[:, :keep] * root)


def padded(delta: Delta, rank: int) -> Delta:
    """Add zero directions until the rank is `rank`; ΔW stays the same."""
    missing = rank - delta.rank
    if missing <= 0:
        return delta
    return Delta(np.pad(delta.a, ((0, missing), (0, 0))), np.pad(delta.b, ((0, 0), (0, missing))))
