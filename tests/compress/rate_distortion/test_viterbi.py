"""Check that no walk through the trellis is cheaper than the one that the search gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.rate_distortion import viterbi
from tests.compress.rate_distortion import slow_trellis

Array = NDArray[Any]
LARGEST = 2


def prices(rng: np.random.Generator, classes: int) -> Array:
    """Make bits that grow with the magnitude, as an entropy coder's do."""
    steps = rng.uniform(0.2, 3.0, size=(classes, 2, LARGEST + 1))
    return np.cumsum(steps, axis=2).astype(np.float32)


def price_of(bits: Array, classes: Array, per_bit: float) -> Any:
    """Give the bits of a level as the slow cost wants them."""
    return lambda at, quantiser, size: per_bit * float(bits[classes[at], quantiser, size])


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_cheaper(seed: int, lanes: int) -> None:
    rng = np.random.default_rng(100 * lanes + seed)
    count = 6 if seed % 3 else 4
    # within what these levels reach, so that the two levels around a value are the best ones
    targets = rng.uniform(-3.2, 3.2, count).astype(np.float32)
    classes = rng.integers(0, 2, count).astype(np.uint8)
    weights = rng.uniform(0.3, 3.0, count).astype(np.float32) if seed % 2 else None
    bits, per_bit = prices(rng, 2), float(rng.uniform(0.05, 1.0))
    price = viterbi.Price(bits, per_bit, np.full(2, LARGEST, np.int16))
    found = viterbi.search(targets, classes, price, lanes=lanes, weights=weights)
    counted = [1.0] * count if weights is None else weights.tolist()
    sides = (targets.tolist(), lanes, price_of(bits, classes, per_bit), counted)
    best = min(slow_trellis.cost(k, *sides) for k in slow_trellis.all_levels(count, LARGEST))
    assert slow_trellis.cost(found.tolist(), *sides) == pytest.approx(best, rel=1e-5)


def test_levels_beyond_the_largest_saturate() -> None:
    bits = np.zeros((2, 2, 14), np.float32)
    price = viterbi.Price(bits, 0.01, np.array([1, 13], np.int16))
    targets = np.array([40.0, -40.0, 40.0, -40.0, 9.0, -9.0], np.float32)
    classes = np.array([0, 0, 0, 0, 1, 1], np.uint8)
    levels = viterbi.search(targets, classes, price, lanes=1)
    assert np.abs(levels[:4]).max() == 1
    assert (np.sign(levels) == np.sign(targets)).all()
    assert np.abs(levels[4:]).min() >= 4


def test_long_walks_do_not_lose_precision() -> None:
    """The total is brought down now and then; a float32 that grew for ever would not tell 0.1."""
    rng = np.random.default_rng(0)
    count = 20_000
    targets = rng.normal(0, 4, count).astype(np.float32)
    bits = np.broadcast_to(np.arange(14, dtype=np.float32) / 4, (1, 2, 14)).copy()
    price = viterbi.Price(bits, 0.35, np.full(1, 13, np.int16))
    classes = np.zeros(count, np.uint8)
    whole = viterbi.search(targets, classes, price, lanes=1)
    sides = (1, price_of(bits, classes, 0.35))
    last = slow_trellis.cost(whole.tolist(), targets.tolist(), *sides, [1.0] * count)
    parts = 0.0
    for begin in range(0, count, 500):
        piece = viterbi.search(
            targets[begin : begin + 500], classes[begin : begin + 500], price, lanes=1
        )
        part = targets[begin : begin + 500].tolist()
        parts += slow_trellis.cost(piece.tolist(), part, *sides, [1.0] * 500)
    # every piece starts from state 0, which only costs
    assert last <= parts


def test_free_bits_leave_the_error_of_a_trellis() -> None:
    """A trellis of eight states errs less than a quantiser of half its step would alone."""
    rng = np.random.default_rng(1)
    targets = rng.uniform(-8, 8, 8000).astype(np.float32)
    price = viterbi.Price(np.zeros((1, 2, 41), np.float32), 1.0, np.full(1, 40, np.int16))
    levels = viterbi.search(targets, np.zeros(8000, np.uint8), price, lanes=4)
    states = slow_trellis.walk(levels.tolist(), 4)
    said = [slow_trellis.reproduce(k, s) for k, s in zip(levels.tolist(), states, strict=True)]
    error = float(np.square(np.array(said) - targets).mean())
    assert error < 4 / 12 * 0.85
