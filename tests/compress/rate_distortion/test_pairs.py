"""Check the coder of one plane: every digit comes back, and the trellis runs along."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import loops, rans
from compress.errors import TernDamagedError
from compress.rate_distortion import models, pairs
from compress.rate_distortion.digits import digit_table, magnitudes
from tests.compress.rate_distortion import slow_trellis

Array = NDArray[Any]
loops.load()
#: Machine code and NumPy.
WAYS: list[Callable[[], AbstractContextManager[None]]] = [nullcontext, loops.only_numpy]


def levels_of(seed: int, sizes: list[int], planes: list[int]) -> tuple[Array, Array]:
    """Draw levels of falling classes; give them and their bounds."""
    rng = np.random.default_rng(seed)
    parts = []
    for size, count in zip(sizes, planes, strict=True):
        top = magnitudes(count) - 1
        parts.append(rng.integers(-top, top + 1, 2 * size) * (rng.random(2 * size) < 0.7))
    return np.concatenate(parts).astype(np.int16), 2 * np.cumsum([0, *sizes])


def fitted(levels: Array, states: Array, bounds: Array, planes: list[int]) -> list[Any]:
    """Fit a model to every class."""
    most = magnitudes(max(planes))
    rows = []
    for begin, end in pairwise(bounds.tolist()):
        counts = np.zeros((2, most), np.int64)
        np.add.at(counts, (states[begin:end] & 1, np.abs(levels[begin:end])), 1)
        rows.append(counts)
    return [models.fit(row, count) for row, count in zip(rows, planes, strict=True)]


def finest(
    seed: int, sizes: list[int], planes: list[int], lanes: int
) -> tuple[Array, tuple[Array, Array], pairs.PlaneTables, Array, Array]:
    """Make what the coder of the finest plane takes: digits, what is above, tables, levels, states.

    Above are the coarser values and the bounds of classes.
    """
    levels, bounds = levels_of(seed, sizes, planes)
    states = np.array(slow_trellis.walk(levels.tolist(), lanes), np.uint8)
    fits = fitted(levels, states, bounds, planes)
    table, coarser = digit_table(max(planes))
    above = coarser[0].take(np.abs(levels))
    digits = table[0].take(np.abs(levels))
    digits = np.where((above == 0) & (levels < 0), -digits, digits).astype(np.int16)
    kinds = [min(count, 3) for count in planes]
    tables = pairs.build_tables([fit.digits[0] for fit in fits], kinds, finest=True)
    coarser = (above * np.sign(levels)).astype(np.int16)
    return digits, (coarser, bounds), tables, levels, states


PLANES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(lambda p: sorted(p, reverse=True))


@given(st.integers(0, 999), PLANES, st.integers(1, 9), st.data())
def test_the_finest_plane_comes_back_with_its_states(
    seed: int, planes: list[int], lanes: int, data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=len(planes), max_size=len(planes)))
    lanes = min(lanes, sum(sizes))
    digits, above, tables, levels, states = finest(seed, sizes, planes, lanes)
    coded = pairs.encode(digits, pairs.contexts(tables, *above) + states[::2], tables, lanes=lanes)
    for by in WAYS:
        with by():
            back, before = pairs.decode(coded, above[0].copy(), above[1], tables)
        assert back.tolist() == levels.tolist()
        assert before.tolist() == states[::2].tolist()


@given(st.integers(0, 999), st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(1, 9))
def test_a_coarse_plane_comes_back(seed: int, sizes: list[int], lanes: int) -> None:
    rng = np.random.default_rng(seed)
    count = 2 * sum(sizes)
    above = rng.integers(-3, 4, count).astype(np.int16)
    digits = rng.integers(-1, 2, count).astype(np.int16)
    weights = np.full((2, 3, 3), 1365, np.int64)
    weights[..., 1] = models.ONE - 2 * 1365
    tables = pairs.build_tables([weights] * len(sizes), [2] * len(sizes), finest=False)
    bounds = 2 * np.cumsum([0, *sizes])
    contexts = pairs.contexts(tables, above, bounds)
    coded = pairs.encode(digits, contexts, tables, lanes=min(lanes, sum(sizes)))
    levels = 3 * above + np.where(above < 0, -digits, digits)
    for by in WAYS:
        with by():
            back, before = pairs.decode(coded, above.copy(), bounds, tables)
        assert back.tolist() == levels.tolist()
        assert not len(before)


@pytest.mark.parametrize("by", WAYS)
def test_lanes_may_share_words_by_groups(by: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    digits, above, tables, levels, states = finest(7, [2500, 900], [3, 2], 70)
    contexts = pairs.contexts(tables, *above) + states[::2]
    monkeypatch.setattr(rans, "GROUPED_FROM", 71)
    together = pairs.encode(digits, contexts, tables, lanes=70)
    monkeypatch.setattr(rans, "GROUPED_FROM", 70)
    apart = pairs.encode(digits, contexts, tables, lanes=70)
    assert together.group_words is None
    assert apart.group_words is not None
    assert sorted(apart.words.tolist()) == sorted(together.words.tolist())
    assert apart.words.tolist() != together.words.tolist()
    with by():
        back, before = pairs.decode(apart, above[0].copy(), above[1], tables)
    assert back.tolist() == levels.tolist()
    assert before.tolist() == states[::2].tolist()


def test_pairs_take_hardly_more_than_their_entropy() -> None:
    rng = np.random.default_rng(0)
    count = 40_000
    digits = rng.choice([-1, 0, 1], count, p=[0.1, 0.8, 0.1]).astype(np.int16)
    weights = np.zeros((2, 3, 3), np.int64)
    weights[:] = [410, models.ONE - 820, 410]
    tables = pairs.build_tables([weights], [1], finest=False)
    contexts = pairs.contexts(tables, np.zeros(count, np.int16), np.array([0, count]))
    coded = pairs.encode(digits, contexts, tables, lanes=8)
    _, seen = np.unique(digits, return_counts=True)
    bound = -(seen * np.log2(seen / count)).sum() / 8
    assert bound <= 4 * len(coded.states) + 2 * len(coded.words) <= 1.002 * bound + 8 * 4


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    "broken", ["fewer words", "more words", "low state", "other word", "lanes"]
)
def test_what_no_encoder_gives_is_refused(broken: str, by: Any) -> None:
    digits, above, tables, _, walked = finest(4, [200, 100], [3, 1], 4)
    contexts = pairs.contexts(tables, *above)
    coded = pairs.encode(digits, contexts + walked[::2], tables, lanes=4)
    states, words = coded.states, coded.words
    match broken:
        case "fewer words":
            words = words[:-1]
        case "more words":
            words = np.append(words, words[-1:])
        case "low state":
            states = states.copy()
            states[1] = 65535
        case "other word":
            words = words.copy()
            words[3] ^= 1
        case _:
            states, words = np.full(301, 1 << 16, np.uint32), words[:0]
    with by(), pytest.raises(TernDamagedError):
        pairs.decode(rans.Stream(states, words, None), *above, tables)
