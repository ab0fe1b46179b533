"""Check tables of frequencies against fractions computed another way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import rans, symbol_tables
from compress.errors import TernDamagedError

EIGHTHS = (256, 279, 304, 332, 362, 395, 431, 470)


def slow_frequencies(weights: list[int], bits: int) -> list[int]:
    """Turn bytes of weights into frequencies with fractions, by largest remainder."""
    sizes = [EIGHTHS[(w - 1) % 8] * 2 ** ((w - 1) // 8) if w else 0 for w in weights]
    shares = [Fraction(size << bits, sum(sizes)) for size in sizes]
    found = [max(1, int(share)) if share else 0 for share in shares]
    missing = (1 << bits) - sum(found)
    by_rest = sorted(range(len(shares)), key=lambda s: (int(shares[s]) - shares[s], s))
    for symbol in by_rest[: max(missing, 0)]:
        found[symbol] += 1
    for _ in range(-missing):
        found[found.index(max(found))] -= 1
    return found


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(1, 255), min_size=1, max_size=256),
    st.integers(0, 2**32),
    st.sampled_from([9, 12, 14]),
)
def test_frequencies_are_those_of_the_definition(weights: list[int], seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    row = [w * int(rng.random() < 0.7) for w in weights]
    row[0], row[-1] = weights[0], weights[-1]
    data = bytes([0, len(row) - 1, *row])
    tables, used = symbol_tables.read(data + b"more", contexts=1, symbols=256, bits=bits)
    assert used == len(data)
    expected = slow_frequencies(row + [0] * (256 - len(row)), bits)
    assert tables.frequencies[0].tolist() == expected


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9),
    st.sampled_from([1, 2, 16, 48, 256]),
    st.sampled_from([0, 4]),
    st.integers(0, 2**32),
)
def test_what_is_fitted_is_read(contexts: int, symbols: int, spread: int, seed: int) -> None:
    spread = spread if symbols % 16 == 0 else 0
    rng = np.random.default_rng(seed)
    counts = (rng.lognormal(5, 4, (contexts, symbols)) * rng.integers(0, 2, symbols)).astype("i8")
    counts[:, rng.integers(0, symbols)] += 1
    tables, data = symbol_tables.fit(counts, bits=12, spread=spread)
    again, used = symbol_tables.read(
        data, contexts=contexts, symbols=symbols, bits=12, spread=spread
    )
    assert used == len(data)
    np.testing.assert_array_equal(again.frequencies, tables.frequencies)
    assert (tables.frequencies[counts > 0] > 0).all()
    assert len(data) <= contexts * (2 + (symbols >> spread))


@pytest.mark.parametrize("symbols", [3, 16, 256])
def test_weights_of_a_byte_cost_next_to_nothing(symbols: int) -> None:
    counts = np.random.default_rng(0).integers(2000, 90_000, (4, symbols))
    exact = sum(-(row * np.log2(row / row.sum())).sum() for row in counts)
    tables, _ = symbol_tables.fit(counts, bits=14)
    assert exact <= rans.cost_bits(counts, tables) <= exact + 0.001 * counts.sum()


def test_neighbours_may_share_a_weight() -> None:
    counts = np.repeat([[800, 200, 0, 0]], 4, axis=0).repeat(64, axis=1)
    tables, data = symbol_tables.fit(counts, bits=12, spread=4)
    assert len(data) == 4 * (2 + 8)
    assert tables.frequencies[0, :64].sum() == pytest.approx(4096 * 0.8, rel=0.05)
    assert not tables.frequencies[:, 128:].any()


@pytest.mark.parametrize(
    ("data", "symbols", "spread"),
    [
        (b"", 16, 0),
        (b"\0", 16, 0),
        (b"\0\3\7\7\7", 16, 0),
        (b"\0\x10" + bytes(range(1, 18)), 16, 0),
        (b"\3\2", 16, 0),
        (b"\0\2\0\7\7", 16, 0),
        (b"\0\2\7\7\0", 16, 0),
        (b"\0\0\0", 16, 0),
        (b"\0\1\7\7", 16, 5),
        (b"\0\1\7\7", 16, -1),
        (b"\0\1\7\7", 24, 4),
        (b"\0\1\7\7", 0, 0),
        (b"\0\1\7\7", 512, 0),
    ],
    ids=range(13),
)
def test_what_no_encoder_writes_is_refused(data: bytes, symbols: int, spread: int) -> None:
    with pytest.raises(TernDamagedError):
        symbol_tables.read(data, contexts=1, symbols=symbols, bits=12, spread=spread)


def test_more_symbols_than_slots_are_refused() -> None:
    with pytest.raises(TernDamagedError, match="slots"):
        symbol_tables.read(bytes([0, 255, *[9] * 256]), contexts=1, symbols=256, bits=7)
