"""Check that a segment decodes to exactly what was chosen, or to its coarser planes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.errors import TernDamagedError
from compress.rate_distortion import segment
from compress.rate_distortion.layout import Component, Layout, arrange
from tests.compress.rate_distortion import slow_trellis

Array = NDArray[Any]


def targets_of(seed: int, components: list[Component]) -> tuple[Array, Layout]:
    """Draw Gaussian vectors of the strengths that the components say."""
    rng = np.random.default_rng(seed)
    layout = arrange(components)
    targets = np.zeros(layout.size, np.float32)
    for component, starts in zip(components, layout.starts, strict=True):
        for start, size in zip(starts, component.sizes, strict=True):
            rms = 2 ** (component.energy / 2) / math.sqrt(size)
            targets[start : start + size] = rng.normal(0, rms, size)
    return targets, layout


COMPONENTS = st.lists(
    st.builds(
        Component,
        module=st.just(0),
        energy=st.integers(-6, 16),
        sizes=st.one_of(
            st.tuples(st.integers(1, 60)), st.tuples(st.integers(1, 60), st.integers(1, 60))
        ),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40)
@given(st.integers(0, 99), COMPONENTS, st.booleans())
def test_all_planes_give_the_values_of_the_levels(
    seed: int, components: list[Component], weighted: bool
) -> None:
    targets, layout = targets_of(seed, components)
    weights = np.linspace(0.5, 2, layout.size).astype(np.float32) if weighted else None
    coded = segment.encode(targets, layout, weights=weights)
    assert len(coded.planes) == len(layout.classes)
    assert len(coded.blocks) == max(coded.planes)
    back = segment.decode(coded.blocks, layout, coded.planes)
    assert back.dtype == np.float32
    assert back.tolist() == coded.values.tolist()
    states = coded.states.tolist()
    slow = [
        slow_trellis.reproduce(k, s) for k, s in zip(coded.levels.tolist(), states, strict=True)
    ]
    assert back.tolist() == slow


def without_fine_planes(level: int, plane: int) -> int:
    """Drop the finest digits of a level written in balanced ternary."""
    digits = []
    for _ in range(plane):
        digit = (level + 1) % 3 - 1
        digits.append(digit)
        level = (level - digit) // 3
    return int(level * 3**plane)


@pytest.mark.parametrize("seed", [0, 1])
def test_fewer_planes_give_truncated_levels_times_kappas(seed: int) -> None:
    components = [Component(0, 18, (60, 80)), Component(0, 14, (60, 80)), Component(0, 6, (50,))]
    targets, layout = targets_of(seed, components)
    coded = segment.encode(targets, layout)
    most = len(coded.blocks)
    assert most >= 3
    before = math.inf
    for count in range(1, most):
        plane = most - count
        back = segment.decode(coded.blocks[:count], layout, coded.planes)
        known = np.array([2 * without_fine_planes(k, plane) for k in coded.levels.tolist()])
        bounds = layout.bounds
        for begin, end, planes in zip(bounds[:-1], bounds[1:], coded.planes, strict=True):
            part, said = known[begin:end], back[begin:end]
            if planes <= plane or not part.any():
                assert not said.any()
                continue
            # the best multiple by least squares, to within what a byte can tell
            whole = coded.values[begin:end].astype(np.float64)
            best = float(part @ whole) / float(part @ part)
            assert said == pytest.approx(part * best, rel=0.5 / 128 / best + 1e-6)
        error = float(np.square(back - coded.values).sum())
        assert error < before
        before = error


def test_entropy_is_what_the_blocks_take() -> None:
    rng_components = [Component(0, 10 - n, (3000, 3000)) for n in range(4)]
    targets, layout = targets_of(5, rng_components)
    coded = segment.encode(targets, layout)
    taken = 8 * sum(len(block) for block in coded.blocks)
    assert coded.entropy_bits <= taken <= 1.02 * coded.entropy_bits + 800


def test_limited_planes_saturate() -> None:
    targets, layout = targets_of(0, [Component(0, 30, (40, 40))])
    coded = segment.encode(targets, layout, max_planes=2)
    assert max(coded.planes) == 2
    assert np.abs(coded.levels).max() == 4
    assert (np.sign(coded.levels) == np.sign(targets))[np.abs(targets) > 8].all()


def test_the_same_twice() -> None:
    targets, layout = targets_of(7, [Component(0, 9, (70, 50))])
    one, two = (segment.encode(targets, layout) for _ in range(2))
    assert one.blocks == two.blocks


def test_a_heavier_weight_means_a_smaller_error() -> None:
    targets, layout = targets_of(3, [Component(0, 12, (4000, 4000))])
    weights = np.ones(layout.size, np.float32)
    heavy = np.arange(layout.size) % 2 == 0
    weights[heavy] = 20
    values = segment.encode(targets, layout, weights=weights).values
    gaps = np.square(values - targets)
    assert gaps[heavy].mean() < 0.75 * gaps[~heavy].mean()


@pytest.mark.parametrize("kind", ["cut", "long", "lanes", "empty", "words"])
def test_a_damaged_block_is_refused(kind: str) -> None:
    targets, layout = targets_of(2, [Component(0, 14, (90, 70))])
    coded = segment.encode(targets, layout)
    block = coded.blocks[-1]
    changed = {
        "cut": block[:-2],
        "long": block + b"\0\0",
        "empty": b"",
        "lanes": block[:-1] + bytes([block[-1] ^ 1]),
        "words": block[: len(block) // 2],
    }[kind]
    with pytest.raises(TernDamagedError):
        segment.decode((*coded.blocks[:-1], changed), layout, coded.planes)
