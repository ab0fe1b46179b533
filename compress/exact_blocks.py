"""Keep bytes exactly: the lossless stream for heads, biases and everything that is no task vector.

The bytes of all exact tensors follow one another, cut into blocks of one element width and at most
`BLOCK_BYTES`. A block is stored in the way that takes fewest bytes: raw; shuffled, first bytes of
all elements first, and deflated, which finds short repetition; as planes (`compress.float_planes`),
which suits trained weights; or as planes of what is left when whatever comes twice is taken out
(`compress.repeats`):

    u32 crc32 of all that follows · u8 element width · u8 codec · u32 bytes · u32 coded bytes ·
    coded
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

import numpy as np

from compress import float_planes, repeats
from compress.errors import TernDamagedError

BLOCK_BYTES = 4 << 20
_HEAD = struct.Struct("<IBBII")
HEAD_BYTES = _HEAD.size
_WIDTHS = frozenset({1, 2, 4, 8})
_LEVEL = 6
#: Blocks of so many bytes are always deflated; of larger ones samples first, as deflating is slow.
_SMALL_BLOCK_BYTES = 16 << 10
_SAMPLES, _SAMPLED_SHARE = 4, 128
#: Samples do not find all that deflating finds.
_SAMPLE_ERROR = 1.02


class Codec(IntEnum):
    """Name the ways in which a block is stored."""

    RAW = 0
    DEFLATED = 1
    PLANES = 2
    REPEATS = 3


class ExactWriter:
    """Gather bytes into blocks and write them out."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._buffer = bytearray()
        self._width = 1

    def add(self, data: bytes, *, width: int) -> None:
        """Append whole elements of a width."""
        if width != self._width:
            self.finish()
            self._width = width
        self._buffer += data
        while len(self._buffer) >= BLOCK_BYTES:
            self._write(bytes(self._buffer[:BLOCK_BYTES]))
            del self._buffer[:BLOCK_BYTES]

    def finish(self) -> None:
        """Write what is left."""
        if self._buffer:
            self._write(bytes(self._buffer))
            self._buffer.clear()

    def _write(self, data: bytes) -> None:
        codec, coded = _encode(data, self._width)
        body = _HEAD.pack(0, self._width, codec, len(data), len(coded))[4:] + coded
        self._out.write(zlib.crc32(body).to_bytes(4, "little") + body)


class ExactReader:
    """Give the bytes back in pieces of any size, holding one block at a time."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Give the next bytes.

        Raises:
            TernDamagedError: a block is damaged or there are not so many bytes.
        """
        pieces = []
        while size:
            if self._at == len(self._block):
                self._block, self._at = decode_block(next(self._blocks, b"")), 0
            piece = self._block[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)


def block_sizes(head: bytes) -> tuple[int, int]:
    """Read from a block's head how many bytes it decodes to and how long the whole block is.

    Raises:
        TernDamagedError: cut off, or larger than a block may be.
    """
    if len(head) < HEAD_BYTES:
        raise TernDamagedError("a block is cut off", field="exact")
    _, width, codec, size, coded = _HEAD.unpack(head[:HEAD_BYTES])
    known = width in _WIDTHS and codec in tuple(Codec)
    if not known or not 0 < size <= BLOCK_BYTES or coded > size:
        raise TernDamagedError("a block claims what no writer writes", field="exact")
    return size, HEAD_BYTES + coded


def decode_block(data: bytes) -> bytes:
    """Decode one whole block.

    Raises:
        TernDamagedError: the checksum or the structure is wrong.
    """
    size, length = block_sizes(data)
    crc, width, codec, _, _ = _HEAD.unpack(data[:HEAD_BYTES])
    if len(data) != length or zlib.crc32(data[4:]) != crc:
        raise TernDamagedError("a checksum of an exact block is wrong", field="exact")
    raw = _decode(data[HEAD_BYTES:], Codec(codec), width=width, size=size)
    if len(raw) != size:
        raise TernDamagedError("a block has another size than it says", field="exact")
    return raw


def _encode(data: bytes, width: int) -> tuple[Codec, bytes]:
    """Find the way that takes fewest bytes."""
    found = [(Codec.RAW, data), _encode_planes(data, width)]
    if _may_deflate_below(len(found[1][1]), data, width):
        found.append((Codec.DEFLATED, zlib.compress(_shuffle(data, width), _LEVEL)))
    return min(found, key=lambda pair: len(pair[1]))


def _encode_planes(data: bytes, width: int) -> tuple[Codec, bytes]:
    values = np.frombuffer(data, f"<u{width}")
    copies = repeats.find(values)
    if not copies:
        return Codec.PLANES, float_planes.encode(data, width=width)
    kept = repeats.remove(values, copies).tobytes()
    return Codec.REPEATS, repeats.pack(copies) + float_planes.encode(kept, width=width)


def _decode_repeats(coded: bytes, *, width: int, size: int) -> bytes:
    copies, start = repeats.unpack(coded, count=size // width)
    left = size - width * sum(copy.length for copy in copies)
    if left < 0:
        raise TernDamagedError("copies make more than the block", field="exact")
    kept = float_planes.decode(coded[start:], width=width, size=left)
    values = np.frombuffer(kept, f"<u{width}")
    return repeats.insert(values, copies, count=size // width).tobytes()


def _may_deflate_below(limit: int, data: bytes, width: int) -> bool:
    """Judge from samples of every plane whether deflating may take fewer bytes than the limit."""
    if len(data) <= _SMALL_BLOCK_BYTES:
        return True
    elements = np.frombuffer(data, np.uint8).reshape(-1, width)
    count = len(elements)
    starts = range(0, count, -(-count // _SAMPLES))
    sample = b"".join(elements[at : at + count // _SAMPLED_SHARE].T.tobytes() for at in starts)
    deflated = len(zlib.compress(sample, _LEVEL))
    return deflated * len(data) < _SAMPLE_ERROR * limit * len(sample)


def _decode(coded: bytes, codec: Codec, *, width: int, size: int) -> bytes:
    if codec is Codec.RAW:
        return coded
    if codec is Codec.PLANES:
        return float_planes.decode(coded, width=width, size=size)
    if codec is Codec.REPEATS:
        return _decode_repeats(coded, width=width, size=size)
    inflate = zlib.decompressobj()
    try:
        shuffled = inflate.decompress(coded, size + 1)
    except zlib.error as error:
        raise TernDamagedError(f"a block cannot be read: {error}", field="exact") from error
    if not inflate.eof or inflate.unused_data or len(shuffled) % width:
        raise TernDamagedError("a block has another size than it says", field="exact")
    return _unshuffle(shuffled, width)


def _shuffle(data: bytes, width: int) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, width).T.tobytes()


def _unshuffle(data: bytes, width: int) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes()
