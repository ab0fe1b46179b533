"""Take the gauge out of LoRA factors: ΔW as a sum of components, each two unit vectors.

B A = (B G)(G⁻¹ A) for every invertible G, so factors say more than ΔW does. Its singular value
decomposition B A = Σ σᵢ uᵢ vᵢᵀ says only what ΔW says; it comes from thin QR of both factors, never
from a dense ΔW. What is no LoRA, such as the vectors of IA3, is a component of one vector.

Where second moments of a module's inputs are known, an error of ΔW counts as much as it changes
outputs, ‖ΔW C^½‖: the decomposition is that of B A C^½, whose right vectors are turned back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compress.dtypes import Array
from compress.errors import OptionError

#: Components weaker than this share of the strongest are rounding noise of the factors.
_NOISE = 1e-7
#: Second moments below this share of their mean count as this much: no input is ignored.
_LEAST_MOMENT = 1e-3


@dataclass(frozen=True, slots=True)
class Components:
    """Hold the components of one module, strongest first.

    Attributes:
        sigmas: float64 [n], their strengths in B A, above zero.
        left: float32 [d_out, n], unit columns.
        right: float32 [d_in, n], unit columns; None where components are one vector.
        scale: what multiplies B A, as a magnitude, and how much all of the module counts.
        left_weights: float32 [n], how much squared errors of a left vector count.
        right_weights: float32 [d_in], likewise of every value of the right vectors.
        energies: float64 [n], what each contributes to the squared norm that is described.
    """

    sigmas: Array
    left: Array
    right: Array | None
    scale: float
    left_weights: Array
    right_weights: Array | None
    energies: Array = field(init=False)

    def __post_init__(self) -> None:
        """Compute the energies once; searches ask for them often."""
        energies = (self.scale * self.sigmas) ** 2 * self.left_weights
        object.__setattr__(self, "energies", energies)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Give the lengths of the vectors of a component."""
        return (len(self.left),) if self.right is None else (len(self.left), len(self.right))


def of_factors(a: Array, b: Array, scale: float, *, moment: Array | None = None) -> Components:
    """Decompose scale · B A.

    Args:
        a: A, float [rank, d_in].
        b: B, float [d_out, rank].
        scale: what multiplies B A.
        moment: second moments of the inputs, [d_in] or [d_in, d_in]; None counts all alike.

    Raises:
        OptionError: the moments have another shape, or are no second moments.
    """
    root = None if moment is None else _root(moment, a.shape[1])
    wide = a.astype(np.float64)
    weighted = wide if root is None else _times(wide, root)
    q_left, r_left = np.linalg.qr(b.astype(np.float64))
    q_right, r_right = np.linalg.qr(weighted.T)
    u, sigmas, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    kept = sigmas > _NOISE * (sigmas[0] if len(sigmas) else 0.0)
    sigmas, left, right = sigmas[kept], q_left @ u[:, kept], q_right @ vt[kept].T
    left_weights = np.ones(len(sigmas), np.float32)
    right_weights = None
    if root is not None:
        right = _divided(right, root)
        lengths = np.linalg.norm(right, axis=0)
        right, sigmas = right / lengths, sigmas * lengths
        left_weights = (1 / lengths**2).astype(np.float32)
        right_weights = _diagonal(root).astype(np.float32)
    left, right = _signed(left, right)
    return Components(
        sigmas,
        left.astype(np.float32),
        right.astype(np.float32),
        abs(scale),
        left_weights,
        right_weights,
    )


def of_vector(values: Array) -> Components:
    """Take a flat tensor of a task vector as one component of one vector."""
    wide = values.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    count = 1 if norm else 0
    left = (wide / (norm or 1.0)).astype(np.float32).reshape(-1, 1)[:, :count]
    return Components(np.full(count, norm), left, None, 1.0, np.ones(count, np.float32), None)


def _signed(left: Array, right: Array) -> tuple[Array, Array]:
    """Choose signs so that the largest value of every left vector is positive."""
    if not left.shape[1]:
        return left, right
    largest = np.abs(left).argmax(axis=0)
    signs = np.where(left[largest, np.arange(left.shape[1])] < 0, -1.0, 1.0)
    return left * signs, right * signs


def _root(moment: Array, d_in: int) -> Array:
    """Give the square root of second moments whose mean is scaled to 1."""
    wide = moment.astype(np.float64)
    if wide.shape not in {(d_in,), (d_in, d_in)} or not np.isfinite(wide).all():
        raise OptionError(
            "the second moments do not fit the module",
            field="calibrate",
            expected=f"finite [{d_in}] or [{d_in}, {d_in}]",
            actual=str(list(wide.shape)),
        )
    diagonal = wide if wide.ndim == 1 else wide.diagonal()
    mean = float(diagonal.mean())
    if not mean > 0 or float(diagonal.min()) < 0:
        raise OptionError(
            "these are no second moments", field="calibrate", expected="not negative, not all zero"
        )
    if wide.ndim == 1:
        return np.asarray(np.sqrt(np.maximum(wide / mean, _LEAST_MOMENT)))
    values, vectors = np.linalg.eigh((wide + wide.T) / (2 * mean))
    return np.asarray((vectors * np.sqrt(np.maximum(values, _LEAST_MOMENT))) @ vectors.T)


def _times(rows: Array, root: Array) -> Array:
    return np.asarray(rows * root if root.ndim == 1 else rows @ root)


def _divided(columns: Array, root: Array) -> Array:
    if root.ndim == 1:
        return np.asarray(columns / root[:, None])
    return np.linalg.solve(root, columns)


def _diagonal(root: Array) -> Array:
    """Give the diagonal of the moments that a root is of."""
    return np.asarray(root**2 if root.ndim == 1 else (root * root).sum(axis=1))
