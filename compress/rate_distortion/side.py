"""Write what a segment's components are besides their levels: how many, how strong, which gain.

Per module the number of components that are kept; per component its energy, in half octaves, and
its gain, what the product of its two vectors in steps is multiplied with, in fractions of octaves
beyond what the energy lets expect. The numbers are small, written as differences and deflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compress.errors import TernDamagedError
from compress.layers import Unit
from compress.measure import shannon_bits
from compress.names import ByteReader, ByteWriter
from compress.rate_distortion.digits import MAX_PLANES
from compress.rate_distortion.layout import MAX_CLASSES, Component, arrange

MAX_GAIN_STEPS = 1024
_MAX_BYTES = 64 << 20
_MAX_COMPONENTS = 1 << 20
_MAX_ENERGY = 1 << 8
_MAX_OCTAVES = 1000
_MAX_GAIN = 1 << 17


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what the levels of a segment mean.

    Attributes:
        components: those that are kept, modules in order.
        gains: by component, its gain in steps beyond what the energy predicts.
        planes: by class, how many planes its levels need.
    """

    components: tuple[Component, ...]
    gains: tuple[int, ...]
    planes: tuple[int, ...]


#: The side of a segment of which nothing is described.
NOTHING = Side((), (), ())


def expected_steps(component: Component, unit: Unit) -> int:
    """Predict a gain, in steps: the norm of one of two vectors undone."""
    return -unit.steps * component.energy // 2 if len(component.sizes) == 2 else 0


def gain(steps: int, unit: Unit) -> float:
    """Give a gain from its logarithm in steps.

    Raises:
        TernDamagedError: no float is so large.
    """
    octaves = steps / unit.steps
    if abs(octaves) > _MAX_OCTAVES:
        raise TernDamagedError("a gain is out of its range", field="layer0")
    return float(2.0**octaves * unit.size)


def write(side: Side, modules: int) -> bytes:
    """Write the side of a segment of so many modules."""
    out = ByteWriter()
    out.numbers(_kept(side, modules))
    out.numbers(_zigzag(step) for step in _energy_steps(side.components))
    out.numbers(_zigzag(gain) for gain in side.gains)
    out.numbers(side.planes)
    return zlib.compress(bytes(out.data), 9)


def entropy_bits(side: Side, modules: int) -> float:
    """Give the Shannon bound of counts, energies and gains, each kind in one distribution."""
    kinds = (_kept(side, modules), _energy_steps(side.components), side.gains)
    return sum(
        shannon_bits(np.unique(numbers, return_counts=True)[1]) for numbers in kinds if numbers
    )


def _kept(side: Side, modules: int) -> list[int]:
    """Count the components of every module."""
    counts = [0] * modules
    for component in side.components:
        counts[component.module] += 1
    return counts


def _energy_steps(components: Sequence[Component]) -> list[int]:
    """Tell energies by differences: from the component before, or from the module before."""
    steps, module = [], -1
    before = first_before = 0
    for component in components:
        first = component.module != module
        module = component.module
        steps.append(component.energy - (first_before if first else before))
        before = component.energy
        first_before = component.energy if first else first_before
    return steps


def read(data: bytes, sizes: Sequence[tuple[int, ...]], ranks: Sequence[int]) -> Side:
    """Read the side of a segment.

    Args:
        data: what `write` gave.
        sizes: by module, the lengths of a component's vectors.
        ranks: by module, the most components it can have.

    Raises:
        TernDamagedError: no encoder writes this.
    """
    source = ByteReader(_inflate(data))
    kept = source.numbers(len(sizes))
    if any(count > rank for count, rank in zip(kept, ranks, strict=True)):
        raise TernDamagedError("a module has more components than its rank", field="layer0")
    if sum(kept) > _MAX_COMPONENTS:
        raise TernDamagedError("there are too many components", field="layer0")
    components = []
    first_before = before = 0
    for module, count in enumerate(kept):
        for number in range(count):
            energy = _unzigzag(source.number()) + (before if number else first_before)
            if abs(energy) > _MAX_ENERGY:
                raise TernDamagedError("an energy is out of its range", field="layer0")
            before = energy
            first_before = first_before if number else energy
            components.append(Component(module, energy, sizes[module]))
    gains = [_unzigzag(number) for number in source.numbers(len(components))]
    classes = len(arrange(components).classes)
    planes = source.numbers(classes)
    source.finish()
    falling = all(a >= b for a, b in pairwise(planes))
    if classes > MAX_CLASSES or not falling or not all(1 <= n <= MAX_PLANES for n in planes):
        raise TernDamagedError("the planes are not valid", field="layer0")
    if any(abs(gain) > _MAX_GAIN for gain in gains):
        raise TernDamagedError("a gain is out of its range", field="layer0")
    return Side(tuple(components), tuple(gains), tuple(planes))


def _inflate(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise TernDamagedError(f"a layer cannot be read: {error}", field="layer0") from error
    if not inflate.eof or inflate.unused_data:
        raise TernDamagedError("a layer's head is not one whole stream", field="layer0")
    return raw


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2
