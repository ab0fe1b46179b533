"""Hold what inspecting found out, with what no coder can do better at the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compress.measure import Factors
from compress.reports import HeadReport, Inspection, Json, LayerReport, plain
from compress.water_filling import error_bound, spectrum

#: Bits per parameter at which an adapter shows its bound.
RATES = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class RatePoint:
    """Be one point of a rate–distortion curve.

    Attributes:
        bits_per_param: bits for every element of A and B.
        error: relative error of ΔW.
    """

    bits_per_param: float
    error: float


@dataclass(frozen=True, slots=True)
class Inspected(Inspection):
    """Tell what an adapter or a `.tern` file holds, and what its size is held against.

    Attributes:
        stored_dtype: the type or types of the task vector, which ratios refer to.
        stored_bytes: its size in them.
        source_bytes: size of all weights as they are when decoded.
        part_bytes: of a `.tern`, bytes of the header and of every part; empty otherwise.
        shannon_bytes: entropy of the symbols of a `.tern`, None where it cannot be told from it.
        error_bound: water-filling bound of the error of ΔW at the size of a `.tern`, None without
            an original or where not all that is compressed is LoRA.
        bounds: that bound of the original, or of an adapter that is not compressed, at `RATES`.
        layers: of a `.tern` with layers, what it tells up to each of them.
        heads: tensors that were rounded to few bits; their error is NaN without an original.
    """

    stored_dtype: str
    stored_bytes: int
    source_bytes: int
    part_bytes: Mapping[str, int]
    shannon_bytes: float | None
    error_bound: float | None
    bounds: tuple[RatePoint, ...]
    layers: tuple[LayerReport, ...]
    heads: tuple[HeadReport, ...]

    @property
    def ratio(self) -> float:
        """Give the decoded weights ÷ what they take here, in bytes."""
        return self.source_bytes / self.size.total

    @property
    def lossy_ratio(self) -> float:
        """Give the same for the task vector alone, header and all."""
        return self.stored_bytes / self.size.lossy if self.size.lossy else 0.0

    def to_json(self) -> dict[str, Json]:
        """Give everything as plain JSON values."""
        return plain(
            self,
            bits_per_param=self.bits_per_param,
            ratio=self.ratio,
            lossy_ratio=self.lossy_ratio,
        )


def bound_points(
    factors: Sequence[Factors] | None, rates: Sequence[float] = RATES
) -> tuple[RatePoint, ...]:
    """Give the water-filling bound at some rates; nothing where there are no factors.

    Args:
        factors: of every module of an adapter.
        rates: bits per parameter, each above 0.
    """
    if not factors:
        return ()
    found = spectrum(factors)
    # A component far too weak to be described overflows, and is then left out as it should be.
    with np.errstate(over="ignore"):
        return tuple(RatePoint(rate, error_bound(found, rate)) for rate in rates)
