"""Check the strict reader and the writer of safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from compress.dtypes import DTYPE_BITS, DTYPE_CODES, WEIGHT_DTYPES, bit_view, cast, widen
from compress.errors import SourceError
from compress.tensor_file import TensorFile, TensorInfo, TensorWriter, header_bytes


def write_raw(path: Path, header: str | bytes, data: bytes = b"") -> Path:
    """Write a file from a header's text and its data."""
    raw = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """Describe one tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b": np.arange(12, dtype=np.float32).reshape(3, 4),
        "a": np.arange(5, dtype=np.float16),
        "c": np.arange(6, dtype=np.int64),
        "empty": np.empty((0, 4), np.float32),
        "scalar": np.array(3.0, np.float64),
    }
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt", "k": "v"})
    with TensorFile(tmp_path / "x.safetensors") as file:
        assert file.metadata == {"format": "pt", "k": "v"}
        assert set(file.tensors) == set(tensors)
        for name, value in tensors.items():
            assert file.tensors[name].shape == value.shape
            assert file.read_bytes(name) == value.tobytes()
        np.testing.assert_array_equal(file.read("b"), tensors["b"].ravel())
        np.testing.assert_array_equal(file.read("b", 3, 7), tensors["b"].ravel()[3:7])
        np.testing.assert_array_equal(file.read("scalar"), [3.0])


def test_the_library_reads_what_the_writer_writes(tmp_path: Path) -> None:
    infos = [
        TensorInfo("z", "F32", (2, 2)),
        TensorInfo("h", "F16", (3,)),
        TensorInfo("d", "F64", (1,)),
        TensorInfo("u", "U8", (5,)),
        TensorInfo("none", "F32", (0,)),
    ]
    values: dict[str, NDArray[Any]] = {
        "z": np.array([[1, 2], [3, 4]], np.float32),
        "h": np.array([1, 2, 3], np.float16),
        "d": np.array([7.5], np.float64),
        "u": np.arange(5, dtype=np.uint8),
        "none": np.empty(0, np.float32),
    }
    path = tmp_path / "x.safetensors"
    with TensorWriter(path, infos, metadata={"format": "pt"}) as writer:
        writer.write("z", values["z"].tobytes()[8:], start=8)
        writer.write("u", values["u"].tobytes())
        writer.write("z", values["z"].tobytes()[:8])
        writer.write("h", values["h"].tobytes())
        writer.write("d", values["d"].tobytes())
    for name, value in load_file(path).items():
        np.testing.assert_array_equal(value, values[name])
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_the_writer_lays_tensors_as_the_library_does(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b.weight": np.ones((3, 2), np.float32),
        "a.weight": np.ones(4, np.float16),
        "c.weight": np.ones(2, np.float64),
    }
    save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    with TensorFile(tmp_path / "theirs.safetensors") as theirs:
        infos = list(theirs.tensors.values())
        with TensorWriter(
            tmp_path / "ours.safetensors", reversed(infos), metadata=theirs.metadata
        ) as writer:
            for info in infos:
                writer.write(info.name, theirs.read_bytes(info.name))
    ours, expected = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    with TensorFile(ours) as file, TensorFile(expected) as other:
        assert file.tensors == other.tensors


GOOD = {"a": entry("F32", [2], 0, 8), "b": entry("U8", [4], 8, 12)}
BAD_HEADERS: dict[str, tuple[str, bytes]] = {
    "not json": ("{nonsense", bytes(12)),
    "a list": ("[1, 2]", bytes(12)),
    "leading space": (" " + json.dumps(GOOD), bytes(12)),
    "duplicate key": (
        "{" + ",".join(['"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'] * 2) + "}",
        bytes(4),
    ),
    "hole": (json.dumps({"a": GOOD["a"], "b": entry("U8", [4], 9, 13)}), bytes(13)),
    "overlap": (json.dumps({"a": GOOD["a"], "b": entry("U8", [4], 6, 10)}), bytes(10)),
    "starts late": (json.dumps({"a": entry("U8", [4], 4, 8)}), bytes(8)),
    "trailing bytes": (json.dumps(GOOD), bytes(13)),
    "missing bytes": (json.dumps(GOOD), bytes(11)),
    "wrong size": (json.dumps({"a": entry("F32", [3], 0, 8)}), bytes(8)),
    "unknown type": (json.dumps({"a": entry("I4", [8], 0, 4)}), bytes(4)),
    "type not text": (json.dumps({"a": entry(3, [8], 0, 4)}), bytes(4)),  # type: ignore[arg-type]
    "negative size": (json.dumps({"a": entry("U8", [-4], 0, 4)}), bytes(4)),
    "size is a float": ('{"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}}', bytes(4)),
    "size is true": ('{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', bytes(1)),
    "huge size": (json.dumps({"a": entry("U8", [1 << 63], 0, 4)}), bytes(4)),
    "overflowing shape": (json.dumps({"a": entry("U8", [1 << 32, 1 << 32], 0, 0)}), b""),
    "many axes": (json.dumps({"a": entry("U8", [1] * 33, 0, 1)}), bytes(1)),
    "shape not a list": ('{"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}}', bytes(4)),
    "one offset": ('{"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}}', bytes(4)),
    "reversed offsets": (json.dumps({"a": entry("U8", [4], 4, 0)}), bytes(4)),
    "unknown field": ('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}', bytes(4)),
    "missing field": ('{"a":{"dtype":"U8","shape":[4]}}', bytes(4)),
    "entry not a table": ('{"a":5}', b""),
    "empty name": (json.dumps({"": entry("U8", [4], 0, 4)}), bytes(4)),
    "control characters": (json.dumps({"a\nb": entry("U8", [4], 0, 4)}), bytes(4)),
    "nul": (json.dumps({"a\0b": entry("U8", [4], 0, 4)}), bytes(4)),
    "long name": (json.dumps({"a" * 1025: entry("U8", [4], 0, 4)}), bytes(4)),
    "metadata not a table": ('{"__metadata__":[1]}', b""),
    "metadata of numbers": ('{"__metadata__":{"a":1}}', b""),
    "half a byte": (json.dumps({"a": entry("F4", [3], 0, 1)}), bytes(1)),
    "deep nesting": ('{"a":' + "[" * 100_000, b""),
    "not utf-8": ('{"a":"\\ud800', b""),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_headers_are_refused(name: str, tmp_path: Path) -> None:
    header, data = BAD_HEADERS[name]
    with pytest.raises(SourceError) as caught:
        TensorFile(write_raw(tmp_path / "bad.safetensors", header, data))
    assert caught.value.file == "bad.safetensors"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        b"\0" * 16,
        b"\xff" * 16,
        (1).to_bytes(8, "little") + b"{",
        (100_000_001).to_bytes(8, "little") + b"{}",
        b"version https://git-lfs.example/spec/v1\noid sha256:00\nsize 12\n",
        b"<!DOCTYPE html><html></html>",
    ],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"bad\.safetensors"):
        TensorFile(path)


def test_padding_and_unaligned_data_are_accepted(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x.safetensors", json.dumps(GOOD) + "   ", bytes(range(12)))
    with TensorFile(path) as file:
        assert file.read_bytes("b") == bytes(range(8, 12))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    size = 1 << 20
    header = json.dumps({"a": entry("U8", [size], 0, size)})
    path = write_raw(tmp_path / "x.safetensors", header, bytes(size))
    with TensorFile(path) as file:
        with path.open("r+b") as other:
            other.truncate(path.stat().st_size - 2)
        with pytest.raises(SourceError, match="ended"):
            file.read_bytes("a")


def test_a_smaller_limit_on_the_header_holds(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x.safetensors", json.dumps(GOOD) + " " * 1000, bytes(12))
    with pytest.raises(SourceError):
        TensorFile(path, max_header_bytes=500)


def test_a_header_is_padded_to_eight() -> None:
    for size in range(12):
        raw = header_bytes({"__metadata__": {"k": "v" * size}})
        assert len(raw) % 8 == 0
        assert int.from_bytes(raw[:8], "little") == len(raw) - 8


def test_codes_of_types_never_change() -> None:
    assert DTYPE_CODES[:8] == ("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3")
    assert DTYPE_CODES[8:15] == (
        "F8_E8M0",
        "F8_E4M3FNUZ",
        "F8_E5M2FNUZ",
        "I16",
        "U16",
        "F16",
        "BF16",
    )
    assert DTYPE_CODES[15:] == ("I32", "U32", "F32", "C64", "F64", "I64", "U64")


@pytest.mark.parametrize("name", WEIGHT_DTYPES)
def test_minus_is_the_top_bit(name: str) -> None:
    value = cast(0.37, name)
    assert 8 * value.dtype.itemsize == DTYPE_BITS[name]
    flipped = bit_view(value) ^ bit_view(value).dtype.type(1 << (DTYPE_BITS[name] - 1))
    assert widen(flipped.view(value.dtype))[0] == -widen(value)[0]


@pytest.mark.parametrize("name", WEIGHT_DTYPES)
def test_widening_is_exact(name: str) -> None:
    values = cast(0.123456789, name)
    assert widen(values).astype(values.dtype).tobytes() == values.tobytes()


def test_casting_rounds_to_nearest() -> None:
    assert cast(1 / 3, "F16")[0] == np.float16(1 / 3)
    assert cast(1 / 3, "BF16")[0] == ml_dtypes.bfloat16(1 / 3)
    assert np.isinf(cast(1e6, "F16")[0])
