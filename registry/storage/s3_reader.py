"""Read a remote object as if it were a file, by ranged requests that grow while reading goes on."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol, cast

_FIRST_WINDOW = 1 << 20
_LAST_WINDOW = 64 << 20
_BUFFER_BYTES = 256 << 10


class Body(Protocol):
    """Be the bytes of one reply, as they come."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, and none at the end."""

    def close(self) -> None:
        """Drop what has not been read."""


class RangedReader(io.RawIOBase):
    """Be a seekable file over `fetch(begin, end)`.

    The first request after a seek asks for 1 MiB; each one that continues where the last ended
    asks for four times as much, up to 64 MiB. Replies are read as a stream, never held whole.
    """

    def __init__(self, fetch: Callable[[int, int], Body], size_bytes: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size_bytes
        self._position = 0
        self._window = _FIRST_WINDOW
        self._body: Body | None = None
        self._body_at = 0
        self._body_end = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; nothing is fetched yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("cannot seek before the beginning")
        self._position = base + offset
        return self._position

    # The base class takes any writable buffer; a bytearray or memoryview is what really comes.
    def readinto(self, buffer: object, /) -> int:
        """Fill a buffer with what comes next, and return how many bytes came."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._stream().read(min(wanted, self._body_end - self._position))
        view[: len(data)] = data
        self._position += len(data)
        self._body_at = self._position
        return len(data)

    def close(self) -> None:
        """Drop the connection."""
        self._drop()
        super().close()

    def _stream(self) -> Body:
        """Return a reply that continues at the position, asking for one if there is none."""
        if self._body is not None and self._body_at == self._position < self._body_end:
            return self._body
        continues = self._body is not None and self._position == self._body_end
        self._window = min(self._window * 4, _LAST_WINDOW) if continues else _FIRST_WINDOW
        self._drop()
        self._body_at = self._position
        self._body_end = min(self._position + self._window, self._size)
        self._body = self._fetch(self._position, self._body_end)
        return self._body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def open_ranged(fetch: Callable[[int, int], Body], size_bytes: int) -> io.BufferedReader:
    """Return a buffered file over `fetch(begin, end)`, which gives the bytes `[begin, end)`."""
    return io.BufferedReader(RangedReader(fetch, size_bytes), _BUFFER_BYTES)
