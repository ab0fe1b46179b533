"""Turn definitions into methods of one module: from factors and weights to factors of some rank.

The definitions themselves are in the modules that are named after what they do; here each kind gets
what it needs of the inputs, and its result the rank that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compress.dtypes import Array
from merge import factor_space
from merge.delta_space import (
    ALL,
    Delta,
    SvdForm,
    Target,
    Truncated,
    cut,
    of_usual_size,
    reduce,
    svd_form,
    weighted_sum,
)
from merge.entries import RULES, Merged, Product
from merge.errors import MergeOptionError
from merge.factors import Factors
from merge.lego import lego
from merge.low_rank import factorise
from merge.options import Inner, Options
from merge.whole import Whole

#: Merges one module: of every input its factors, float64 [n] weights, options, what rank to keep.
MergeModule = Callable[[Sequence[Factors], Array, Options, Target], Truncated]


def plain(
    factors: Sequence[Factors], weights: Array, options: Options, target: Target
) -> Truncated:
    """Sum without a look at inner products."""
    del options
    return reduce(
        weighted_sum([(w, own.delta) for w, own in zip(weights, factors, strict=True)]), target
    )


def with_weights(define: Whole) -> MergeModule:
    """Make a method of a function of the ΔWᵢ and their weights."""

    def merge(
        factors: Sequence[Factors], weights: Array, options: Options, target: Target
    ) -> Truncated:
        return _reduced(define([own.delta for own in factors], weights, options), target)

    return merge


def by_entries(inner: Inner) -> MergeModule:
    """Make a method that merges ΔW entry by entry."""

    def merge(
        factors: Sequence[Factors], weights: Array, options: Options, target: Target
    ) -> Truncated:
        there = [n for n, own in enumerate(factors) if own.rank]
        unit, deltas = of_usual_size([factors[n].delta for n in there])
        merged = Merged([Product(own) for own in deltas], weights[there], RULES[inner], options)
        total = weighted_sum(list(zip(weights[there].tolist(), deltas, strict=True)))
        found = factorise(merged, target, svd_form(total).vt, seed=options.seed)
        return Truncated(found.delta.times(unit), found.energy * unit**2, found.dropped * unit**2)

    return merge


def on_factors(define: factor_space.MergeFactors, *, proportions: bool = False) -> MergeModule:
    """Make a method that merges factors of equal rank, those of the adapters that have them.

    Args:
        define: merges them.
        proportions: only those of weights matter: their sum is 1 before absent ones are left out.
    """

    def merge(
        factors: Sequence[Factors], weights: Array, options: Options, target: Target
    ) -> Truncated:
        there = [n for n, own in enumerate(factors) if own.rank]
        own = [factors[n] for n in there]
        ranks = sorted({factor.rank for factor in own})
        if len(ranks) > 1:
            raise MergeOptionError(
                "methods on factors need equal ranks",
                field="method",
                expected=f"rank {ranks[0]} everywhere",
                actual=", ".join(str(rank) for rank in ranks),
                hint="leave out -factors: in ΔW space ranks may differ",
            )
        shares = weights / weights.sum() if proportions and weights.sum() > 0 else weights
        return reduce(define(own, shares[there], options), target)

    return merge


def units(
    factors: Sequence[Factors], weights: Array, options: Options, target: Target
) -> Truncated:
    """Cluster rank-1 units of the wᵢ · ΔWᵢ: as many clusters as the result has ranks."""
    del options
    deltas = [own.delta.times(float(w)) for w, own in zip(weights, factors, strict=True)]
    clusters = target.rank or max(own.rank for own in deltas)
    return reduce(lego(deltas, clusters), ALL)


def _reduced(found: Delta | SvdForm, target: Target) -> Truncated:
    return cut(found, target) if isinstance(found, SvdForm) else reduce(found, target)
