"""Hold an expert in the numbers of its compressed form: ΔW = Σ weightₖ · bₖ aₖᵀ by module.

`compeft` makes vectors of trits, held as bit planes; `rd` makes few vectors of small integers, held
in a byte each; of what was never compressed the factors are held as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.trit_rows import TritRows, unpack_rows

#: Vectors [rows, columns]: of trits, or of int8, int16, or floats of 16 or 32 bits.
Rows = TritRows | Array


@dataclass(frozen=True, slots=True)
class CompressedModule:
    """Hold one module: pairs of vectors, and what each pair counts.

    Attributes:
        a: [rank, d_in].
        b: B transposed, [rank, d_out].
        weights: float64 [rank], the scale of the LoRA and of the vectors.
        scales: what +1 in A and in B stands for; None where the vectors are no factors that were
            stored, as those of `rd`, which describes ΔW itself.
    """

    a: Rows
    b: Rows
    weights: Array
    scales: tuple[float, float] | None = None

    @property
    def rank(self) -> int:
        """Count the pairs."""
        return len(self.weights)

    @property
    def shape(self) -> tuple[int, int]:
        """Give d_out and d_in."""
        return row_columns(self.b), row_columns(self.a)

    @property
    def ternary(self) -> bool:
        """Say whether both sides are trits."""
        return isinstance(self.a, TritRows) and isinstance(self.b, TritRows)


@dataclass(frozen=True, slots=True)
class CompressedExpert:
    """Hold one expert.

    Attributes:
        label: how people call it.
        method: `compeft`, `rd`, or `none` for factors that are not compressed.
        base: the base model, in its own spelling, or None where nothing names it.
        source: sha256 of the weights that were compressed, or of the weights themselves.
        modules: by name.
    """

    label: str
    method: str
    base: str | None
    source: str
    modules: Mapping[str, CompressedModule]

    @property
    def size_bytes(self) -> int:
        """Count the bytes that it takes in memory."""
        sides = [side for module in self.modules.values() for side in (module.a, module.b)]
        return sum(s.size_bytes if isinstance(s, TritRows) else int(s.nbytes) for s in sides)

    def is_zero(self) -> bool:
        """Say whether ΔW is zero, because no pair has two vectors and a weight that are not."""
        return not any(
            (_any(module.a) & _any(module.b) & (module.weights != 0)).any()
            for module in self.modules.values()
        )

    def content(self) -> str:
        """Give a sha256 of ΔW as it is held: experts of one content are the same."""
        digest = hashlib.sha256()
        for name, module in sorted(self.modules.items()):
            digest.update(f"{name}\0{module.shape}\0".encode())
            digest.update(module.weights.tobytes())
            for side in (module.a, module.b):
                planes = [side.nonzero, side.negative] if isinstance(side, TritRows) else [side]
                for plane in planes:
                    digest.update(f"{plane.dtype}{plane.shape}".encode())
                    digest.update(np.ascontiguousarray(plane).tobytes())
        return digest.hexdigest()


def row_columns(rows: Rows) -> int:
    """Give the length of the vectors."""
    return rows.columns if isinstance(rows, TritRows) else int(rows.shape[1])


def as_floats(rows: Rows) -> Array:
    """Give vectors as float32 [rows, columns]; integers of compressed experts stay exact."""
    values = unpack_rows(rows) if isinstance(rows, TritRows) else rows
    return values.astype(np.float32, copy=False)


def _any(rows: Rows) -> Array:
    values = rows.nonzero if isinstance(rows, TritRows) else rows
    return np.asarray(values.astype(bool).any(axis=1))
