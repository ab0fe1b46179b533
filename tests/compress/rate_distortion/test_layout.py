"""Check how vectors are laid out: falling classes, even bounds, nothing twice."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from compress.rate_distortion.layout import Component, arrange, vector_class

SIZES = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)))
COMPONENTS = st.lists(
    st.builds(Component, module=st.integers(0, 5), energy=st.integers(-20, 60), sizes=SIZES),
    min_size=1,
    max_size=25,
)


@given(COMPONENTS)
def test_every_vector_has_a_place_of_its_own(components: list[Component]) -> None:
    layout = arrange(components)
    taken: dict[int, int] = {}
    for component, starts in zip(components, layout.starts, strict=True):
        assert len(starts) == len(component.sizes)
        for start, size in zip(starts, component.sizes, strict=True):
            for at in range(start, start + size):
                assert at not in taken
                taken[at] = vector_class(component.energy, size)
    bounds = layout.bounds.tolist()
    assert bounds[0] == 0
    assert all(bound % 2 == 0 for bound in bounds)
    assert layout.size == bounds[-1] <= len(taken) + len(layout.classes)
    assert list(layout.classes) == sorted(set(taken.values()), reverse=True)
    for kind, begin, end in zip(layout.classes, bounds[:-1], bounds[1:], strict=True):
        inside = [taken.get(at, kind) for at in range(begin, end)]
        assert set(inside) == {kind}
        # at most one level of padding, and that is the last
        assert all(at in taken for at in range(begin, end - 1))


@given(st.integers(-40, 80), st.integers(1, 1 << 20))
def test_a_class_is_the_mean_square_in_half_octaves(energy: int, size: int) -> None:
    exact = energy - math.log2(size) + 12
    assert abs(vector_class(energy, size) - max(0.0, exact)) <= 1
