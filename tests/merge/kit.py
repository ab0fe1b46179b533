"""Make small inputs of merges, and run one row of the table on them without files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.dtypes import Array
from merge.delta_space import Delta, Truncated
from merge.factors import Factors
from merge.method import Space
from merge.methods import METHODS
from merge.recipe import Recipe

SHAPE = (12, 9)
#: Depend on how ΔW is factored, and say so.
ON_FACTORS = sorted(name for name, row in METHODS.items() if row.space is Space.FACTORS)
ON_DELTA = sorted(set(METHODS) - set(ON_FACTORS))
_IN_BOTH = (
    "linear",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "breadcrumbs",
    "magnitude_prune",
)
_IN_CORE = ("slerp", "multislerp", "karcher", "tsv", "iso", "wudi")
IN_SPACES = [
    *(("knots", {"inner": inner}) for inner in _IN_BOTH),
    *(("core", {"inner": inner}) for inner in (*_IN_BOTH, *_IN_CORE)),
]
#: Every ΔW method, and those of other spaces with all that they can do there.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ON_DELTA if name not in {"core", "knots"}),
    *IN_SPACES,
]


def named(variants: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Name variants as pytest shows them."""
    return ["+".join([name, *map(str, options.values())]) for name, options in variants]


def lora(
    seed: int, rank: int = 3, shape: tuple[int, int] = SHAPE, *, scale: float = 1.0
) -> Factors:
    """Return the factors of one module, with spectra that fall so that no two values are close."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rank, shape[1])) * np.exp(-0.4 * np.arange(rank))[:, None]
    return Factors(a, rng.standard_normal((shape[0], rank)), scale)


def turned(factors: Factors, seed: int) -> Factors:
    """Return another pair of factors of the same ΔW: G A and B G⁻¹."""
    rng = np.random.default_rng(seed)
    gauge = rng.standard_normal((factors.rank, factors.rank)) + 2 * np.eye(factors.rank)
    return Factors(gauge @ factors.a, factors.b @ np.linalg.inv(gauge), factors.scale)


def nothing(shape: tuple[int, int] = SHAPE) -> Factors:
    """Return what stands for a module that an adapter does not have."""
    return Factors(np.zeros((0, shape[1])), np.zeros((shape[0], 0)), 1.0)


def dense(factors: Factors | Delta | Truncated) -> Array:
    """Return ΔW, float64 [d_out, d_in]."""
    if isinstance(factors, Truncated):
        factors = factors.delta
    if isinstance(factors, Factors):
        factors = factors.delta
    product: Array = factors.b @ factors.a
    return product


def merge(
    method: str,
    inputs: Sequence[Factors],
    weights: Sequence[float] | None = None,
    *,
    rank: int | None = None,
    energy: float | None = None,
    **options: Any,
) -> Truncated:
    """Merge one module as `merged_modules` does."""
    recipe = Recipe(method, options, rank=rank, energy=energy)
    settled = recipe.check(list(weights) if weights is not None else [None] * len(inputs))
    target = recipe.target([own.rank for own in inputs])
    found = recipe.row.merge(inputs, np.asarray(settled), recipe.settled, target)
    scale = recipe.settled.scale
    return Truncated(found.delta.times(scale), found.energy * scale**2, found.dropped * scale**2)


def close(left: Array, right: Array, tolerance: float) -> None:
    """Assert that two matrices agree, relative to the size of the second."""
    assert left.shape == right.shape
    size = float(np.linalg.norm(right)) or 1.0
    off = float(np.linalg.norm(left - right)) / size
    assert off <= tolerance, f"{off:.3g} > {tolerance:g}"
