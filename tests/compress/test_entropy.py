"""Check that segments come back exactly, at the cost that entropy allows."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import entropy
from compress.errors import TernDamagedError
from compress.measure import shannon_bits


def random_trits(size: int, density: float, seed: int = 0) -> NDArray[Any]:
    """Make independent trits."""
    rng = np.random.default_rng(seed)
    values = rng.random(size)
    return np.where(values < density / 2, -1, np.where(values < density, 1, 0)).astype(np.int8)


def bound_bytes(trits: NDArray[Any]) -> float:
    """Give the Shannon bound of trits."""
    return shannon_bits(np.bincount(trits + 1, minlength=3)) / 8


LENGTHS = [0, 1, 2, 4, 5, 6, 39, 40, 41, 44, 45, 46, 199, 200, 201, 1009, 65_537]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_lengths_round_trip(length: int, density: float) -> None:
    trits = random_trits(length, density, seed=length)
    segment = entropy.encode_segment(trits)
    np.testing.assert_array_equal(entropy.decode_segment(segment), trits)
    assert entropy.read_head(segment).size_bytes == len(segment)


@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("symbols", [1, 7, 8, 9, 63, 64, 65, 999, 1000, 1001])
def test_any_number_of_lanes_codes_any_number_of_symbols(
    lanes: int, symbols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lanes > symbols:
        pytest.skip("never more lanes than symbols")
    monkeypatch.setattr(entropy, "_choose_lanes", lambda *_: lanes)
    trits = random_trits(5 * symbols, 0.4, seed=lanes)
    segment = entropy.encode_segment(trits)
    assert entropy.read_head(segment).lanes == lanes
    np.testing.assert_array_equal(entropy.decode_segment(segment), trits)


@pytest.mark.parametrize(
    "trits",
    [
        np.ones(1000),
        -np.ones(7),
        np.zeros(100_000),
        np.tile([1, -1], 5000),
        np.tile([1, -1, 1, -1, 0, 0, 1], 3001),
        np.concatenate([np.zeros(99_999), [1]]),
        np.concatenate([[-1], np.zeros(99_999)]),
        np.concatenate([np.ones(5000), -np.ones(5000), np.zeros(5000)]),
        np.repeat([0, 1, -1, 0], 2500),
    ],
    ids=["ones", "minus", "zeros", "pair", "period", "last", "first", "blocks", "runs"],
)
def test_streams_with_structure_round_trip(trits: NDArray[Any]) -> None:
    values = trits.astype(np.int8)
    np.testing.assert_array_equal(entropy.decode_segment(entropy.encode_segment(values)), values)


def test_every_symbol_once() -> None:
    from compress.ternary import SYMBOL_TRITS

    trits = SYMBOL_TRITS.reshape(-1)
    np.testing.assert_array_equal(entropy.decode_segment(entropy.encode_segment(trits)), trits)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 3000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_random_streams_round_trip(size: int, density: float, positive: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(size) < positive, 1, -1)
    trits = np.where(rng.random(size) < density, signs, 0).astype(np.int8)
    np.testing.assert_array_equal(entropy.decode_segment(entropy.encode_segment(trits)), trits)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=200))
def test_small_streams_round_trip(values: list[int]) -> None:
    trits = np.array(values, np.int8)
    assert entropy.decode_segment(entropy.encode_segment(trits)).tolist() == values


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize(("size", "factor"), [(73_728, 1.02), (1_000_003, 1.01)])
def test_size_is_close_to_the_shannon_bound(density: float, size: int, factor: float) -> None:
    trits = random_trits(size, density)
    assert len(entropy.encode_segment(trits)) <= factor * bound_bytes(trits) + 64


def test_equal_input_gives_equal_bytes() -> None:
    trits = random_trits(10_000, 0.2)
    assert entropy.encode_segment(trits) == entropy.encode_segment(trits.copy())


def test_the_estimate_is_close() -> None:
    for density in (0.0, 0.05, 0.5, 1.0):
        trits = random_trits(50_000, density)
        actual = len(entropy.encode_segment(trits))
        assert entropy.estimate_bytes(trits) == pytest.approx(actual, rel=0.02, abs=16)
    assert entropy.estimate_bytes(np.empty(0, np.int8)) == entropy.HEAD_BYTES


def test_constant_streams_take_no_words() -> None:
    segment = entropy.encode_segment(np.zeros(1 << 20, np.int8))
    assert len(segment) < 64
    assert entropy.read_head(segment).lanes == 0


def resealed(segment: bytes, **changes: int) -> bytes:
    """Change fields of a segment's head and make its checksum right again."""
    names = ("crc", "trits", "lanes", "bits", "model", "model_bytes", "words")
    layout = struct.Struct("<IIHBBHI")
    fields = dict(zip(names, layout.unpack(segment[: layout.size]), strict=True)) | changes
    body = layout.pack(*fields.values())[4:] + segment[layout.size :]
    return zlib.crc32(body).to_bytes(4, "little") + body


SEGMENT = entropy.encode_segment(random_trits(2000, 0.3))


@pytest.mark.parametrize("at", range(len(SEGMENT)))
def test_every_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(SEGMENT)
    changed[at] ^= 0x40
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(bytes(changed))


@pytest.mark.parametrize("length", range(0, len(SEGMENT), 7))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(SEGMENT[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"trits": 2001},
        {"trits": 1990},
        {"trits": 0xFFFFFFFF},
        {"trits": (1 << 24) + 1},
        {"trits": 5},
        {"lanes": 0},
        {"lanes": 7},
        {"lanes": 65535},
        {"bits": 0},
        {"bits": 12},
        {"bits": 255},
        {"model": 1},
        {"model": 9},
        {"model_bytes": 13},
        {"words": 0},
        {"words": 1 << 31},
    ],
)
def test_lies_with_a_right_checksum_are_refused(changes: dict[str, int]) -> None:
    original = dict(
        zip(
            ("crc", "trits", "lanes", "bits", "model", "model_bytes", "words"),
            struct.unpack("<IIHBBHI", SEGMENT[:18]),
            strict=True,
        )
    )
    if all(original[name] == value for name, value in changes.items()):
        pytest.skip("the truth")
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(resealed(SEGMENT, **changes))


def test_states_out_of_range_are_refused() -> None:
    head = entropy.read_head(SEGMENT)
    at = entropy.HEAD_BYTES + head.model_bytes
    changed = SEGMENT[:at] + bytes(4) + SEGMENT[at + 4 :]
    with pytest.raises(TernDamagedError, match="state"):
        entropy.decode_segment(resealed(changed))


def test_words_left_over_are_refused() -> None:
    words = entropy.read_head(SEGMENT).words
    with pytest.raises(TernDamagedError, match="end"):
        entropy.decode_segment(resealed(SEGMENT + b"\1\2", words=words + 1))


def test_changed_words_are_noticed_even_with_a_right_checksum() -> None:
    changed = bytearray(SEGMENT)
    changed[-30] ^= 1
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(resealed(bytes(changed)))


def test_lanes_for_a_constant_model_are_refused() -> None:
    constant = entropy.encode_segment(np.zeros(100, np.int8))
    states = np.full(4, 1 << 16, "<u4").tobytes()
    with pytest.raises(TernDamagedError, match="lanes"):
        entropy.decode_segment(resealed(constant + states, lanes=4))


def test_a_full_segment_round_trips() -> None:
    trits = random_trits(entropy.MAX_SEGMENT_TRITS, 0.02)
    segment = entropy.encode_segment(trits)
    assert len(segment) <= 1.012 * bound_bytes(trits)
    np.testing.assert_array_equal(entropy.decode_segment(segment), trits)
