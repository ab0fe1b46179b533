"""Check that gains are the best there are, and that nothing is told to do harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.layers import Unit
from compress.rate_distortion import side
from compress.rate_distortion.choice import Chosen
from compress.rate_distortion.components import Components, of_factors
from compress.rate_distortion.layout import Component
from compress.rate_distortion.refit import refit

Array = NDArray[Any]
UNIT = Unit(1e-3, 512)
SIZES = (20, 30)


def module_of(rank: int) -> tuple[Components, Array]:
    """Make a module; give its components and its ΔW."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(rank, SIZES[1])), rng.normal(size=(SIZES[0], rank))
    return of_factors(a, b, 1.5), 1.5 * b @ a


def decoded(chosen: list[Chosen], said: list[list[Array]], told: list[int]) -> Array:
    """Put ΔW together from gains as a decoder reads them."""
    total = np.zeros(SIZES)
    for one, (u, v), steps in zip(chosen, said, told, strict=True):
        gain = side.gain(steps + side.expected_steps(one.described, UNIT), UNIT)
        total += 1.5 * gain * np.outer(u, v)
    return total


def chosen_of(count: int) -> list[Chosen]:
    """Name so many components of module 0."""
    return [Chosen(Component(0, 8, SIZES), column, ()) for column in range(count)]


def test_gains_are_those_of_least_squares() -> None:
    module, delta = module_of(3)
    rng = np.random.default_rng(2)
    said = [
        [
            np.rint(20 * vectors[:, n] + rng.normal(0, 0.3, len(vectors))).astype(np.int16)
            for vectors in (module.left, module.right)
            if vectors is not None
        ]
        for n in range(3)
    ]
    told, left = refit(module, chosen_of(3), said, UNIT)
    basis = np.stack([np.outer(u, v).ravel() for u, v in said], axis=1)
    best = np.linalg.lstsq(basis, delta.ravel(), rcond=None)[1][0]
    assert left == pytest.approx(best, rel=1e-3)
    remaining = np.square(delta - decoded(chosen_of(3), said, told)).sum()
    assert left == pytest.approx(remaining, rel=1e-5)


@pytest.mark.parametrize("harm", ["points the other way", "twice the same"])
def test_what_does_harm_counts_for_nothing(harm: str) -> None:
    """A decoder would give a component without a gain the gain that its energy predicts."""
    module, delta = module_of(2)
    assert module.right is not None
    u, v = (np.rint(20 * x[:, 0]).astype(np.int16) for x in (module.left, module.right))
    said = [[u, v], [u, -v] if harm == "points the other way" else [u + 1, v]]
    told, left = refit(module, chosen_of(2), said, UNIT)
    remaining = np.square(delta - decoded(chosen_of(2), said, told)).sum()
    assert left == pytest.approx(remaining, rel=1e-5)
    alone = refit(module, chosen_of(1), said[:1], UNIT)[1]
    assert left <= alone * (1 + 1e-6)
