"""Code trits at their entropy, in segments.

A byte holds five trits (`compress.ternary`), `compress.frequencies` models how often each such
symbol comes, and `compress.rans` codes the symbols.

A segment holds at most `MAX_SEGMENT_TRITS` and begins with what is needed to decode it:

    u32 crc32 of what follows · u32 trits · u16 lanes · u8 bits · u8 model · u16 model bytes
    u32 words · model · u32 states [lanes] · u32 group words [⌈lanes/32⌉] · u16 words [words]

Bit 7 of `bits` says whether every 32 lanes have words of their own (`compress.lane_groups`); only
then are there group words, how many each group has. Large segments are written so since version 2
of the file; version 1 knew no such precision. A segment whose symbols are all the same has no
lanes. Every number is little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from compress import frequencies, lane_groups, rans, ternary
from compress.dtypes import Array
from compress.errors import TernDamagedError

MAX_SEGMENT_TRITS = 1 << 24
_HEAD = struct.Struct("<IIHBBHI")
HEAD_BYTES = _HEAD.size
_GROUPED = 0x80


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """Say what a segment holds, read from its first bytes."""

    crc: int
    trits: int
    lanes: int
    bits: int
    model: int
    model_bytes: int
    words: int
    grouped: bool = False

    @property
    def groups(self) -> int:
        """Count the groups of lanes that have words of their own."""
        return lane_groups.group_count(self.lanes) if self.grouped else 0

    @property
    def size_bytes(self) -> int:
        """Count the bytes of the whole segment."""
        return HEAD_BYTES + self.model_bytes + 4 * self.lanes + 4 * self.groups + 2 * self.words


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold a segment whose bytes are whole and whose claims agree; not decoded yet.

    Attributes:
        trits: how many it holds.
        bits: frequencies sum to 2^bits.
        frequencies: uint32 [243]; empty without trits.
        states: uint32 [lanes], all in their range; empty if all symbols are the same.
        words: uint16 [words], group after group.
        group_words: uint32 [groups], which sum to the words; None if all lanes share them.
    """

    trits: int
    bits: int
    frequencies: Array
    states: Array
    words: Array
    group_words: Array | None

    @property
    def symbols(self) -> int:
        """Count the symbols."""
        return ternary.symbol_count(self.trits)

    @property
    def constant(self) -> int | None:
        """Give the symbol of which alone it consists, or None if it has lanes or nothing."""
        return None if len(self.states) or not self.trits else int(self.frequencies.argmax())


def encode_segment(trits: Array, *, grouped: bool | None = None) -> bytes:
    """Encode int8 [n] trits, 0 ≤ n ≤ `MAX_SEGMENT_TRITS`, as one segment.

    Args:
        trits: −1, 0 and +1.
        grouped: whether every 32 lanes get words of their own; None means by their number.
    """
    symbols = ternary.pack(trits)
    if not len(symbols):
        return _seal(_HEAD.pack(0, 0, 0, frequencies.PRECISIONS[0], 0, 0, 0))
    counts = np.bincount(symbols, minlength=ternary.SYMBOLS)
    model = frequencies.fit(counts)
    lanes = _choose_lanes(model, counts)
    stream = rans.encode_stream(symbols, None, _tables(model), lanes=lanes, grouped=grouped)
    flag = 0 if stream.group_words is None else _GROUPED
    sizes = len(model.encoded), len(stream.words)
    head = _HEAD.pack(0, len(trits), lanes, model.bits | flag, model.kind, *sizes)
    return _seal(head + model.encoded + stream.tobytes())


def estimate_bytes(trits: Array) -> float:
    """Estimate the size of a segment without coding it."""
    if not len(trits):
        return HEAD_BYTES
    counts = np.bincount(ternary.pack(trits), minlength=ternary.SYMBOLS)
    model = frequencies.fit(counts)
    lanes = _choose_lanes(model, counts)
    groups = lane_groups.group_count(lanes) if lanes >= lane_groups.GROUPED_FROM else 0
    fixed = HEAD_BYTES + len(model.encoded) + 3 * lanes + 4 * groups
    return fixed + model.cost_bits(counts) / 8


