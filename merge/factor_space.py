"""Merge A with A and B with B, as PEFT does: for comparison and compatibility only.

What comes out depends on how each ΔW was factored, and (Σ Bᵢ)(Σ Aᵢ) has products BᵢAⱼ that no
adapter ever had; so none of this is a merge of ΔW. Where PEFT's result on plain LoRA is what is
wanted, these equal `add_weighted_adapter` of PEFT 0.21.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from compress.dtypes import Array
from compress.trit_rows import TernaryTensor
from merge import sparsifiers
from merge.coefficients import slerp
from merge.compressed.sums import Convention, linear_sum, ties
from merge.delta_space import Delta
from merge.entries import Rule, Sides, merge_arrays, weighted_sum
from merge.factors import Factors
from merge.options import Options

MergeFactors = Callable[[Sequence[Factors], Array, Options], Delta]


def counted_mean(blocks: Iterable[Array], weights: Array) -> Array:
    """Elect signs of Σ τᵢ, divide Σ wᵢ τᵢ of those that agree by their number (PEFT's TIES)."""
    sides: Sides | None = None
    for block, weight in zip(blocks, weights.tolist(), strict=True):
        sides = sides or Sides(block)
        sides.add(block, block * weight, 1.0)
    if sides is None:
        raise ValueError("nothing to merge")
    return sides.mean()


LINEAR = Rule(sparsifiers.keep_all, weighted_sum)
TIES = Rule(sparsifiers.magnitude, counted_mean)
DARE_LINEAR = Rule(sparsifiers.random, weighted_sum)
DARE_TIES = Rule(sparsifiers.random, counted_mean)
DELLA = Rule(sparsifiers.della, counted_mean)
BREADCRUMBS = Rule(sparsifiers.without_outliers, weighted_sum)
MAGNITUDE_PRUNE = Rule(sparsifiers.magnitude, weighted_sum)


def by_rule(rule: Rule) -> MergeFactors:
    """Make a method that applies a rule to the A and to the B of all adapters.

    Weights enter as PEFT has it: √|wᵢ sᵢ| on either side, the sign on A's.
    """

    def merge(factors: Sequence[Factors], weights: Array, options: Options) -> Delta:
        products = np.array([w * own.scale for w, own in zip(weights, factors, strict=True)])
        root = np.sqrt(np.abs(products))
        signed = np.where(products < 0, -root, root)
        if merged := _from_masks(rule, factors, (signed, root), options):
            return merged
        a = merge_arrays([own.a for own in factors], signed, rule, options)
        b = merge_arrays([own.b for own in factors], root, rule, options)
        return Delta(a, b)

    return merge


def _from_masks(
    rule: Rule, factors: Sequence[Factors], weights: tuple[Array, Array], options: Options
) -> Delta | None:
    """Do what a rule does on the bit masks of compressed adapters, where there is such a way.

    Sums need no more; TIES does not where its trim, which keeps the largest, would drop some of the
    trits, which are all as large.
    """
    found = []
    for side, own_weights in enumerate(weights):
        tensors = [own.ternary[side] for own in factors if own.ternary is not None]
        if len(tensors) < len(factors) or len({t.rows.columns for t in tensors}) > 1:
            return None
        if rule is LINEAR:
            merged = linear_sum(tensors, own_weights.tolist())
        elif rule is TIES and all(_untrimmed(tensor, options) for tensor in tensors):
            merged = ties(tensors, own_weights.tolist(), convention=Convention.PEFT)
        else:
            return None
        found.append(merged.astype(np.float64))
    like = factors[0]
    return Delta(found[0].reshape(like.a.shape), found[1].reshape(like.b.shape))


def _untrimmed(tensor: TernaryTensor, options: Options) -> bool:
    count = tensor.rows.rows * tensor.rows.columns
    nonzero = int(np.bitwise_count(tensor.rows.nonzero).sum(dtype=np.int64))
    return nonzero <= max(1, int(options.density * count))


def slerp_factors(factors: Sequence[Factors], weights: Array, options: Options) -> Delta:
    """Interpolate A with A and B with B on their spheres, each scale shared between both.

    A module that one adapter has alone is its share of that one, as between ΔW and 0.
    """
    if len(factors) == 1:
        return factors[0].delta.times(float(weights[0]))
    roots = [math.sqrt(abs(own.scale)) for own in factors]
    a = [own.a * math.copysign(root, own.scale) for own, root in zip(factors, roots, strict=True)]
    b = [own.b * root for own, root in zip(factors, roots, strict=True)]
    return Delta(_on_sphere(a, weights, options), _on_sphere(b, weights, options))


def _on_sphere(arrays: Sequence[Array], weights: Array, options: Options) -> Array:
    flat = np.stack([array.ravel() for array in arrays])
    shares = slerp(flat @ flat.T, weights, options)
    merged: Array = np.tensordot(shares, np.stack(arrays), axes=1)
    return merged


def mhr_mu(factors: Sequence[Factors], weights: Array, options: Options) -> Delta:
    """Average all A and all B (MHR-μ, arXiv 2211.03831, section 3.2): for skills trained together.

    (Σ wᵢ sᵢ Bᵢ)(Σ wᵢ Aᵢ), where shared training has made the factors comparable.
    """
    del options
    a = sum(w * own.a for w, own in zip(weights, factors, strict=True))
    b = sum(w * own.scale * own.b for w, own in zip(weights, factors, strict=True))
    return Delta(np.asarray(a), np.asarray(b))
