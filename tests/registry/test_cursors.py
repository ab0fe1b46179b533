"""Test cursors and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog.cursors import check_limit, decode_cursor, encode_cursor
from registry.clock import time_before, time_text, utc_now
from registry.errors import ValidationError

PRINTABLE = st.text(st.characters(categories=["L", "N", "P"]), max_size=20)


@given(st.lists(PRINTABLE, min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_cursors_come_back(key: list[str]) -> None:
    cursor = encode_cursor(*key)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, len(key)) == tuple(key)
    with pytest.raises(ValidationError):
        decode_cursor(cursor, len(key) + 1)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        decode_cursor(text, 7)
    assert caught.value.field == "cursor"


def test_limits() -> None:
    assert [check_limit(n) for n in (1, 1000)] == [1, 1000]
    for wrong in (0, 1001):
        with pytest.raises(ValidationError):
            check_limit(wrong)


@given(st.integers(0, 7 * 10**12), st.integers(-720, 720))
@settings(max_examples=100, deadline=None)
def test_times_sort_as_text(milliseconds: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    here = datetime(1970, 1, 2, tzinfo=zone) + timedelta(milliseconds=milliseconds)
    text = time_text(here)
    assert len(text) == 24
    assert text < time_text(here + timedelta(milliseconds=1))
    assert datetime.fromisoformat(text) <= here
    assert time_before(here, 0.001) < text


def test_no_time_is_before_the_first() -> None:
    assert time_before(datetime(2026, 1, 1, tzinfo=UTC), 1e18) < time_before(utc_now(), 1e10)
    assert time_text(utc_now()) > "2026"
