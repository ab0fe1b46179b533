"""Check the entropy coder against a slow decoder that was written from its definition alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import rans
from compress.errors import OptionError, TernDamagedError
from compress.rans import Tables

Array = NDArray[Any]


def slow_decode(
    states: Sequence[int], words: Sequence[int], rows: Sequence[Sequence[int]], *, bits: int
) -> list[int]:
    """Decode one symbol at a time, in whole numbers, with the frequencies of every symbol."""
    lanes, queue = list(states), list(words)
    symbols = []
    for index, row in enumerate(rows):
        lane = index % len(lanes)
        slot = lanes[lane] % (1 << bits)
        symbol, start = 0, 0
        while start + row[symbol] <= slot:
            start += row[symbol]
            symbol += 1
        lanes[lane] = row[symbol] * (lanes[lane] >> bits) + slot - start
        if lanes[lane] < 1 << 16:
            lanes[lane] = lanes[lane] << 16 | queue.pop(0)
        symbols.append(symbol)
    if queue or set(lanes) != {1 << 16}:
        raise ValueError("the stream does not end where it should")
    return symbols


def random_tables(contexts: int, symbols: int, *, bits: int = 12, seed: int = 0) -> Tables:
    """Make frequencies that are uneven and partly zero."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, (1 << bits) + 1, (contexts, symbols - 1)) // 8 * 8, axis=1)
    ends = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1 << bits)))
    return Tables(bits, np.diff(ends, axis=1).astype(np.uint32))


def random_symbols(tables: Tables, size: int, seed: int = 0) -> tuple[Array, Array]:
    """Draw contexts, and symbols that can come in them."""
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, tables.contexts, size).astype(np.uint16)
    slots = rng.integers(0, 1 << tables.bits, size)
    ends = np.cumsum(tables.frequencies, axis=1)
    symbols = (ends[contexts] <= slots[:, None]).sum(axis=1)
    return symbols.astype(np.uint8), contexts


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [64, 65, 127, 1009])
@pytest.mark.parametrize(("contexts", "symbols", "bits"), [(1, 2, 8), (3, 17, 12), (20, 256, 14)])
def test_streams_are_what_the_definition_says(
    lanes: int, size: int, contexts: int, symbols: int, bits: int
) -> None:
    tables = random_tables(contexts, symbols, bits=bits, seed=size)
    values, rows = random_symbols(tables, size, seed=lanes)
    states, words = rans.encode(values, rows, tables, lanes=lanes)
    assert states.dtype == np.uint32
    assert len(states) == lanes
    frequencies = [tables.frequencies[row].tolist() for row in rows]
    assert slow_decode(states.tolist(), words.tolist(), frequencies, bits=bits) == values.tolist()
    np.testing.assert_array_equal(rans.decode(states, words, rows, tables, count=size), values)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 600),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(2, 256),
    st.integers(0, 2**32),
)
def test_random_streams_round_trip(
    size: int, lanes: int, contexts: int, symbols: int, seed: int
) -> None:
    tables = random_tables(contexts, symbols, seed=seed)
    values, rows = random_symbols(tables, size, seed=seed)
    states, words = rans.encode(values, rows, tables, lanes=min(lanes, size))
    np.testing.assert_array_equal(rans.decode(states, words, rows, tables, count=size), values)


@pytest.mark.parametrize("bits", [1, 2, 12, 15, 16])
def test_every_precision_codes(bits: int) -> None:
    tables = Tables(bits, np.array([[1, (1 << bits) - 1]], np.uint32))
    values = np.tile(np.array([0, 1, 1, 1, 0], np.uint8), 200)
    states, words = rans.encode(values, None, tables, lanes=3)
    np.testing.assert_array_equal(rans.decode(states, words, None, tables, count=1000), values)


def test_the_size_is_close_to_the_entropy_of_every_context() -> None:
    tables = random_tables(16, 33, bits=14)
    values, rows = random_symbols(tables, 200_000)
    lanes = 32
    words = rans.encode(values, rows, tables, lanes=lanes)[1]
    counts = np.zeros(tables.frequencies.shape)
    np.add.at(counts, (rows, values), 1)
    shares = np.where(tables.frequencies > 0, tables.frequencies, 1) / (1 << 14)
    bits = -(counts * np.log2(shares)).sum()
    assert rans.cost_bits(counts, tables) == pytest.approx(bits)
    assert bits <= 32 * lanes + 16 * len(words) <= bits * 1.0005 + 32 * lanes


def test_certain_symbols_cost_nothing_between_others() -> None:
    tables = Tables(12, np.array([[0, 4096, 0], [2048, 0, 2048]], np.uint32))
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, 10_000).astype(np.uint8)
    values = np.where(rows == 0, 1, 2 * rng.integers(0, 2, 10_000)).astype(np.uint8)
    states, words = rans.encode(values, rows, tables, lanes=4)
    assert 16 * len(words) <= np.count_nonzero(rows) + 64
    np.testing.assert_array_equal(rans.decode(states, words, rows, tables, count=10_000), values)


