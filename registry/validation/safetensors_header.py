"""Read the header of a safetensors file, stricter than the library and without its code.

The format: a little-endian u64 (the header's length), a JSON object
`{"name": {"dtype", "shape", "data_offsets"}, "__metadata__"?: {str: str}}`, then the data, which
the tensors cover without hole or overlap. Whatever the safetensors library rejects is rejected
here; duplicate keys, leading spaces and odd tensor names are, too. No tensor is read:
`tensor_scan.py` looks at values. Start at `read_header`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import HeaderError
from registry.validation.file_sources import read_exactly, refuse_lfs_pointer
from registry.validation.header_rules import HeaderLimits, check_cover, header_fault, read_tensor
from registry.validation.reasons import Reason
from registry.validation.strict_json import Json, JsonLimits, JsonRuleError, parse_json, printable
from registry.validation.tensor_info import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry.validation.file_sources import BinaryReader

__all__ = [
    "HeaderLimits",
    "SafetensorsHeader",
    "TensorInfo",
    "header_length",
    "parse_header",
    "read_header",
]

METADATA_KEY = "__metadata__"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Hold a checked header.

    Attributes:
        tensors: in the order of their data.
        metadata: the free strings of `__metadata__`.
        data_start: offset of the data area in the file.
        data_bytes: length of the data area.
    """

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    data_start: int = _LENGTH_BYTES
    data_bytes: int = 0

    @property
    def aligned(self) -> bool:
        """Return whether the data starts at a multiple of 8, as a memory map would like it."""
        return self.data_start % 8 == 0

    def __iter__(self) -> Iterator[TensorInfo]:
        return iter(self.tensors)


def read_header(
    reader: BinaryReader, size_bytes: int, *, limits: HeaderLimits | None = None, file: str = ""
) -> SafetensorsHeader:
    """Read and check the header of one safetensors file.

    Args:
        reader: stands anywhere; it is moved.
        size_bytes: length of the file.
        limits: what the header may contain.
        file: how errors call the file.

    Raises:
        LfsPointerError: the file is a Git LFS pointer.
        HeaderError: it breaks a rule; `reason` says which.
    """
    reader.seek(0)
    start = read_exactly(reader, min(size_bytes, 1024))
    refuse_lfs_pointer(start, file=file)
    length = header_length(start[:_LENGTH_BYTES], size_bytes, limits=limits, file=file)
    reader.seek(_LENGTH_BYTES)
    data = read_exactly(reader, length)
    return parse_header(data, size_bytes, limits=limits, file=file)


def header_length(
    prefix: bytes, size_bytes: int, *, limits: HeaderLimits | None = None, file: str = ""
) -> int:
    """Return the length of the header that the first 8 bytes of a file announce.

    Raises:
        HeaderError: the file is too short, or the header too long.
    """
    limits = limits or HeaderLimits()
    if len(prefix) < _LENGTH_BYTES or size_bytes < _LENGTH_BYTES:
        header_fault(
            "is too short for a safetensors file",
            Reason.FILE_TRUNCATED,
            file=file,
            expected="at least 8 bytes",
            actual=f"{min(size_bytes, len(prefix))} bytes",
        )
    (length,) = struct.unpack("<Q", prefix)
    if not 2 <= length <= limits.header_bytes:
        header_fault(
            "announces a header of an impossible length: is it a safetensors file?",
            Reason.HEADER_SIZE,
            file=file,
            expected=f"2 to {limits.header_bytes} bytes",
            actual=f"{length} bytes",
        )
    if length > size_bytes - _LENGTH_BYTES:
        header_fault(
            "ends inside its header",
            Reason.FILE_TRUNCATED,
            file=file,
            expected=f"at least {length + _LENGTH_BYTES} bytes",
            actual=f"{size_bytes} bytes",
        )
    return int(length)


def parse_header(
    data: bytes, size_bytes: int, *, limits: HeaderLimits | None = None, file: str = ""
) -> SafetensorsHeader:
    """Check a header's JSON against the length of its file.

    Args:
        data: exactly the header, padding included, without its 8 length bytes.
        size_bytes: length of the whole file.
        limits: what the header may contain.
        file: how errors call the file.

    Raises:
        HeaderError: it breaks a rule; `reason` says which.
    """
    limits = limits or HeaderLimits()
    if not data.startswith(b"{"):
        header_fault(
            "has a header that does not start with '{'",
            Reason.HEADER_START,
            file=file,
            expected="'{'",
            actual=printable(data[:8].decode("latin-1")),
        )
    text = data.rstrip(b" ")
    if len(data) - len(text) > limits.padding_bytes:
        header_fault(
            "pads its header with too many spaces",
            Reason.HEADER_PADDING,
            file=file,
            expected=f"at most {limits.padding_bytes}",
            actual=str(len(data) - len(text)),
        )
    members = _parse_members(text, limits, file)
    metadata = _metadata(members.pop(METADATA_KEY, {}), file)
    if len(members) > limits.tensors:
        header_fault(
            "holds too many tensors",
            Reason.TENSOR_COUNT,
            file=file,
            expected=f"at most {limits.tensors}",
            actual=str(len(members)),
        )
    data_start = _LENGTH_BYTES + len(data)
    tensors = tuple(
        sorted(
            (read_tensor(name, value, limits, file) for name, value in members.items()),
            key=lambda tensor: (tensor.begin, tensor.end),
        )
    )
    check_cover(tensors, size_bytes - data_start, file)
    return SafetensorsHeader(tensors, metadata, data_start, size_bytes - data_start)


def _parse_members(text: bytes, limits: HeaderLimits, file: str) -> dict[str, Json]:
    json_limits = JsonLimits(max_depth=3, max_values=limits.tensors * 12, natural_numbers=True)
    try:
        members = parse_json(text, limits=json_limits)
    except JsonRuleError as error:
        raise HeaderError(
            f"{file or 'the file'} has a header that breaks a rule: {error.message}",
            reason=error.reason,
            file=file,
            field=error.field,
            expected="a JSON object with unique keys and whole numbers",
            actual=error.actual,
        ) from error
    if not isinstance(members, dict):  # unreachable: it starts with "{"
        header_fault("has a header that is no JSON object", Reason.HEADER_START, file=file)
    return members


def _metadata(value: Json, file: str) -> Mapping[str, str]:
    if not isinstance(value, dict):
        header_fault(
            "has metadata that is no object",
            Reason.METADATA,
            file=file,
            field=METADATA_KEY,
            expected="an object of strings",
            actual=type(value).__name__,
        )
    result: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(text, str) or not _is_unicode(text) or not _is_unicode(key):
            header_fault(
                f"has metadata {printable(key)!r} that is no string",
                Reason.METADATA,
                file=file,
                field=METADATA_KEY,
                expected="a string of valid Unicode",
                actual=type(text).__name__,
            )
        result[key] = text
    return MappingProxyType(result)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
