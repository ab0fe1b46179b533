"""Compare A and B as vectors of numbers, as ComPEFT does: experts of equal ranks only.

The answer depends on how ΔW was factored, so that this is for who trained all experts from one
initial A, or wants the figure that is published. All vectors of a factor count as one.
"""

from __future__ import annotations

import numpy as np

from compress.dtypes import Array
from compress.mask_products import row_products
from compress.trit_rows import TritRows, stack
from merge.compressed.experts import CompressedModule, Rows, as_floats
from merge.compressed.gathering import Gathered


class _Side:
    """Hold one factor of many experts, each as one vector times a scale."""

    def __init__(self, module: Gathered, side: str) -> None:
        found = [(number, *_vector(each, side)) for number, each in module.modules.items()]
        trits = [(n, rows.flat(), s) for n, rows, s in found if isinstance(rows, TritRows)]
        dense = [(n, rows, s) for n, rows, s in found if not isinstance(rows, TritRows)]
        self.trits = stack([rows for _, rows, _ in trits]) if trits else None
        self.trit_owners = np.array([number for number, *_ in trits], np.int64)
        self.trit_scales = np.array([scale for *_, scale in trits])
        self.dense = np.stack([_flat(rows) for _, rows, _ in dense]) if dense else None
        self.dense_owners = np.array([number for number, *_ in dense], np.int64)
        self.dense_scales = np.array([scale for *_, scale in dense])
        self.rows = {number: rows for number, rows, _ in found}

    def unpacked(self) -> Array:
        """Give vectors of trits as float32 [owners, values]."""
        return np.stack([_flat(self.rows[number]) for number in self.trit_owners.tolist()])


def add_all(found: Array, module: Gathered) -> None:
    """Add the inner products of all experts in one module: float64 [experts, experts]."""
    for name in ("a", "b"):
        side = _Side(module, name)
        _add(found, side, side)


def add_between(found: Array, left: Gathered, right: Gathered) -> None:
    """Add the inner products of some experts with others: float64 [left, right]."""
    for name in ("a", "b"):
        _add(found, _Side(left, name), _Side(right, name))


def add_own(found: Array, module: Gathered) -> None:
    """Add the squared norms of experts: float64 [experts]."""
    for name in ("a", "b"):
        side = _Side(module, name)
        if side.trits is not None:
            kept = np.bitwise_count(side.trits.nonzero).sum(axis=1, dtype=np.int64)
            found[side.trit_owners] += side.trit_scales**2 * kept
        if side.dense is not None:
            energies = np.square(side.dense, dtype=np.float64).sum(axis=1)
            found[side.dense_owners] += side.dense_scales**2 * energies


def _add(found: Array, left: _Side, right: _Side) -> None:
    if left.trits is not None and right.trits is not None:
        products = row_products(left.trits, right.trits).astype(np.float64)
        products *= left.trit_scales[:, None] * right.trit_scales
        found[np.ix_(left.trit_owners, right.trit_owners)] += products
    if left.dense is not None and right.dense is not None:
        products = (left.dense @ right.dense.T).astype(np.float64)
        products *= left.dense_scales[:, None] * right.dense_scales
        found[np.ix_(left.dense_owners, right.dense_owners)] += products
    if left.trits is not None and right.dense is not None:
        products = (left.unpacked() @ right.dense.T).astype(np.float64)
        products *= left.trit_scales[:, None] * right.dense_scales
        found[np.ix_(left.trit_owners, right.dense_owners)] += products
    if left.dense is not None and right.trits is not None:
        products = (left.dense @ right.unpacked().T).astype(np.float64)
        products *= left.dense_scales[:, None] * right.trit_scales
        found[np.ix_(left.dense_owners, right.trit_owners)] += products


def _vector(module: CompressedModule, side: str) -> tuple[Rows, float]:
    scales = module.scales or (1.0, 1.0)
    return (module.a, scales[0]) if side == "a" else (module.b, scales[1])


def _flat(rows: Rows) -> Array:
    return as_floats(rows).reshape(-1)
