"""Write the frequency tables of symbols in few bytes.

A weight takes one byte: the logarithm of the count in steps of an eighth of a bit, which costs less
than 0.001 bits per symbol against exact counts. Both sides turn weights into frequencies with
integers only, so that every machine decodes the same symbols. A table is

    u8 first bin · u8 last bin · u8 weights [last - first + 1]

where a bin is 2^spread neighbouring symbols that share a weight.
"""

from __future__ import annotations

import numpy as np

from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.rans import MAX_SYMBOLS, Tables

MAX_SPREAD = 4
_TOP = 255
#: 2^(k/8) in 1/256; written out so that no machine's rounding matters.
_EIGHTHS = np.array([256, 279, 304, 332, 362, 395, 431, 470], np.int64)


def fit(counts: Array, *, bits: int, spread: int = 0) -> tuple[Tables, bytes]:
    """Fit one table per context.

    Args:
        counts: int64 [contexts, symbols], every row with a positive count.
        bits: precision of the frequencies.
        spread: log2 of how many neighbouring symbols share a weight; must divide symbols.

    Returns:
        Tables that give every symbol that was counted a frequency, and their bytes for `read`.
    """
    binned = counts.reshape(len(counts), -1, 1 << spread).sum(axis=2)
    with np.errstate(divide="ignore"):
        below = np.log2(binned.max(axis=1, keepdims=True) / binned) * 8
    weights = np.where(binned > 0, np.clip(_TOP - np.rint(below), 1, _TOP), 0).astype(np.uint8)
    encoded = []
    for row in weights:
        used = row.nonzero()[0]
        first, last = int(used[0]), int(used[-1])
        encoded.append(bytes([first, last]) + row[first : last + 1].tobytes())
    return _tables(weights, bits=bits, spread=spread), b"".join(encoded)


def read(
    data: bytes, *, contexts: int, symbols: int, bits: int, spread: int = 0
) -> tuple[Tables, int]:
    """Read tables that `fit` wrote from the start of `data`; give the bytes that they took too.

    Raises:
        TernDamagedError: no encoder writes this.
    """
    known = 0 <= spread <= MAX_SPREAD and 0 < symbols <= MAX_SYMBOLS
    if not known or symbols % (1 << spread):
        raise TernDamagedError("a table has no such alphabet", field="model")
    bins, at = symbols >> spread, 0
    weights = np.zeros((contexts, bins), np.uint8)
    for row in weights:
        first, last = data[at : at + 2] if len(data) >= at + 2 else (1, 0)
        span = last - first + 1
        if span < 1 or last >= bins or len(data) < at + 2 + span:
            raise TernDamagedError("a table of frequencies is cut off", field="model")
        row[first : last + 1] = np.frombuffer(data, np.uint8, span, at + 2)
        if not row[first] or not row[last]:
            raise TernDamagedError("a table of frequencies is padded", field="model")
        at += 2 + span
    return _tables(weights, bits=bits, spread=spread), at


def _tables(weights: Array, *, bits: int, spread: int) -> Tables:
    steps = weights.astype(np.int64) - 1
    scaled = np.where(steps >= 0, _EIGHTHS[steps & 7] << (steps >> 3), 0)
    rows = [_normalise(np.repeat(row, 1 << spread), bits) for row in scaled]
    return Tables(bits, np.stack(rows))


def _normalise(weights: Array, bits: int) -> Array:
    """Scale int64 [symbols] to a sum of 2^bits by largest remainder, at least 1 where positive."""
    possible = weights > 0
    if np.count_nonzero(possible) > 1 << bits:
        raise TernDamagedError("there are more symbols than slots", field="model")
    share = weights << bits
    total = weights.sum()
    frequencies = np.maximum(share // total, possible)
    missing = (1 << bits) - int(frequencies.sum())
    if missing > 0:
        order = np.argsort(-(share % total), kind="stable")
        frequencies[order[:missing]] += 1
    for _ in range(-missing):
        frequencies[frequencies.argmax()] -= 1
    return np.asarray(frequencies, np.uint32)
