"""Gather experts that are alike: average linkage on 1 − cosine, cut at a distance.

The only place that imports SciPy, which is the extra `merge`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.dtypes import Array
from merge.compressed.duplicates import check_threshold
from merge.errors import MergeOptionError


@dataclass(frozen=True, slots=True)
class Clusters:
    """Hold which experts belong together.

    Attributes:
        numbers: int64 [experts], the cluster of each; 0 is the largest.
        order: int64 [experts], an order in which neighbours are alike, clusters in one piece.
    """

    numbers: Array
    order: Array

    def members(self) -> list[list[int]]:
        """List the experts of every cluster, the largest cluster first."""
        count = int(self.numbers.max(initial=-1)) + 1
        return [np.flatnonzero(self.numbers == number).tolist() for number in range(count)]


def find_clusters(cosines: Array, *, least: float = 0.5) -> Clusters:
    """Gather experts.

    Args:
        cosines: float64 [experts, experts].
        least: the mean cosine between two clusters from which they are one, in (0, 1].

    Raises:
        MergeOptionError: `least` is out of its range, or SciPy is not installed.
    """
    check_threshold(least)
    hierarchy = _hierarchy()
    count = len(cosines)
    if count < 2:
        return Clusters(np.zeros(count, np.int64), np.arange(count))
    # float sums may differ in the last bit on both sides of the diagonal
    upper = np.triu_indices(count, 1)
    distances = np.maximum(0.0, 1.0 - cosines[upper])
    tree = hierarchy.linkage(distances, method="average")
    cut = hierarchy.fcluster(tree, t=1.0 - least, criterion="distance")
    return Clusters(_by_size(cut), np.asarray(hierarchy.leaves_list(tree), np.int64))


def _by_size(labels: Array) -> Array:
    """Number clusters by falling size, equal ones by their first member."""
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    places = np.empty(len(sizes), np.int64)
    places[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    numbers: Array = places[inverse]
    return numbers


def _hierarchy() -> Any:  # noqa: ANN401 - no type says what a module that may be absent has
    try:
        return importlib.import_module("scipy.cluster.hierarchy")
    except ImportError as error:
        raise MergeOptionError(
            "clusters need a package that is not installed",
            field="clusters",
            expected="scipy",
            actual="no scipy",
            hint="install the extra: pip install 'ternery[merge]'",
        ) from error
