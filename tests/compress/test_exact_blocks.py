"""Check the lossless stream."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import exact_blocks, float_planes
from compress.errors import TernDamagedError
from compress.exact_blocks import ExactReader, ExactWriter, block_sizes, decode_block
from tests.compress.test_shared_adapters import ADAPTERS


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


KINDS = ["normal", "any bits", "zeros", "sparse", "few", "period"]


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(["<f8", "<f4", "<f2", "bfloat16", "float8_e4m3fn", "<i8", "<i4", "u1"]),
    st.sampled_from(KINDS),
    st.integers(0, 6000),
    st.integers(0, 2**32),
)
def test_every_type_keeps_every_bit(dtype: str, kind: str, size: int, seed: int) -> None:
    """Check NaN payloads, signed zeros, infinities and denormals: any bits are of some value."""
    rng = np.random.default_rng(seed)
    width = np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize
    values = (rng.standard_normal(size) * 30).astype(np.float32)
    with np.errstate(invalid="ignore"):
        normal = values.astype(getattr(ml_dtypes, dtype, dtype)).tobytes()
    data = {
        "normal": normal,
        "any bits": rng.bytes(size * width),
        "zeros": bytes(size * width),
        "sparse": np.where(np.arange(size * width) % 97 < width, 0x7F, 0).astype("u1").tobytes(),
        "few": rng.choice(np.frombuffer(rng.bytes(4), "u1"), size * width).tobytes(),
        "period": (rng.bytes(40 * width) * (size // 40 + 1))[: size * width],
    }[kind]
    stream = written((data, width))
    assert ExactReader(blocks(stream)).read(len(data)) == data
    assert len(stream) <= len(data) + exact_blocks.HEAD_BYTES


def codecs(stream: bytes) -> set[int]:
    """Say how the blocks of a stream are stored."""
    return {block[5] for block in blocks(stream)}


def test_the_smallest_way_is_taken() -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(100_000).astype(np.float32).tobytes()
    assert codecs(written((normal, 4))) == {2}
    assert codecs(written((rng.bytes(100_000), 1))) == {0}
    assert codecs(written((np.arange(100_000).astype("<i8").tobytes(), 8))) == {1}
    assert codecs(written((rng.bytes(40) * 10_000, 4))) == {1}
    assert codecs(written((rng.bytes(400_000) * 2, 4))) == {3}
    assert codecs(written((bytes(1 << 20), 4))) == {2}


def test_repetition_within_a_large_block_is_found() -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(300_000).astype(np.float32)
    data = np.concatenate([normal, np.tile(normal[:30], 23_000)]).tobytes()
    planes = float_planes.encode(data, width=4)
    assert len(written((data, 4))) < 0.6 * len(planes)


def test_blocks_of_every_codec_stay_readable() -> None:
    """Check bytes that an earlier program wrote."""
    deflated = zlib.compress(b"\1" * 30 + b"\2" * 30, 6)
    assert decode_block(forged(2, 0, 4, b"abcd")) == b"abcd"
    assert decode_block(forged(2, 1, 60, deflated)) == b"\1\2" * 30
    twice = struct.pack("<4I", 1, 70, 3, 66) + b"\0" + bytes(range(90))
    thrice = bytes([*range(70), *range(3, 69), *range(70, 90)])
    assert decode_block(forged(1, 3, 156, twice)) == thrice
    two = np.array([1.5, -1.5] * 300, np.float32).tobytes()
    assert decode_block(bytes.fromhex(GOLDEN_PLANES)) == two


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


GOLDEN_PLANES = (
    "ca6481d10402600900008b00000001010000000000000500abafff0f00010100000000000005006b"
    "68f80f00010100000000000005006360f80f00010101002500000006006360fcff1f00aa520501"
    + "aa" * 72
    + "00a8"
)
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
        forged(1, 3, 4, b"abcd"),
        forged(4, 2, 4, bytes([0, 1, 0, 2, 0, 3, 0])),
        forged(2, 2, 6, bytes([0, 1, 2, 0, 3])),
        forged(2, 2, 5, bytes([0, 1, 2, 0, 3])),
        forged(1, 2, 4 << 20, b"\1\1\0\0\0\0\0\0\0\0"),
        forged(1, 2, 5 << 20, bytes(100)),
        forged(1, 3, 150, struct.pack("<4I", 1, 64, 0, 64) + b"\0" + bytes(85)),
        forged(1, 3, 150, struct.pack("<4I", 1, 63, 0, 64) + b"\0" + bytes(86)),
        forged(1, 3, 100, struct.pack("<7I", 2, 36, 0, 64, 36, 0, 64) + b"\0" + bytes(36)),
        forged(4, 3, 403, struct.pack("<I", 0) + bytes(396)),
        forged(1, 1, 4, b"abcd"),
        forged(1, 1, 100, zlib.compress(bytes(101))),
        forged(1, 1, 100, zlib.compress(bytes(99))),
        forged(4, 1, 102, zlib.compress(bytes(102))),
        forged(1, 1, 1 << 30, zlib.compress(bytes(1 << 20))),
        forged(1, 1, 100, zlib.compress(bytes(100)) + b"x"),
        forged(1, 1, 100, zlib.compress(bytes(100))[:-3]),
    ],
    ids=range(21),
)
def test_lies_with_a_right_checksum_are_refused(block: bytes) -> None:
    with pytest.raises(TernDamagedError):
        decode_block(block)


def real_bytes(path: Path) -> tuple[bytes, list[bytes]]:
    """Read all float32 tensors of a file in the order in which they stand, and its heads."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    assert {info["dtype"] for info in header.values()} == {"F32"}
    heads = [
        data[start + info["data_offsets"][0] : start + info["data_offsets"][1]]
        for name, info in header.items()
        if ".lora_" not in name and name.startswith("base_model") and len(info["shape"]) > 1
    ]
    return data[start:], heads


