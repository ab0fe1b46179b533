"""Choose which components are described and what their vectors aim at, in steps.

A component that the water-filling of the whole adapter keeps aims at itself. A module of which
nothing would be kept still gets its strongest component as a sketch: the few largest values of both
vectors, one level each, just enough that the module is not erased.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.rate_distortion.components import Components
from compress.rate_distortion.layout import Component

#: With limited planes a vector fills them at so many standard deviations.
_FILL = 4.0
#: One plane is filled by a vector of which most values are zero or one.
_LEAST_REACH = 1.6
#: A sketch says this share of the energy of its module: an error of 0.9985, where 0.999 is erased.
_SKETCHED = 0.004
_SKETCH_SHARES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1.0)
#: Errors of a sketch count so much that no price changes it, and more with every effort.
_EMPHASIS = 8.0
#: What a value of a sketch aims at, in steps: the first level of a quantiser.
_SKETCH_LEVEL = 2.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Name one component that is described.

    Attributes:
        described: what the file tells of it.
        column: its place in its module's components.
        targets: float32, by vector, what its values aim at, in steps.
        emphasis: how much errors of a sketch count, which is there only so that its module is not
            erased; 0 if it is none.
    """

    described: Component
    column: int
    targets: tuple[Array, ...]
    emphasis: float = 0.0


def choose(module: Components, number: int, kept: Array, how: tuple[float, int]) -> list[Chosen]:
    """Choose the components of one module that are worth their bits.

    Args:
        module: its components.
        number: its position in the segment.
        kept: bool [n], which the water-filling keeps.
        how: the step of the quantiser, in units of σ, and how many planes levels may take.
    """
    step, planes = how
    chosen = []
    for column in kept.nonzero()[0]:
        strength = module.scale * float(module.sigmas[column]) / step
        energy = round(2 * math.log2(strength))
        most = _most_energy(module.sizes, planes)
        if energy > most:
            energy, strength = most, 2.0 ** (most / 2)
        targets = _scaled(module, int(column), strength)
        chosen.append(Chosen(Component(number, energy, module.sizes), int(column), targets))
    return chosen


def sketch(module: Components, number: int, effort: float) -> list[Chosen]:
    """Choose the least that keeps a module from being erased; nothing if it has no energy.

    Args:
        module: its components.
        number: its position in the segment.
        effort: how many times as much as should be enough.
    """
    energies = module.energies
    if not len(energies) or not energies[0]:
        return []
    vectors = _vectors(module, 0)
    enough = effort * _SKETCHED * float(energies.sum()) / float(energies[0])
    told = np.prod([_energies_told(vector) for vector in vectors], axis=0)
    share = next(
        (share for share, said in zip(_SKETCH_SHARES, told, strict=True) if said >= enough), 1.0
    )
    targets = tuple(_largest(vector, share) for vector in vectors)
    rms = math.sqrt(float(np.mean(np.square(targets[0]))))
    energy = round(2 * math.log2(rms) + math.log2(len(vectors[0])))
    described = Component(number, energy, module.sizes)
    return [Chosen(described, 0, targets, emphasis=_EMPHASIS * effort)]


def _energies_told(vector: Array) -> Array:
    """Give the energy, of 1, that the signs of the largest values tell, for every share."""
    sums = np.cumsum(np.sort(np.abs(vector).astype(np.float64))[::-1])
    counts = np.array([_count(share, len(vector)) for share in _SKETCH_SHARES])
    return np.asarray(sums[counts - 1] ** 2 / counts)


def _largest(vector: Array, share: float) -> Array:
    """Keep the signs of the largest values, at the level of a sketch."""
    sizes, count = np.abs(vector), _count(share, len(vector))
    threshold = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    signs = np.where(sizes >= threshold, np.sign(vector), 0).astype(np.float32)
    return signs * np.float32(_SKETCH_LEVEL)


def _count(share: float, size: int) -> int:
    return max(1, round(share * size))


def _scaled(module: Components, column: int, strength: float) -> tuple[Array, ...]:
    return tuple(vector * np.float32(strength) for vector in _vectors(module, column))


def _vectors(module: Components, column: int) -> list[Array]:
    sides = (module.left, module.right)
    return [vectors[:, column] for vectors in sides if vectors is not None]


def _most_energy(sizes: Sequence[int], planes: int) -> int:
    """Give the energy at which vectors just fill so many planes."""
    return math.floor(2 * math.log2(reach(planes)) + math.log2(min(sizes)))


def reach(planes: int) -> float:
    """Give the root mean square, in steps, of a vector that just fills so many planes."""
    return max(_LEAST_REACH, float(3**planes - 1) / _FILL)
