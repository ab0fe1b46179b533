"""Measure what compression costs: the error of ΔW and the Shannon bound of a stream.

Everything is in float64 and exact: a dense ΔW is never formed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from compress.dtypes import Array

#: A module whose error is at least this much has in effect been erased.
ERASED_ERROR = 0.999


@dataclass(frozen=True, slots=True)
class Energies:
    """Hold squared norms of an original and its approximation, and their inner product.

    Energies of several modules add up.
    """

    original: float = 0.0
    approximation: float = 0.0
    inner: float = 0.0

    def __add__(self, other: Self) -> Energies:
        return Energies(
            self.original + other.original,
            self.approximation + other.approximation,
            self.inner + other.inner,
        )

    @property
    def error(self) -> float:
        """Give ‖approximation − original‖ / ‖original‖.

        It is 0 if both are zero, and infinite if only the original is.
        """
        squared = max(0.0, self.original + self.approximation - 2 * self.inner)
        if not self.original:
            return math.inf if squared else 0.0
        return math.sqrt(squared / self.original)

    @property
    def cosine(self) -> float:
        """Give the cosine between both; 0 if either is zero."""
        norms = math.sqrt(self.original) * math.sqrt(self.approximation)
        return min(1.0, max(-1.0, self.inner / norms)) if norms else 0.0


@dataclass(frozen=True, slots=True)
class Factors:
    """Hold the two factors of one ΔW = scale · B A.

    Attributes:
        a: A, [rank, d_in].
        b: B, [d_out, rank].
        scale: what multiplies B A.
    """

    a: Array
    b: Array
    scale: float


def delta_energies(original: Factors, approximation: Factors) -> Energies:
    """Compare two ΔW by the Gram matrices of their factors: Σᵢⱼ (A A'ᵀ)ᵢⱼ (Bᵀ B')ᵢⱼ."""
    return Energies(
        _inner(original, original),
        _inner(approximation, approximation),
        _inner(original, approximation),
    )


def vector_energies(original: Array, approximation: Array) -> Energies:
    """Compare two vectors."""
    x, y = original.astype(np.float64).ravel(), approximation.astype(np.float64).ravel()
    return Energies(float(x @ x), float(y @ y), float(x @ y))


def shannon_bits(counts: Array) -> float:
    """Give the Shannon bound in bits, Σ −n log₂(n / total), from the counts of the symbols."""
    present = counts[counts > 0].astype(np.float64)
    return float(-(present * np.log2(present / present.sum())).sum())


def _wide(values: Array) -> Array:
    return values.astype(np.float64, copy=False)


def _inner(left: Factors, right: Factors) -> float:
    rows = _wide(left.a) @ _wide(right.a).T
    columns = _wide(left.b).T @ _wide(right.b)
    return left.scale * right.scale * float((rows * columns).sum())
