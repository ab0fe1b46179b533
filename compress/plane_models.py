"""Find out what a plane of bytes is coded with: which elements share a table, and the tables.

Elements are grouped, by chunks of neighbours or by the byte above each in the same element, and
groups of like statistics form a class with a table of its own. Both need nothing that the
decoder does not know before it decodes the plane. Classes are found by Lloyd's algorithm with the
bits that a group costs in a class as distance (Linde, Buzo and Gray 1980 for code books).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compress import rans, symbol_tables
from compress.dtypes import Array
from compress.errors import TernDamagedError

_CHUNK, _MAX_CHUNKS = 256, 2048
MAX_CLASSES = 15
SYMBOLS = 256
_BITS = 12
_TRIED_CLASSES = (1, 3, 8)
_ROUNDS = 3
#: Exact counts, or 16 neighbouring bytes with one weight, which is enough for a mantissa.
_COARSE = 4
_TRIED_SPREADS = (0, _COARSE)
#: Saving less of a plane is not worth the time to decode it.
_LEAST_GAIN = 1 / 64
#: So many elements tell whether a plane is noise.
_SAMPLE = 1 << 17


class Way(IntEnum):
    """Name the ways in which a plane is coded."""

    RAW = 0
    BY_CHUNK = 1
    BY_ABOVE = 2


@dataclass(frozen=True, slots=True)
class PlaneModel:
    """Hold what a plane is coded with.

    Attributes:
        way: how elements are grouped; not `RAW`.
        labels: uint8 [groups], the class of every group.
        tables: one row per class.
        spread: see `compress.symbol_tables`.
        encoded: labels and tables for `read`.
    """

    way: Way
    labels: Array
    tables: rans.Tables
    spread: int
    encoded: bytes

    def contexts(self, count: int, above: Array | None) -> Array | None:
        """Give the class of every element, uint8 [count], or None if there is one class."""
        if self.tables.contexts == 1:
            return None
        if above is not None and self.way is Way.BY_ABOVE:
            return _look_up(self.labels, above)
        return np.repeat(self.labels, chunk_elements(count))[:count]


def fit(plane: Array, above: Array | None) -> tuple[PlaneModel, float] | None:
    """Find a cheap model for uint8 [n], the plane above known, and the bits that it leaves.

    Returns:
        None if the plane is best left raw.
    """
    worth = 8 * len(plane) * (1 - _LEAST_GAIN)
    totals = np.bincount(plane, minlength=SYMBOLS)
    present = np.flatnonzero(totals)
    groupings: list[tuple[Way, Array]] = []
    if len(present) == 1:
        groupings.append((Way.BY_CHUNK, totals[None, present]))
    elif _information(totals[None]) < worth:
        groupings.append((Way.BY_CHUNK, _chunk_histograms(plane, present)))
    if above is not None and (groupings or _tells(plane, above)) and len(present) > 1:
        groupings.append((Way.BY_ABOVE, _pair_histograms(plane, above)[:, present]))
    if not groupings:
        return None
    found = [(way, *each) for way, groups in groupings for each in _partitions(groups, present)]
    way, labels, counts = min(found, key=lambda each: _likely_bits(each[1], each[2]))
    models = [_model(way, labels, counts, spread=spread) for spread in _TRIED_SPREADS]
    model, bits = min(models, key=lambda pair: pair[1] + 8 * len(pair[0].encoded))
    return (model, bits) if bits + 8 * len(model.encoded) < worth else None


def read(data: bytes, *, way: int, classes: int, spread: int, count: int) -> PlaneModel:
    """Read the model of a plane of `count` bytes.

    Raises:
        TernDamagedError: no encoder writes this.
    """
    if way not in {Way.BY_CHUNK, Way.BY_ABOVE} or not 0 < classes <= MAX_CLASSES:
        raise TernDamagedError("a plane is coded in no way that is known", field="exact")
    groups = SYMBOLS if way == Way.BY_ABOVE else -(-count // chunk_elements(count))
    groups = groups if classes > 1 else 0
    most = groups + classes * (SYMBOLS + 2)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflate.decompress(data, most + 1)
    except zlib.error as error:
        raise TernDamagedError(f"a model cannot be read: {error}", field="exact") from error
    if not inflate.eof or inflate.unused_data or len(raw) < groups:
        raise TernDamagedError("a model has another size than it should", field="exact")
    labels = np.frombuffer(raw, np.uint8, groups)
    if groups and int(labels.max()) >= classes:
        raise TernDamagedError("a group is of no class", field="exact")
    tables, used = symbol_tables.read(
        raw[groups:], contexts=classes, symbols=SYMBOLS, bits=_BITS, spread=spread
    )
    if used != len(raw) - groups:
        raise TernDamagedError("a model has another size than it should", field="exact")
    return PlaneModel(Way(way), labels, tables, spread, data)


def chunk_elements(count: int) -> int:
    """Give the size of a chunk of a plane of so many elements."""
    size = _CHUNK
    while size * _MAX_CHUNKS < count:
        size *= 2
    return size


def _look_up(table: Array, plane: Array) -> Array:
    """Take from uint8 [256] for every byte, several times as fast as NumPy does."""
    return np.frombuffer(plane.tobytes().translate(table.tobytes()), np.uint8)


def _pair_histograms(plane: Array, above: Array) -> Array:
    """Count the bytes under every byte above: int64 [256, 256]."""
    pair = above.astype(np.uint16) << np.uint16(8) | plane
    return np.bincount(pair, minlength=SYMBOLS**2).reshape(SYMBOLS, SYMBOLS)


def _chunk_histograms(plane: Array, present: Array) -> Array:
    """Count how often the bytes that are present come in every chunk: int64 [chunks, present]."""
    size = chunk_elements(len(plane))
    chunks = -(-len(plane) // size)
    place = np.zeros(SYMBOLS, np.uint8)
    place[present] = np.arange(len(present))
    index = np.repeat(np.arange(chunks) * len(present), size)[: len(plane)]
    index += _look_up(place, plane)
    return np.bincount(index, minlength=chunks * len(present)).reshape(chunks, -1)


def _partitions(histograms: Array, present: Array) -> Iterator[tuple[Array, Array]]:
    """Yield labels, uint8 [groups], and int64 [classes, 256] counts for more and more classes."""
    live = np.flatnonzero(histograms.any(axis=1))
    seen = histograms[live].astype(np.float64)
    for classes in _TRIED_CLASSES:
        if classes <= len(live):
            found = _cluster(seen, classes)
            labels = np.zeros(len(histograms), np.uint8)
            labels[live] = found
            counts = np.zeros((int(found.max()) + 1, SYMBOLS), np.int64)
            counts[:, present] = _class_sums(seen, found, len(counts))
            yield labels, counts


def _class_sums(histograms: Array, labels: Array, classes: int) -> Array:
    """Add up the float64 [groups, symbols] of every class, exactly: all are whole numbers."""
    return np.asarray((labels == np.arange(classes)[:, None]).astype(np.float64) @ histograms)


def _cluster(histograms: Array, classes: int) -> Array:
    """Split float64 [groups, symbols] counts, none of them empty, into at most so many classes."""
    totals = histograms.sum(axis=1)
    order = np.argsort(histograms @ np.arange(histograms.shape[1]) / totals, kind="stable")
    labels = np.empty(len(totals), np.intp)
    labels[order] = (np.cumsum(totals[order]) - 1) * classes // totals.sum()
    for _ in range(_ROUNDS if classes > 1 else 0):
        sums = _class_sums(histograms, labels, classes) + 0.5
        # Whole numbers: their products and sums are exact, in whatever order a machine adds them.
        costs = np.rint(256 * np.log2(sums.sum(axis=1, keepdims=True) / sums))
        labels = np.argmin(histograms @ costs.T, axis=1)
    return np.unique(labels, return_inverse=True)[1]


def _model(way: Way, labels: Array, counts: Array, *, spread: int) -> tuple[PlaneModel, float]:
    tables, encoded = symbol_tables.fit(counts, bits=_BITS, spread=spread)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    kept = labels if len(counts) > 1 else labels[:0]
    packed = deflate.compress(kept.tobytes() + encoded) + deflate.flush()
    return PlaneModel(way, kept, tables, spread, packed), rans.cost_bits(counts, tables)


def _tells(plane: Array, above: Array) -> bool:
    """Judge from a sample whether the bytes above make 16 neighbouring bytes differ in likelihood.

    Single bytes would promise too much: a few elements always look as if some were likelier.
    """
    step = 1 + len(plane) // _SAMPLE
    pairs = _pair_histograms(plane[::step], above[::step])
    coarse = pairs.reshape(SYMBOLS, -1, 1 << _COARSE).sum(axis=2)
    total = int(pairs.sum())
    return _information(coarse) + _COARSE * total < 8 * total * (1 - _LEAST_GAIN)


def _likely_bits(labels: Array, counts: Array) -> float:
    """Estimate the bits of a plane with its model from its classes."""
    turns = np.count_nonzero(np.diff(labels))
    return _information(counts) + _BITS * turns + 8 * np.count_nonzero(counts)


def _information(histograms: Array) -> float:
    """Compute the bits of an ideal coder that knows all counts of int64 [groups, symbols]."""
    totals = np.broadcast_to(histograms.sum(axis=1, keepdims=True), histograms.shape)
    present = histograms > 0
    counts = histograms[present]
    return float((counts * np.log2(totals[present] / counts)).sum())
