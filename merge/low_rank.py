"""Bring a matrix that is seen in blocks of rows back to factors of the best low rank.

Small matrices are decomposed whole, through the Gram matrix of their shorter side. Large ones by
subspace iteration with Rayleigh–Ritz steps (Halko, Martinsson and Tropp, arXiv 0909.4061,
algorithm 4.4), which starts at the strongest rows of Σ wᵢ ΔWᵢ, where most of a merge lies,
and ends when the share of ‖ΔW‖² that it holds no longer grows.
"""

from __future__ import annotations

import numpy as np

from compress.dtypes import Array
from merge.delta_space import Delta, Target, Truncated
from merge.entries import Merged

#: The shorter side up to which the whole spectrum is computed.
EXACT_SIDE = 1536
_EXTRA_DIRECTIONS = 16
_MOST_PASSES = 24
#: Growth of the kept share of ‖ΔW‖² in one pass that ends the iteration.
_SETTLED = 1e-6


def factorise(merged: Merged, target: Target, start: Array, *, seed: int = 0) -> Truncated:
    """Give the best approximation of a merged matrix within a target.

    Args:
        merged: the matrix [d_out, d_in].
        target: the rank, or the share of ‖ΔW‖² to keep; one of both at least.
        start: float64 [k, d_in], rows near which its rows lie.
        seed: of the random directions added to these.

    Returns:
        B' = U √S and A' = √S Vᵀ; the share of ‖ΔW‖² is that of the matrix itself.
    """
    if min(merged.shape) <= EXACT_SIDE or target.energy is not None:
        return _whole(merged, target)
    return _iterate(merged, min(target.rank or len(start), *merged.shape), start, seed)


def _whole(merged: Merged, target: Target) -> Truncated:
    """Decompose through MᵀM or M Mᵀ, whichever is smaller, in float64."""
    matrix = merged.whole().astype(np.float64)
    tall = matrix.shape[0] > matrix.shape[1]
    squares, vectors = np.linalg.eigh(matrix.T @ matrix if tall else matrix @ matrix.T)
    s = np.sqrt(np.maximum(squares[::-1], 0))
    energy = float(np.sum(matrix * matrix))
    keep = max(1, min(target.count(s, energy), int(np.count_nonzero(s > 1e-7 * s[0]))))
    axes = vectors[:, ::-1][:, :keep]
    root = np.sqrt(s[:keep])
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(root > 0, 1 / root, 0)
    if tall:
        delta = Delta((axes * root).T, (matrix @ axes) * inverse)
    else:
        delta = Delta((axes * inverse).T @ matrix, axes * root)
    return Truncated(delta, energy, max(0.0, energy - float(s[:keep] @ s[:keep])))


def _iterate(merged: Merged, rank: int, start: Array, seed: int) -> Truncated:
    width = min(*merged.shape, rank + _EXTRA_DIRECTIONS)
    rng = np.random.Generator(np.random.Philox(seed))
    more = max(0, width - len(start))
    rows = np.concatenate([start[:width], rng.standard_normal((more, merged.shape[1]))])
    basis, _ = np.linalg.qr(rows.T)
    held, passes = 0.0, 0
    while True:
        image, back, energy = _pass(merged, basis)
        # Rayleigh–Ritz: the best directions of this subspace, the strongest last.
        squares, turn = np.linalg.eigh(image.T @ image)
        squares, turn = np.maximum(squares[-rank:], 0), turn[:, -rank:]
        before, held, passes = held, float(squares.sum()), passes + 1
        if held - before <= _SETTLED * energy or passes == _MOST_PASSES:
            break
        basis, _ = np.linalg.qr(back)
    sizes = np.sqrt(squares)
    root = np.sqrt(sizes)
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    delta = Delta((basis @ turn * root).T, image @ turn * inverse)
    return Truncated(delta, energy, max(0.0, energy - held))


def _pass(merged: Merged, basis: Array) -> tuple[Array, Array, float]:
    """Give M V, Mᵀ M V and ‖M‖² of a basis V [d_in, k] in one pass over the rows of M."""
    narrow = basis.astype(np.float32)
    image = np.empty((merged.shape[0], basis.shape[1]))
    back = np.zeros(basis.shape)
    energy = 0.0
    for part, block in merged.blocks():
        image[part] = product = block @ narrow
        back += block.T @ product
        flat = block.reshape(-1)
        energy += float(np.dot(flat, flat))
    return image, back, energy
