"""Check the arithmetic of partial requests against the rules of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ContentRangeError, RangeError
from api.ranges import Span, etag_listed, range_still_holds, requested_span, sent_span


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-", 10, 90),
        ("bytes=10-19", 10, 10),
        ("bytes=90-1000", 90, 10),
        ("bytes=-1", 99, 1),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        ("BYTES=5-6", 5, 2),
        (" bytes=5-6 ", 5, 2),
    ],
)
def test_one_range_is_served(header: str, start: int, length: int) -> None:
    assert requested_span(header, 100) == Span(start, length, 100)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=a-b",
        "bytes=1.0-2",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0-" + "9" * 5000,
    ],
)
def test_what_may_be_ignored_is_ignored(header: str | None) -> None:
    assert requested_span(header, 100) is None


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=100-200", "bytes=99999999999-", "bytes=-0"]
)
def test_a_range_outside_is_refused(header: str) -> None:
    with pytest.raises(RangeError) as caught:
        requested_span(header, 100)
    assert caught.value.size_bytes == 100
    assert caught.value.actual == header


def test_an_empty_file_has_no_ranges() -> None:
    with pytest.raises(RangeError):
        requested_span("bytes=0-", 0)


@given(first=st.integers(0, 300), last=st.integers(0, 300), total=st.integers(1, 200))
def test_a_span_is_what_python_slices(first: int, last: int, total: int) -> None:
    data = bytes(number % 251 for number in range(total))
    try:
        span = requested_span(f"bytes={first}-{last}", total)
    except RangeError:
        assert first >= total
        return
    if span is None:
        assert last < first
    else:
        assert data[span.start : span.start + span.length] == data[first : last + 1]
        assert span.content_range == f"bytes {first}-{min(last, total - 1)}/{total}"


@given(suffix=st.integers(1, 300), total=st.integers(1, 200))
def test_a_suffix_is_what_python_slices(suffix: int, total: int) -> None:
    span = requested_span(f"bytes=-{suffix}", total)
    assert span is not None
    assert (span.start, span.length) == (max(0, total - suffix), min(suffix, total))
    assert span.whole == (suffix >= total)


def test_an_upload_announces_its_part() -> None:
    assert sent_span(None) is None
    assert sent_span("bytes 5-9/10") == Span(5, 5, 10)
    assert sent_span("bytes 0-0/1") == Span(0, 1, 1)
    assert sent_span("bytes */10") == Span(10, 0, 10)
    assert Span(10, 0, 10).content_range == "bytes */10"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes 5-9",
        "bytes 5-9/*",
        "bytes */",
        "bytes 9-5/10",
        "bytes 5-10/10",
        "bytes=5-9/10",
        "bytes -5-9/10",
        "bytes 0-0/0",
        "bytes 5-9/1e3",
        "bytes ٥-٩/10",
        "bytes 0-1/" + "9" * 5000,
    ],
)
def test_a_lying_part_is_refused(header: str) -> None:
    with pytest.raises(ContentRangeError) as caught:
        sent_span(header)
    assert caught.value.field == "Content-Range"
    assert len(caught.value.actual) <= 80


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        (None, False),
        ("", False),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ("*", True),
        ("abc", False),
        ('"abcd"', False),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, listed: bool) -> None:
    assert etag_listed(header, "abc") is listed


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (None, True),
        ('"abc"', True),
        ('W/"abc"', False),
        ('"other"', False),
        ("Mon, 23 Nov 2026 19:00:00 GMT", False),
    ],
)
def test_if_range_compares_strongly(header: str | None, holds: bool) -> None:
    assert range_still_holds(header, "abc") is holds
