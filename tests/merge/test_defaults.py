"""Check what methods do without being asked: weights of a kind, and no ΔW out of proportion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from merge.delta_space import ALL, Delta, inner
from merge.factors import Factors
from merge.methods import METHODS
from merge.recipe import Recipe
from merge.wudi import wudi_loss

TWINS = [name for name in METHODS if f"{name}-factors" in METHODS]


def revisions(count: int, *, apart: float) -> list[Factors]:
    """Make adapters of one run, whose rows are nearly the same."""
    rng = np.random.default_rng(0)
    b = rng.normal(size=(24, 4))
    a = rng.normal(size=(4, 30))
    return [
        Factors(a + apart * rng.normal(size=a.shape), b + apart * rng.normal(size=b.shape), 1.0)
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", TWINS)
def test_a_method_on_factors_has_the_weights_of_its_twin(name: str) -> None:
    twin = METHODS[f"{name}-factors"]
    assert twin.usual is METHODS[name].usual
    assert twin.weights(None, 4) == METHODS[name].weights(None, 4)


@pytest.mark.parametrize("name", ["linear", "breadcrumbs", "magnitude_prune"])
def test_equal_adapters_summed_on_factors_grow_by_their_cross_terms_alone(name: str) -> None:
    method = METHODS[f"{name}-factors"]
    one = revisions(1, apart=0.0)[0]
    weights = np.array(method.weights(None, 4))
    found = method.merge([one] * 4, weights, Recipe(method.name).settled, ALL).delta
    # (Σ √¼ B)(Σ √¼ A) = 4 B A, as PEFT has it; with weights of 1 it would be 16 B A.
    assert inner(found, found) <= 4.01**2 * inner(one.delta, one.delta)


def test_wudi_does_not_blow_up_on_revisions_of_one_run() -> None:
    factors = revisions(4, apart=0.02)
    method = METHODS["wudi"]
    weights = np.array(method.weights(None, 4))
    deltas = [own.delta for own in factors]
    largest = max(inner(own, own) for own in deltas)

    def size(delta: Delta) -> float:
        return math.sqrt(inner(delta, delta) / largest)

    found = method.merge(factors, weights, Recipe(method.name).settled, ALL).delta
    assert size(found) < 2
    assert wudi_loss(found, deltas) < 0.02 * wudi_loss(found.times(0.0), deltas)


@pytest.mark.parametrize("weights", [(0.75, 0.25), (3.0, 1.0)])
@pytest.mark.parametrize("at", [0, 1])
def test_slerp_takes_a_module_that_one_adapter_has_alone(
    weights: tuple[float, float], at: int
) -> None:
    one = revisions(1, apart=0.0)[0]
    pair = [Factors(one.a[:0], one.b[:, :0], 1.0)] * 2
    pair[at] = one
    sizes = []
    for name in ("slerp", "slerp-factors"):
        method = METHODS[name]
        found = method.merge(pair, np.array(weights), Recipe(name).settled, ALL).delta
        sizes.append(math.sqrt(inner(found, found) / inner(one.delta, one.delta)))
    assert sizes == pytest.approx([weights[at] / sum(weights)] * 2)