def test_a_stream_of_certain_symbols_takes_no_lanes() -> None:
    tables = Tables(12, np.array([[0, 4096], [4096, 0]], np.uint32))
    rows = np.array([0, 1, 1, 0], np.uint8)
    states, words = rans.encode(np.array([1, 0, 0, 1], np.uint8), rows, tables, lanes=0)
    assert not len(states)
    assert not len(words)
    assert rans.decode(states, words, rows, tables, count=4).tolist() == [1, 0, 0, 1]
    assert rans.decode(states, words, None, tables, count=3).tolist() == [1, 1, 1]
    with pytest.raises(OptionError, match="lanes"):
        rans.encode(np.array([1, 1, 0, 1], np.uint8), rows, tables, lanes=0)


def test_nothing_takes_nothing() -> None:
    tables, empty = random_tables(2, 3), np.empty(0, np.uint8)
    states, words = rans.encode(empty, None, tables, lanes=0)
    assert rans.decode(states, words, None, tables, count=0).tolist() == []


@pytest.mark.parametrize(
    ("symbols", "contexts", "lanes"),
    [
        ([0, 1, 3], None, 1),
        ([0, 1, 2], [0, 0, 2], 1),
        ([0, 1, 2], [0, 0], 1),
        ([0, 1, 2], None, 4),
        ([0, 1, 2], None, -1),
        ([0, 1, 2], [1, 1, 1], 2),
    ],
    ids=["symbol", "context", "contexts", "lanes", "negative lanes", "no frequency"],
)
def test_what_cannot_be_coded_is_refused(
    symbols: list[int], contexts: list[int] | None, lanes: int
) -> None:
    tables = Tables(4, np.array([[4, 4, 8], [8, 8, 0]], np.uint32))
    rows = None if contexts is None else np.array(contexts, np.uint8)
    with pytest.raises(OptionError):
        rans.encode(np.array(symbols, np.uint8), rows, tables, lanes=lanes)


@pytest.mark.parametrize(
    ("bits", "frequencies"),
    [
        (0, [[1]]),
        (17, [[1 << 17]]),
        (4, [[8, 7]]),
        (4, [[8, 8], [8, 9]]),
        (4, [8, 8]),
        (4, np.empty((0, 2))),
        (4, np.empty((1, 0))),
        (9, np.full((1, 512), 1)),
        (16, [[1 << 16, 0]]),
        (16, np.full((513, 2), 1 << 15)),
    ],
    ids=range(10),
)
def test_tables_that_cannot_be_are_refused(bits: int, frequencies: object) -> None:
    with pytest.raises(TernDamagedError):
        Tables(bits, np.array(frequencies, np.uint32))


TABLES = random_tables(4, 9)
SYMBOLS, CONTEXTS = random_symbols(TABLES, 500)
STATES, WORDS = rans.encode(SYMBOLS, CONTEXTS, TABLES, lanes=8)


@pytest.mark.parametrize(
    ("states", "words", "contexts", "count"),
    [
        (STATES, WORDS[:-1], CONTEXTS, 500),
        (STATES, np.append(WORDS, WORDS[:1]), CONTEXTS, 500),
        (STATES, WORDS[::-1], CONTEXTS, 500),
        (STATES[::-1], WORDS, CONTEXTS, 500),
        (STATES[:4], WORDS, CONTEXTS, 500),
        (STATES[:0], WORDS, CONTEXTS, 500),
        (STATES[:0], WORDS[:0], CONTEXTS, 500),
        (STATES & 0xFFFF, WORDS, CONTEXTS, 500),
        (STATES, WORDS, CONTEXTS[:-1], 499),
        (STATES, WORDS, CONTEXTS, 499),
        (STATES, WORDS, CONTEXTS + 1, 500),
        (STATES, WORDS, CONTEXTS[:5], 5),
        (STATES, WORDS, None, 500),
    ],
    ids=range(13),
)
def test_lying_streams_are_refused(
    states: Array, words: Array, contexts: Array | None, count: int
) -> None:
    with pytest.raises(TernDamagedError):
        rans.decode(states, words, contexts, TABLES, count=count)


def test_decoding_leaves_its_input_alone() -> None:
    states = STATES.copy()
    rans.decode(states, WORDS, CONTEXTS, TABLES, count=500)
    np.testing.assert_array_equal(states, STATES)


def test_the_number_of_lanes_grows_with_the_payload() -> None:
    assert rans.choose_lanes(0, 3) == 3
    assert rans.choose_lanes(100, 1000) == rans.MIN_LANES
    assert rans.choose_lanes(1 << 20, 1 << 22) == (1 << 20) // rans.PAYLOAD_PER_LANE
    assert rans.choose_lanes(1 << 30, 1 << 30) == rans.MAX_LANES
