"""Check the vectorised walk through the trellis against one that goes level by level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.rate_distortion import trellis
from tests.compress.rate_distortion import slow_trellis


@given(
    st.lists(st.tuples(*[st.integers(-9, 9)] * 2), min_size=1, max_size=60),
    st.integers(1, 70),
)
def test_walk_and_values_are_those_of_the_drawing(pairs: list[tuple[int, int]], lanes: int) -> None:
    levels = [level for pair in pairs for level in pair]
    array = np.array(levels, np.int16)
    states = trellis.walk(array, lanes=lanes)
    assert states.tolist() == slow_trellis.walk(levels, lanes)
    expected = [slow_trellis.reproduce(k, s) for k, s in zip(levels, states.tolist(), strict=True)]
    assert trellis.values(array, states).tolist() == expected


def test_every_state_has_two_predecessors_of_one_code() -> None:
    arrivals = np.bincount(trellis.NEXT.reshape(-1), minlength=trellis.STATES)
    assert arrivals.tolist() == [2] * trellis.STATES
    for state in range(trellis.STATES):
        assert trellis.NEXT[state].tolist() == list(slow_trellis.MACHINE[state])
        assert trellis.QUANTISER[state] == state % 2


@pytest.mark.parametrize("quantiser", [0, 1])
def test_the_union_of_both_quantisers_is_every_whole_number(quantiser: int) -> None:
    levels = np.arange(-5, 6, dtype=np.int16)
    states = np.full(len(levels), quantiser, np.uint8)
    found = trellis.values(levels, states)
    assert (np.diff(found) > 0).all()
    assert found[5] == 0
    assert set(np.abs(found[found != 0]) % 2) == {quantiser}
