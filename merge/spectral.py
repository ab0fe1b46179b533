"""Merge by singular values and vectors of ΔW: TSV-M and Iso-C, restricted to the numerical rank.

The published codes were written for full fine-tunes. On LoRA they take singular vectors of value 0,
which are arbitrary, into the result: TSV-M then changes by 87 % for an input change of 1e-13, and
Iso-C puts most of its energy into directions that no adapter has. Here both stay within the
directions that exist; on inputs of full rank they equal the publications.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.dtypes import Array
from merge.core_space import core_space
from merge.delta_space import Delta, SvdForm, numerical_rank, svd_form


def tsv(deltas: Sequence[Delta]) -> Delta:
    """Merge with TSV-M (arXiv 2412.00081, section 4): singular vectors orthogonal across tasks.

    Of each ΔWᵢ = Uᵢ Sᵢ Vᵢᵀ the first k = min(rankᵢ, min(d)/n) triples are kept (the paper has
    min(d)/n), where n counts those that are not 0; U⊥ = P Qᵀ of the SVD of [U₁ | … | Uₙ], V⊥
    likewise; ΔW = U⊥ diag(S) V⊥ᵀ.
    """
    space = core_space(deltas)
    forms = [svd_form(own) for own in space.small]
    forms = [form for form in forms if form.rank]
    if not forms:
        return deltas[0].times(0.0)
    most = max(1, min(deltas[0].shape) // len(forms))
    lefts = [form.u[:, :most] for form in forms]
    sizes = [form.s[:most] for form in forms]
    rights = [form.vt[:most] for form in forms]
    left = _polar(np.concatenate(lefts, axis=1))
    right = _polar(np.concatenate(rights).T)
    return space.lift_product(left * np.concatenate(sizes), right.T)


def iso(deltas: Sequence[Delta]) -> SvdForm:
    """Merge with Iso-C (arXiv 2502.04959, section 4.1): the sum, all its singular values equal.

    ΔW = σ̄ U Vᵀ of Σ ΔWᵢ = U S Vᵀ, where σ̄ is the mean over the numerical rank (the paper: over
    min(d) values). The directions stay in the order of S: which of them a reduction of the rank
    keeps could not be told from equal values.
    """
    space = core_space(deltas)
    u, s, vt = np.linalg.svd(space.cores.sum(axis=0), full_matrices=False)
    keep = numerical_rank(s)
    mean = float(s[:keep].mean()) if keep else 0.0
    return SvdForm(space.u @ u[:, :keep], np.full(keep, mean), vt[:keep] @ space.vt)


def _polar(vectors: Array) -> Array:
    """Give the nearest matrix of orthonormal columns [d, k]; of lower rank, within that rank."""
    p, s, qt = np.linalg.svd(vectors, full_matrices=False)
    keep = numerical_rank(s)
    nearest: Array = p[:, :keep] @ qt[:keep]
    return nearest
