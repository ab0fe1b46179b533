"""Mutate valid files at random: what ours accepts, the library accepts, with equal tensors.

`TEST_FUZZ_SECONDS=600 pytest tests/hostile/test_safetensors_fuzz.py` runs longer than the default.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import FileError
from registry.validation.safetensors_header import SafetensorsHeader, parse_header, read_header
from registry.validation.safetensors_stream import SafetensorsStream
from registry.validation.tensor_scan import scan_tensors
from tests.safetensors_files import Array, entry, good_file, library_reads, raw_file

SECONDS = float(os.environ.get("TEST_FUZZ_SECONDS", "0"))
SEEDS = range(8)
MUTANTS = 400


def originals() -> list[bytes]:
    numbers = np.random.default_rng(0)
    three: dict[str, Array] = {
        "a.weight": numbers.standard_normal((3, 4)).astype(np.float32),
        "b.weight": numbers.standard_normal((5,)).astype(np.float16),
        "c": np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    return [
        good_file(three, {"format": "pt", "note": "x" * 40}),
        good_file({"x": np.zeros((2, 2), np.float32)}),
        raw_file({"x": entry("F32", [0], 0, 0), "y": entry("BF16", [2], 0, 4)}, b"\0\1\0\2"),
        raw_file({"__metadata__": {"a": "b"}}),
    ]


def flip(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place] = chance.choice(b'{}[]",:0123456789 \\\0-.eE')


def splice(data: bytearray, chance: random.Random) -> None:
    start, stop = sorted(chance.randrange(len(data)) for _ in range(2))
    place = chance.randrange(len(data))
    data[place:place] = data[start : min(stop, start + 40)]


def cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 12)]


def swap_words(data: bytearray, chance: random.Random) -> None:
    words = [b"F32", b"F16", b"I64", b"shape", b"dtype", b"[0,", b"0]", b'"x"', b"data_offsets"]
    old, new = chance.choice(words), chance.choice(words)
    place = data.find(old)
    if place >= 0:
        data[place : place + len(old)] = new


def mend_length(data: bytearray, chance: random.Random) -> None:
    """Announce the length that the header now has, so that mutants get past the first check."""
    end = data.rfind(b"}") + 1
    if end > 8:
        data[:8] = (end - 8 + chance.choice((0, 0, 0, 1))).to_bytes(8, "little")


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip,
    overwrite,
    splice,
    cut,
    swap_words,
    mend_length,
]


def ours(data: bytes) -> SafetensorsHeader | None:
    try:
        return read_header(io.BytesIO(data), len(data), file="x")
    except FileError as error:
        assert error.reason  # noqa: PT017 - every refusal has a code
        return None


def check(data: bytes) -> bool:
    """Hold the invariant for one file; return whether ours accepted it."""
    header = ours(data)
    if header is None:
        return False
    theirs = library_reads(data)
    assert theirs is not None
    assert {tensor.name for tensor in header} == set(theirs)
    for tensor in header:
        other = theirs[tensor.name]
        start = header.data_start + tensor.begin
        assert tensor.dtype == str(other["dtype"]).upper()
        assert list(tensor.shape) == other["shape"]
        assert data[start : start + tensor.size_bytes] == bytes(other["data"])
    scan = scan_tensors(io.BytesIO(data), header, allow_non_finite=True)
    assert scan.zero <= set(theirs)
    return True


def mutant(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(1, 4)):
        if data:
            chance.choice(MUTATIONS)(data, chance)
    return bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_ours_accepts_the_library_accepts_alike(seed: int) -> None:
    chance = random.Random(seed)
    files = originals()
    accepted = sum(check(mutant(chance.choice(files), chance)) for _ in range(MUTANTS))
    assert 0 < accepted < MUTANTS


@pytest.mark.skipif(not SECONDS, reason="set TEST_FUZZ_SECONDS to fuzz for that long")
def test_the_same_for_as_long_as_asked() -> None:
    chance = random.Random(time.time_ns())
    files, tried, accepted = originals(), 0, 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        accepted += check(mutant(chance.choice(files), chance))
        tried += 1
    assert tried > 100 * SECONDS
    assert accepted


def test_every_truncation_is_refused() -> None:
    for original in originals():
        assert check(original)
        for length in range(len(original)):
            assert ours(original[:length]) is None


def test_every_extension_is_refused() -> None:
    for original in originals():
        assert ours(original + b"\0") is None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_pass_what_the_library_refuses(data: bytes) -> None:
    check(data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120))
def test_random_headers_never_pass_what_the_library_refuses(text: bytes) -> None:
    check(raw_file(b"{" + text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b.weight", "__metadata__", "<s1>", "../x", "a b", ""])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "U8", "F4", "BOOL", "I4"]) | JSON,
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "data_offsets": st.tuples(st.integers(0, 8), st.integers(0, 8)).map(list) | JSON,
        "more": JSON,
    },
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, FIELDS | JSON, max_size=3), st.integers(0, 16))
def test_random_entries_never_pass_what_the_library_refuses(
    header: dict[str, object], size: int
) -> None:
    check(raw_file(header, bytes(size)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_stream_in_pieces_judges_as_the_whole_file(data: st.DataObject) -> None:
    chance = random.Random(data.draw(st.integers(0, 10**6)))
    content = mutant(chance.choice(originals()), chance)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    stream = SafetensorsStream(len(content), allow_non_finite=True, file="x")
    try:
        for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
            stream.update(content[start:stop])
        scan = stream.finish()
    except FileError:
        assert ours(content) is None
        return
    header = ours(content)
    assert header == stream.header
    assert header is not None
    assert scan == scan_tensors(io.BytesIO(content), header, allow_non_finite=True)


def test_parse_header_alone_agrees_with_read_header() -> None:
    for original in originals():
        length = int.from_bytes(original[:8], "little")
        alone = parse_header(original[8 : 8 + length], len(original))
        assert alone == ours(original)
