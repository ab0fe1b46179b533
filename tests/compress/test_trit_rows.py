"""Check rows of bit planes: what is packed comes back, and nothing lies beyond the last trit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress.errors import OptionError
from compress.trit_rows import (
    BITS_PER_WORD,
    pack_rows,
    require_same_columns,
    stack,
    unpack_rows,
    word_count,
)

SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 200))
TRITS = SHAPES.flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(-1, 1)))


@given(TRITS)
def test_what_is_packed_comes_back(trits: np.ndarray) -> None:
    rows = pack_rows(trits)
    assert (rows.rows, rows.columns) == trits.shape
    np.testing.assert_array_equal(unpack_rows(rows), trits)


@given(TRITS)
def test_every_bit_stands_for_its_trit(trits: np.ndarray) -> None:
    rows = pack_rows(trits)
    for row, (nonzero, negative) in enumerate(zip(rows.nonzero, rows.negative, strict=True)):
        present = sum(int(word) << 64 * at for at, word in enumerate(nonzero))
        minus = sum(int(word) << 64 * at for at, word in enumerate(negative))
        assert present == sum(1 << at for at, trit in enumerate(trits[row]) if trit)
        assert minus == sum(1 << at for at, trit in enumerate(trits[row]) if trit < 0)


@given(TRITS)
def test_packing_again_gives_the_same_words(trits: np.ndarray) -> None:
    once = pack_rows(trits)
    twice = pack_rows(unpack_rows(once))
    assert once.nonzero.tobytes() == twice.nonzero.tobytes()
    assert once.negative.tobytes() == twice.negative.tobytes()


@pytest.mark.parametrize(
    ("columns", "words"), [(1, 1), (63, 1), (64, 1), (65, 2), (128, 2), (129, 3)]
)
def test_words_are_as_many_as_needed(columns: int, words: int) -> None:
    assert word_count(columns) == words
    rows = pack_rows(np.ones((2, columns), np.int8))
    assert rows.words == words
    assert rows.size_bytes == 2 * 2 * 8 * words


def test_columns_of_a_matrix_are_packed_as_they_lie() -> None:
    trits = np.random.default_rng(0).integers(-1, 2, (70, 3)).astype(np.int8)
    np.testing.assert_array_equal(unpack_rows(pack_rows(trits.T)), trits.T)
    np.testing.assert_array_equal(unpack_rows(pack_rows(trits[::2])), trits[::2])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_stacks_keep_their_order(heights: list[int]) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(-1, 2, (height, 67)).astype(np.int8) for height in heights]
    stacked = stack([pack_rows(part) for part in parts])
    np.testing.assert_array_equal(unpack_rows(stacked), np.concatenate(parts))


def test_a_part_is_some_of_the_rows() -> None:
    trits = np.random.default_rng(0).integers(-1, 2, (6, 67)).astype(np.int8)
    part = pack_rows(trits).part(2, 5)
    assert part.rows == 3
    np.testing.assert_array_equal(unpack_rows(part), trits[2:5])


def test_a_flat_view_keeps_padding_between_rows() -> None:
    trits = np.ones((3, 65), np.int8)
    flat = pack_rows(trits).flat()
    assert (flat.rows, flat.columns) == (1, 3 * 2 * BITS_PER_WORD)
    assert int(np.bitwise_count(flat.nonzero).sum()) == trits.size


def test_other_lengths_are_named() -> None:
    parts = [pack_rows(np.ones((1, columns), np.int8)) for columns in (64, 64, 65)]
    require_same_columns(parts[:2])
    with pytest.raises(OptionError) as caught:
        require_same_columns(parts)
    assert (caught.value.expected, caught.value.actual) == ("64", "65")
