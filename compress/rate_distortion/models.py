"""Model the digits of levels: a few probabilities for every class of vectors and plane.

A digit depends on what is known before it: its class (how strong its vector is), the coarser value
above it and, in the finest plane, the quantiser that holds. Where the coarser value is zero, both
signs are equally likely, so one probability is enough; elsewhere there are two, relative to the
sign. A byte tells each, to within a sixteenth of its odds; both sides build the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.rate_distortion.digits import digit_table, magnitudes, plane_count

BITS = 12
ONE = 1 << BITS
#: Kinds of coarser values; in coarser planes ODD stands for every value but zero.
ZERO, ODD, EVEN = 0, 1, 2
#: int64 [256]: the chances that a byte can tell, of 4096, in equal steps of log(p / (1 - p)).
_CHANCES: Array = np.maximum.accumulate(
    np.rint(ONE / (1 + np.exp(-np.linspace(-8.3, 8.3, 256)))).astype(np.int64).clip(1, ONE - 2)
)
#: The largest code of a chance that both signs can have.
_HALF = int(np.searchsorted(_CHANCES, ONE // 2 - 1, side="right")) - 1
#: What is added to every count, so that nothing is impossible.
_PRIOR = 0.3


@dataclass(frozen=True, slots=True)
class ClassModel:
    """Hold the digit probabilities of one class.

    Attributes:
        planes: digits of its levels.
        codes: uint8 [planes, 2, 3, 2]: codes of the chances of −1 and +1.
        digits: int64 [planes, 2, 3, 3]: weight of −1, 0, +1 by plane, quantiser and kind of the
            coarser value, of 4096. Only the finest plane tells quantisers apart, and only while the
            coarser value is zero.
    """

    planes: int
    codes: Array
    digits: Array

    def bits(self, planes: int) -> Array:
        """Give the bits of every magnitude, its sign included: float32 [2, magnitudes]."""
        table, coarser = digit_table(planes)
        kinds = _kinds(coarser)
        cost = np.zeros((2, magnitudes(planes)))
        information = BITS - np.log2(self.digits)
        for plane in range(self.planes):
            for quantiser in (0, 1):
                of_digit = information[plane, quantiser, kinds[plane], table[plane] + 1]
                cost[quantiser] += of_digit
        cost[:, magnitudes(self.planes) :] = 60.0
        return cost.astype(np.float32)


def fit_all(histogram: Array) -> list[ClassModel]:
    """Fit every class, strongest first; none has fewer planes than a weaker one.

    Args:
        histogram: int64 [classes, 2 quantisers, magnitudes], how often each magnitude came.
    """
    fitted: list[ClassModel] = []
    planes = 1
    for counts in histogram[::-1]:
        used = counts.sum(axis=0).nonzero()[0]
        planes = max(planes, plane_count(int(used[-1])) if len(used) else 1)
        fitted.append(fit(counts, planes))
    return fitted[::-1]


def fit(histogram: Array, planes: int) -> ClassModel:
    """Fit one class with so many planes to counts of magnitudes, int64 [2, magnitudes]."""
    counts = digit_counts(histogram, planes) + _PRIOR
    counts[:, :, ZERO] = (counts[:, :, ZERO] + counts[:, :, ZERO, ::-1]) / 2
    counts[1:] = counts[1:].sum(axis=1, keepdims=True)
    counts[0, :, ODD:] = counts[0, :, ODD:].sum(axis=0, keepdims=True)
    share = counts / counts.sum(axis=-1, keepdims=True)
    codes = _nearest_code(share[..., [0, 2]])
    low, high = _CHANCES[codes[..., 0]], _CHANCES[codes[..., 1]]
    crowded = low + high >= ONE
    codes[..., 1] = np.where(
        crowded, _nearest_code((ONE - 1 - low) / ONE, below=True), codes[..., 1]
    )
    codes[:, :, ZERO] = np.minimum(codes[:, :, ZERO], _HALF)
    return ClassModel(planes, codes, _digits(codes))


def _nearest_code(share: Array, *, below: bool = False) -> Array:
    """Find the code of the nearest chance, or of the next one below: uint8, like share."""
    above = np.clip(np.searchsorted(_CHANCES, share * ONE), 1, len(_CHANCES) - 1)
    lower, upper = _CHANCES[above - 1], _CHANCES[above]
    nearer = (share * ONE - lower <= upper - share * ONE) | below
    return np.where(nearer, above - 1, above).astype(np.uint8)


def digit_counts(histogram: Array, planes: int) -> Array:
    """Count digits: float64 [planes, 2, 3 kinds, 3 digits]; signs are split evenly under zero."""
    table, coarser = digit_table(planes)
    kinds = _kinds(coarser)
    counts = np.zeros((planes, 2, 3, 3))
    counted = histogram[:, : table.shape[1]]
    for plane in range(planes):
        cell = kinds[plane] * 3 + table[plane] + 1
        for quantiser in (0, 1):
            row = counted[quantiser, : len(cell)]
            sums = np.bincount(cell[: len(row)], weights=row, minlength=9).reshape(3, 3)
            counts[plane, quantiser] = sums
    above = counts[:, :, ZERO, 2] / 2
    counts[:, :, ZERO, 0] = counts[:, :, ZERO, 2] = above
    return counts


def entropy_bits(histogram: Array, planes: int) -> float:
    """Give the Shannon bound of the digits of a class given what each is coded with."""
    counts = digit_counts(histogram, planes)
    counts[1:] = np.concatenate([counts[1:].sum(axis=1, keepdims=True)] * 2, axis=1) / 2
    counts[0, :, ODD:] = counts[0, :, ODD:].sum(axis=0, keepdims=True) / 2
    totals = counts.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(counts > 0, counts * np.log2(totals / counts), 0.0)
    return float(bits.sum())


def write(model: ClassModel, plane: int) -> bytes:
    """Write the chances that a plane of a class needs, a byte each."""
    return bytes(int(model.codes[plane][at]) for at in _stored(model.planes, plane))


def size_bytes(planes: int, plane: int) -> int:
    """Give the bytes that `write` takes."""
    return len(_stored(planes, plane))


def read(data: bytes, planes: int, plane: int) -> Array:
    """Read the digit weights of one plane: int64 [2, 3, 3].

    Raises:
        TernDamagedError: a chance is out of its range.
    """
    codes = np.zeros((2, 3, 2), np.uint8)
    for (quantiser, kind, side), code in zip(_stored(planes, plane), data, strict=True):
        at = slice(None) if plane or kind != ZERO else quantiser
        where = slice(None) if kind == ZERO else side
        codes[at, kind, where] = code
    if int(_CHANCES[codes].sum(axis=-1).max()) >= ONE:
        raise TernDamagedError("a chance is out of its range", field="model")
    return _digits(codes)


def _stored(planes: int, plane: int) -> list[tuple[int, int, int]]:
    """List what is written for a plane: quantiser, kind of the coarser value, side."""
    if plane:
        stored = [(0, ZERO, 1)]
        return stored + ([(0, ODD, 0), (0, ODD, 1)] if plane < planes - 1 else [])
    stored = [(0, ZERO, 1), (1, ZERO, 1)]
    if planes > 1:
        stored += [(0, ODD, 0), (0, ODD, 1)]
    if planes > 2:
        stored += [(0, EVEN, 0), (0, EVEN, 1)]
    return stored


def _digits(codes: Array) -> Array:
    """Give the weights of −1, 0 and +1 from the codes of both sides."""
    sides = _CHANCES[codes]
    return np.stack([sides[..., 0], ONE - sides.sum(axis=-1), sides[..., 1]], axis=-1)


def _kinds(coarser: Array) -> Array:
    """Give the kind of every coarser value, of the finest plane by parity: int64, like coarser."""
    kinds = np.where(coarser == 0, ZERO, ODD)
    kinds[0] = np.where(coarser[0] == 0, ZERO, np.where(coarser[0] & 1, ODD, EVEN))
    return kinds
