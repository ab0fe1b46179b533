"""Say what validation reads from: named files that can be opened, sized and sought in.

A `FileSource` may be a file on this disk, bytes in memory or a stored blob; nothing here ever
reads a whole file. Git LFS pointers are recognised here, because any file may be one.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from registry.errors import LfsPointerError
from registry.validation.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

_LFS_START = b"version https://git-lfs.github.com/spec/"
_LFS_MAX_BYTES = 1024


class BinaryReader(Protocol):
    """Read bytes from where a position stands."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, and none at the end."""
        ...

    def seek(self, offset: int, /) -> int:
        """Move to `offset` bytes from the start."""
        ...


class FileSource(Protocol):
    """Be one file of an upload or a folder."""

    @property
    def size_bytes(self) -> int:
        """Return the length of the file."""
        ...

    def open(self) -> BinaryIO:
        """Open the file for reading; the caller closes it."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Be a file on this machine's disk."""

    path: Path

    @property
    def size_bytes(self) -> int:
        """Return the length of the file now."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open the file for reading."""
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class BytesFile:
    """Be a file that is already in memory."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Return the length of the data."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Open the data for reading."""
        return io.BytesIO(self.data)


def read_exactly(reader: BinaryReader, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the file, however short the single reads are."""
    parts: list[bytes] = []
    missing = size
    while missing > 0:
        part = reader.read(missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def refuse_lfs_pointer(start: bytes, *, file: str) -> None:
    """Refuse a file whose first bytes are those of a Git LFS pointer.

    Raises:
        LfsPointerError: with the object's digest and size, where the pointer gives them.
    """
    if not start.startswith(_LFS_START):
        return
    text = start[:_LFS_MAX_BYTES]
    oid = re.search(rb"\noid sha256:([0-9a-f]{64})", text)
    size = re.search(rb"\nsize (\d{1,20})", text)
    raise LfsPointerError(
        f"{file} is a Git LFS pointer, not the file itself",
        reason=Reason.LFS_POINTER,
        file=file,
        expected=f"the file of {int(size[1])} bytes" if size else "the file itself",
        actual=f"a pointer to sha256:{oid[1].decode()}" if oid else "a pointer",
        hint="run `git lfs pull` in the repository that it came from, then push again",
    )
