"""Forge `.tern` files whose seal and checksums are right but whose claims are not."""

from __future__ import annotations

import hashlib
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress import TernError, decompress, entropy, inspect
from compress.adapter import SourceKind
from compress.container import Index, Stored, encode_index, in_table_order
from compress.container_read import TernFile
from compress.dictionary import deflate
from compress.errors import TernDamagedError, TernTooLargeError
from compress.lora import Role
from compress.names import ByteWriter
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo, header_bytes

METADATA = {"format": "tern", "version": "1", "method": "compeft"}
Forge = Callable[..., Path]


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    """Give a function that writes a file with a right seal from any parts."""

    def make(
        index: bytes,
        trits: bytes = b"",
        exact: bytes = b"",
        *,
        metadata: object = None,
        **parts: bytes,
    ) -> Path:
        streams = {"index": bytes(32) + index, "trits": trits, "exact": exact, **parts}
        header: dict[str, object] = {"__metadata__": metadata or METADATA}
        offset = 0
        for name, stream in streams.items():
            if stream:
                header[name] = {
                    "dtype": "U8",
                    "shape": [len(stream)],
                    "data_offsets": [offset, offset + len(stream)],
                }
                offset += len(stream)
        head = header_bytes(header)
        body = b"".join(streams.values())[32:]
        path = tmp_path / "forged.tern"
        path.write_bytes(head + hashlib.sha256(head + body).digest() + body)
        return path

    return make


def index_bytes(*tensors: Stored, scales: tuple[float, ...] = (1.0,), config: bytes = b"") -> bytes:
    """Encode an index of a raw adapter."""
    return encode_index(
        Index(SourceKind.RAW, "x.safetensors", config, {}, scales, in_table_order(tensors))
    )


def coded(name: str, *shape: int, dtype: str = "F32") -> Stored:
    """Describe a tensor of trits."""
    return Stored(TensorInfo(name, dtype, shape), Role.A, Initial.ZERO, 0)


def kept(name: str, *shape: int) -> Stored:
    """Describe an exact tensor of bytes."""
    return Stored(TensorInfo(name, "U8", shape))


def zeros(count: int) -> bytes:
    """Encode a segment of zeros."""
    return entropy.encode_segment(np.zeros(count, np.int8))


def block(size: int, coded_bytes: bytes, *, codec: int = 1) -> bytes:
    """Forge a block of the exact stream."""
    body = struct.pack("<BBII", 1, codec, size, len(coded_bytes)) + coded_bytes
    return zlib.crc32(body).to_bytes(4, "little") + body


def test_a_forged_file_can_be_right(forge: Forge, tmp_path: Path) -> None:
    path = forge(index_bytes(coded("a", 10)), zeros(10))
    decompress(path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(
    "shape",
    [(1 << 60,), (1 << 62, 1 << 62), (1 << 31, 1 << 31, 1 << 31), (1 << 40, 0, 1), (11,), (9,)],
)
def test_lying_shapes_are_refused(shape: tuple[int, ...], forge: Forge, tmp_path: Path) -> None:
    path = forge(index_bytes(coded("a", *shape)), zeros(10))
    with pytest.raises((TernDamagedError, TernTooLargeError)):
        decompress(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("trits", "exact"),
    [
        (b"", b""),
        (zeros(10), b""),
        (zeros(5), block(4, zlib.compress(bytes(4)))),
        (zeros(10)[:-1], block(4, b"abcd", codec=0)),
        (zeros(10) + b"\0", block(4, b"abcd", codec=0)),
        (zeros(10) + zeros(0), block(4, b"abcd", codec=0)),
        (zeros(10), block(4, b"abcd", codec=0) + block(4, b"abcd", codec=0)),
        (zeros(10), block(4, b"abcd", codec=0)[:-1]),
        (zeros(10), block(4, b"abcd", codec=0) + b"\1"),
        (zeros(10), block(4, b"abc", codec=0)),
        (zeros(10), block(4, zlib.compress(bytes(3)))),
        (zeros(10), b"\0" * 14),
        (b"\xff" * 100, block(4, b"abcd", codec=0)),
    ],
    ids=range(13),
)
def test_lying_streams_are_refused(
    trits: bytes, exact: bytes, forge: Forge, tmp_path: Path
) -> None:
    path = forge(index_bytes(coded("a", 10), kept("b", 4)), trits, exact)
    with pytest.raises(TernDamagedError):
        decompress(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["forged.tern"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "tern"},
        {"format": "tern", "version": "1"},
        {"version": "1", "method": "compeft"},
        {"format": "tern", "version": "1.0", "method": "compeft"},
        {"format": "tern", "version": "3", "method": "compeft"},
        {"format": "tern", "version": "1", "method": "COMPEFT"},
        {"format": "TERN", "version": "1", "method": "compeft"},
        {"format": "tern", "version": "1" * 5000, "method": "compeft"},
    ],
)
def test_unknown_versions_and_methods_are_refused(
    metadata: dict[str, str], forge: Forge, tmp_path: Path
) -> None:
    path = forge(index_bytes(coded("a", 10)), zeros(10), metadata=metadata)
    with pytest.raises(TernError) as caught:
        decompress(path, tmp_path / "out")
    assert len(str(caught.value)) < 400


