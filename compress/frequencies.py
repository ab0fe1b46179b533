"""Model how often each base-243 symbol comes, in few bytes and in exact integers.

Two models; the encoder takes the cheaper. The *count* model knows how many of a symbol's five trits
are non-zero (six weights) and how many of these are positive (one weight): 14 bytes. It contains
the model of independent trits and also follows streams in which dense and empty stretches
alternate. The *table* model lists all 243 frequencies, for streams with any other structure. Both
sides compute frequencies in integer arithmetic only, so that every machine decodes the same
symbols.
"""

from __future__ import annotations

import heapq
import math
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.ternary import SYMBOL_TRITS, SYMBOLS, TRITS_PER_SYMBOL

#: Probabilities are multiples of 2^-bits; a smaller table is faster, a larger one more precise.
PRECISIONS = (12, 14, 16)
_TOLERATED_EXCESS = 1.0005
_WEIGHT = 0xFFFF
_NONZERO = np.abs(SYMBOL_TRITS).sum(axis=1)
_POSITIVE = (SYMBOL_TRITS > 0).sum(axis=1)
_COUNT_BYTES = 2 * (TRITS_PER_SYMBOL + 2)


class ModelKind(IntEnum):
    """Name the two ways in which frequencies are written."""

    COUNT = 0
    TABLE = 1


@dataclass(frozen=True, slots=True)
class Model:
    """Hold frequencies that both sides agree on.

    Attributes:
        kind: how they are written.
        bits: their sum is 2^bits.
        frequencies: uint32 [243]; zero for a symbol that cannot come.
        encoded: the bytes from which they can be computed again.
    """

    kind: ModelKind
    bits: int
    frequencies: Array
    encoded: bytes

    def cost_bits(self, counts: Array) -> float:
        """Compute how many bits an ideal coder spends on symbols with these counts."""
        present = counts > 0
        shares = self.frequencies[present] / float(1 << self.bits)
        return float(-(counts[present] * np.log2(shares)).sum())


def fit(counts: Array) -> Model:
    """Choose the cheapest model for int64 [243] symbol counts (not all zero)."""
    encoded = _encode_count_weights(counts)
    by_count = [_count_model(encoded, bits) for bits in PRECISIONS]
    tables = [_table_model(_normalise([int(n) for n in counts], bits), bits) for bits in PRECISIONS]
    return min(
        (_cheapest(group, counts) for group in (by_count, tables)),
        key=lambda model: model.cost_bits(counts) + 8 * len(model.encoded),
    )


def read(kind: int, bits: int, encoded: bytes) -> Model:
    """Compute the frequencies from what the encoder wrote.

    Raises:
        TernDamagedError: no encoder writes this.
    """
    if bits not in PRECISIONS:
        raise TernDamagedError("unknown precision", field="model", actual=str(bits))
    if kind == ModelKind.COUNT and len(encoded) == _COUNT_BYTES and any(encoded[:-2]):
        return _count_model(encoded, bits)
    if kind == ModelKind.TABLE:
        inflate = zlib.decompressobj()
        try:
            raw = inflate.decompress(encoded, 4 * SYMBOLS + 1)
        except zlib.error as error:
            raise TernDamagedError(f"unreadable table: {error}", field="model") from error
        if len(raw) == 4 * SYMBOLS and inflate.eof and not inflate.unused_data:
            frequencies = np.frombuffer(raw, "<u4")
            if int(frequencies.sum(dtype=np.uint64)) == 1 << bits:
                return Model(ModelKind.TABLE, bits, frequencies, encoded)
    raise TernDamagedError("the frequencies are not valid", field="model", actual=f"kind {kind}")


def _cheapest(models: list[Model], counts: Array) -> Model:
    costs = [model.cost_bits(counts) for model in models]
    limit = min(costs) * _TOLERATED_EXCESS + 8
    return next(model for model, cost in zip(models, costs, strict=True) if cost <= limit)


def _table_model(frequencies: Array, bits: int) -> Model:
    encoded = zlib.compress(frequencies.astype("<u4").tobytes(), 9)
    return Model(ModelKind.TABLE, bits, frequencies, encoded)


def _encode_count_weights(counts: Array) -> bytes:
    by_nonzero = np.bincount(_NONZERO, weights=counts, minlength=TRITS_PER_SYMBOL + 1)
    largest = int(by_nonzero.max())
    weights = [max(1, round(int(n) * _WEIGHT / largest)) if n else 0 for n in by_nonzero]
    positive, nonzero = int((counts * _POSITIVE).sum()), int((counts * _NONZERO).sum())
    share = round(positive * _WEIGHT / nonzero) if nonzero else 0
    if 0 < positive < nonzero:
        share = min(max(share, 1), _WEIGHT - 1)
    return np.array([*weights, share], "<u2").tobytes()


def _count_model(encoded: bytes, bits: int) -> Model:
    *by_nonzero, share = (int(value) for value in np.frombuffer(encoded, "<u2"))
    weights = []
    for nonzero, positive in zip(_NONZERO.tolist(), _POSITIVE.tolist(), strict=True):
        signs = share**positive * (_WEIGHT - share) ** (nonzero - positive)
        even = 10 // math.comb(TRITS_PER_SYMBOL, nonzero)  # 10 is divisible by 1, 5 and 10
        weights.append(by_nonzero[nonzero] * signs * even * _WEIGHT ** (TRITS_PER_SYMBOL - nonzero))
    return Model(ModelKind.COUNT, bits, _normalise(weights, bits), encoded)


def _normalise(weights: list[int], bits: int) -> Array:
    """Scale weights to a sum of 2^bits by largest remainder, at least 1 where positive."""
    total, scale = sum(weights), 1 << bits
    if not total:
        raise TernDamagedError("no symbol is possible", field="model")
    frequencies = [max(1, w * scale // total) if w else 0 for w in weights]
    missing = scale - sum(frequencies)
    if missing > 0:
        order = sorted(range(len(weights)), key=lambda s: (-(weights[s] * scale % total), s))
        order = [s for s in order if weights[s]]
        for step in range(missing):
            frequencies[order[step % len(order)]] += 1
    if missing < 0:
        _take_from_largest(frequencies, -missing)
    return np.array(frequencies, np.uint32)


def _take_from_largest(frequencies: list[int], count: int) -> None:
    """Take 1 from the largest, the first of equals, so many times."""
    largest = [(-width, symbol) for symbol, width in enumerate(frequencies)]
    heapq.heapify(largest)
    for _ in range(count):
        width, symbol = largest[0]
        heapq.heapreplace(largest, (width + 1, symbol))
        frequencies[symbol] -= 1
