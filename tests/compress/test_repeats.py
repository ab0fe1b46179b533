"""Check that what comes twice is found, taken out and put back, and that no copy can lie."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import repeats
from compress.errors import TernDamagedError
from compress.repeats import Copy

Array = NDArray[Any]


def noise(size: int, seed: int = 0, dtype: str = "<u4") -> Array:
    """Make elements that do not repeat."""
    width = np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size * width), dtype)


def slow_insert(kept: list[int], copies: list[Copy]) -> list[int]:
    """Put copies back one element at a time."""
    values: list[int] = []
    for copy in copies:
        while len(values) < copy.target:
            values.append(kept.pop(0))
        for step in range(copy.length):
            values.append(values[copy.source + step])
    return values + kept


def round_trip(values: Array) -> list[Copy]:
    """Take out, write, read, put back and compare in two ways; give the copies."""
    copies = repeats.find(values)
    kept = repeats.remove(values, copies)
    packed = repeats.pack(copies)
    again, used = repeats.unpack(packed + b"more", count=len(values))
    assert (again, used) == (copies, len(packed))
    np.testing.assert_array_equal(repeats.insert(kept, copies, count=len(values)), values)
    assert slow_insert(kept.tolist(), copies) == values.tolist()
    return copies


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<u8"])
@pytest.mark.parametrize("gap", [0, 1, 1000, 100_003])
def test_a_tensor_that_is_saved_twice_is_found_to_its_ends(dtype: str, gap: int) -> None:
    tensor, between = noise(5000, 1, dtype), noise(gap, 2, dtype)
    values = np.concatenate([noise(77, 3, dtype), tensor, between, tensor, noise(50, 4, dtype)])
    (copy,) = round_trip(values)
    assert copy.target in range(5077 + gap - 20, 5077 + gap + 1)
    assert copy.target + copy.length in range(10_077 + gap, 10_077 + gap + 20)
    assert copy.target - copy.source == 5000 + gap


def test_three_of_the_same_are_two_copies() -> None:
    tensor = noise(3000)
    copies = round_trip(np.concatenate([tensor, tensor, noise(10, 1), tensor]))
    assert sum(copy.length for copy in copies) == 6000


def test_short_repetition_is_left_to_others() -> None:
    part = noise(repeats.LEAST_ELEMENTS - 1)
    assert not round_trip(np.concatenate([part, noise(500, 1), part, noise(500, 2)]))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(10_000, "<u4"),
        np.empty(0, "<u4"),
        noise(1),
        noise(16),
        noise(20_000),
        np.repeat(noise(50), 300),
        noise(100_000, 0, "u1"),
        np.arange(10_000, dtype="<u8") % 3,
    ],
    ids=["zeros", "empty", "one", "window", "noise", "runs", "bytes", "few"],
)
def test_what_does_not_repeat_in_long_stretches_is_left_alone(values: Array) -> None:
    assert sum(copy.length for copy in round_trip(values)) <= len(values)


def test_periods_double() -> None:
    copies = round_trip(np.tile(noise(1000), 100))
    assert len(copies) < 12
    assert sum(copy.length for copy in copies) == 99_000


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), max_size=12),
    st.sampled_from(["u1", "<u2", "<u4", "<u8"]),
)
def test_any_mixture_comes_back(parts: list[tuple[int, int]], dtype: str) -> None:
    sources = [noise(900, seed, dtype) for seed in range(3)] + [np.zeros(900, dtype)]
    pieces = [sources[which][:length] for which, length in parts]
    round_trip(np.concatenate([np.empty(0, dtype), *pieces]))


KEPT = noise(200)


@pytest.mark.parametrize(
    ("copies", "count"),
    [
        ([Copy(100, 0, 64)], 265),
        ([Copy(100, 0, 64)], 263),
        ([Copy(100, 64, 64)], 264),
        ([Copy(201, 0, 64)], 264),
        ([Copy(0, 0, 64)], 264),
        ([Copy(100, 0, 64), Copy(130, 0, 64)], 328),
        ([Copy(100, 0, 64), Copy(90, 0, 64)], 328),
        ([Copy(1 << 31, 0, 64)], 264),
        ([Copy(200, 1 << 31, 64)], 264),
    ],
    ids=range(9),
)
def test_lying_copies_are_refused(copies: list[Copy], count: int) -> None:
    with pytest.raises(TernDamagedError):
        repeats.insert(KEPT, copies, count=count)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        struct.pack("<I", 1),
        struct.pack("<4I", 2, 100, 0, 64),
        struct.pack("<4I", 0xFFFFFFFF, 100, 0, 64),
        struct.pack("<4I", 1, 100, 0, 63),
        struct.pack("<4I", 1, 100, 0, 1001),
    ],
    ids=range(7),
)
def test_copies_that_nobody_writes_are_refused(data: bytes) -> None:
    with pytest.raises(TernDamagedError):
        repeats.unpack(data, count=1000)
