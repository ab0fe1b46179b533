"""Check what a segment says beside its levels."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import TernDamagedError
from compress.layers import Unit
from compress.names import ByteWriter
from compress.rate_distortion import side
from compress.rate_distortion.layout import Component, arrange
from compress.rate_distortion.side import Side


@st.composite
def sides(draw: st.DrawFn) -> tuple[Side, list[tuple[int, ...]], list[int]]:
    """Draw a side, and by module the sizes of vectors and the rank."""
    modules = draw(st.integers(1, 6))
    sizes: list[tuple[int, ...]] = []
    ranks, components = [], []
    for module in range(modules):
        both = draw(st.booleans())
        size = (draw(st.integers(1, 99)), draw(st.integers(1, 99)))
        sizes.append(size if both else size[:1])
        count = draw(st.integers(0, 4))
        ranks.append(count + draw(st.integers(0, 2)))
        energies = draw(st.lists(st.integers(-9, 40), min_size=count, max_size=count))
        components += [Component(module, energy, sizes[-1]) for energy in energies]
    gains = draw(
        st.lists(st.integers(-900, 900), min_size=len(components), max_size=len(components))
    )
    classes = len(arrange(components).classes) if components else 0
    planes = draw(st.lists(st.integers(1, 8), min_size=classes, max_size=classes))
    written = Side(tuple(components), tuple(gains), tuple(sorted(planes, reverse=True)))
    return written, sizes, ranks


@given(sides())
def test_a_side_comes_back(drawn: tuple[Side, list[tuple[int, ...]], list[int]]) -> None:
    written, sizes, ranks = drawn
    data = side.write(written, len(sizes))
    assert side.read(data, sizes, ranks) == written
    assert side.write(written, len(sizes)) == data


def raw(*numbers: int) -> bytes:
    """Deflate numbers as a side does."""
    out = ByteWriter()
    out.numbers(numbers)
    return zlib.compress(bytes(out.data), 9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        raw(3, 0, 0, 0, 0, 0, 0, 1),
        raw(1, 4096, 0, 1, 1),
        raw(1, 20, 1 << 20, 1, 1),
        raw(1, 20, 0, 0, 0),
        raw(1, 20, 0, 9, 1),
        raw(1, 20, 0, 1, 2),
        raw(1, 20, 0, 1),
        raw(1, 20, 0, 1, 1, 1),
        raw(1, 20, 0, 1, 1)[:-1],
        raw(1, 20, 0, 1, 1) + b"\0",
    ],
    ids=range(12),
)
def test_what_no_encoder_writes_is_refused(data: bytes) -> None:
    with pytest.raises(TernDamagedError):
        side.read(data, [(9, 400)], [2])


def test_the_right_numbers_are_accepted() -> None:
    """Show that the forged sides above fail for what they change and not for their form."""
    found = side.read(raw(1, 20, 0, 1, 1), [(9, 400)], [2])
    assert found.components == (Component(0, 10, (9, 400)),)
    assert found.gains == (0,)
    assert found.planes == (1, 1)


def test_a_gain_undoes_the_norm_of_a_vector() -> None:
    unit = Unit(3.0, 64)
    component = Component(0, 6, (10, 20))
    assert side.gain(side.expected_steps(component, unit), unit) == pytest.approx(3.0 / 2**3)
    alone = Component(0, 6, (10,))
    assert side.gain(side.expected_steps(alone, unit), unit) == 3.0
    assert side.gain(unit.steps, unit) == 6.0


def test_a_gain_beyond_all_floats_is_refused() -> None:
    with pytest.raises(TernDamagedError, match="gain"):
        side.gain(1 << 17, Unit(1.0, 1))


def test_a_bomb_is_refused_in_little_memory() -> None:
    bomb = zlib.compress(bytes(1 << 28), 9)
    tracemalloc.start()
    with pytest.raises(TernDamagedError):
        side.read(bomb, [(9, 400)], [2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 140 << 20


def test_the_side_is_small() -> None:
    """Ninety-six modules of eight components, as in a small encoder: two bytes a component."""
    rng = np.random.default_rng(0)
    components = [
        Component(module, 30 - 2 * number + int(rng.integers(-1, 2)), (384, 384))
        for module in range(96)
        for number in range(8)
    ]
    gains = tuple(int(gain) for gain in rng.normal(0, 4, len(components)).round())
    planes = tuple(2 for _ in arrange(components).classes)
    data = side.write(Side(tuple(components), gains, planes), 96)
    assert len(data) < 2 * len(components)