def read_head(data: bytes | memoryview) -> SegmentHead:
    """Read what a segment says about itself.

    Raises:
        TernDamagedError: too short, or more trits or lanes than a segment may have.
    """
    if len(data) < HEAD_BYTES:
        raise TernDamagedError(
            "a segment is cut off", field="trits", expected=f"{HEAD_BYTES} bytes"
        )
    crc, trits, lanes, bits, model, model_bytes, words = _HEAD.unpack(data[:HEAD_BYTES])
    grouped = bool(bits & _GROUPED)
    precision = bits & ~_GROUPED
    head = SegmentHead(crc, trits, lanes, precision, model, model_bytes, words, grouped)
    if head.trits > MAX_SEGMENT_TRITS or head.lanes > rans.MAX_LANES:
        raise TernDamagedError("a segment claims too much", field="trits", actual=str(head.trits))
    return head


def decode_segment(data: bytes | memoryview) -> Array:
    """Decode one whole segment into int8 [n] trits.

    Raises:
        TernDamagedError: the checksum or the structure is wrong.
    """
    segment = read_segment(data)
    if not segment.trits:
        return np.empty(0, np.int8)
    symbols = rans.decode(
        segment.states,
        segment.words,
        None,
        rans.Tables(segment.bits, segment.frequencies[None]),
        count=segment.symbols,
        group_words=segment.group_words,
    )
    return ternary.unpack(symbols, segment.trits)


def read_segment(data: bytes | memoryview) -> Segment:
    """Read a segment and check all that can be checked before decoding it.

    Raises:
        TernDamagedError: the checksum, a size, the model or a state is wrong.
    """
    head = read_head(data)
    if len(data) != head.size_bytes:
        raise TernDamagedError(
            "a segment has another size than it says",
            field="trits",
            expected=f"{head.size_bytes} bytes",
            actual=str(len(data)),
        )
    if zlib.crc32(data[4:]) != head.crc:
        raise TernDamagedError("a checksum of a segment of trits is wrong", field="trits")
    at = HEAD_BYTES + head.model_bytes
    groups_at = at + 4 * head.lanes
    table = np.empty(0, np.uint32)
    if head.trits:
        table = frequencies.read(head.model, head.bits, bytes(data[HEAD_BYTES:at])).frequencies
    segment = Segment(
        trits=head.trits,
        bits=head.bits,
        frequencies=table,
        states=np.frombuffer(data, "<u4", head.lanes, at),
        words=np.frombuffer(data, "<u2", head.words, groups_at + 4 * head.groups),
        group_words=np.frombuffer(data, "<u4", head.groups, groups_at) if head.grouped else None,
    )
    _check(segment)
    return segment


def _check(segment: Segment) -> None:
    certain = bool(segment.trits) and int(segment.frequencies.max()) == 1 << segment.bits
    lanes = len(segment.states)
    if lanes > segment.symbols or (lanes and certain):
        raise TernDamagedError("a segment has lanes without use", field="trits")
    if segment.trits and not lanes and not certain:
        raise TernDamagedError("a segment has no lanes", field="trits")
    if lanes and int(segment.states.min()) < rans.LOW:
        raise TernDamagedError("a state is out of its range", field="trits")
    if not lanes and len(segment.words):
        raise TernDamagedError("words without lanes do not end", field="trits")
    groups = segment.group_words
    if groups is not None and int(groups.sum(dtype=np.uint64)) != len(segment.words):
        raise TernDamagedError("the words of the groups do not add up", field="trits")


def _seal(segment: bytes) -> bytes:
    return zlib.crc32(segment[4:]).to_bytes(4, "little") + segment[4:]


def _choose_lanes(model: frequencies.Model, counts: Array) -> int:
    if _constant(model):
        return 0
    return rans.choose_lanes(model.cost_bits(counts) / 8, int(counts.sum()))


def _constant(model: frequencies.Model) -> bool:
    return int(model.frequencies.max()) == 1 << model.bits


def _tables(model: frequencies.Model) -> rans.Tables:
    return rans.Tables(model.bits, model.frequencies.reshape(1, -1))
