"""Bound how small the error of ΔW can be at a given rate: reverse water-filling over its spectrum.

ΔW = Σ σᵢ uᵢ vᵢᵀ over every module, each direction a spherical source: a unit vector of size d
described to relative squared error δ costs −(d/2) log₂ δ bits. Coders that treat directions as
unstructured cannot do better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.dtypes import Array
from compress.measure import Factors

_BISECTION_ROUNDS = 80
#: Pivots above this share of the largest keep ten digits of what is computed from products.
_INDEPENDENT = 1e-3
#: Who costs this much of what it saves is left out; larger numbers only overflow.
_WORTHLESS = 4.0
#: The least error that has a logarithm.
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Hold the components of an adapter's ΔW.

    Attributes:
        energies: σ² of every component, float64 [n].
        d_out: size of every u, float64 [n].
        d_in: size of every v, float64 [n].
        parameters: elements of all A and B.
    """

    energies: Array
    d_out: Array
    d_in: Array
    parameters: int


def spectrum(modules: Iterable[Factors]) -> Spectrum:
    """Find the singular values of every ΔW through thin QR of its factors."""
    return joined([module_spectrum(module) for module in modules])


def module_spectrum(module: Factors) -> Spectrum:
    """Find the singular values of the ΔW of one module."""
    upper_b, upper_a = _triangle(module.b), _triangle(module.a.T)
    core: NDArray[np.float64] = upper_b @ upper_a.T
    sigma = module.scale * np.linalg.svd(core, full_matrices=False, compute_uv=False)
    d_out = np.full(len(sigma), float(module.b.shape[0]))
    d_in = np.full(len(sigma), float(module.a.shape[1]))
    return Spectrum(sigma**2, d_out, d_in, module.a.size + module.b.size)


def joined(spectra: Sequence[Spectrum]) -> Spectrum:
    """Put the spectra of modules together; there is at least one."""
    return Spectrum(
        np.concatenate([one.energies for one in spectra]),
        np.concatenate([one.d_out for one in spectra]),
        np.concatenate([one.d_in for one in spectra]),
        sum(one.parameters for one in spectra),
    )


def _triangle(columns: Array) -> Array:
    """Give R of the thin QR of float [size, rank] columns, as float64.

    Cholesky's R of their products is the same and six times as fast; its last digits suffer where
    columns are almost dependent, so there it is not used.
    """
    wide = columns.astype(np.float64, copy=False)
    try:
        lower: Array = np.linalg.cholesky(wide.T @ wide)
    except np.linalg.LinAlgError:
        return np.linalg.qr(wide).R
    pivots = lower.diagonal()
    independent = pivots.min() > _INDEPENDENT * pivots.max()
    return lower.T if independent else np.linalg.qr(wide).R


@dataclass(frozen=True, slots=True)
class Filling:
    """Hold what the best coder does where a bit is worth so much energy.

    Attributes:
        kept: bool [n], the components that are described at all.
        bits: what they take together.
        remaining: energy that stays undescribed.
    """

    kept: Array
    bits: float
    remaining: float


def error_bound(components: Spectrum, bits_per_param: float) -> float:
    """Give the least relative error of ΔW at a rate.

    Args:
        components: the spectrum of the adapter.
        bits_per_param: bits for every element of A and B, above 0.

    Returns:
        √(remaining energy / energy), in [0, 1].
    """
    total = float(components.energies.sum())
    if not total:
        return 0.0
    filled = fill(components, price_for_bits(components, bits_per_param * components.parameters))
    return math.sqrt(min(1.0, filled.remaining / total))


def price_for_bits(components: Spectrum, bits: float) -> float:
    """Give the least price at which the best coder takes no more than so many bits."""
    return _bisect(components, lambda filled: filled.bits > bits)


def price_for_error(components: Spectrum, error: float) -> float:
    """Give the least price at which the best coder leaves at least this relative error."""
    aim = error**2 * float(components.energies.sum())
    return _bisect(components, lambda filled: filled.remaining < aim)


def _bisect(components: Spectrum, too_low: Callable[[Filling], bool]) -> float:
    total = float(components.energies.sum())
    low, high = math.log(total * 1e-18), math.log(total * 1e3)
    for _ in range(_BISECTION_ROUNDS):
        middle = (low + high) / 2
        if too_low(fill(components, math.exp(middle))):
            low = middle
        else:
            high = middle
    return math.exp(high)


def fill(components: Spectrum, price: float) -> Filling:
    """Describe what is worth describing where one bit is worth `price` of energy.

    Distortion plus price times rate is least where δᵤ (1 − δᵥ) = a and δᵥ (1 − δᵤ) = b, with
    a = price d_out / (2 ln 2 σ²) and b alike: a quadratic equation, of which the smaller root is
    the minimum. Where it has none, the component is not worth a bit. (Iterating from ½ ends at the
    same root, except that it misses some where d_out and d_in differ by more than fivefold.)
    """
    energy = np.maximum(components.energies, 1e-300)
    with np.errstate(over="ignore"):  # what is not worth a bit costs infinitely much
        unit = price / (2 * math.log(2) * energy)
        a = np.minimum(unit * components.d_out, _WORTHLESS)
        b = np.minimum(unit * components.d_in, _WORTHLESS)
    discriminant = (1 - a - b) ** 2 - 4 * a * b
    root = np.sqrt(np.maximum(discriminant, 0))
    error_u, error_v = 2 * a / (1 + a - b + root), 2 * b / (1 + b - a + root)
    possible = (discriminant >= 0) & (a + b < 1) & (error_u < 1) & (error_v < 1)
    error_u, error_v = np.where(possible, error_u, 1.0), np.where(possible, error_v, 1.0)
    left = energy * (1 - (1 - error_u) * (1 - error_v))
    shares = np.maximum(error_u, _TINY), np.maximum(error_v, _TINY)
    bits = -(components.d_out * np.log2(shares[0]) + components.d_in * np.log2(shares[1])) / 2
    kept = possible & (left + price * bits < energy)
    remaining = float(np.where(kept, left, components.energies).sum())
    return Filling(kept, float(bits[kept].sum()), remaining)
