"""Compute the cosine of whole experts, all with all or one with many, in ΔW or in factor space.

⟨ΔWᵢ, ΔWⱼ⟩ = Σ weightᵢₖ · weightⱼₗ · (bᵢₖ·bⱼₗ) · (aᵢₖ·aⱼₗ), over modules, k and l. Where all vectors
are trits their products are counts of bits (`compress/mask_products.py`). The few vectors of small
integers that `rd` keeps are multiplied as float32 matrices, which is exact as long as a sum is
below 2²⁴ and faster than counting bits of all pairs of their planes; so are uncompressed factors.
A module that one expert lacks counts as ΔW = 0. One module is in hand at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

import numpy as np

from compress.dtypes import Array
from compress.mask_products import mirrored, own_sums, paired_sums, sum_by_owner
from merge.compressed import factor_space
from merge.compressed.experts import CompressedExpert
from merge.compressed.gathering import Dense, Gathered, gather, unpacked

#: Products that are in memory at one time.
_TOGETHER = 1 << 22
Told = Callable[[int, int], None]


class Space(StrEnum):
    """Say what is compared.

    `delta` is what an expert does; `factors` compares A and B as vectors of numbers, as ComPEFT
    does, and depends on how ΔW was factored.
    """

    DELTA = "delta"
    FACTORS = "factors"


def all_cosines(
    experts: Sequence[CompressedExpert], *, space: Space = Space.DELTA, progress: Told | None = None
) -> Array:
    """Compute the cosine of every expert with every other one.

    Args:
        experts: comparable ones (`comparable.py`).
        space: what is compared.
        progress: told modules done and modules in all.

    Returns:
        float64 [experts, experts], symmetric; an expert that is zero has cosine 0 with all, itself
        included.
    """
    found = np.zeros((len(experts), len(experts)))
    add = _add if space is Space.DELTA else factor_space.add
    for name in _modules(experts, progress):
        module = gather(experts, name)
        add(found, module, module)
    return mirrored(as_cosines(found, np.diagonal(found), np.diagonal(found)))


def cosines_to(
    expert: CompressedExpert,
    others: Sequence[CompressedExpert],
    *,
    space: Space = Space.DELTA,
    progress: Told | None = None,
) -> Array:
    """Compute the cosine of one expert with many.

    Returns:
        float64 [others]; 0 where either is zero.
    """
    products, own = np.zeros((1, len(others))), np.zeros(1)
    norms = np.zeros(len(others))
    add, add_own = _add, _add_own
    if space is Space.FACTORS:
        add, add_own = factor_space.add, factor_space.add_own
    for name in _modules([expert, *others], progress):
        one, many = gather([expert], name), gather(others, name)
        add(products, one, many)
        add_own(own, one)
        add_own(norms, many)
    cosines: Array = as_cosines(products, own, norms)[0]
    return cosines


def as_cosines(products: Array, left: Array, right: Array) -> Array:
    """Divide inner products by norms, of which the squares are given; what is zero gives 0."""
    # what cancels may be rounded to a little less than zero
    norms = [np.sqrt(np.maximum(squares, 0.0)) for squares in (left, right)]
    scale = norms[0][:, None] * norms[1]
    cosines = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    clipped: Array = np.clip(cosines, -1, 1)
    return clipped


def _modules(experts: Sequence[CompressedExpert], progress: Told | None) -> Iterator[str]:
    names = sorted({name for expert in experts for name in expert.modules})
    for number, name in enumerate(names, 1):
        yield name
        if progress is not None:
            progress(number, len(names))


def _add(found: Array, left: Gathered, right: Gathered) -> None:
    """Add the inner products of some experts with others, or with themselves, in one module."""
    if left.trits is not None and right.trits is not None:
        place = np.ix_(left.trit_owners, right.trit_owners)
        found[place] += paired_sums(left.trits, None if left is right else right.trits)
    if left.dense is not None and right.dense is not None:
        place = np.ix_(left.dense_owners, right.dense_owners)
        found[place] += dense_sums(left.dense, right.dense)
    if left.trits is not None and right.dense is not None:
        for owners, part in unpacked(left):
            found[np.ix_(owners, right.dense_owners)] += dense_sums(part, right.dense)
    if left.dense is not None and right.trits is not None:
        for owners, part in unpacked(right):
            found[np.ix_(left.dense_owners, owners)] += dense_sums(left.dense, part)


def _add_own(found: Array, module: Gathered) -> None:
    if module.trits is not None:
        found[module.trit_owners] += own_sums(module.trits)
    if module.dense is not None:
        found[module.dense_owners] += _dense_own_sums(module.dense)


def _dense_own_sums(dense: Dense) -> Array:
    """Sum products of pairs of every owner with itself, owners of one rank together."""
    found = np.zeros(dense.owners)
    counts = np.diff(dense.bounds)
    for count in np.unique(counts):
        owners = np.flatnonzero(counts == count)
        at = dense.bounds[owners][:, None] + np.arange(count)
        a, b, weights = dense.a[at], dense.b[at], dense.weights[at]
        products = (a @ a.transpose(0, 2, 1)).astype(np.float64) * (b @ b.transpose(0, 2, 1))
        found[owners] = np.einsum("nk,nkl,nl->n", weights, products, weights)
    return found


def dense_sums(left: Dense, right: Dense) -> Array:
    """Sum products of pairs by owner through matrix products; symmetric if both are the same.

    Returns:
        float64 [left owners, right owners].
    """
    found = np.zeros((left.owners, right.owners))
    first = 0
    most = max(1, _TOGETHER // max(1, len(right.weights)))
    for last in range(1, left.owners + 1):
        if last < left.owners and left.bounds[last + 1] - left.bounds[first] <= most:
            continue
        part = left.part(first, last)
        # of the same on both sides, only what is not to the left
        begin = first if left is right else 0
        other = right.part(begin, right.owners)
        found[first:last, begin:] = sum_by_owner(
            part.a @ other.a.T,
            part.b @ other.b.T,
            (part.weights, part.bounds),
            (other.weights, other.bounds),
        )
        first = last
    if left is right:
        return mirrored(found)
    return found
