"""Look at the values of a safetensors file without loading a tensor.

Finds NaN, infinities and tensors that are zero throughout, in one pass over chunks of a megabyte
or of whatever size they arrive in. Start at `scan_tensors`, or feed a `TensorScanner` while an
upload streams by; how a value is recognised stands in `value_patterns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.errors import HeaderError, NonFiniteError
from registry.validation.reasons import Reason
from registry.validation.value_patterns import PATTERNS, PLAIN_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.validation.file_sources import BinaryReader
    from registry.validation.safetensors_header import SafetensorsHeader, TensorInfo
    from registry.validation.value_patterns import ValuePatterns

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorScan:
    """Say what the values of a file look like.

    Attributes:
        zero: names of the tensors whose every value is zero (empty tensors are not).
        non_finite: for each tensor with a NaN or an infinity, the flat index of the first.
    """

    zero: frozenset[str]
    non_finite: Mapping[str, int]


class TensorScanner:
    """Scan the data area of one file as its bytes go by, in order.

    Args:
        header: the file's checked header.
        allow_non_finite: go on at a NaN or an infinity, and report it, where True.
        file: how errors call the file.
    """

    def __init__(
        self, header: SafetensorsHeader, *, allow_non_finite: bool = False, file: str = ""
    ) -> None:
        self._tensors = [tensor for tensor in header.tensors if tensor.size_bytes]
        self._data_bytes = header.data_bytes
        self._allow = allow_non_finite
        self._file = file
        self._next = 0
        self._position = 0
        self._carry = b""
        self._all_zero = True
        self._zero: set[str] = set()
        self._non_finite: dict[str, int] = {}

    def update(self, data: bytes | memoryview) -> None:
        """Scan the next bytes of the data area, however many.

        Raises:
            NonFiniteError: a value is a NaN or an infinity, unless that is allowed.
            HeaderError: there are more bytes than the header announced.
        """
        view = memoryview(data)
        while view.nbytes:
            if self._next == len(self._tensors):
                raise HeaderError(
                    f"{self._file or 'the file'} has bytes after its last tensor",
                    reason=Reason.DATA_TRAILING,
                    file=self._file,
                    expected=f"{self._data_bytes} bytes of data",
                    actual="more",
                )
            tensor = self._tensors[self._next]
            part = view[: tensor.end - self._position]
            view = view[len(part) :]
            self._scan_part(tensor, part)
            self._position += len(part)
            if self._position == tensor.end:
                self._finish_tensor(tensor)

    def finish(self) -> TensorScan:
        """Return what was found.

        Raises:
            HeaderError: bytes are missing.
        """
        if self._next < len(self._tensors):
            tensor = self._tensors[self._next]
            raise HeaderError(
                f"{self._file or 'the file'} ends inside tensor {tensor.name!r}",
                reason=Reason.FILE_TRUNCATED,
                file=self._file,
                field=tensor.name,
                expected=f"{self._data_bytes} bytes of data",
                actual=f"{self._position} bytes",
            )
        return TensorScan(frozenset(self._zero), dict(self._non_finite))

    def _finish_tensor(self, tensor: TensorInfo) -> None:
        if self._all_zero:
            self._zero.add(tensor.name)
        self._all_zero = True
        self._carry = b""
        self._next += 1

    def _scan_part(self, tensor: TensorInfo, part: memoryview) -> None:
        patterns = PATTERNS.get(tensor.dtype, PLAIN_BYTES)
        width = patterns.width
        index = (self._position - tensor.begin) // width
        if self._carry:
            needed = width - len(self._carry)
            self._carry += part[:needed].tobytes()
            part = part[needed:]
            if len(self._carry) < width:
                return
            self._look(tensor, patterns, memoryview(self._carry), index)
            self._carry = b""
            index += 1
        whole = part.nbytes - part.nbytes % width
        self._carry = part[whole:].tobytes()
        for start in range(0, whole, CHUNK_BYTES):
            chunk = part[start : min(whole, start + CHUNK_BYTES)]
            self._look(tensor, patterns, chunk, index + start // width)

    def _look(
        self, tensor: TensorInfo, patterns: ValuePatterns, data: memoryview, index: int
    ) -> None:
        look = patterns.look(data)
        self._all_zero = self._all_zero and look.all_zero
        if look.first_bad >= 0 and tensor.name not in self._non_finite:
            where = index + look.first_bad
            self._report(tensor, where // 2 if tensor.dtype == "C64" else where)

    def _report(self, tensor: TensorInfo, index: int) -> None:
        self._non_finite[tensor.name] = index
        if self._allow:
            return
        raise NonFiniteError(
            f"{self._file or 'the file'}: tensor {tensor.name!r} holds a NaN or an infinity at "
            f"flat index {index}",
            reason=Reason.NON_FINITE,
            file=self._file,
            field=tensor.name,
            expected="finite values",
            actual=f"a value that is not finite, at {index} of {tensor.count}",
            hint="the training run diverged: push an earlier checkpoint",
        )


def scan_tensors(
    reader: BinaryReader,
    header: SafetensorsHeader,
    *,
    allow_non_finite: bool = False,
    file: str = "",
) -> TensorScan:
    """Scan every value of a file whose header was checked.

    Args:
        reader: stands anywhere; it is moved.
        header: the file's header.
        allow_non_finite: report NaN and infinities instead of refusing them.
        file: how errors call the file.

    Raises:
        NonFiniteError: a value is a NaN or an infinity, unless that is allowed.
        HeaderError: the file is shorter than its header says.
    """
    scanner = TensorScanner(header, allow_non_finite=allow_non_finite, file=file)
    reader.seek(header.data_start)
    remaining = header.data_bytes
    while remaining:
        chunk = reader.read(min(CHUNK_BYTES, remaining))
        if not chunk:
            break
        scanner.update(chunk)
        remaining -= len(chunk)
    return scanner.finish()
