"""Compute ComPEFT straight from its six published steps, sharing no code with the project.

Written from the paper's formula and the published routine: one flat vector, keys sorted, the k'-th
smallest magnitude by a full sort, the unbiased standard deviation, signs. Small inputs only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
AROUND_ONE = ("ia3_l", "boft_s", "road_alpha")


def published(
    vectors: Mapping[str, Array], density: float, alpha: float = 1.0
) -> tuple[dict[str, Array], float]:
    """Give the signs that are kept, by key, and α·σ; the vectors are the task vectors."""
    keys = sorted(vectors)
    flat = np.concatenate([vectors[key].ravel().astype(np.float64) for key in keys])
    d = flat.size
    rank = d - int(d * density)
    magnitudes = np.sort(np.abs(flat))
    threshold = magnitudes[rank - 1] if rank else -1.0
    signs = np.sign(flat) * (np.abs(flat) >= threshold)
    split = np.split(signs, np.cumsum([vectors[key].size for key in keys])[:-1])
    kept = {key: part.reshape(vectors[key].shape) for key, part in zip(keys, split, strict=True)}
    return kept, alpha * float(np.std(flat, ddof=1)) if d > 1 else 0.0


def per_group(
    vectors: Mapping[str, Array],
    group_of: Callable[[str], str],
    density: float,
    alpha: float = 1.0,
) -> dict[str, tuple[Array, float]]:
    """Do the same for every group of keys apart: signs and scale by key."""
    result: dict[str, tuple[Array, float]] = {}
    for group in {group_of(key) for key in vectors}:
        members = {key: value for key, value in vectors.items() if group_of(key) == group}
        signs, scale = published(members, density, alpha)
        result |= {key: (signs[key], scale) for key in members}
    return result


def stored(signs: Array, scale: float, dtype: Any) -> Array:
    """Give the tensor that is written back, in its storage type."""
    value = np.array([scale], np.float64).astype(dtype).astype(np.float64)[0]
    written: Array = (signs * value).astype(dtype)
    return written


def predicted(
    original: dict[str, Array], exact: Collection[str], density: float
) -> dict[str, Array]:
    """Compute what decoding must give, by the published steps."""
    first = {key: float(key.split(".")[-1] in AROUND_ONE) for key in original}
    vectors = {
        key: value - value.dtype.type(first[key])
        for key, value in original.items()
        if key not in exact
    }
    if not vectors:
        return original
    signs, scale = published(vectors, density)
    result = dict(original)
    for key, sign in signs.items():
        if first[key]:
            result[key] = (1 + sign * scale).astype(original[key].dtype)
        else:
            result[key] = stored(sign, scale, original[key].dtype) + original[key].dtype.type(0)
    return result


def same_values(left: Array, right: Array) -> bool:
    """Compare type, shape and every value (a zero has no sign that matters)."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and bool(np.array_equal(left.astype(np.float64), right.astype(np.float64)))
    )
