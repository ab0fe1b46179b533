"""See the ΔW of several adapters in the few dimensions that they span together, without loss.

U is an orthonormal basis of all their columns, V of all their rows; ΔWᵢ = U Mᵢ Vᵀ with small
cores Mᵢ = Uᵀ ΔWᵢ V (Core Space, arXiv 2509.17786, section 3). What is done to the cores, such as
sums, products and SVDs, is done to ΔW itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compress.dtypes import Array
from merge.delta_space import Delta, balanced, numerical_rank, svd_form


@dataclass(frozen=True, slots=True)
class CoreSpace:
    """Hold what some ΔW span together, and each of them in it.

    Attributes:
        u: float64 [d_out, p], orthonormal columns.
        vt: float64 [q, d_in], orthonormal rows.
        small: each core as factors of the rank that its ΔW has, b [p, rank] and a [rank, q].
    """

    u: Array
    vt: Array
    small: tuple[Delta, ...]

    @property
    def cores(self) -> Array:
        """Multiply the cores out, float64 [n, p, q]; ΔWᵢ = u · cores[i] · vt."""
        return np.stack([own.b @ own.a for own in self.small])

    def lift(self, core: Array) -> Delta:
        """Give U M Vᵀ of a core float64 [p, q] as factors, the shorter side inside."""
        if core.shape[0] <= core.shape[1]:
            return Delta(core @ self.vt, self.u)
        return Delta(self.vt, self.u @ core)

    def lift_product(self, left: Array, right: Array) -> Delta:
        """Give U L R Vᵀ as factors, of float64 [p, k] and [k, q]."""
        return Delta(right @ self.vt, self.u @ left)


def core_space(deltas: Sequence[Delta]) -> CoreSpace:
    """Find the space of some ΔW by thin QR of their stacked factors; its axes mean nothing.

    Args:
        deltas: of one module, with the same d_out and d_in; one of rank 0 has a core of zeros.
    """
    u, in_u = np.linalg.qr(np.concatenate([delta.b for delta in deltas], axis=1))
    v, in_v = np.linalg.qr(np.concatenate([delta.a for delta in deltas]).T)
    return _space(u, v.T, in_u, in_v, deltas)


def canonical_core_space(deltas: Sequence[Delta]) -> CoreSpace:
    """Find the same space with axes that the ΔW determine: for what depends on axes.

    Each ΔW is first given its SVD form with its size shared between both sides, so that it does
    not matter how it was factored; the axes are the singular vectors of the stacks of these
    factors, the strongest first (arXiv 2509.17786, section 3.2), turned so that the largest entry
    of each is positive.
    """
    forms = [balanced(svd_form(delta)) for delta in deltas]
    u, in_u = _axes(np.concatenate([form.b for form in forms], axis=1))
    v, in_v = _axes(np.concatenate([form.a for form in forms]).T)
    return _space(u, v.T, in_u, in_v, forms)


def _axes(stack: Array) -> tuple[Array, Array]:
    """Give singular vectors [d, p] of a stack [d, R], and the stack in them [p, R]."""
    q, r = np.linalg.qr(stack)
    turn, s, vt = np.linalg.svd(r, full_matrices=False)
    keep = numerical_rank(s)
    u = q @ turn[:, :keep]
    signs = upright(u)
    return u * signs, (signs * s[:keep])[:, None] * vt[:keep]


def upright(axes: Array) -> Array:
    """Give the sign of the largest entry of each axis [d, k], ±1: an SVD leaves it open."""
    largest = np.abs(axes).argmax(axis=0)
    signs: Array = np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return signs


def _space(u: Array, vt: Array, in_u: Array, in_v: Array, deltas: Sequence[Delta]) -> CoreSpace:
    edges = np.cumsum([0, *(delta.rank for delta in deltas)])
    parts = [slice(start, stop) for start, stop in pairwise(edges.tolist())]
    small = tuple(Delta(in_v[:, part].T, in_u[:, part]) for part in parts)
    return CoreSpace(u, vt, small)
