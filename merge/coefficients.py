"""Merge by coefficients: ΔW = Σ cᵢ ΔWᵢ, where the cᵢ follow from weights and inner products.

Sums, averages along a chain and the means on a sphere are all of this kind: the result lies in the
span of the inputs, so the small Gram matrix of a module is all that is looked at, and the result is
exact in ΔW space. Spherical means are taken per module, about ΔW = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from compress.dtypes import Array
from merge.errors import IncompatibleError, MergeOptionError
from merge.options import Options

#: Gives float64 [n] coefficients of a Gram matrix [n, n], weights [n] and options.
Coefficients = Callable[[Array, Array, Options], Array]

_NEARLY_PARALLEL = 0.9995
_KARCHER_STEPS = 200
_KARCHER_TOLERANCE = 1e-13


def linear(gram: Array, weights: Array, options: Options) -> Array:
    """Give the weights themselves: task arithmetic (arXiv 2212.04089), λ Σ wᵢ τᵢ."""
    del gram, options
    return weights


def ema(gram: Array, weights: Array, options: Options) -> Array:
    """Average a chain, oldest first, with exponentially falling memory.

    E₁ = τ₁, Eₜ = β Eₜ₋₁ + (1 − β) τₜ (Polyak and Juditsky, 1992, in the form of weight EMA).
    """
    del weights
    count, beta = len(gram), options.decay
    powers = beta ** np.arange(count - 1, -1, -1.0)
    return np.where(np.arange(count) == 0, powers, (1 - beta) * powers)


def slerp(gram: Array, weights: Array, options: Options) -> Array:
    """Interpolate along the great circle from the first to the second (Shoemake, 1985).

    The share of the second is t = w₂ / (w₁ + w₂). Where both are parallel or opposite (|cos| >
    0.9995, as mergekit has it), or one is 0, there is no one circle: it is linear.
    """
    del options
    shares = _shares(weights, "slerp")
    norms = np.sqrt(np.diag(gram))
    if not norms.all():
        return shares
    cosine = float(np.clip(gram[0, 1] / (norms[0] * norms[1]), -1, 1))
    if abs(cosine) > _NEARLY_PARALLEL:
        return shares
    angle = math.acos(cosine)
    result: Array = np.sin(shares * angle) / math.sin(angle)
    return result


def multislerp(gram: Array, weights: Array, options: Options) -> Array:
    """Take the mean of the directions, brought back to the sphere, with the mean of the lengths.

    mergekit's ``multislerp`` goes on to average in the tangent space at that mean; but there the
    orthogonal projections sum to 0 by the choice of the point. For two inputs of equal weights and
    lengths it is `slerp`.
    """
    del options
    return _on_sphere(gram, _shares(weights, "multislerp"), steps=0)


def karcher(gram: Array, weights: Array, options: Options) -> Array:
    """Take the Riemannian mean of the directions (Karcher, 1977), with the mean of the lengths."""
    del options
    return _on_sphere(gram, _shares(weights, "karcher"), steps=_KARCHER_STEPS)


def model_stock(gram: Array, weights: Array, options: Options) -> Array:
    """Draw the mean towards the base as far as the inputs disagree (arXiv 2403.19522, eq. 4).

    t = n cos θ / (1 + (n − 1) cos θ) with the mean cosine of all pairs; ΔW = t · mean. 0 where the
    denominator is.
    """
    del options
    _require_equal(weights, "model_stock")
    count = len(gram)
    if count == 1:
        return np.ones(1)
    norms = np.sqrt(np.diag(gram))
    products = np.outer(norms, norms)
    cosines = np.divide(gram, products, out=np.zeros_like(gram), where=products > 0)
    upper = cosines[np.triu_indices(count, 1)]
    cosine = float(np.clip(upper, -1, 1).mean())
    below = 1 + (count - 1) * cosine
    share = count * cosine / below if abs(below) > 1e-6 else 0.0
    return np.full(count, share / count)


def _on_sphere(gram: Array, shares: Array, *, steps: int) -> Array:
    """Find a mean direction as Σ cᵢ τᵢ/‖τᵢ‖, by steps in the tangent space, with its length."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0))
    there = norms > 0
    found = np.zeros(len(gram))
    if not there.any():
        return found
    own = shares[there]
    if not own.sum():
        return found
    cosines = gram[np.ix_(there, there)] / np.outer(norms[there], norms[there])
    own = own / own.sum()
    mean = _unit(own, cosines)
    for _ in range(steps):
        towards = np.clip(cosines @ mean, -1, 1)
        angles = np.arccos(towards)
        pull = own * angles / np.where(angles > 0, np.sin(angles), 1)
        tangent = pull - float(pull @ towards) * mean
        length = math.sqrt(max(float(tangent @ cosines @ tangent), 0.0))
        if length < _KARCHER_TOLERANCE:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * tangent
        mean = _unit(mean, cosines)
    found[there] = mean / norms[there] * float(shares @ norms)
    return found


def _unit(mean: Array, cosines: Array) -> Array:
    length = math.sqrt(max(float(mean @ cosines @ mean), 0.0))
    if length < 1e-9:
        raise IncompatibleError(
            "the adapters point in opposite directions, so that they have no mean direction",
            field="method",
            expected="directions whose weighted sum is not 0",
            actual="a sum of 0",
            hint="other weights, or --method linear",
        )
    return mean / length


def _shares(weights: Array, method: str) -> Array:
    if (weights < 0).any() or not weights.sum() > 0:
        raise MergeOptionError(
            f"{method} takes weights of at least 0 that are not all 0",
            field="weight",
            expected="≥ 0",
            actual=", ".join(f"{weight:g}" for weight in weights),
        )
    shares: Array = weights / weights.sum()
    return shares


def _require_equal(weights: Array, method: str) -> None:
    if not np.allclose(weights, weights[0]):
        raise MergeOptionError(
            f"{method} finds the weights itself",
            field="weight",
            expected="none",
            actual=", ".join(f"{weight:g}" for weight in weights),
        )
