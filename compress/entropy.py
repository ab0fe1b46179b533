"""Code trits at their entropy with interleaved range asymmetric numeral systems (rANS).

J. Duda, "Asymmetric numeral systems" (2013), range variant; interleaving after F. Giesen,
"Interleaved entropy coders" (2014). Lane l codes symbols l, l+L, l+2L, …; all L lanes take the same
step at once, so NumPy works on whole rows and a GPU can map a lane to a thread. States are 32 bits
in [2¹⁶, 2³²); a lane that falls below 2¹⁶ takes the next 16-bit word of one shared stream, lanes in
rising order.

A segment holds at most `MAX_SEGMENT_TRITS` and begins with what is needed to decode it:

    u32 crc32 of what follows · u32 trits · u16 lanes · u8 bits · u8 model · u16 model bytes
    u32 words · model · u32 states [lanes] · u16 words [words]

A segment whose symbols are all the same has no lanes. Every number is little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from compress import frequencies, ternary
from compress.dtypes import Array
from compress.errors import TernDamagedError

MAX_SEGMENT_TRITS = 1 << 24
_HEAD = struct.Struct("<IIHBBHI")
HEAD_BYTES = _HEAD.size
_LOW = 1 << 16
_MIN_LANES, _MAX_LANES = 8, 8192
#: A lane costs about 3 bytes; at this many payload bytes per lane that is 0.6 %.
_PAYLOAD_PER_LANE = 512


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

    @property
    def size_bytes(self) -> int:
        """Count the bytes of the whole segment."""
        return HEAD_BYTES + self.model_bytes + 4 * self.lanes + 2 * self.words


def encode_segment(trits: Array) -> bytes:
    """Encode int8 [n] trits, 0 ≤ n ≤ `MAX_SEGMENT_TRITS`, as one segment."""
    symbols = ternary.pack(trits)
    if not len(symbols):
        return _seal(_HEAD.pack(0, 0, 0, frequencies.PRECISIONS[0], 0, 0, 0))
    counts = np.bincount(symbols, minlength=ternary.SYMBOLS)
    model = frequencies.fit(counts)
    lanes = _choose_lanes(model, counts)
    states, words = _encode(symbols, model, lanes=lanes)
    head = _HEAD.pack(0, len(trits), lanes, model.bits, model.kind, len(model.encoded), len(words))
    return _seal(head + model.encoded + states.astype("<u4").tobytes() + words.tobytes())


def estimate_bytes(trits: Array) -> float:
    """Estimate the size of a segment without coding it."""
    if not len(trits):
        return HEAD_BYTES
    counts = np.bincount(ternary.pack(trits), minlength=ternary.SYMBOLS)
    model = frequencies.fit(counts)
    lanes = _choose_lanes(model, counts)
    return HEAD_BYTES + len(model.encoded) + 3 * lanes + model.cost_bits(counts) / 8


def read_head(data: bytes | memoryview) -> SegmentHead:
    """Read what a segment says about itself.

    Raises:
        TernDamagedError: too short, or more trits or lanes than a segment may have.
    """
    if len(data) < HEAD_BYTES:
        raise TernDamagedError(
            "a segment is cut off", field="trits", expected=f"{HEAD_BYTES} bytes"
        )
    head = SegmentHead(*_HEAD.unpack(data[:HEAD_BYTES]))
    if head.trits > MAX_SEGMENT_TRITS or head.lanes > _MAX_LANES:
        raise TernDamagedError("a segment claims too much", field="trits", actual=str(head.trits))
    return head


def decode_segment(data: bytes | memoryview) -> Array:
    """Decode one whole segment into int8 [n] trits.

    Raises:
        TernDamagedError: the checksum or the structure is wrong.
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
    if not head.trits:
        return np.empty(0, np.int8)
    at = HEAD_BYTES + head.model_bytes
    model = frequencies.read(head.model, head.bits, bytes(data[HEAD_BYTES:at]))
    states = np.frombuffer(data, "<u4", head.lanes, at).astype(np.uint32)
    words = np.frombuffer(data, "<u2", head.words, at + 4 * head.lanes)
    symbols = _decode(states, words, model, symbols=ternary.symbol_count(head.trits))
    return ternary.unpack(symbols, head.trits)


def _seal(segment: bytes) -> bytes:
    return zlib.crc32(segment[4:]).to_bytes(4, "little") + segment[4:]


