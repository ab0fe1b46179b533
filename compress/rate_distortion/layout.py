"""Put the vectors of a segment in order: strong ones first, those of one class side by side.

A component of ΔW, σ·u·vᵀ, is two vectors. Its energy says how large their values are in steps, in
half octaves of the root mean square: their class. All values of a class follow the same model.
Because strong vectors come first, a coarse plane, which only strong classes need, is a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array

#: A class is this far above the energy less half the size, so that usual classes are small numbers.
_LOWEST = -12
MAX_CLASSES = 64


@dataclass(frozen=True, slots=True)
class Component:
    """Describe one component that is kept.

    Attributes:
        module: position of its module among those of the segment.
        energy: σ in steps, in half octaves: round(2 log₂(σ / step)).
        sizes: length of u and of v; a component of one vector has one size.
    """

    module: int
    energy: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold where every vector lies among the levels of a segment.

    Attributes:
        classes: the classes that occur, strongest first.
        bounds: int64 [classes + 1]: where the levels of every class begin, even numbers.
        starts: by component, where its vectors begin.
    """

    classes: tuple[int, ...]
    bounds: Array
    starts: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Count the levels, padding included."""
        return int(self.bounds[-1])

    def spread(self, numbers: Array) -> Array:
        """Give every level the number of its class."""
        return np.repeat(numbers, np.diff(self.bounds))


def vector_class(energy: int, size: int) -> int:
    """Give the class of a vector, energy − log₂ size rounded, in whole numbers only."""
    return max(0, energy - (size * size).bit_length() // 2 - _LOWEST)


def arrange(components: Sequence[Component]) -> Layout:
    """Order the vectors of components by falling class, then by component."""
    places = [
        (vector_class(component.energy, size), number, side, size)
        for number, component in enumerate(components)
        for side, size in enumerate(component.sizes)
    ]
    places.sort(key=lambda place: -place[0])
    starts = [[0] * len(component.sizes) for component in components]
    classes: list[int] = []
    bounds: list[int] = []
    at = 0
    for kind, number, side, size in places:
        if not classes or classes[-1] != kind:
            at += at & 1
            classes.append(kind)
            bounds.append(at)
        starts[number][side] = at
        at += size
    bounds.append(at + (at & 1))
    return Layout(tuple(classes), np.array(bounds), tuple(tuple(pair) for pair in starts))
