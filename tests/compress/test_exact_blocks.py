"""Check the lossless stream."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import exact_blocks
from compress.errors import TernDamagedError
from compress.exact_blocks import ExactReader, ExactWriter, block_sizes, decode_block


def blocks(data: bytes) -> Iterator[bytes]:
    """Cut a stream into its blocks."""
    at = 0
    while at < len(data):
        length = block_sizes(data[at:])[1]
        yield data[at : at + length]
        at += length


def written(*pieces: tuple[bytes, int]) -> bytes:
    """Write pieces of given widths."""
    out = io.BytesIO()
    writer = ExactWriter(out)
    for data, width in pieces:
        writer.add(data, width=width)
    writer.finish()
    return out.getvalue()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([1, 2, 4, 8])).map(
            lambda pair: (os.urandom(pair[0] * pair[1]), pair[1])
        ),
        max_size=6,
    )
)
def test_pieces_round_trip(pieces: list[tuple[bytes, int]]) -> None:
    expected = b"".join(data for data, _ in pieces)
    reader = ExactReader(blocks(written(*pieces)))
    assert b"".join(reader.read(len(data)) for data, _ in pieces) == expected


def test_reads_cross_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_blocks, "BLOCK_BYTES", 64)
    data = os.urandom(1000)
    stream = written((data, 4))
    assert len(list(blocks(stream))) == 16
    reader = ExactReader(blocks(stream))
    assert reader.read(10) + reader.read(0) + reader.read(500) + reader.read(490) == data
    with pytest.raises(TernDamagedError):
        reader.read(1)


def test_floats_shrink_by_shuffling() -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32).tobytes()
    assert len(written((values, 4))) < 0.95 * len(values)
    assert len(written((values, 4))) < len(written((values, 1)))


def test_noise_does_not_grow() -> None:
    noise = os.urandom(10_000)
    assert len(written((noise, 1))) == len(noise) + exact_blocks.HEAD_BYTES


GOOD = written((np.arange(100, dtype=np.float32).tobytes(), 4))


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_every_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(GOOD)
    changed[at] ^= 0x10
    with pytest.raises(TernDamagedError):
        decode_block(bytes(changed))


@pytest.mark.parametrize("length", range(0, len(GOOD), 5))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(TernDamagedError):
        decode_block(GOOD[:length])


def forged(width: int, codec: int, size: int, coded: bytes) -> bytes:
    """Write a block with a right checksum."""
    body = struct.pack("<BBII", width, codec, size, len(coded)) + coded
    return zlib.crc32(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "block",
    [
        forged(4, 0, 8, b"abcd"),
        forged(4, 0, 0, b""),
        forged(3, 0, 3, b"abc"),
        forged(1, 2, 4, b"abcd"),
        forged(1, 1, 4, b"abcd"),
        forged(1, 1, 100, zlib.compress(bytes(101))),
        forged(1, 1, 100, zlib.compress(bytes(99))),
        forged(4, 1, 102, zlib.compress(bytes(102))),
        forged(1, 1, 1 << 30, zlib.compress(bytes(1 << 20))),
        forged(1, 1, 100, zlib.compress(bytes(100)) + b"x"),
        forged(1, 1, 100, zlib.compress(bytes(100))[:-3]),
    ],
    ids=range(11),
)
def test_lies_with_a_right_checksum_are_refused(block: bytes) -> None:
    with pytest.raises(TernDamagedError):
        decode_block(block)