def test_unknown_parts_are_refused(forge: Forge) -> None:
    with pytest.raises(TernDamagedError, match="parts"):
        TernFile(forge(index_bytes(coded("a", 10)), zeros(10), extra=b"code"))


def test_a_huge_header_is_refused(forge: Forge) -> None:
    path = forge(index_bytes(), metadata={**METADATA, "x": "y" * (1 << 17)})
    with pytest.raises(TernDamagedError):
        TernFile(path)


def test_a_file_without_tensors_is_just_empty(forge: Forge, tmp_path: Path) -> None:
    decompress(forge(index_bytes(scales=())), tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/x.safetensors", "a/b.safetensors", "..", "x.py", ""]
)
def test_file_names_that_escape_are_refused(name: str, forge: Forge, tmp_path: Path) -> None:
    index = Index(SourceKind.RAW, name, b"", {}, (), ())
    with pytest.raises(TernDamagedError):
        decompress(forge(encode_index(index)), tmp_path / "out")


def test_a_small_file_cannot_claim_more_than_is_allowed(forge: Forge, tmp_path: Path) -> None:
    """Repeat a 32-byte segment of zeros: 2^24 trits each, 64 GiB and more in all."""
    count = 1100
    segment = zeros(1 << 24)
    path = forge(index_bytes(coded("a", count << 24)), segment * count)
    assert path.stat().st_size < 64 * count + 2000
    tracemalloc.start()
    with pytest.raises(TernTooLargeError):
        decompress(path, tmp_path / "out")
    with pytest.raises(TernTooLargeError):
        inspect(path, max_decoded_bytes=1 << 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_an_allowed_expansion_takes_bounded_memory(forge: Forge, tmp_path: Path) -> None:
    segment = zeros(1 << 24)
    path = forge(index_bytes(coded("a", 4 << 24, dtype="F8_E5M2")), segment * 4)
    tracemalloc.start()
    decompress(path, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert (tmp_path / "out" / "x.safetensors").stat().st_size >= 4 << 24


@pytest.mark.parametrize("size", [1 << 22, 1 << 26])
def test_an_index_bomb_is_refused_in_little_memory(size: int, forge: Forge) -> None:
    path = forge(deflate(bytes(size)))
    tracemalloc.start()
    with pytest.raises(TernDamagedError):
        TernFile(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 << 20


def test_a_bomb_of_names_is_refused_in_little_memory(forge: Forge) -> None:
    out = ByteWriter()
    out.number(1)
    out.block(b"x.safetensors")
    out.number(200_000)
    out.block(b"a" * 1000 + b"\0")
    out.number(200_000)
    out.data += b"\2" * 200_000
    tracemalloc.start()
    with pytest.raises(TernDamagedError, match="memory"):
        TernFile(forge(deflate(bytes(out.data))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_a_block_bomb_is_refused_in_little_memory(forge: Forge, tmp_path: Path) -> None:
    bomb = block(4, zlib.compress(bytes(1 << 28), 9))
    path = forge(index_bytes(kept("b", 4)), exact=bomb)
    tracemalloc.start()
    with pytest.raises(TernDamagedError):
        decompress(path, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_many_tiny_segments_are_refused_soon(forge: Forge, tmp_path: Path) -> None:
    path = forge(index_bytes(coded("a", 5 * 20_000)), zeros(5) * 20_000)
    start = time.perf_counter()
    with pytest.raises(TernDamagedError, match="cut short"):
        decompress(path, tmp_path / "out")
    assert time.perf_counter() - start < 5


def test_many_tiny_blocks_are_refused_soon(forge: Forge) -> None:
    """Fifteen bytes a block: who walked through all of them would be busy for long."""
    path = forge(index_bytes(kept("b", 200_000)), exact=block(1, b"x", codec=0) * 200_000)
    start = time.perf_counter()
    with pytest.raises(TernDamagedError, match="cut short"):
        TernFile(path)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("size", [10, 100, 1000, 100_000])
def test_random_streams_with_right_seals_never_crash(
    size: int, forge: Forge, tmp_path: Path
) -> None:
    rng = np.random.default_rng(size)
    for _ in range(10):
        path = forge(index_bytes(coded("a", 10)), rng.bytes(size), rng.bytes(size))
        with pytest.raises(TernError):
            decompress(path, tmp_path / "out")


def test_mutated_indexes_with_right_seals_never_crash(forge: Forge, tmp_path: Path) -> None:
    """Change bytes inside the index before deflating; decode to the declared tensors or refuse."""
    from compress.dictionary import inflate

    plain = inflate(index_bytes(coded("a.0", 4), coded("a.1", 6), kept("b", 4)), max_bytes=10_000)
    rng = np.random.default_rng(0)
    accepted = 0
    for at in range(len(plain)):
        for value in {0, 1, 255, int(rng.integers(256)), plain[at] ^ 1}:
            changed = bytearray(plain)
            changed[at] = value
            path = forge(deflate(bytes(changed)), zeros(10), block(4, b"abcd", codec=0))
            try:
                with TernFile(path, max_decoded_bytes=1 << 20) as tern:
                    assert sum(t.info.size for t in tern.index.coded) == 10
                    accepted += 1
            except TernError:
                continue
    assert accepted
