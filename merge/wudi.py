"""Merge with WUDI (arXiv 2503.08099): the ΔW that disturbs each task least on its own inputs.

The loss per module is Σ wᵢ ‖(τ − τᵢ) τᵢᵀ‖²_F / ‖τᵢ‖²_F: rows of τᵢ stand for the inputs that task
i has. It is a least-squares problem, and all of it happens within the core space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compress.dtypes import Array
from merge.core_space import core_space
from merge.delta_space import RANK_TOLERANCE, Delta, inner, svd_form
from merge.errors import MergeOptionError
from merge.options import Options

#: Adam's own constants (arXiv 1412.6980).
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def wudi(deltas: Sequence[Delta], weights: Array, options: Options) -> Delta:
    """Minimise the loss: exactly, or with `steps` as the paper does.

    Without steps τ = (Σ cᵢ τᵢ (τᵢᵀτᵢ + ωI)) · (Σ cᵢ (τᵢᵀτᵢ + ωI))⁺ with cᵢ = wᵢ / ‖τᵢ‖² and
    ω = `ridge` · ‖τᵢ‖²: among all minima the one within the rows that the adapters have. With
    steps Adam goes from Σ τᵢ with `learning_rate` in the core space, whose axes are those of a QR.

    Args:
        deltas: of one module.
        weights: float64 [n], at least 0: how much each task's disturbance counts.
        options: `ridge`, `steps` and `learning_rate`.

    Raises:
        MergeOptionError: a weight is below 0, so that the loss has no minimum.
    """
    if (weights < 0).any():
        raise MergeOptionError(
            "wudi weighs losses: its weights are at least 0",
            field="weight",
            expected="≥ 0",
            actual=", ".join(f"{weight:g}" for weight in weights),
        )
    pairs = [(d, w) for d, w in zip(deltas, weights, strict=True) if d.rank and inner(d, d) > 0]
    pairs = [(delta, weight) for delta, weight in pairs if weight]
    if not pairs:
        return deltas[0].times(0.0)
    space = core_space([delta for delta, _ in pairs])
    sizes = np.array([inner(own, own) for own in space.small])
    counts = np.array([weight for _, weight in pairs]) / sizes
    if options.steps:
        return space.lift(_descend(space.cores, counts, options))
    return space.lift(_solve(space.small, counts, options.ridge * sizes))


def _solve(small: Sequence[Delta], counts: Array, ridges: Array) -> Array:
    """Solve τ S = T by least squares, which the normal equations would lose half the digits of.

    S = [√cᵢ Vᵢ Sᵢ | …] and T = [√cᵢ Uᵢ Sᵢ² | …] of τᵢ = Uᵢ Sᵢ Vᵢᵀ; a ridge adds √(cᵢ ωᵢ) I and
    √(cᵢ ωᵢ) τᵢ.
    """
    known, wanted = [], []
    for own, count, ridge in zip(small, counts.tolist(), ridges.tolist(), strict=True):
        form, root = svd_form(own), math.sqrt(count)
        known.append(root * form.vt.T * form.s)
        wanted.append(root * form.u * np.square(form.s))
        if ridge:
            known.append(root * math.sqrt(ridge) * np.eye(own.shape[1]))
            wanted.append(root * math.sqrt(ridge) * own.b @ own.a)
    left, right = np.concatenate(known, axis=1), np.concatenate(wanted, axis=1)
    solved, *_ = np.linalg.lstsq(left.T, right.T, rcond=RANK_TOLERANCE)
    return np.asarray(solved.T)


def wudi_loss(merged: Delta, deltas: Sequence[Delta]) -> float:
    """Compute Σ ‖(τ − τᵢ) τᵢᵀ‖² / ‖τᵢ‖² from factors; a task without ΔW adds nothing."""
    total = 0.0
    for delta in deltas:
        size = inner(delta, delta)
        if size:
            difference = Delta(
                np.concatenate([merged.a, delta.a]),
                np.concatenate([merged.b, -delta.b], axis=1),
            )
            product = Delta((difference.a @ delta.a.T) @ delta.b.T, difference.b)
            total += inner(product, product) / size
    return total


def _descend(cores: Array, counts: Array, options: Options) -> Array:
    grams = cores.transpose(0, 2, 1) @ cores
    core: Array = cores.sum(axis=0)
    target = np.einsum("n,nij,njk->ik", counts, cores, grams)
    curvature = np.einsum("n,nij->ij", counts, grams)
    mean, square = np.zeros_like(core), np.zeros_like(core)
    for step in range(1, options.steps + 1):
        slope = 2 * (core @ curvature - target)
        mean = _BETA_1 * mean + (1 - _BETA_1) * slope
        square = _BETA_2 * square + (1 - _BETA_2) * slope**2
        ahead = mean / (1 - _BETA_1**step)
        spread = np.sqrt(square / (1 - _BETA_2**step)) + _EPSILON
        core = core - options.learning_rate * ahead / spread
    return core
