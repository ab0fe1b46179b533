"""Say what each method is on dense matrices, straight from the publications, however slow.

Nothing here knows factors. `matrices` are float64 [d_out, d_in], one for each adapter; `weights`
are plain numbers. Twins of the methods that draw at random take the masks that were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.dtypes import Array

Matrices = Sequence[Array]


def trim(matrix: Array, density: float) -> Array:
    """Keep the int(density · n) largest magnitudes; of equal ones the later."""
    flat = matrix.ravel()
    kept = max(1, int(density * flat.size))
    order = np.argsort(np.abs(flat), kind="stable")[flat.size - kept :]
    found = np.zeros_like(flat)
    found[order] = flat[order]
    return found.reshape(matrix.shape)


def breadcrumbs_mask(matrix: Array, density: float, gamma: float) -> Array:
    """Drop the γ · n largest, then the smallest until int(density · n) stay (2312.06795)."""
    flat = np.abs(matrix.ravel())
    kept = max(1, int(density * flat.size))
    top = min(int(gamma * flat.size), flat.size - kept)
    order = np.argsort(flat, kind="stable")[: flat.size - top][-kept:]
    mask = np.zeros(flat.size, bool)
    mask[order] = True
    return mask.reshape(matrix.shape)


def elect(matrices: Matrices, weights: Sequence[float]) -> Array:
    """TIES, steps 2 and 3 (2306.01708, section 3): elect a sign per entry, average what has it."""
    scaled = [w * matrix for w, matrix in zip(weights, matrices, strict=True)]
    found = np.zeros_like(scaled[0])
    for place in np.ndindex(found.shape):
        values = [matrix[place] for matrix in scaled]
        sign = 1 if sum(values) >= 0 else -1
        agree = [n for n, value in enumerate(values) if value * sign > 0]
        if agree:
            found[place] = sum(values[n] for n in agree) / sum(abs(weights[n]) for n in agree)
    return found


def elect_as_peft(matrices: Matrices, weights: Sequence[float]) -> Array:
    """PEFT's order: the sign without weights, the sum with them, over the number that agrees."""
    found = np.zeros_like(matrices[0])
    for place in np.ndindex(found.shape):
        values = [matrix[place] for matrix in matrices]
        sign = 1 if sum(values) >= 0 else -1
        agree = [n for n, value in enumerate(values) if value * sign > 0]
        if agree:
            found[place] = sum(weights[n] * values[n] for n in agree) / len(agree)
    return found


def ties(matrices: Matrices, weights: Sequence[float], density: float) -> Array:
    """Trim, elect, average."""
    return elect([trim(matrix, density) for matrix in matrices], weights)


def total(matrices: Matrices, weights: Sequence[float]) -> Array:
    """Σ wᵢ τᵢ."""
    return np.asarray(sum(w * matrix for w, matrix in zip(weights, matrices, strict=True)))


