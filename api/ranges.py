"""Read the headers that speak of parts: Range, Content-Range and the conditions on ETags.

One range at most, in checked arithmetic; what RFC 9110 lets a server ignore is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from api.errors import ContentRangeError, RangeError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_NOTHING_LEFT = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Span:
    """Cut `length` bytes at `start` out of `total`.

    Attributes:
        start: the first byte.
        length: how many, may be 0.
        total: of how many.
    """

    start: int
    length: int
    total: int

    @property
    def whole(self) -> bool:
        """Return whether nothing is left out."""
        return self.length == self.total

    @property
    def content_range(self) -> str:
        """Return the value of Content-Range for this part; of an empty one `bytes */total`."""
        if not self.length:
            return f"bytes */{self.total}"
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.total}"


def requested_span(header: str | None, total: int) -> Span | None:
    """Return the part that a Range header asks for; None if it asks for none that we serve.

    Raises:
        RangeError: it asks for one range, and that lies outside.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0].endswith("=-"):
        return None
    first, last = match[1], match[2]
    if not first:
        length = min(int(last), total)
        start, end = total - length, total
    else:
        start = int(first)
        end = min(int(last) + 1, total) if last else total
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeError(f"the file has {total} bytes", size_bytes=total, actual=str(header)[:80])
    return Span(start, end - start, total)


def sent_span(header: str | None) -> Span | None:
    """Return the part that a Content-Range header announces, or None without one.

    `bytes */total` announces that every byte has been sent before: the empty part at the end.

    Raises:
        ContentRangeError: it is neither, or the part lies outside.
    """
    if header is None:
        return None
    if nothing_left := _NOTHING_LEFT.fullmatch(header.strip()):
        return Span(int(nothing_left[1]), 0, int(nothing_left[1]))
    match = _CONTENT_RANGE.fullmatch(header.strip())
    first, last, total = (int(text) for text in match.groups()) if match else (1, 0, 0)
    if not first <= last < total:
        raise ContentRangeError(
            "Content-Range is not acceptable",
            field="Content-Range",
            expected="bytes first-last/total or bytes */total",
            actual=header[:80],
        )
    return Span(first, last - first + 1, total)


def etag_listed(header: str | None, etag: str) -> bool:
    """Return whether If-None-Match names this ETag (without quotes), or any."""
    return header is not None and (header.strip() == "*" or etag in _ETAG.findall(header))


def range_still_holds(if_range: str | None, etag: str) -> bool:
    """Return whether If-Range lets the range be served: absent, or exactly this strong ETag."""
    return if_range is None or if_range.strip() == f'"{etag}"'
