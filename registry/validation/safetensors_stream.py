"""Check a safetensors file while it is being received, before a byte of it is kept for good.

Nothing but the header is held: what fails is refused at the first byte that shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import HeaderError
from registry.validation.file_sources import refuse_lfs_pointer
from registry.validation.reasons import Reason
from registry.validation.safetensors_header import SafetensorsHeader, header_length, parse_header
from registry.validation.tensor_scan import TensorScan, TensorScanner

if TYPE_CHECKING:
    from registry.validation.safetensors_header import HeaderLimits

_LFS_LINE_BYTES = 64


class SafetensorsStream:
    """Check a whole safetensors file as its bytes arrive, from the first one on.

    Args:
        size_bytes: the announced length of the file.
        limits: what its header may contain.
        allow_non_finite: as for `TensorScanner`.
        file: how errors call the file.
    """

    def __init__(
        self,
        size_bytes: int,
        *,
        limits: HeaderLimits | None = None,
        allow_non_finite: bool = False,
        file: str = "",
    ) -> None:
        self._size_bytes = size_bytes
        self._limits = limits
        self._allow = allow_non_finite
        self._file = file
        self._start = bytearray()
        self._header_bytes: int | None = None
        self._scanner: TensorScanner | None = None
        self.header: SafetensorsHeader | None = None

    def update(self, data: bytes | memoryview) -> None:
        """Check the next bytes of the file, however many.

        Raises:
            FileError: a rule is broken; nothing more need be received.
        """
        if self._scanner is None:
            data = self._take_header(memoryview(data))
        if self._scanner is not None:
            self._scanner.update(data)

    def finish(self) -> TensorScan:
        """Return what was found.

        Raises:
            FileError: bytes are missing.
        """
        if self._scanner is None:
            refuse_lfs_pointer(bytes(self._start), file=self._file)
            header_length(bytes(self._start[:8]), len(self._start), file=self._file)
            raise HeaderError(
                f"{self._file or 'the file'} ends inside its header",
                reason=Reason.FILE_TRUNCATED,
                file=self._file,
                expected=f"{self._size_bytes} bytes",
                actual=f"{len(self._start)} bytes",
            )
        return self._scanner.finish()

    def _take_header(self, view: memoryview) -> memoryview:
        if self._header_bytes is None:
            wanted = min(self._size_bytes, _LFS_LINE_BYTES) - len(self._start)
            self._start += view[:wanted]
            view = view[wanted:]
            if len(self._start) < min(self._size_bytes, _LFS_LINE_BYTES):
                return view
            refuse_lfs_pointer(bytes(self._start), file=self._file)
            self._header_bytes = 8 + header_length(
                bytes(self._start[:8]), self._size_bytes, limits=self._limits, file=self._file
            )
        taken = view[: max(0, self._header_bytes - len(self._start))]
        self._start += taken
        view = view[len(taken) :]
        if len(self._start) < self._header_bytes:
            return view
        self._open_scanner()
        return view

    def _open_scanner(self) -> None:
        header_bytes = self._header_bytes or 0
        self.header = parse_header(
            bytes(self._start[8:header_bytes]),
            self._size_bytes,
            limits=self._limits,
            file=self._file,
        )
        self._scanner = TensorScanner(self.header, allow_non_finite=self._allow, file=self._file)
        self._scanner.update(bytes(self._start[header_bytes:]))
        self._start.clear()
