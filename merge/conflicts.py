"""Measure where adapters contradict one another in a module, and what a merge kept of each.

Norms, cosines and interference are exact: they are products of factors, rank by rank. Signs need
the entries of ΔW: these are formed tile by tile, in float32, and never as a whole. Start at
`measure_conflict`; `conflict_report.py` adds modules up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from compress.dtypes import Array
from merge.delta_space import Delta

#: Up to so many entries of ΔW every row is read; beyond, a seeded sample of rows.
MAX_EXACT_ENTRIES = 4_000_000
#: About so many entries are read of a larger module.
SAMPLED_ENTRIES = 1_000_000
_TILE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ModuleConflict:
    """Hold how far the inputs of one module agree, and what the merge kept of them.

    Values that have no meaning are None: those of an input that lacks the module or has ΔW = 0
    there, and the cosine of fewer than two inputs.

    Attributes:
        sign_agreement: share of Σᵢ |wᵢ ΔWᵢ| whose sign is the elected one (that of Σᵢ wᵢ ΔWᵢ), in
            [0.5, 1]: 1 where nobody contradicts, 0.5 where the sum vanishes.
        interference: for each input ‖(ΔW − ΔWᵢ) ΔWᵢᵀ‖ / ‖ΔWᵢ ΔWᵢᵀ‖ (Frobenius), with the merged
            ΔW: 0 where it acts on what ΔWᵢ listens to just as ΔWᵢ does, 1 where it does nothing.
        norm_kept: ‖ΔW‖ / root mean square of ‖ΔWᵢ‖.
        cosine: mean cosine of ΔWᵢ and ΔWⱼ over pairs, in [−1, 1].
        merged_energy: ‖ΔW‖² of the merged module.
        products: float64 [inputs, inputs]: ⟨ΔWᵢ, ΔWⱼ⟩.
        rows_read: rows of ΔW whose signs were counted.
        rows: rows of ΔW, d_out.
    """

    sign_agreement: float | None
    interference: tuple[float | None, ...]
    norm_kept: float | None
    cosine: float | None
    merged_energy: float
    products: Array = field(compare=False, repr=False)
    rows_read: int
    rows: int

    @property
    def energies(self) -> Array:
        """Give ‖ΔWᵢ‖² of each input, float64 [inputs]."""
        return np.diagonal(self.products)

    @property
    def mean_interference(self) -> float | None:
        """Give the mean over the inputs that have one."""
        known = [value for value in self.interference if value is not None]
        return sum(known) / len(known) if known else None


def measure_conflict(
    deltas: Sequence[Delta | None],
    weights: Sequence[float],
    merged: Delta,
    *,
    seed: int = 0,
) -> ModuleConflict:
    """Compare the inputs of one module with one another and with what became of them.

    Interference is the measure that WUDI minimises (arXiv 2503.08099), divided by what it is for
    ΔW = 0. Signs are read from all rows of ΔW where d_out · d_in ≤ 4 000 000; of larger
    modules from a uniform sample of rows without replacement, about 1 000 000 entries of each
    input.

    Args:
        deltas: ΔW of each input; None where an input lacks the module.
        weights: the weight of each input.
        merged: the result's ΔW.
        seed: draws the rows of large modules.

    Returns:
        the figures of the module; costs O((Σ rank)² · (d_out + d_in)) and the rows that are read.
    """
    present = [at for at, delta in enumerate(deltas) if delta is not None and delta.rank]
    parts = [delta for delta in deltas if delta is not None and delta.rank]
    shares = [weights[at] for at in present]
    gram = _Gram([*parts, merged])
    products = np.zeros((len(deltas), len(deltas)))
    products[np.ix_(present, present)] = gram.products()[:-1, :-1]
    interference: list[float | None] = [None] * len(deltas)
    for place, at in enumerate(present):
        interference[at] = gram.interference(place)
    chosen = _chosen_rows(merged, seed)
    merged_energy = gram.inner(len(parts), len(parts))
    return ModuleConflict(
        sign_agreement=_sign_agreement(parts, shares, chosen),
        interference=tuple(interference),
        norm_kept=norm_kept(merged_energy, np.diagonal(products)),
        cosine=mean_cosine(products),
        merged_energy=merged_energy,
        products=products,
        rows_read=len(chosen),
        rows=len(merged.b),
    )


def norm_kept(merged_energy: float, energies: Array) -> float | None:
    """Give ‖ΔW‖ / root mean square of ‖ΔWᵢ‖ over the inputs whose energy is above 0."""
    known = energies[energies > 0]
    return math.sqrt(merged_energy / float(known.mean())) if len(known) else None


def cosines(products: Array) -> Array:
    """Give the cosines of pairs, float64 [inputs, inputs]; NaN where an input has no energy."""
    norms = np.sqrt(np.diagonal(products))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(products / np.outer(norms, norms), -1.0, 1.0)


def mean_cosine(products: Array) -> float | None:
    """Give the mean cosine over pairs i < j that have one."""
    pairs = cosines(products)[np.triu_indices(len(products), 1)]
    known = pairs[np.isfinite(pairs)]
    return float(known.mean()) if len(known) else None


class _Gram:
    """Hold BᵀB and A Aᵀ of all deltas side by side: every norm and product is a sum over them.

    Attributes:
        b: float64 [Σ rank, Σ rank], BᵀB of [B₁ | … | Bₙ].
        a: float64 [Σ rank, Σ rank], A Aᵀ of [A₁; …; Aₙ].
        parts: which rows and columns belong to each delta; the merged one is the last.
    """

    def __init__(self, deltas: Sequence[Delta]) -> None:
        b = np.concatenate([delta.b for delta in deltas], axis=1)
        a = np.concatenate([delta.a for delta in deltas])
        self.b, self.a = b.T @ b, a @ a.T
        ends = np.cumsum([0, *(delta.rank for delta in deltas)])
        self.parts = [slice(start, end) for start, end in pairwise(ends)]

    def inner(self, i: int, j: int) -> float:
        """Give ⟨ΔWᵢ, ΔWⱼ⟩ = Σ (BᵢᵀBⱼ) ∘ (AᵢAⱼᵀ)."""
        rows, columns = self.parts[i], self.parts[j]
        return float(np.vdot(self.b[rows, columns], self.a[rows, columns]))

    def products(self) -> Array:
        """Give ⟨ΔWᵢ, ΔWⱼ⟩ of all pairs, exactly symmetric; rounding leaves no energy below 0."""
        count = len(self.parts)
        upper = np.array(
            [[self.inner(i, j) if i <= j else 0.0 for j in range(count)] for i in range(count)]
        )
        full: Array = upper + np.triu(upper, 1).T
        np.fill_diagonal(full, np.maximum(np.diagonal(full), 0.0))
        return full

    def interference(self, i: int) -> float | None:
        """Give ‖(ΔW − ΔWᵢ) ΔWᵢᵀ‖ / ‖ΔWᵢ ΔWᵢᵀ‖; None where ΔWᵢ = 0."""
        own = np.r_[self.parts[i]]
        both = np.concatenate([np.r_[self.parts[-1]], own])
        signs = np.ones(len(both))
        signs[len(both) - len(own) :] = -1.0
        size = self._norm_against(own, np.ones(len(own)), own)
        return self._norm_against(both, signs, own) / size if size else None

    def _norm_against(self, rows: Array, signs: Array, own: Array) -> float:
        """Give ‖X ΔWᵢᵀ‖ of X = B[rows] diag(signs) A[rows]."""
        core = signs[:, None] * self.a[np.ix_(rows, own)]
        left = self.b[np.ix_(rows, rows)] @ core
        right = core @ self.b[np.ix_(own, own)]
        return math.sqrt(max(0.0, float(np.vdot(left, right))))


def _chosen_rows(delta: Delta, seed: int) -> Array:
    d_out, d_in = len(delta.b), delta.a.shape[1]
    if d_out * d_in <= MAX_EXACT_ENTRIES:
        return np.arange(d_out)
    count = max(1, min(d_out, SAMPLED_ENTRIES // d_in))
    return np.sort(np.random.default_rng(seed).choice(d_out, count, replace=False))


def _sign_agreement(
    deltas: Sequence[Delta], weights: Sequence[float], chosen: Array
) -> float | None:
    """Give (1 + Σ|S| / ΣT) / 2 with S = Σ wᵢ ΔWᵢ and T = Σ |wᵢ ΔWᵢ|, entry by entry.

    What agrees with the sign of S is P, what contradicts it is T − P, and |S| = P − (T − P).
    """
    elected = total = 0.0
    for tiles in _tiles(deltas, weights, chosen):
        summed = np.zeros(())
        for tile in tiles:
            summed = summed + tile
            total += float(np.abs(tile).sum(dtype=np.float64))
        elected += float(np.abs(summed).sum(dtype=np.float64))
    return (1.0 + min(1.0, elected / total)) / 2.0 if total else None


def _tiles(
    deltas: Sequence[Delta], weights: Sequence[float], chosen: Array
) -> Iterator[Iterator[Array]]:
    """Give, for some rows at a time, wᵢ ΔWᵢ of each input: float32 [rows, d_in], up to 8 MiB."""
    if not deltas:
        return
    pairs = [
        ((weight * delta.b[chosen]).astype(np.float32), delta.a.astype(np.float32))
        for weight, delta in zip(weights, deltas, strict=True)
    ]
    height = max(1, _TILE_BYTES // (4 * deltas[0].a.shape[1]))
    for start in range(0, len(chosen), height):
        yield (b[start : start + height] @ a for b, a in pairs)
