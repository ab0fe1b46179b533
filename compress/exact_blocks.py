"""Keep bytes exactly: the lossless stream for heads, biases and everything that is no task vector.

The bytes of all exact tensors follow one another, cut into blocks of one element width and at most
`BLOCK_BYTES`. A block is shuffled, first bytes of all elements first, and deflated where that is
smaller:

    u32 crc32 of all that follows · u8 element width · u8 codec · u32 bytes · u32 coded bytes ·
    coded
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from compress.errors import TernDamagedError

BLOCK_BYTES = 4 << 20
_HEAD = struct.Struct("<IBBII")
HEAD_BYTES = _HEAD.size
_RAW, _DEFLATED = 0, 1
_WIDTHS = frozenset({1, 2, 4, 8})
_LEVEL = 6


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
        packed = zlib.compress(_shuffle(data, self._width), _LEVEL)
        codec, coded = (_DEFLATED, packed) if len(packed) < len(data) else (_RAW, data)
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
    known = width in _WIDTHS and codec in {_RAW, _DEFLATED}
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
    body = data[HEAD_BYTES:]
    if codec == _RAW:
        raw = body
    else:
        inflate = zlib.decompressobj()
        try:
            shuffled = inflate.decompress(body, size + 1)
        except zlib.error as error:
            raise TernDamagedError(f"a block cannot be read: {error}", field="exact") from error
        if not inflate.eof or inflate.unused_data or len(shuffled) % width:
            raise TernDamagedError("a block has another size than it says", field="exact")
        raw = _unshuffle(shuffled, width)
    if len(raw) != size:
        raise TernDamagedError("a block has another size than it says", field="exact")
    return raw


def _shuffle(data: bytes, width: int) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, width).T.tobytes()


def _unshuffle(data: bytes, width: int) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes()
