"""Scanning finds every NaN, infinity and zero tensor, however the bytes are cut."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import HeaderError, LfsPointerError, NonFiniteError
from registry.validation.reasons import Reason
from registry.validation.safetensors_header import SafetensorsHeader, TensorInfo
from registry.validation.safetensors_stream import SafetensorsStream
from registry.validation.tensor_info import DTYPE_BITS
from registry.validation.tensor_scan import CHUNK_BYTES, TensorScan, TensorScanner, scan_tensors
from registry.validation.value_patterns import PATTERNS
from tests.safetensors_files import Array, good_file

FLOATS = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
}
INTEGERS = {
    name: np.dtype(f"u{DTYPE_BITS[name] // 8}") for name in ("BOOL", "U8", "U16", "U32", "U64")
}


def header_of(*tensors: tuple[str, str, Array]) -> tuple[SafetensorsHeader, bytes]:
    infos, data = [], b""
    for name, dtype, array in tensors:
        raw = array.tobytes()
        infos.append(TensorInfo(name, dtype, array.shape, len(data), len(data) + len(raw)))
        data += raw
    return SafetensorsHeader(tuple(infos), {}, 0, len(data)), data


def scan(header: SafetensorsHeader, data: bytes, *, allow: bool = True) -> TensorScan:
    return scan_tensors(io.BytesIO(data), header, allow_non_finite=allow, file="x")


NARROW = [name for name, kind in FLOATS.items() if kind.itemsize <= 2]


def wide(values: Array) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


@pytest.mark.parametrize("dtype", NARROW)
def test_every_pattern_of_a_narrow_format_is_judged_as_numpy_does(dtype: str) -> None:
    kind = FLOATS[dtype]
    patterns = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind)
    finite = np.isfinite(wide(patterns))
    expected_zero = wide(patterns) == 0
    for step in range(0, len(patterns), 97):
        header, data = header_of(("x", dtype, patterns[step : step + 1]))
        found = scan(header, data)
        assert (not found.non_finite) == bool(finite[step])
        if finite[step]:
            assert (found.zero == {"x"}) == bool(expected_zero[step])
    header, data = header_of(("x", dtype, patterns))
    assert scan(header, data).non_finite == {"x": int(np.argmin(finite))}
    header, data = header_of(("x", dtype, patterns[finite]))
    assert scan(header, data) == TensorScan(frozenset(), {})


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 998, 999])
def test_one_bad_value_is_found_where_it_is(dtype: str, bad: float, place: int) -> None:
    values = np.random.default_rng(1).standard_normal(1000).astype(FLOATS[dtype])
    values[place] = bad
    header, data = header_of(("ok", "F32", np.ones(3, np.float32)), ("x", dtype, values))
    if np.isinf(bad) and dtype == "F8_E4M3":
        assert np.isnan(float(values[place]))  # the format has no infinity
    with pytest.raises(NonFiniteError) as caught:
        scan(header, data, allow=False)
    assert caught.value.field == "x"
    assert caught.value.reason == Reason.NON_FINITE
    assert f"index {place}" in caught.value.message
    assert scan(header, data).non_finite == {"x": place}


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"])
def test_the_largest_and_smallest_finite_values_pass(dtype: str) -> None:
    finfo: Any = ml_dtypes.finfo
    info = finfo(FLOATS[dtype])
    tiny = info.smallest_subnormal
    values = np.array([info.max, info.min, tiny, -tiny, 0.0, -0.0]).astype(FLOATS[dtype])
    header, data = header_of(("x", dtype, values))
    assert scan(header, data, allow=False) == TensorScan(frozenset(), {})


@pytest.mark.parametrize("dtype", FLOATS | INTEGERS)
def test_zero_tensors_are_named(dtype: str) -> None:
    kind = (FLOATS | INTEGERS)[dtype]
    one = np.zeros(64, kind)
    one[-1] = 1
    header, data = header_of(
        ("zero", dtype, np.zeros(64, kind)), ("one", dtype, one), ("none", dtype, np.zeros(0, kind))
    )
    assert scan(header, data).zero == {"zero"}


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"])
def test_negative_zero_is_zero(dtype: str) -> None:
    values = np.array([0.0, -0.0, 0.0]).astype(FLOATS[dtype])
    header, data = header_of(("x", dtype, values), ("y", dtype, -values[:1]))
    assert scan(header, data).zero == {"x", "y"}


def test_integers_of_any_pattern_are_finite() -> None:
    values = np.full(10, 0xFFFF_FFFF, np.uint32)
    header, data = header_of(("x", "I32", values))
    assert scan(header, data, allow=False) == TensorScan(frozenset(), {})


def test_a_complex_value_counts_as_one() -> None:
    values = np.ones(10, np.complex64)
    values[7] = complex(1, float("nan"))
    header, data = header_of(("x", "C64", values))
    assert scan(header, data).non_finite == {"x": 7}


def test_a_bad_value_beyond_the_first_chunk_has_its_own_index() -> None:
    count = 3 * CHUNK_BYTES // 4 + 17
    values = np.ones(count, np.float32)
    values[count - 2] = np.inf
    header, data = header_of(("x", "F32", values))
    assert scan(header, data).non_finite == {"x": count - 2}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_cut_of_the_data_gives_the_same_scan(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    tensors: list[tuple[str, str, Array]] = []
    for number in range(data.draw(st.integers(1, 5))):
        dtype = data.draw(st.sampled_from(sorted(FLOATS)))
        values = random.standard_normal(data.draw(st.integers(0, 40))).astype(FLOATS[dtype])
        if values.size and data.draw(st.booleans()):
            values[:] = 0
        if values.size and data.draw(st.booleans()):
            values[random.integers(values.size)] = np.nan
        tensors.append((f"t{number}", dtype, values))
    header, content = header_of(*tensors)
    expected = TensorScan(
        frozenset(n for n, _, v in tensors if v.size and not wide(v).any()),
        {
            n: int(np.argmin(np.isfinite(wide(v))))
            for n, _, v in tensors
            if v.size and not np.isfinite(wide(v)).all()
        },
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    scanner = TensorScanner(header, allow_non_finite=True)
    for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
        scanner.update(content[start:stop])
    found = scanner.finish()
    assert found.non_finite == expected.non_finite
    assert found.zero - set(found.non_finite) == expected.zero
    assert scan(header, content) == found


def test_byte_by_byte_is_the_same_as_at_once() -> None:
    values = np.arange(20, dtype=np.float64)
    header, data = header_of(("x", "F64", values), ("y", "F16", np.zeros(3, np.float16)))
    scanner = TensorScanner(header)
    for byte in data:
        scanner.update(bytes([byte]))
    assert scanner.finish() == scan(header, data)


def test_missing_bytes_are_refused() -> None:
    header, data = header_of(("x", "F32", np.ones(4, np.float32)))
    scanner = TensorScanner(header, file="x")
    scanner.update(data[:-1])
    with pytest.raises(HeaderError) as caught:
        scanner.finish()
    assert caught.value.reason == Reason.FILE_TRUNCATED
    assert caught.value.field == "x"
    with pytest.raises(HeaderError):
        scan_tensors(io.BytesIO(data[:-1]), header)


def test_too_many_bytes_are_refused() -> None:
    header, data = header_of(("x", "F32", np.ones(4, np.float32)))
    scanner = TensorScanner(header)
    scanner.update(data)
    with pytest.raises(HeaderError) as caught:
        scanner.update(b"!")
    assert caught.value.reason == Reason.DATA_TRAILING


def test_a_file_without_tensors_scans_to_nothing() -> None:
    assert TensorScanner(SafetensorsHeader(())).finish() == TensorScan(frozenset(), {})


def test_memory_stays_within_a_few_chunks() -> None:
    size = 64 * CHUNK_BYTES
    header = SafetensorsHeader((TensorInfo("x", "F32", (size // 4,), 0, size),), {}, 0, size)

    class Endless(io.RawIOBase):
        def read(self, size: int | None = -1, /) -> bytes:
            return b"\x01" * (size or 0)

        def seek(self, offset: int, whence: int = 0, /) -> int:
            return offset

    tracemalloc.start()
    scan_tensors(Endless(), header)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * CHUNK_BYTES


def test_every_floating_dtype_has_its_patterns() -> None:
    without_nan = {"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"}
    floating = {name for name in DTYPE_BITS if name.startswith(("F", "BF", "C"))}
    assert set(PATTERNS) == floating - without_nan


def test_a_stream_gives_the_header_as_soon_as_it_is_there() -> None:
    content = good_file({"x": np.ones(100, np.float32)})
    stream = SafetensorsStream(len(content), file="x")
    length = 8 + int.from_bytes(content[:8], "little")
    headers = []
    for start, stop in ((0, length - 1), (length - 1, length)):
        stream.update(content[start:stop])
        headers.append(stream.header)
    assert headers[0] is None
    assert headers[1] is not None
    assert [tensor.name for tensor in headers[1]] == ["x"]
    stream.update(content[length:])
    assert stream.finish() == TensorScan(frozenset(), {})


def test_a_stream_refuses_a_pointer_at_once() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    stream = SafetensorsStream(len(pointer), file="x")
    with pytest.raises(LfsPointerError):
        stream.update(pointer)


def test_a_stream_refuses_a_bad_header_before_the_data() -> None:
    stream = SafetensorsStream(10**9, file="x")
    with pytest.raises(HeaderError) as caught:
        stream.update((5).to_bytes(8, "little") + b" {}  " + bytes(100))
    assert caught.value.reason == Reason.HEADER_START


@pytest.mark.parametrize("length", [0, 3, 8, 20])
def test_a_stream_that_ends_early_is_refused(length: int) -> None:
    content = good_file({"x": np.ones(100, np.float32)})
    stream = SafetensorsStream(len(content), file="x")
    stream.update(content[:length])
    with pytest.raises(HeaderError) as caught:
        stream.finish()
    assert caught.value.reason == Reason.FILE_TRUNCATED
