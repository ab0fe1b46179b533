"""Refit the gains of a module's components together, by least squares, to what was coded.

ΔŴ = Σⱼ gⱼ ûⱼ v̂ⱼᵀ with coded vectors û, v̂ that are not quite orthogonal: the best gains solve
Q g = b with Qᵢⱼ = (ûᵢ·ûⱼ)(v̂ᵢ·v̂ⱼ) and bⱼ = ûⱼᵀ ΔW v̂ⱼ. Nothing dense is formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compress.dtypes import Array
from compress.layers import Unit
from compress.rate_distortion import side
from compress.rate_distortion.choice import Chosen
from compress.rate_distortion.components import Components

#: A component that only does harm is told a gain so many octaves below what is expected.
_NOTHING_OCTAVES = 40
_EXACT = 1e-9


def refit(
    module: Components, chosen: Sequence[Chosen], said: Sequence[Sequence[Array]], unit: Unit
) -> tuple[list[int], float]:
    """Find the best gains of a module.

    Args:
        module: its components.
        chosen: those that were coded.
        said: by component and vector, what was coded, in steps.
        unit: of the gains.

    Returns:
        log₂ of every gain in steps beyond what its energy predicts, and the energy of ΔW that the
        module then has left over.
    """
    inner, quadratic = _normal_equations(module, said)
    gains = _solve(inner, quadratic)
    told = []
    for number, (one, gain) in enumerate(zip(chosen, gains, strict=True)):
        expected = side.expected_steps(one.described, unit)
        steps = round(unit.steps * math.log2(gain / unit.size)) if gain > 0 else expected
        beyond = steps - expected if gain > 0 else -_NOTHING_OCTAVES * unit.steps
        gains[number] = side.gain(expected + beyond, unit)
        told.append(beyond)
    saved = float(2 * gains @ inner - gains @ quadratic @ gains) * module.scale**2
    return told, float(module.energies.sum()) - saved


def _normal_equations(module: Components, said: Sequence[Sequence[Array]]) -> tuple[Array, Array]:
    """Give b, float64 [k], and Q, float64 [k, k].

    What is left over is the small difference of large sums: float32 would not do for errors of a
    few thousandths.
    """
    products: Array = np.repeat(module.sigmas.astype(np.float64)[:, None], len(said), axis=1)
    quadratic = np.ones((len(said), len(said)))
    sides = ((module.left, None), (module.right, module.right_weights))
    for place, (vectors, weights) in enumerate(sides):
        if vectors is None:
            continue
        coded = np.stack([by_vector[place] for by_vector in said], axis=1).astype(np.float64)
        counted = coded if weights is None else coded * weights[:, None]
        products *= vectors.T.astype(np.float64) @ counted
        quadratic *= coded.T @ counted
    return products.sum(axis=0), quadratic


def _solve(inner: Array, quadratic: Array) -> Array:
    """Solve for gains; components that would get none above zero are left out, with zero."""
    gains = np.zeros(len(inner))
    used = (quadratic.diagonal() > 0) & (inner > 0)
    while used.any():
        together = _least_squares(quadratic[np.ix_(used, used)], inner[used])
        if (together > 0).all():
            gains[used] = together
            break
        used[used.nonzero()[0][together <= 0]] = False
    return gains


def _least_squares(quadratic: Array, inner: Array) -> Array:
    """Solve Q g = b; where Q is singular, as of equal components, for the shortest g."""
    try:
        gains = np.linalg.solve(quadratic, inner)
    except np.linalg.LinAlgError:
        gains = np.full(len(inner), np.nan)
    # what is nearly singular shows in what it leaves over
    if not np.abs(quadratic @ gains - inner).max() <= _EXACT * np.abs(inner).max():
        gains = np.linalg.lstsq(quadratic, inner, rcond=None)[0]
    return gains
