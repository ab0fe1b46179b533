"""Find the singular directions of ΔW through its factors: a dense ΔW is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.measure import Factors


@dataclass(frozen=True, slots=True)
class Directions:
    """Hold B A = Σ σᵢ uᵢ vᵢᵀ of one module, its scale left out.

    Attributes:
        u: float64 [d_out, n], n the least of rank, d_in and d_out.
        sigma: float64 [n], falling.
        v: float64 [d_in, n].
        scale: what multiplies B A.
    """

    u: Array
    sigma: Array
    v: Array
    scale: float

    def balanced(self) -> tuple[Array, Array]:
        """Give the rows √σᵢ vᵢ [n, d_in] of A' and the columns √σᵢ uᵢ of B' as rows [n, d_out]."""
        root = np.sqrt(self.sigma)[:, None]
        return root * self.v.T, root * self.u.T


def directions(module: Factors) -> Directions:
    """Take the singular value decomposition by thin QR of B and Aᵀ."""
    q_b, r_b = np.linalg.qr(module.b.astype(np.float64))
    q_a, r_a = np.linalg.qr(module.a.astype(np.float64).T)
    u, sigma, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return Directions(q_b @ u, sigma, q_a @ vt.T, module.scale)
