"""Make small libraries of experts, compressed by every method, and their dense ΔW."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress import Compeft, Lossless, Rd, Scope, compress_adapter, decompress
from tests.compress.rate_distortion import made

Array = NDArray[Any]
METHODS: dict[str, Compeft | Lossless | Rd] = {
    "compeft": Compeft(0.3, scope=Scope.FACTOR),
    "rd": Rd(max_error=0.3),
    "lossless": Lossless(),
}


def write(
    folder: Path,
    seed: int,
    *,
    rank: int = 4,
    modules: int = 2,
    dtype: str = "float32",
    **config: object,
) -> Path:
    """Write a PEFT folder with modules [24 × 40]."""
    tensors = made.factors(seed, modules=modules, rank=rank, sizes=(24, 40))
    return made.save(folder, {k: v.astype(dtype) for k, v in tensors.items()}, **config)


def compressed(source: Path, method: str) -> Path:
    """Compress a folder beside itself."""
    target = source.with_name(f"{source.name}-{method}.tern")
    compress_adapter(source, target, method=METHODS[method])
    return target


def decoded(path: Path, work: Path) -> made.Tensors:
    """Give the dense ΔW, float64 [d_out, d_in], of what a path decodes to."""
    if path.is_dir():
        return made.deltas(path)
    folder = work / f"decoded-{path.name}"
    if not folder.exists():
        decompress(path, folder)
    return made.deltas(folder)


def dense_cosines(deltas: Sequence[made.Tensors]) -> Array:
    """Compute cosines by the definition, float64 [experts, experts]; 0 where a norm is."""

    def inner(one: made.Tensors, two: made.Tensors) -> float:
        return sum(float((one[name] * two[name]).sum()) for name in one.keys() & two.keys())

    products = np.array([[inner(one, two) for two in deltas] for one in deltas], np.float64)
    norms = np.sqrt(np.diagonal(products))
    scale = norms[:, None] * norms
    cosines: Array = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return cosines
