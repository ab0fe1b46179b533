"""Check that trits and symbols map onto each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.ternary import SYMBOL_TRITS, SYMBOLS, pack, symbol_count, unpack


def test_every_symbol_is_its_trits_in_base_three() -> None:
    for symbol in range(SYMBOLS):
        digits = [int(trit) + 1 for trit in SYMBOL_TRITS[symbol]]
        assert sum(digit * 3**place for place, digit in enumerate(digits)) == symbol


def test_all_symbols_differ() -> None:
    rows = {tuple(row) for row in SYMBOL_TRITS.tolist()}
    assert rows == set(itertools.product((-1, 0, 1), repeat=5))


@pytest.mark.parametrize(
    ("trits", "symbols"),
    [
        ([], []),
        ([0, 0, 0, 0, 0], [121]),
        ([1, 1, 1, 1, 1], [242]),
        ([-1, -1, -1, -1, -1], [0]),
        ([1], [122]),
        ([0, 0, 0, 0, -1], [40]),
        ([0, 0, 0, 0, 0, -1], [121, 120]),
    ],
)
def test_known_symbols(trits: list[int], symbols: list[int]) -> None:
    assert pack(np.array(trits, np.int8)).tolist() == symbols


@pytest.mark.parametrize("length", [0, 1, 4, 5, 6, 9, 10, 11, 997])
def test_lengths_round_trip(length: int) -> None:
    trits = np.random.default_rng(length).integers(-1, 2, length).astype(np.int8)
    symbols = pack(trits)
    assert len(symbols) == symbol_count(length) == (length + 4) // 5
    assert symbols.dtype == np.uint8
    np.testing.assert_array_equal(unpack(symbols, length), trits)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=60))
def test_anything_round_trips(values: list[int]) -> None:
    trits = np.array(values, np.int8)
    assert unpack(pack(trits), len(trits)).tolist() == values


def test_packing_leaves_its_input_alone() -> None:
    trits = np.array([1, -1, 0, 1, 1, 0, -1], np.int8)
    before = trits.copy()
    pack(trits)
    np.testing.assert_array_equal(trits, before)
