"""Check the index, the file around it, and that readers refuse what they do not know."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from compress import container, dictionary, entropy
from compress.adapter import SourceKind
from compress.container import Index, Stored, decode_index, encode_index, in_table_order
from compress.container_read import TernFile, TritReader
from compress.container_write import TernWriter
from compress.errors import TernDamagedError, TernTooLargeError, TernVersionError
from compress.lora import Role
from compress.names import ByteWriter, write_names
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo

METADATA = {"format": "tern", "version": "2", "method": "compeft"}


def stored(name: str, shape: tuple[int, ...], role: Role = Role.A, dtype: str = "F32") -> Stored:
    """Describe a tensor."""
    return Stored(TensorInfo(name, dtype, shape), role)


def index_of(*tensors: Stored, scales: tuple[float, ...] = (0.5,), config: bytes = b"{}") -> Index:
    """Make an index."""
    return Index(
        SourceKind.PEFT,
        "adapter_model.safetensors",
        config,
        {"format": "pt"},
        scales,
        in_table_order(tensors),
    )


INDEX = index_of(
    stored("l.0.q.lora_A.weight", (4, 8)),
    stored("l.0.q.lora_B.weight", (8, 4), Role.B, "F16"),
    stored("l.10.q.lora_A.weight", (4, 8)),
    stored("head", (3, 5), Role.EXACT, "F64"),
    stored("bias", (7,), Role.EXACT, "I64"),
    stored("flag", (), Role.EXACT, "BOOL"),
)


@pytest.mark.parametrize(
    "index",
    [
        INDEX,
        index_of(scales=()),
        index_of(stored("x", (3,)), scales=(0.0,)),
        index_of(stored("x", (3,), Role.EXACT), scales=()),
        Index(SourceKind.RAW, "a.safetensors", b"", {}, (), ()),
        Index(SourceKind.RAW, "a.safetensors", b"", {"<s1>": "<embed>", "n": "1"}, (), ()),
        Index(
            SourceKind.MODEL,
            "model.safetensors",
            b"",
            {"format": "pt"},
            (0.1, 2.5),
            (
                Stored(TensorInfo("a", "BF16", (5,)), Role.OTHER, Initial.BASE, 1),
                Stored(TensorInfo("b", "F8_E4M3", (5, 0)), Role.OTHER, Initial.ONE, 0),
            ),
        ),
    ],
    ids=range(7),
)
def test_indexes_round_trip(index: Index) -> None:
    assert decode_index(encode_index(index)) == index


def test_the_order_of_the_streams() -> None:
    assert [t.info.name for t in INDEX.coded] == [
        "l.0.q.lora_A.weight",
        "l.10.q.lora_A.weight",
        "l.0.q.lora_B.weight",
    ]
    assert [t.info.name for t in INDEX.exact] == ["flag", "bias", "head"]


def test_the_index_of_an_ordinary_adapter_is_small() -> None:
    names = [
        f"base_model.model.model.layers.{i}.self_attn.{m}_proj" for i in range(28) for m in "qv"
    ]
    tensors = [stored(f"{name}.lora_A.weight", (16, 2048)) for name in names]
    tensors += [stored(f"{name}.lora_B.weight", (2048, 16), Role.B) for name in names]
    assert len(encode_index(index_of(*tensors))) < 160


def body(
    *, count: int = 1, name: bytes = b"a", kind: int = 0, file: bytes = b"m.safetensors"
) -> ByteWriter:
    """Begin an index by hand, up to the names."""
    out = ByteWriter()
    out.number(kind)
    out.block(file)
    out.number(count)
    out.block(name)
    out.numbers([1])
    return out


def finished(
    out: ByteWriter, *, dtype: int = 17, axes: int = 1, size: int = 3, code: int = 4
) -> bytes:
    """Finish an index of one tensor by hand."""
    out.numbers([dtype, axes])
    out.numbers([size] * axes)
    out.numbers([code, 1])
    out.data += struct.pack("<d", 0.5)
    out.block(b"")
    out.block(b"{}")
    return dictionary.deflate(bytes(out.data))


def test_the_hand_made_index_is_right() -> None:
    index = decode_index(finished(body()))
    assert index.tensors == (Stored(TensorInfo("a", "F32", (3,)), Role.A, Initial.ZERO, 0),)


@pytest.mark.parametrize(
    "data",
    [
        finished(body(kind=7)),
        finished(body(file=b"")),
        finished(body(file=b"../m.safetensors")),
        finished(body(file=b"a/m.safetensors")),
        finished(body(file=b"a\\m.safetensors")),
        finished(body(file=b".m.safetensors")),
        finished(body(file=b"adapter_config.json")),
        finished(body(file=b"a\nb.safetensors")),
        finished(body(file=b"\xff.safetensors")),
        finished(body(count=2)),
        finished(body(count=1 << 40)),
        finished(body(name=b"")),
        finished(body(name=b"a\tb")),
        finished(body(), dtype=99),
        finished(body(), axes=33),
        finished(body(), code=4 * 9),
        finished(body(), code=4 + 3),
        finished(body(), dtype=16),
        finished(body(), dtype=1, code=0, size=3),
        dictionary.deflate(b""),
        dictionary.deflate(bytes(1000)),
        b"",
        b"noise",
    ],
    ids=range(23),
)
def test_indexes_that_make_no_sense_are_refused(data: bytes) -> None:
    with pytest.raises(TernDamagedError):
        decode_index(data)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e39])
def test_scales_that_make_no_sense_are_refused(scale: float) -> None:
    with pytest.raises(TernDamagedError):
        decode_index(encode_index(index_of(stored("x", (3,)), scales=(scale,))))


def test_trits_without_a_scale_are_refused() -> None:
    with pytest.raises(TernDamagedError):
        decode_index(encode_index(index_of(stored("x", (3,)), scales=())))


def test_a_group_beyond_the_scales_is_refused() -> None:
    tensor = Stored(TensorInfo("x", "F32", (3,)), Role.A, Initial.ZERO, 5)
    index = Index(SourceKind.RAW, "a.safetensors", b"", {}, (0.1, 0.2), (tensor,))
    with pytest.raises(TernDamagedError):
        decode_index(encode_index(index))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_noise_never_crashes_the_index(data: bytes) -> None:
    for attempt in (data, dictionary.deflate(data)):
        try:
            decode_index(attempt)
        except TernDamagedError:
            continue


def test_too_many_names_are_refused() -> None:
    out = ByteWriter()
    out.number(0)
    out.block(b"m.safetensors")
    out.number(container.MAX_TENSORS + 1)
    write_names(out, ["a"])
    with pytest.raises(TernDamagedError, match="too many"):
        decode_index(dictionary.deflate(bytes(out.data)))


Runs = list[tuple[int, list[NDArray[Any]]]]


def write(
    path: Path, index: Index, runs: Runs, exact: bytes = b"", **metadata: str
) -> dict[str, int]:
    """Write a file."""
    with TernWriter(path) as writer:
        writer.add_runs(runs)
        if exact:
            writer.exact.add(exact, width=1)
        return writer.finish(index, {**METADATA, **metadata})


def small_file(path: Path, **metadata: str) -> Index:
    """Write a small, right file."""
    index = index_of(stored("x.lora_A", (10,)), stored("y", (6,), Role.EXACT, "U8"))
    trits = np.array([1, 0, -1, 0, 0, 1, 1, 0, 0, -1], np.int8)
    write(path, index, [(10, [trits[:4], trits[4:]])], b"abcdef", **metadata)
    return index


def test_a_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "x.tern"
    index = small_file(path, density="0.2")
    with TernFile(path) as tern:
        assert tern.index == index
        assert tern.metadata["density"] == "0.2"
        assert tern.trit_reader().read(10).tolist() == [1, 0, -1, 0, 0, 1, 1, 0, 0, -1]
        assert tern.exact_reader().read(6) == b"abcdef"
        assert sum(tern.part_bytes.values()) == tern.size_bytes == path.stat().st_size


def test_any_safetensors_reader_can_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tern"
    small_file(path)
    assert {name: value.dtype for name, value in load_file(path).items()} == {
        "index": np.uint8,
        "trits": np.uint8,
        "exact": np.uint8,
    }
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] == "tern"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    small_file(tmp_path / "1.tern")
    small_file(tmp_path / "2.tern")
    assert (tmp_path / "1.tern").read_bytes() == (tmp_path / "2.tern").read_bytes()


def test_the_header_is_small_and_aligned(tmp_path: Path) -> None:
    small_file(tmp_path / "x.tern")
    raw = (tmp_path / "x.tern").read_bytes()
    assert int.from_bytes(raw[:8], "little") % 8 == 0
    assert int.from_bytes(raw[:8], "little") < 300


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("version", "3", TernVersionError),
        ("version", "", TernVersionError),
        ("method", "zip", TernVersionError),
        ("format", "pt", TernVersionError),
    ],
)
def test_the_unknown_is_named(
    field: str, value: str, error: type[Exception], tmp_path: Path
) -> None:
    small_file(tmp_path / "x.tern", **{field: value})
    with pytest.raises(error) as caught:
        TernFile(tmp_path / "x.tern")
    assert isinstance(caught.value, TernVersionError)
    assert caught.value.field == field
    assert caught.value.expected in {"1 or 2", "compeft or rd or lossless", "tern"}


def test_a_limit_on_the_decoded_size_holds(tmp_path: Path) -> None:
    small_file(tmp_path / "x.tern")
    TernFile(tmp_path / "x.tern", max_decoded_bytes=46).close()
    with pytest.raises(TernTooLargeError) as caught:
        TernFile(tmp_path / "x.tern", max_decoded_bytes=45)
    assert caught.value.actual == "46"


@pytest.mark.parametrize(
    ("trits", "exact"), [(9, b"abcdef"), (11, b"abcdef"), (10, b"abcde"), (10, b""), (0, b"abcdef")]
)
def test_streams_that_contradict_the_index_are_refused(
    trits: int, exact: bytes, tmp_path: Path
) -> None:
    index = index_of(stored("x.lora_A", (10,)), stored("y", (6,), Role.EXACT, "U8"))
    write(tmp_path / "x.tern", index, [(trits, [np.ones(trits, np.int8)])] if trits else [], exact)
    with pytest.raises(TernDamagedError, match="contradict"):
        TernFile(tmp_path / "x.tern")


def test_long_runs_are_cut_into_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "MAX_SEGMENT_TRITS", 1000)
    monkeypatch.setattr("compress.container_write._JOINABLE_TRITS", 10)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1, 2, size).astype(np.int8) for size in (3500, 2000))
    index = index_of(stored("x.lora_A", (3500,)), stored("x.lora_B", (2000,), Role.B))
    write(tmp_path / "x.tern", index, [(3500, [a[:1], a[1:2999], a[2999:]]), (2000, [b])])
    with TernFile(tmp_path / "x.tern") as tern:
        assert [len(segment) for segment in tern.segments()] == [1000, 1000, 1000, 500, 1000, 1000]
        np.testing.assert_array_equal(tern.trit_reader().read(5500), np.concatenate([a, b]))


def test_small_runs_are_joined_where_that_is_smaller(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    like = rng.integers(-1, 2, 2000).astype(np.int8)
    index = index_of(stored("x.lora_A", (1000,)), stored("x.lora_B", (1000,), Role.B))
    write(tmp_path / "1.tern", index, [(1000, [like[:1000]]), (1000, [like[1000:]])])
    with TernFile(tmp_path / "1.tern") as tern:
        assert len(list(tern.segments())) == 1
    empty = np.zeros(100_000, np.int8)
    dense = rng.integers(-1, 2, 100_000).astype(np.int8)
    index = index_of(stored("x.lora_A", (100_000,)), stored("x.lora_B", (100_000,), Role.B))
    write(tmp_path / "2.tern", index, [(100_000, [dense]), (100_000, [empty])])
    with TernFile(tmp_path / "2.tern") as tern:
        assert [segment.any() for segment in tern.segments()] == [True, False]


def test_the_reader_of_trits_gives_any_pieces() -> None:
    values = np.arange(100) % 3 - 1
    reader = TritReader(iter([values[:7], values[7:50], values[50:]]))
    assert len(reader.read(0)) == 0
    pieces = [reader.read(size) for size in (1, 6, 20, 60, 13)]
    np.testing.assert_array_equal(np.concatenate(pieces), values)
    with pytest.raises(TernDamagedError, match="too few"):
        reader.read(1)
