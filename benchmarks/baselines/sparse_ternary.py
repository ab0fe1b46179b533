"""STC: keep the largest values, each as its sign times the mean magnitude of all that are kept.

F. Sattler, S. Wiedemann, K.-R. Müller, W. Samek, "Robust and Communication-Efficient Federated
Learning from Non-IID Data" (arXiv 1903.02891), algorithm 1. The values are those of A and B. The
mean of the *magnitudes* is the definition; the code published with ComPEFT takes the signed mean,
which is near zero. Where the paper codes positions by Golomb, we count the bytes of this project's
entropy coder, which are fewer, one run for all A and one for all B, and a float16 per scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.baselines.interface import Adapter, Approximation
from benchmarks.baselines.levels import SCALE_BITS
from compress import Scope, entropy
from compress.dtypes import Array
from compress.measure import Factors

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stc:
    """Keep a share of the values.

    Attributes:
        density: share of values kept, in (0, 1].
        scope: which values compete and share a scale.
    """

    density: float
    scope: Scope = Scope.GLOBAL

    @property
    def label(self) -> str:
        """Name it: STC global 5%."""
        return f"STC {self.scope.value} {self.density:.0%}"

    def compress(self, adapter: Adapter) -> Approximation:
        """Make trits of all factors."""
        matrices = _matrices(adapter)
        trits, values, scales = dict[Key, Array](), dict[Key, Array](), 0
        for keys in _groups(list(matrices), self.scope):
            scales += 1
            found, mean = sparsify([matrices[key] for key in keys], self.density)
            for key, kept in zip(keys, found, strict=True):
                trits[key], values[key] = kept, (kept * mean).astype(np.float32)
        made = {
            name: Factors(values["A", name], values["B", name], module.scale)
            for name, module in adapter.modules.items()
        }
        return Approximation(made, coded_bits(trits) + SCALE_BITS * scales)


def sparsify(matrices: list[Array], density: float) -> tuple[list[Array], float]:
    """Find the largest int(density · n) values of all matrices, at least one.

    Returns:
        int8 trits of every matrix, and the mean magnitude of the kept values as a float16 has it.
    """
    flat = np.concatenate([matrix.ravel() for matrix in matrices])
    count = max(1, int(density * flat.size))
    kept = np.argsort(-np.abs(flat), kind="stable")[:count]
    trits = np.zeros(flat.size, np.int8)
    trits[kept] = np.sign(flat[kept])
    ends = np.cumsum([matrix.size for matrix in matrices])[:-1]
    split = [
        part.reshape(matrix.shape)
        for part, matrix in zip(np.split(trits, ends), matrices, strict=True)
    ]
    return split, float(np.float16(np.abs(flat[kept]).mean()))


def coded_bits(trits: Mapping[Key, Array]) -> int:
    """Count the bits of real segments: all A first, then all B."""
    size = 0
    for role in ("A", "B"):
        run = np.concatenate([part.ravel() for (of, _), part in trits.items() if of == role])
        for at in range(0, len(run), entropy.MAX_SEGMENT_TRITS):
            size += len(entropy.encode_segment(run[at : at + entropy.MAX_SEGMENT_TRITS]))
    return 8 * size


def _matrices(adapter: Adapter) -> dict[Key, Array]:
    a = {("A", name): module.a for name, module in adapter.modules.items()}
    return a | {("B", name): module.b for name, module in adapter.modules.items()}


def _groups(keys: list[Key], scope: Scope) -> Iterator[list[Key]]:
    if scope is Scope.GLOBAL:
        yield keys
    elif scope is Scope.FACTOR:
        yield [key for key in keys if key[0] == "A"]
        yield [key for key in keys if key[0] == "B"]
    else:
        yield from ([key] for key in keys)