def best_of_rank(matrix: Array, rank: int) -> Array:
    """Eckart and Young, 1936."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    found: Array = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return found


def della_chances(matrix: Array, density: float, epsilon: float) -> Array:
    """Rise linearly with the rank of the magnitude within a row (2406.11617, section 3.1)."""
    ranks = np.argsort(np.argsort(np.abs(matrix), axis=1, kind="stable"), axis=1)
    return np.asarray(density - epsilon + 2 * epsilon * ranks / (matrix.shape[1] - 1))


def knots_axes(matrices: Matrices) -> tuple[Array, list[Array]]:
    """U, and Σ Vᵢᵀ of each task, of the SVD of the task matrices side by side (2410.19735)."""
    u, s, vt = np.linalg.svd(np.concatenate(list(matrices), axis=1), full_matrices=False)
    keep = int((s > 1e-10 * s[0]).sum())
    signs = np.sign(u[np.abs(u[:, :keep]).argmax(axis=0), np.arange(keep)])
    tasks = np.split((signs * s[:keep])[:, None] * vt[:keep], len(matrices), axis=1)
    return u[:, :keep] * signs, list(tasks)


def core_axes(matrices: Matrices) -> tuple[Array, Array, list[Array]]:
    """Bases of all columns and rows, each ΔW with its size shared by halves (2509.17786, 3.2)."""
    columns, rows = [], []
    for matrix in matrices:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        keep = int((s > 1e-10 * s[0]).sum())
        columns.append(u[:, :keep] * np.sqrt(s[:keep]))
        rows.append(np.sqrt(s[:keep])[:, None] * vt[:keep])
    u = _basis(np.concatenate(columns, axis=1))
    v = _basis(np.concatenate(rows).T)
    return u, v, [u.T @ matrix @ v for matrix in matrices]


def _basis(stack: Array) -> Array:
    u, s, _ = np.linalg.svd(stack, full_matrices=False)
    kept: Array = u[:, s > 1e-10 * s[0]]
    signs = np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])])
    upright: Array = kept * signs
    return upright


def tsv(matrices: Matrices, *, restricted: bool = True) -> Array:
    """TSV-M (2412.00081, algorithm 1); restricted, it leaves out vectors of value 0."""
    lefts, sizes, rights = [], [], []
    for matrix in matrices:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        keep = max(1, min(matrix.shape) // len(matrices))
        if restricted:
            keep = min(keep, int((s > 1e-10 * s[0]).sum()))
        lefts.append(u[:, :keep])
        sizes.append(s[:keep])
        rights.append(vt[:keep])
    left, right = (_polar(np.concatenate(lefts, 1)), _polar(np.concatenate(rights).T))
    found: Array = left * np.concatenate(sizes) @ right.T
    return found


def _polar(vectors: Array) -> Array:
    p, s, qt = np.linalg.svd(vectors, full_matrices=False)
    keep = s > 1e-10 * s[0]
    found: Array = p[:, keep] @ qt[keep]
    return found


def iso(matrices: Matrices, *, restricted: bool = True) -> Array:
    """Iso-C (2502.04959, section 4.1); restricted, within the directions of the sum."""
    u, s, vt = np.linalg.svd(np.asarray(sum(matrices)), full_matrices=False)
    keep = int((s > 1e-10 * s[0]).sum()) if restricted else len(s)
    found: Array = s[:keep].mean() * u[:, :keep] @ vt[:keep]
    return found


def wudi_loss(merged: Array, matrices: Matrices, weights: Sequence[float]) -> float:
    """Σ wᵢ ‖(τ − τᵢ) τᵢᵀ‖² / ‖τᵢ‖² (2503.08099, equation 9)."""
    return sum(
        w * float(np.sum(((merged - own) @ own.T) ** 2) / np.sum(own**2))
        for w, own in zip(weights, matrices, strict=True)
    )


def wudi_gradient(merged: Array, matrices: Matrices, weights: Sequence[float]) -> Array:
    """The derivative of this loss."""
    return np.asarray(
        sum(
            2 * w * (merged - own) @ own.T @ own / np.sum(own**2)
            for w, own in zip(weights, matrices, strict=True)
        )
    )


def wudi_ridge(matrices: Matrices, weights: Sequence[float], ridge: float) -> Array:
    """(Σ cᵢ τᵢ (τᵢᵀτᵢ + ωI)) (Σ cᵢ (τᵢᵀτᵢ + ωI))⁻¹, ω a share of ‖τᵢ‖²."""
    left, right = np.zeros_like(matrices[0]), np.zeros((matrices[0].shape[1],) * 2)
    for w, own in zip(weights, matrices, strict=True):
        size = float(np.sum(own**2))
        gram = own.T @ own + ridge * size * np.eye(own.shape[1])
        left, right = left + w / size * own @ gram, right + w / size * gram
    return np.asarray(left @ np.linalg.inv(right))


def slerp(one: Array, other: Array, share: float) -> Array:
    """Shoemake, 1985, as mergekit applies it to tensors that are not of unit length."""
    cosine = float(np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other))
    if abs(cosine) > 0.9995:
        return (1 - share) * one + share * other
    angle = np.arccos(cosine)
    found: Array = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(
        angle
    )
    return found


def multislerp(matrices: Matrices, weights: Sequence[float]) -> Array:
    """Unit vectors, projected to the tangent space at their mean, averaged, taken back."""
    shares = np.asarray(weights) / np.sum(weights)
    norms = np.array([np.linalg.norm(matrix) for matrix in matrices])
    units = [matrix / norm for matrix, norm in zip(matrices, norms, strict=True)]
    mean = total(units, shares.tolist())
    mean = mean / np.linalg.norm(mean)
    tangent = total([unit - np.sum(unit * mean) * mean for unit in units], shares.tolist())
    length = float(np.linalg.norm(tangent)) + 1e-12
    found: Array = np.cos(length) * mean + np.sin(length) / length * tangent
    return np.asarray(found * float(shares @ norms))


def karcher_pull(merged: Array, matrices: Matrices, weights: Sequence[float]) -> Array:
    """Σ wᵢ log_x(xᵢ) on the unit sphere at the direction of the merge: 0 at the mean."""
    at = merged / np.linalg.norm(merged)
    pull: Array = np.zeros_like(at)
    for w, matrix in zip(weights, matrices, strict=True):
        unit = matrix / np.linalg.norm(matrix)
        cosine = float(np.clip(np.sum(unit * at), -1, 1))
        across = unit - cosine * at
        pull += w * np.arccos(cosine) * across / np.linalg.norm(across)
    return pull


def model_stock(matrices: Matrices) -> Array:
    """Give t · mean, t = n cos θ / (1 + (n − 1) cos θ) (2403.19522, equation 4)."""
    count = len(matrices)
    cosines = [
        np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)
        for n, one in enumerate(matrices)
        for other in matrices[:n]
    ]
    cosine = float(np.mean(cosines))
    share = count * cosine / (1 + (count - 1) * cosine)
    return np.asarray(share * np.mean(np.stack(list(matrices)), axis=0))
