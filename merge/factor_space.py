"""Merge A with A and B with B, as PEFT does: for comparison and compatibility only.

What comes out depends on how each ΔW was factored, and (Σ Bᵢ)(Σ Aᵢ) has products BᵢAⱼ that no
adapter ever had; so none of this is a merge of ΔW. Where PEFT's result on plain LoRA is what is
wanted, these equal `add_weighted_adapter` of PEFT 0.21.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from compress.dtypes import Array
from merge import sparsifiers
from merge.coefficients import slerp
from merge.delta_space import Delta
from merge.entries import Rule, merge_arrays, weighted_sum
from merge.factors import Factors
from merge.options import Options

Blocks = Sequence[Array]
MergeFactors = Callable[[Sequence[Factors], Array, Options], Delta]


def counted_mean(blocks: Blocks, weights: Array) -> Array:
    """Elect signs of Σ τᵢ, divide Σ wᵢ τᵢ of those that agree by their number (PEFT's TIES)."""
    positive = sum(blocks[1:], blocks[0]) >= 0
    agree = [np.where(positive, block > 0, block < 0) for block in blocks]
    total = weighted_sum([block * own for block, own in zip(blocks, agree, strict=True)], weights)
    total /= np.maximum(sum(own.astype(np.float64) for own in agree), 1)
    return total


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
        a = merge_arrays([own.a for own in factors], signed, rule, options)
        b = merge_arrays([own.b for own in factors], root, rule, options)
        return Delta(a, b)

    return merge


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