@pytest.mark.parametrize("name", ADAPTERS)
def test_real_weights_take_fewer_bytes_than_zstandard_at_its_best(
    name: str, test_data: Path
) -> None:
    zstandard = pytest.importorskip("zstandard")
    (path,) = (test_data / name).glob("*.safetensors")
    weights, heads = real_bytes(path)
    best = zstandard.ZstdCompressor(level=19)
    stream = written((weights, 4))
    assert ExactReader(blocks(stream)).read(len(weights)) == weights
    assert len(stream) < 0.91 * len(best.compress(weights))
    assert len(stream) < 0.91 * len(best.compress(path.read_bytes()))
    for head in heads:
        assert len(written((head, 4))) < 0.92 * len(best.compress(head))


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16])
def test_real_weights_of_two_bytes_take_fewer_bytes_too(narrow: type, test_data: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (path,) = (test_data / "adapters" / "gpt2-cls-deepbiolab").glob("*.safetensors")
    values = np.frombuffer(real_bytes(path)[0], "<f4")
    for dtype, width in ((narrow, 2), (np.float32, 4)):
        data = values.astype(narrow).astype(dtype).tobytes()
        small = written((data, width))
        assert len(small) < 0.9 * len(zstandard.ZstdCompressor(level=19).compress(data))


def test_a_head_that_is_saved_twice_is_kept_once() -> None:
    """Check what PEFT does with `modules_to_save`: zstandard's best finds it, so must we."""
    zstandard = pytest.importorskip("zstandard")
    rng = np.random.default_rng(0)
    head = (rng.standard_normal(150_000) * 0.02).astype(np.float32).tobytes()
    data = head + rng.standard_normal(100_000).astype(np.float32).tobytes() + head
    assert len(written((data, 4))) < 0.91 * len(zstandard.ZstdCompressor(level=19).compress(data))
