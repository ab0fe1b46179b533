"""Merge entry by entry in a small space that all adapters share: KnOTS and Core Space.

The inner method sees the coordinates of each ΔWᵢ in common axes instead of its entries. What an
element-wise method does there depends on the axes, which is why both take such as the ΔW themselves
determine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compress.dtypes import Array
from merge import coefficients, spectral
from merge.core_space import canonical_core_space, core_space, upright
from merge.delta_space import (
    Delta,
    SvdForm,
    numerical_rank,
    of_usual_size,
)
from merge.entries import RULES, Merged, Product, merge_arrays
from merge.options import Inner, Options
from merge.whole import Whole, combined, scaled
from merge.wudi import wudi

#: Inner methods that look at a matrix as a whole, so that axes do not matter to them: in the core
#: space they give what they give on ΔW, but that TSV-M counts in the cores' dimensions.
WHOLE: Mapping[Inner, Whole] = {
    Inner.SLERP: combined(coefficients.slerp),
    Inner.MULTISLERP: combined(coefficients.multislerp),
    Inner.KARCHER: combined(coefficients.karcher),
    Inner.TSV: scaled(spectral.tsv),
    Inner.ISO: scaled(spectral.iso),
    Inner.WUDI: wudi,
}


def core(deltas: Sequence[Delta], weights: Array, options: Options) -> Delta | SvdForm:
    """Merge the cores Mᵢ of ΔWᵢ = U Mᵢ Vᵀ in canonical axes (Core Space, arXiv 2509.17786)."""
    space = canonical_core_space(deltas)
    if not space.cores.size:
        return deltas[0]
    if options.inner in RULES:
        return space.lift(merge_arrays(list(space.cores), weights, RULES[options.inner], options))
    small = [Delta(np.eye(own.shape[1]), own) for own in space.cores]
    merged = WHOLE[options.inner](small, weights, options)
    if isinstance(merged, SvdForm):
        return SvdForm(space.u @ merged.u, merged.s, merged.vt @ space.vt)
    return space.lift_product(merged.b, merged.a)


def knots(deltas: Sequence[Delta], weights: Array, options: Options) -> Delta:
    """Merge what each task does along common output directions (KnOTS, arXiv 2410.19735).

    [ΔW₁ | … | ΔWₙ] = U Σ [V₁ | … | Vₙ]ᵀ; the inner method merges the Σ Vᵢᵀ, each [rank, d_in], and
    ΔW = U · merged. The SVD is that of the cores side by side: nothing is as large as ΔW.
    """
    unit, deltas = of_usual_size(deltas)
    space = core_space(deltas)
    side_by_side = np.concatenate(list(space.cores), axis=1)
    u, s, _ = np.linalg.svd(side_by_side, full_matrices=False)
    keep = numerical_rank(s)
    if not keep:
        return deltas[0].times(unit)
    axes = u[:, :keep] * upright(space.u @ u[:, :keep])
    tasks = [Product(Delta(own.a @ space.vt, axes.T @ own.b)) for own in space.small]
    merged = Merged(tasks, weights, RULES[options.inner], options)
    return Delta(merged.whole().astype(np.float64), space.u @ axes).times(unit)