def _choose_lanes(model: frequencies.Model, counts: Array) -> int:
    if int(model.frequencies.max()) == 1 << model.bits:
        return 0
    payload = int(model.cost_bits(counts) / 8)
    lanes = min(max(payload // _PAYLOAD_PER_LANE, _MIN_LANES), _MAX_LANES)
    return min(lanes, int(counts.sum()))


def _encode(symbols: Array, model: frequencies.Model, *, lanes: int) -> tuple[Array, Array]:
    """Code symbols from last row to first; give states [lanes] and words in decoding order."""
    states = np.full(lanes, _LOW, np.uint32)
    chunks: list[Array] = []
    if not lanes:
        return states, np.empty(0, "<u2")
    widths = model.frequencies
    starts = (np.cumsum(widths, dtype=np.uint64) - widths).astype(np.uint32)
    shift, top, word = np.uint32(model.bits), np.uint32(32 - model.bits), np.uint32(16)
    for begin in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        row = symbols[begin : begin + lanes].astype(np.intp)
        x, width = states[: len(row)], widths.take(row)
        full = np.flatnonzero((x >> top) >= width)
        spill = x.take(full)
        chunks.append(spill.astype("<u2"))
        x[full] = spill >> word
        quotient = x // width
        x[:] = (quotient << shift) + (x - quotient * width) + starts.take(row)
    chunks.reverse()
    return states, np.concatenate(chunks)


def _decode(states: Array, words: Array, model: frequencies.Model, *, symbols: int) -> Array:
    """Undo `_encode`; check that states and words end exactly where the encoder began."""
    slot_symbols = np.repeat(np.arange(ternary.SYMBOLS, dtype=np.uint8), model.frequencies)
    lanes = len(states)
    if not lanes:
        if int(model.frequencies.max()) != 1 << model.bits or len(words):
            raise TernDamagedError("a segment has no lanes", field="trits")
        return np.full(symbols, slot_symbols[0], np.uint8)
    if lanes > symbols or int(model.frequencies.max()) == 1 << model.bits:
        raise TernDamagedError("a segment has lanes without use", field="trits")
    if int(states.min()) < _LOW:
        raise TernDamagedError("a state is out of its range", field="trits")
    slots = np.empty(symbols, np.uint16)
    used = _decode_slots(states, words.astype(np.uint32), _slot_table(model, slot_symbols), slots)
    if used != len(words) or (states != _LOW).any():
        raise TernDamagedError("a segment does not end where it should", field="trits")
    return slot_symbols.take(slots)


def _slot_table(model: frequencies.Model, slot_symbols: Array) -> tuple[Array, int]:
    """Pack, for every slot, the symbol's width and the slot's place within it: uint32 [2^bits]."""
    widths = model.frequencies
    starts = (np.cumsum(widths, dtype=np.uint64) - widths).astype(np.uint32)
    place = np.arange(1 << model.bits, dtype=np.uint32) - starts.take(slot_symbols)
    return widths.take(slot_symbols) | place << np.uint32(16), model.bits


def _decode_slots(states: Array, words: Array, table: tuple[Array, int], slots: Array) -> int:
    """Run all lanes; fill uint16 [symbols] slots, leave the final states; give words used."""
    packed, bits = table
    lanes, position = len(states), 0
    mask, shift, word = np.uint32((1 << bits) - 1), np.uint32(bits), np.uint32(16)
    low, half = np.uint32(_LOW), np.uint32(0xFFFF)
    slot_row, entry_row = np.empty(lanes, np.intp), np.empty(lanes, np.uint32)
    width_row, below_row = np.empty(lanes, np.uint32), np.empty(lanes, np.bool_)
    for begin in range(0, len(slots), lanes):
        out = slots[begin : begin + lanes]
        count = len(out)
        x, slot, entry = states[:count], slot_row[:count], entry_row[:count]
        width, below = width_row[:count], below_row[:count]
        np.bitwise_and(x, mask, out=width)
        slot[:] = width
        out[:] = width
        packed.take(slot, out=entry, mode="clip")
        np.right_shift(x, shift, out=x)
        np.bitwise_and(entry, half, out=width)
        np.multiply(x, width, out=x)
        np.right_shift(entry, word, out=entry)
        np.add(x, entry, out=x)
        np.less(x, low, out=below)
        empty = below.nonzero()[0]
        if len(empty):
            refill = words[position : position + len(empty)]
            if len(refill) != len(empty):
                raise TernDamagedError("a segment ran out of words", field="trits")
            x[empty] = x.take(empty) << word | refill
            position += len(empty)
    return position
