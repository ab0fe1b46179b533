"""Merge with LoRA-LEGO (arXiv 2409.16167): take adapters apart into rank-1 units and cluster them.

Each unit (bⱼ, aⱼ) of each adapter is a point; k-means gives k clusters, whose centroids are the
ranks of the result (section 4.2). A centroid gets the mean length of its members back, and the
result is multiplied by √(mean input rank / k) (the double reweighting of section 4.3).

The publication takes units as training left them, which depends on the gauge. Here they are those
of the SVD form, balanced; and since (b, a) and (−b, −a) are the same unit, a unit joins a cluster
with the sign that fits. So the result depends on ΔW alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.dtypes import Array
from merge.delta_space import Delta, balanced, svd_form

_MOST_ROUNDS = 300


def lego(deltas: Sequence[Delta], clusters: int) -> Delta:
    """Merge into so many rank-1 units.

    Args:
        deltas: of one module.
        clusters: k, the rank of the result; as many as there are units give all of them back.
    """
    forms = [balanced(svd_form(delta)) for delta in deltas]
    b = np.concatenate([form.b for form in forms], axis=1).T
    a = np.concatenate([form.a for form in forms])
    ranks = [form.rank for form in forms if form.rank]
    if not ranks:
        return deltas[0]
    clusters = min(clusters, len(a))
    points = np.concatenate([b, a], axis=1)
    owners, signs = _cluster(points @ points.T, clusters)
    lengths = np.linalg.norm(points, axis=1)
    gain = (np.mean(ranks) / clusters) ** 0.25
    units = []
    for cluster in range(clusters):
        members = owners == cluster
        centroid = signs[members] @ points[members] / members.sum()
        length = float(np.linalg.norm(centroid))
        wanted = float(lengths[members].mean())
        units.append(centroid * (gain * wanted / length if length else 0.0))
    found = np.stack(units)
    return Delta(found[:, b.shape[1] :], found[:, : b.shape[1]].T)


def _cluster(gram: Array, clusters: int) -> tuple[Array, Array]:
    """Cluster points up to sign, from their inner products alone: k-means by Lloyd's rounds.

    It begins with the longest point and then, again and again, the one farthest from all chosen:
    the order of the points does not matter, and nothing is random.

    Returns:
        int64 [n] cluster of each point, each with a member, and float64 [n] of ±1.
    """
    squares = np.diag(gram)
    chosen = [int(squares.argmax())]
    while len(chosen) < clusters:
        near = squares + squares[chosen][:, None] - 2 * np.abs(gram[chosen])
        away = near.min(axis=0)
        away[chosen] = -np.inf
        chosen.append(int(away.argmax()))
    shares = np.eye(len(gram))[:, chosen]
    owners = np.full(len(gram), -1)
    signs = np.ones(len(gram))
    for _ in range(_MOST_ROUNDS):
        products = gram @ shares
        sizes = np.einsum("nk,nk->k", shares, products)
        closest = (sizes - 2 * np.abs(products)).argmin(axis=1)
        closest = _filled(closest, sizes - 2 * np.abs(products), clusters)
        signs = np.where(products[np.arange(len(gram)), closest] < 0, -1.0, 1.0)
        if (closest == owners).all():
            break
        owners = closest
        members = owners[:, None] == np.arange(clusters)
        shares = members * signs[:, None] / members.sum(axis=0)
    return owners, signs


def _filled(owners: Array, distances: Array, clusters: int) -> Array:
    """Give each empty cluster the point that is farthest from its own."""
    counts = np.bincount(owners, minlength=clusters)
    for empty in np.flatnonzero(counts == 0):
        own = distances[np.arange(len(owners)), owners]
        own = np.where(counts[owners] > 1, own, -np.inf)
        moved = int(own.argmax())
        counts[owners[moved]] -= 1
        owners[moved] = empty
        counts[empty] += 1
    return owners
