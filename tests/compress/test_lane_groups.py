"""Check the layout in which every 32 lanes have words of their own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import entropy, frequencies, rans, ternary
from compress.errors import TernDamagedError
from tests.compress.kernels.trit_segments import (
    LAYOUTS,
    head_of,
    random_trits,
    resealed,
    states_at,
    with_bytes,
    words_at,
)

GROUPED = LAYOUTS["grouped"]
SIZES = [0, 1, 5, 39, 40, 41, 159, 160, 161, 1009, 20_011]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_both_layouts_give_the_trits_back(size: int, density: float) -> None:
    trits = random_trits(size, density, seed=size)
    for encode in LAYOUTS.values():
        np.testing.assert_array_equal(entropy.decode_segment(encode(trits)), trits)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 4000), st.floats(0, 1), st.integers(0, 2**32))
def test_any_trits_come_back(size: int, density: float, seed: int) -> None:
    trits = random_trits(size, density, seed)
    segment = GROUPED(trits)
    np.testing.assert_array_equal(entropy.decode_segment(segment), trits)


def slow_decode(segment: bytes) -> list[int]:
    """Decode symbols one lane and one group at a time, from the description of the layout alone."""
    head = head_of(segment)
    lanes, bits = head["lanes"], head["bits"] & 0x7F
    at = 18 + head["model_bytes"]
    widths = frequencies.read(head["model"], bits, segment[18:at]).frequencies.tolist()
    slots = [(s, place) for s, width in enumerate(widths) for place in range(width)]
    states = list(struct.unpack_from(f"<{lanes}I", segment, at))
    groups = -(-lanes // 32)
    counts = struct.unpack_from(f"<{groups}I", segment, at + 4 * lanes)
    words = struct.unpack_from(f"<{head['words']}H", segment, at + 4 * lanes + 4 * groups)
    symbols = [0] * -(-head["trits"] // 5)
    for group in range(groups):
        stream = iter(words[sum(counts[:group]) : sum(counts[: group + 1])])
        members = range(32 * group, min(32 * group + 32, lanes))
        for begin in range(0, len(symbols), lanes):
            for lane in members:
                if begin + lane < len(symbols):
                    x = states[lane]
                    symbol, place = slots[x % (1 << bits)]
                    x = (x >> bits) * widths[symbol] + place
                    states[lane] = x if x >= 1 << 16 else x << 16 | next(stream)
                    symbols[begin + lane] = symbol
        assert next(stream, None) is None
    assert set(states) == {1 << 16}
    return symbols


@pytest.mark.parametrize("size", [200, 20_011, 300_007])
def test_a_slow_reader_of_the_description_agrees(size: int) -> None:
    trits = random_trits(size, 0.4)
    segment = GROUPED(trits)
    assert slow_decode(segment) == ternary.pack(trits).tolist()


def test_groups_cost_next_to_nothing() -> None:
    trits = random_trits(1_000_003, 0.2)
    shared, grouped = LAYOUTS["shared"](trits), GROUPED(trits)
    groups = -(-head_of(shared)["lanes"] // 32)
    assert groups > 5
    assert len(grouped) == len(shared) + 4 * groups
    assert len(grouped) < 1.0005 * len(shared)


def test_the_words_are_those_of_the_shared_layout() -> None:
    trits = random_trits(300_007, 0.4)
    shared, grouped = LAYOUTS["shared"](trits), GROUPED(trits)
    streams = [np.frombuffer(s[words_at(s) :], "<u2") for s in (shared, grouped)]
    np.testing.assert_array_equal(np.sort(streams[0]), np.sort(streams[1]))
    assert (streams[0] != streams[1]).any()


def test_large_segments_are_grouped_and_small_ones_are_not() -> None:
    small, large = random_trits(100_007, 0.5), random_trits(4_000_037, 0.5)
    assert not entropy.read_head(entropy.encode_segment(small)).grouped
    segment = entropy.encode_segment(large)
    head = entropy.read_head(segment)
    assert head.grouped
    assert head.lanes >= 64
    assert head.size_bytes == len(segment)
    np.testing.assert_array_equal(entropy.decode_segment(segment), large)
    assert entropy.estimate_bytes(large) == pytest.approx(len(segment), rel=0.002)


def test_as_many_groups_as_lanes_need() -> None:
    tables = rans.Tables(1, np.array([[1, 1]], np.uint32))
    symbols = np.arange(200, dtype=np.uint8) & 1
    states, words = rans.encode(symbols, None, tables, lanes=33)
    for counts in ([len(words)], [len(words), 0, 0]):
        with pytest.raises(TernDamagedError, match="groups"):
            rans.decode(
                states, words, None, tables, count=200, group_words=np.array(counts, np.uint32)
            )


SMALL = GROUPED(random_trits(1000))


@pytest.mark.parametrize("at", range(len(SMALL)))
def test_every_changed_byte_is_noticed(at: int) -> None:
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(SMALL[:at] + bytes([SMALL[at] ^ 0x40]) + SMALL[at + 1 :])


@pytest.mark.parametrize("length", range(0, len(SMALL), 5))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(SMALL[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"trits": 990},
        {"trits": 0},
        {"trits": 0xFFFFFFFF},
        {"lanes": 0},
        {"lanes": 33},
        {"lanes": 65535},
        {"bits": 12},
        {"bits": 0x80},
        {"bits": 0x8D},
        {"model": 7},
        {"model_bytes": 13},
        {"words": 0},
        {"words": 1 << 31},
    ],
)
def test_lies_with_a_right_checksum_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(resealed(SMALL, **changes))


LARGE = GROUPED(random_trits(300_007, 0.5))


def counts_at(segment: bytes) -> int:
    """Find where the counts of the groups' words begin."""
    return states_at(segment) + 4 * head_of(segment)["lanes"]


@pytest.mark.parametrize(("first", "second"), [(1, -1), (-1, 1), (100, -100), (2**31, 2**31)])
def test_words_moved_between_groups_are_noticed(first: int, second: int) -> None:
    at = counts_at(LARGE)
    one, two = struct.unpack_from("<2I", LARGE, at)
    moved = struct.pack("<2I", (one + first) % 2**32, (two + second) % 2**32)
    with pytest.raises(TernDamagedError):
        entropy.decode_segment(with_bytes(LARGE, at, moved))


def test_words_left_over_are_noticed() -> None:
    """One word more, honestly declared for the last group, which needs it for nothing."""
    words = head_of(LARGE)["words"]
    at = words_at(LARGE) - 4
    (count,) = struct.unpack_from("<I", LARGE, at)
    longer = LARGE[:at] + struct.pack("<I", count + 1) + LARGE[at + 4 :] + b"\1\2"
    with pytest.raises(TernDamagedError, match="end"):
        entropy.decode_segment(resealed(longer, words=words + 1))


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(TernDamagedError, match="add up"):
        entropy.decode_segment(with_bytes(LARGE, counts_at(LARGE), bytes(4)))


def test_states_out_of_range_are_refused() -> None:
    with pytest.raises(TernDamagedError, match="state"):
        entropy.decode_segment(with_bytes(LARGE, states_at(LARGE), bytes(4)))
