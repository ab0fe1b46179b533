"""Read and write safetensors files in slices, by a strict parser of our own.

Reading touches the header and then only the slices asked for, so memory stays bounded whatever the
file's size. The parser is stricter than the library: duplicate keys, holes, overlaps, unknown types
and trailing bytes are refused before any data is looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from compress.dtypes import DTYPE_BITS, WEIGHT_DTYPES, Array
from compress.errors import SourceError

MAX_HEADER_BYTES = 100_000_000
MAX_NAME_CHARS = 1024
MAX_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Describe one tensor: its type, its shape and where its bytes lie in the data area."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int = 0

    @property
    def size(self) -> int:
        """Count the elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Count the bytes."""
        return self.size * DTYPE_BITS[self.dtype] // 8


class TensorFile:
    """Open one safetensors file and read flat slices of its tensors.

    Attributes:
        path: the file.
        tensors: what it holds, by name, in the order of the data.
        metadata: its `__metadata__`, empty where absent.
        data_start: offset of the data area in bytes.

    With `cut` the file may end within its last tensor, which is then as many bytes as there are.

    Raises:
        SourceError: the file is not a well-formed safetensors file.
    """

    def __init__(
        self, path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES, cut: bool = False
    ) -> None:
        self.path = path
        with ExitStack() as opened:
            self._file = opened.enter_context(path.open("rb"))
            self.size_bytes = path.stat().st_size
            self.data_start, raw = _read_header(
                self._file.read, min(max_header_bytes, self.size_bytes - 8), path.name
            )
            header = _parse_json(raw, path.name)
            self.metadata = _metadata(header.pop("__metadata__", {}), path.name)
            present = self.size_bytes - self.data_start
            self.tensors = _tensors(header, present, path.name, cut=cut)
            opened.pop_all()

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes [start, stop) of a tensor."""
        info = self.tensors[name]
        stop = info.size_bytes if stop is None else stop
        self._file.seek(self.data_start + info.begin + start)
        data = self._file.read(stop - start)
        if len(data) != stop - start:
            raise SourceError(
                "the file ended while it was read",
                file=self.path.name,
                field=name,
                expected=f"{stop - start} bytes",
                actual=str(len(data)),
            )
        return data

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read elements [start, stop) of a floating tensor as a flat array of its storage type."""
        info = self.tensors[name]
        dtype = WEIGHT_DTYPES[info.dtype]
        stop = info.size if stop is None else stop
        data = self.read_bytes(name, start * dtype.itemsize, stop * dtype.itemsize)
        return np.frombuffer(data, dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class TensorWriter:
    """Write a safetensors file whose tensors arrive in any order and in slices.

    Tensors lie in the file by falling element width, then by name, as the safetensors library lays
    them.
    """

    def __init__(
        self, path: Path, tensors: Iterable[TensorInfo], *, metadata: Mapping[str, str]
    ) -> None:
        ordered = sorted(tensors, key=lambda info: (-DTYPE_BITS[info.dtype], info.name))
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._begin: dict[str, int] = {}
        offset = 0
        for info in ordered:
            self._begin[info.name] = offset
            header[info.name] = {
                "dtype": info.dtype,
                "shape": list(info.shape),
                "data_offsets": [offset, offset + info.size_bytes],
            }
            offset += info.size_bytes
        raw = header_bytes(header)
        self._data_start = len(raw)
        self._file = path.open("wb")
        self._file.write(raw)
        self._file.truncate(len(raw) + offset)

    def write(self, name: str, data: bytes | memoryview, *, start: int = 0) -> None:
        """Put bytes of a tensor at a byte offset within it."""
        self._file.seek(self._data_start + self._begin[name] + start)
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def header_bytes(header: Mapping[str, object]) -> bytes:
    """Encode a header with its length in front, padded so that the data is aligned to 8 bytes."""
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _read_header(read: Callable[[int], bytes], most: int, file: str) -> tuple[int, bytes]:
    length = int.from_bytes(read(8), "little")
    if not 2 <= length <= most:
        raise SourceError(
            "not a safetensors file",
            file=file,
            field="header length",
            expected=f"2 to {max(2, most)} bytes",
            actual=str(length),
            hint="a Git LFS pointer or a cut download looks like this: fetch the real file",
        )
    raw = read(length)
    if raw[:1] != b"{":
        raise SourceError(
            "the header is not a JSON object", file=file, field="header", expected="{"
        )
    return 8 + length, raw


def _parse_json(raw: bytes, file: str) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise SourceError("a key stands twice in the header", file=file, field="header")
        return result

    try:
        header = json.loads(raw, object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"the header is not JSON: {error}", file=file, field="header") from error
    if not isinstance(header, dict):
        raise SourceError("the header is not a JSON object", file=file, field="header")
    return header


def _metadata(value: object, file: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise SourceError(
            "__metadata__ must map strings to strings", file=file, field="__metadata__"
        )
    return value


def _tensors(
    header: dict[str, Any], data_bytes: int, file: str, *, cut: bool
) -> dict[str, TensorInfo]:
    infos = []
    for name, entry in header.items():
        info, end = _tensor(name, entry, file)
        if info.begin + info.size_bytes != end or info.size * DTYPE_BITS[info.dtype] % 8:
            raise SourceError(
                "shape, type and offsets contradict each other",
                file=file,
                field=name,
                expected=f"{info.size * DTYPE_BITS[info.dtype] / 8:g} bytes",
                actual=str(end - info.begin),
            )
        infos.append(info)
    infos.sort(key=lambda info: (info.begin, info.size_bytes))
    offset = 0
    for info in infos:
        if info.begin != offset:
            raise SourceError(
                "tensors overlap or leave a hole",
                file=file,
                field=info.name,
                expected=f"offset {offset}",
                actual=str(info.begin),
            )
        offset += info.size_bytes
    if cut and infos and infos[-1].begin <= data_bytes < offset:
        infos[-1] = replace(infos[-1], shape=(data_bytes - infos[-1].begin,), dtype="U8")
        offset = data_bytes
    if offset != data_bytes:
        raise SourceError(
            "the data area has another size than the header says",
            file=file,
            field="data",
            expected=f"{offset} bytes",
            actual=str(data_bytes),
        )
    return {info.name: info for info in infos}


def _tensor(name: str, entry: object, file: str) -> tuple[TensorInfo, int]:
    def refuse(expected: str, actual: object) -> SourceError:
        return SourceError(
            "a tensor is not described correctly",
            file=file,
            field=name[:80],
            expected=expected,
            actual=str(actual)[:80],
        )

    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise refuse(f"a printable name of 1 to {MAX_NAME_CHARS} characters", ascii(name))
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise refuse("dtype, shape and data_offsets", entry)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise refuse("a known dtype", dtype)
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise refuse("a list of sizes", shape)
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise refuse("two offsets", offsets)
    return TensorInfo(name, dtype, tuple(shape), offsets[0]), offsets[1]


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 1 << 62 for item in value
    )
