"""Turn what looks at coefficients, or at scaled ΔW, into functions of ΔW and their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compress.dtypes import Array
from merge.coefficients import Coefficients
from merge.delta_space import Delta, SvdForm, gram, weighted_sum
from merge.options import Options

#: Merges ΔW with weights.
Whole = Callable[[Sequence[Delta], Array, Options], Delta | SvdForm]


def combined(find: Coefficients) -> Whole:
    """Give Σ cᵢ ΔWᵢ with the coefficients that follow from inner products and weights."""

    def merge(deltas: Sequence[Delta], weights: Array, options: Options) -> Delta:
        found = find(gram(deltas), weights, options)
        return weighted_sum(list(zip(found.tolist(), deltas, strict=True)))

    return merge


def scaled(define: Callable[[Sequence[Delta]], Delta | SvdForm]) -> Whole:
    """Give what a function makes of the wᵢ · ΔWᵢ."""

    def merge(deltas: Sequence[Delta], weights: Array, options: Options) -> Delta | SvdForm:
        del options
        return define([own.times(float(w)) for own, w in zip(deltas, weights, strict=True)])

    return merge
