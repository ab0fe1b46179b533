"""Every rule of the format as a crafted file: ours refuses it, with the right reason."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass

import pytest

from registry.errors import HeaderError, LfsPointerError
from registry.validation.reasons import Reason
from registry.validation.safetensors_header import HeaderLimits, SafetensorsHeader, read_header
from tests.safetensors_files import entry, library_reads, raw_file

FOUR = b"\0\0\0\0"
F32 = entry("F32", [1], 0, 4)


def read(data: bytes, limits: HeaderLimits | None = None) -> SafetensorsHeader:
    return read_header(io.BytesIO(data), len(data), limits=limits, file="x.safetensors")


@dataclass(frozen=True)
class Row:
    """Hold one crafted file: what is wrong, its bytes, our reason and the library's verdict."""

    name: str
    data: bytes
    reason: Reason
    library: bool = False


def single(value: object, data: bytes = FOUR, name: str = "x") -> bytes:
    return raw_file({name: value}, data)


ROWS = [
    # What the library refuses, too.
    Row("empty file", b"", Reason.FILE_TRUNCATED),
    Row("seven bytes", b"\2\0\0\0\0\0\0", Reason.FILE_TRUNCATED),
    Row("header of length 0", struct.pack("<Q", 0), Reason.HEADER_SIZE),
    Row("header of length 1", struct.pack("<Q", 1) + b"{", Reason.HEADER_SIZE),
    Row("header over 100 MB", struct.pack("<Q", 100_000_001) + b"{}", Reason.HEADER_SIZE),
    Row("header of 2^63", struct.pack("<Q", 2**63) + b"{}", Reason.HEADER_SIZE),
    Row("header of 2^64-1", struct.pack("<Q", 2**64 - 1) + b"{}", Reason.HEADER_SIZE),
    Row("header longer than the file", struct.pack("<Q", 100) + b"{}", Reason.FILE_TRUNCATED),
    Row("not JSON", raw_file('{"x"}'), Reason.JSON_SYNTAX),
    Row("open object", raw_file('{"x":{"dtype":"F32"'), Reason.JSON_SYNTAX),
    Row("two documents", raw_file("{}{}"), Reason.JSON_SYNTAX),
    Row("NUL after the JSON", raw_file(b"{}\0\0"), Reason.JSON_SYNTAX),
    Row("an array", raw_file("[]"), Reason.HEADER_START),
    Row("invalid UTF-8", raw_file(b'{"\xff":1}'), Reason.JSON_ENCODING),
    Row("NaN in the header", raw_file('{"x":NaN}'), Reason.JSON_NUMBER),
    Row("metadata is a list", raw_file({"__metadata__": ["a"]}), Reason.METADATA),
    Row("metadata holds a number", raw_file({"__metadata__": {"a": 1}}), Reason.METADATA),
    Row("metadata holds an object", raw_file({"__metadata__": {"a": {}}}), Reason.METADATA),
    Row("metadata holds null", raw_file({"__metadata__": {"a": None}}), Reason.METADATA),
    Row("lone surrogate", raw_file('{"__metadata__":{"a":"\\ud800"}}'), Reason.METADATA),
    Row("hole at the start", single(entry("F32", [1], 4, 8), FOUR * 2), Reason.DATA_HOLE),
    Row("hole", raw_file({"x": F32, "y": entry("F32", [1], 8, 12)}, FOUR * 3), Reason.DATA_HOLE),
    Row(
        "overlap", raw_file({"x": F32, "y": entry("F32", [1], 2, 6)}, FOUR * 2), Reason.DATA_OVERLAP
    ),
    Row("same bytes twice", raw_file({"x": F32, "y": F32}, FOUR), Reason.DATA_OVERLAP),
    Row("trailing byte", single(F32, FOUR + b"!"), Reason.DATA_TRAILING),
    Row("data without tensors", raw_file("{}", FOUR), Reason.DATA_TRAILING),
    Row("truncated data", single(F32, b"\0\0\0"), Reason.FILE_TRUNCATED),
    Row("no data", single(F32, b""), Reason.FILE_TRUNCATED),
    Row("too few bytes", single(entry("F32", [2], 0, 4)), Reason.TENSOR_SIZE),
    Row("too many bytes", single(entry("F16", [1], 0, 4)), Reason.TENSOR_SIZE),
    Row("product overflows", single(entry("F32", [2**32, 2**32], 0, 4)), Reason.TENSOR_SHAPE),
    Row("bits overflow", single(entry("F32", [2**60], 0, 4)), Reason.TENSOR_SHAPE),
    Row(
        "overflow hidden by 0",
        single(entry("F32", [2**40, 2**40, 0], 0, 0), b""),
        Reason.TENSOR_SHAPE,
    ),
    Row("number over 2^64", single(entry("F32", [2**64], 0, 4)), Reason.TENSOR_SHAPE),
    Row("30 digits", single(entry("F32", [10**30], 0, 4)), Reason.JSON_NUMBER),
    Row("negative dimension", single(entry("F32", [-1], 0, 4)), Reason.JSON_NUMBER),
    Row(
        "negative zero",
        raw_file('{"x":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', FOUR),
        Reason.JSON_NUMBER,
    ),
    Row("negative offset", single(entry("F32", [1], -4, 0)), Reason.JSON_NUMBER),
    Row("end before begin", single(entry("F32", [1], 4, 0)), Reason.TENSOR_OFFSETS),
    Row("odd count of F4", single(entry("F4", [3], 0, 2), b"\0\0"), Reason.TENSOR_SIZE),
    Row("F6 off a byte", single(entry("F6_E2M3", [1], 0, 1), b"\0"), Reason.TENSOR_SIZE),
    Row("unknown dtype", single(entry("I4", [1], 0, 4)), Reason.TENSOR_DTYPE),
    Row("dtype in lower case", single(entry("f32", [1], 0, 4)), Reason.TENSOR_DTYPE),
    Row("dtype is a number", single({**F32, "dtype": 1}), Reason.TENSOR_DTYPE),
    Row("dtype is missing", single({"shape": [1], "data_offsets": [0, 4]}), Reason.TENSOR_FIELDS),
    Row("shape is a number", single({**F32, "shape": 1}), Reason.TENSOR_SHAPE),
    Row("shape holds a bool", single({**F32, "shape": [True]}), Reason.TENSOR_SHAPE),
    Row("shape holds text", single({**F32, "shape": ["1"]}), Reason.TENSOR_SHAPE),
    Row("shape holds null", single({**F32, "shape": [None]}), Reason.TENSOR_SHAPE),
    Row("shape holds 1.0", single({**F32, "shape": [1.0]}), Reason.JSON_NUMBER),
    Row(
        "shape holds 1e3",
        raw_file('{"x":{"dtype":"U8","shape":[1e3],"data_offsets":[0,1000]}}', bytes(1000)),
        Reason.JSON_NUMBER,
    ),
    Row("three offsets", single({**F32, "data_offsets": [0, 2, 4]}), Reason.TENSOR_OFFSETS),
    Row("one offset", single({**F32, "data_offsets": [4]}), Reason.TENSOR_OFFSETS),
    Row("offsets as object", single({**F32, "data_offsets": {"a": 0}}), Reason.TENSOR_OFFSETS),
    Row("entry is text", single("F32"), Reason.TENSOR_FIELDS),
    Row("entry is null", single(None), Reason.TENSOR_FIELDS),
    # What the library lets through, and we do not.
    Row(
        "duplicate tensor",
        raw_file(f'{{"x":{json.dumps(F32)},"x":{json.dumps(F32)}}}', FOUR),
        Reason.JSON_DUPLICATE,
        library=True,
    ),
    Row(
        "duplicate metadata",
        raw_file('{"__metadata__":{"a":"1","a":"2"}}'),
        Reason.JSON_DUPLICATE,
        library=True,
    ),
    Row(
        "duplicate by escape",
        raw_file(f'{{"x":{json.dumps(F32)},"\\u0078":{json.dumps(F32)}}}', FOUR),
        Reason.JSON_DUPLICATE,
        library=True,
    ),
    Row("leading space", raw_file(b" {}"), Reason.HEADER_START, library=True),
    Row("leading newline", raw_file(b"\n{}"), Reason.HEADER_START, library=True),
    Row("unknown key in an entry", single({**F32, "extra": 1}), Reason.TENSOR_FIELDS, library=True),
    Row("metadata is null", raw_file('{"__metadata__":null}'), Reason.METADATA, library=True),
    Row("too much padding", raw_file(b"{}" + b" " * 5000), Reason.HEADER_PADDING, library=True),
    Row("name climbs", single(F32, name="../../x"), Reason.TENSOR_NAME, library=True),
    Row("name climbs inside", single(F32, name="a/../x"), Reason.TENSOR_NAME, library=True),
    Row("name is absolute", single(F32, name="/etc/passwd"), Reason.TENSOR_NAME, library=True),
    Row("name is empty", single(F32, name=""), Reason.TENSOR_NAME, library=True),
    Row("name with NUL", single(F32, name="a\0b"), Reason.TENSOR_NAME, library=True),
    Row("name with newline", single(F32, name="a\nb"), Reason.TENSOR_NAME, library=True),
    Row("name with escape code", single(F32, name="\x1b[31m"), Reason.TENSOR_NAME, library=True),
    Row("name with backslash", single(F32, name="a\\b"), Reason.TENSOR_NAME, library=True),
    Row("name with a quote", single(F32, name='a"b'), Reason.TENSOR_NAME, library=True),
    Row("name not ASCII", single(F32, name="é"), Reason.TENSOR_NAME, library=True),
    Row("name ends in space", single(F32, name="a "), Reason.TENSOR_NAME, library=True),
    Row("name of 513 characters", single(F32, name="a" * 513), Reason.TENSOR_NAME, library=True),
    Row("17 dimensions", single(entry("F32", [1] * 17, 0, 4)), Reason.TENSOR_SHAPE, library=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_broken_rule_is_refused_with_its_reason(row: Row) -> None:
    with pytest.raises(HeaderError) as caught:
        read(row.data)
    assert caught.value.reason == row.reason
    assert caught.value.file == "x.safetensors"
    assert "x.safetensors" in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_library_judges_as_the_table_says(row: Row) -> None:
    assert (library_reads(row.data) is not None) == row.library


ACCEPTED = {
    "no tensors": raw_file("{}"),
    "only metadata": raw_file({"__metadata__": {"format": "pt"}}),
    "empty metadata": raw_file({"__metadata__": {}}),
    "a scalar": single(entry("F32", [], 0, 4)),
    "an empty tensor": single(entry("F32", [0], 0, 0), b""),
    "an empty tensor of rank 2": single(entry("F32", [4, 0], 0, 0), b""),
    "two empty tensors": raw_file({"x": entry("F32", [0], 0, 0), "y": entry("F32", [0], 0, 0)}),
    "an empty tensor between": raw_file(
        {"x": F32, "y": entry("F32", [0], 4, 4), "z": entry("F32", [1], 4, 8)}, FOUR * 2
    ),
    "an empty tensor at the end": raw_file({"x": F32, "y": entry("F32", [0], 4, 4)}, FOUR),
    "padding": raw_file({"x": F32}, FOUR, pad=True),
    "unaligned": raw_file(json.dumps({"x": F32}) + " " * 3, FOUR),
    "order of the header is free": raw_file({"y": entry("F32", [1], 4, 8), "x": F32}, FOUR * 2),
    "sub-byte": single(entry("F4", [4], 0, 2), b"\0\0"),
    "newlines in the JSON": raw_file(json.dumps({"x": F32}, indent=1), FOUR),
    "a comma-rich metadata": raw_file({"__metadata__": {"tags": "a,b," * 1000}}),
    "brackets in metadata": raw_file({"__metadata__": {"j": '{"a":[[[[[]]]]]}'}}),
    "quotes in metadata": raw_file({"__metadata__": {"j": '\\"[[[["\\\\'}}),
    "a name of old trainers": single(F32, name="<s1>"),
    "a name with colons": single(F32, name="unet:0:down"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_right_is_accepted_by_both(name: str) -> None:
    header = read(ACCEPTED[name])
    theirs = library_reads(ACCEPTED[name])
    assert theirs is not None
    assert {t.name for t in header} == set(theirs)
    for tensor in header:
        start = header.data_start + tensor.begin
        assert list(tensor.shape) == theirs[tensor.name]["shape"]
        data = ACCEPTED[name][start : start + tensor.size_bytes]
        assert data == bytes(theirs[tensor.name]["data"])


def test_an_empty_tensor_inside_another_is_refused() -> None:
    data = raw_file({"x": entry("F32", [2], 0, 8), "y": entry("F32", [0], 4, 4)}, FOUR * 2)
    with pytest.raises(HeaderError) as caught:
        read(data)
    assert caught.value.reason == Reason.DATA_OVERLAP
    assert library_reads(data) is None


def test_deep_nesting_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(HeaderError) as caught:
        read(raw_file('{"x":' + "[" * 100_000 + "]" * 100_000 + "}"))
    assert caught.value.reason == Reason.JSON_DEPTH


def test_an_endless_shape_is_refused_before_it_is_built() -> None:
    text = '{"x":{"dtype":"F32","shape":[' + "1," * 2_000_000 + '1],"data_offsets":[0,4]}}'
    with pytest.raises(HeaderError) as caught:
        read(raw_file(text, FOUR))
    assert caught.value.reason == Reason.JSON_SIZE


def test_the_number_of_tensors_is_bounded() -> None:
    header = {f"t{i}": entry("U8", [1], i, i + 1) for i in range(11)}
    limits = HeaderLimits(tensors=10)
    with pytest.raises(HeaderError) as caught:
        read(raw_file(header, bytes(11)), limits)
    assert caught.value.reason == Reason.TENSOR_COUNT
    assert caught.value.actual == "11"
    del header["t10"]
    assert len(read(raw_file(header, bytes(10)), limits).tensors) == 10


def test_a_header_over_the_limit_is_never_read() -> None:
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            Watched.largest = max(Watched.largest, size)
            return super().read(size)

    data = struct.pack("<Q", 30_000_000) + b"{}" + b" " * 10_000
    with pytest.raises(HeaderError):
        read_header(Watched(data), 40_000_000, file="x")
    assert Watched.largest <= 1024


def test_a_git_lfs_pointer_is_named_as_such() -> None:
    pointer = (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:" + b"ab" * 32 + b"\nsize 5120123\n"
    )
    with pytest.raises(LfsPointerError) as caught:
        read(pointer)
    assert caught.value.reason == Reason.LFS_POINTER
    assert "5120123" in caught.value.expected
    assert "ab" * 32 in caught.value.actual
    assert "git lfs pull" in caught.value.hint
