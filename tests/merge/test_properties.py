"""Check what must hold for every row of the table, whatever it does: identity, order, gauge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from merge.errors import MergeError, MergeOptionError
from merge.factors import Factors
from merge.method import Usual
from merge.methods import METHODS, usual_options
from tests.merge.kit import (
    IN_SPACES,
    ON_FACTORS,
    VARIANTS,
    close,
    dense,
    lora,
    merge,
    named,
    nothing,
    turned,
)

#: What is made in float32 on the way: entries of ΔW, and their decomposition through squares.
FLOAT32 = 3e-6
TOLERANCE = 1e-9
_BY_ENTRIES = ("ties", "dare_linear", "dare_ties", "della", "breadcrumbs", "magnitude_prune")
_BY_ORDER = {"ema", "slerp"}
_FLATTENS = {"iso"}
_NONE: dict[str, Any] = {}


def tolerance(name: str) -> float:
    return FLOAT32 if name in {*_BY_ENTRIES, "knots"} else TOLERANCE


def whole(name: str, options: dict[str, Any] = _NONE) -> dict[str, Any]:
    """Return the options with which a method leaves nothing out."""
    return {"density": 1.0} if "density" in usual_options(METHODS[name], options) else {}


def weights_for(name: str, weights: tuple[float, ...]) -> tuple[float, ...] | None:
    return weights if METHODS[name].usual is not Usual.FOUND else None


def most(name: str, options: dict[str, Any]) -> int:
    """Return how many inputs a method takes at most, what it does inside counted."""
    return min(METHODS[own].inputs[1] for own in (name, options.get("inner", name)))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))
def test_one_adapter_stays_what_it_is(name: str, options: dict[str, Any]) -> None:
    own = lora(1, scale=0.7)
    if most(name, options) == 2:
        with pytest.raises(MergeOptionError):
            merge(name, [own], **options)
        return
    found = dense(merge(name, [own], weights_for(name, (1.0,)), **whole(name, options), **options))
    if name in _FLATTENS or options.get("inner") in _FLATTENS:
        kept = np.linalg.svd(found, compute_uv=False)[:3]
        np.testing.assert_allclose(kept, kept.mean(), rtol=1e-9)
        assert kept.mean() == pytest.approx(
            np.linalg.svd(dense(own), compute_uv=False)[:3].mean(), rel=1e-9
        )
        return
    close(found, dense(own), tolerance(name))


@pytest.mark.parametrize("name", [name for name in ON_FACTORS if METHODS[name].inputs[0] == 1])
def test_one_adapter_stays_what_it_is_on_factors(name: str) -> None:
    own = lora(1, scale=0.7)
    close(dense(merge(name, [own], [1.0], **whole(name))), dense(own), TOLERANCE)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))
def test_the_order_of_the_inputs_does_not_matter(name: str, options: dict[str, Any]) -> None:
    if name in _BY_ORDER or options.get("inner") in _BY_ORDER:
        pytest.skip("has a law of its own, below")
    inputs, weights = [lora(1), lora(2, 2), lora(3, 4)], (0.5, 1.0, 1.5)
    straight = dense(merge(name, inputs, weights_for(name, weights), **options))
    order = [2, 0, 1]
    moved = dense(
        merge(
            name,
            [inputs[n] for n in order],
            weights_for(name, tuple(weights[n] for n in order)),
            **options,
        )
    )
    close(moved, straight, tolerance(name))


@pytest.mark.parametrize("name", [n for n in ON_FACTORS if n != "slerp-factors"])
def test_the_order_does_not_matter_on_factors(name: str) -> None:
    inputs, weights = [lora(1), lora(2), lora(3)], (0.5, 1.0, 1.5)
    straight = dense(merge(name, inputs, weights))
    moved = dense(merge(name, inputs[::-1], weights[::-1]))
    close(moved, straight, 1e-9)


def test_slerp_reads_its_weights_from_either_end() -> None:
    one, other = lora(1), lora(2)
    for name in ("slerp", "slerp-factors"):
        there = dense(merge(name, [one, other], [0.3, 0.7]))
        close(dense(merge(name, [other, one], [0.7, 0.3])), there, TOLERANCE)


def test_ema_goes_from_the_oldest_to_the_youngest() -> None:
    inputs = [lora(seed) for seed in (1, 2, 3)]
    expected = dense(inputs[0])
    for own in inputs[1:]:
        expected = 0.8 * expected + 0.2 * dense(own)
    close(dense(merge("ema", inputs, decay=0.8)), expected, TOLERANCE)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))
def test_the_gauge_does_not_matter(name: str, options: dict[str, Any]) -> None:
    inputs = [lora(1), lora(2, 2), lora(3, 4)][: most(name, options)]
    other = [turned(own, 10 + n) for n, own in enumerate(inputs)]
    close(
        dense(merge(name, other, **options)), dense(merge(name, inputs, **options)), tolerance(name)
    )


@pytest.mark.parametrize("name", ON_FACTORS)
def test_on_factors_the_gauge_does_matter(name: str) -> None:
    """Methods on A and B depend on what carries no meaning: the reason why they are apart."""
    inputs = [lora(1), lora(2)]
    other = [turned(inputs[0], 11), inputs[1]]
    one, two = dense(merge(name, inputs)), dense(merge(name, other))
    assert np.linalg.norm(one - two) > 0.05 * np.linalg.norm(one)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))
def test_only_the_product_counts(name: str, options: dict[str, Any]) -> None:
    """Scales, rsLoRA and ranks are ways to write the same ΔW."""
    inputs = [lora(1), lora(2, 2)]
    wide = Factors(
        np.concatenate([inputs[0].a, np.zeros((2, inputs[0].a.shape[1]))]),
        np.concatenate([inputs[0].b, np.ones((len(inputs[0].b), 2))], axis=1),
        1.0,
    )
    written = [
        Factors(wide.a * 4, wide.b, 0.25),
        Factors(inputs[1].a, inputs[1].b / 3, 6 / math.sqrt(4)),
    ]
    rank = 3 if "rank" in METHODS[name].reducible else None
    expected = dense(merge(name, inputs, rank=rank, **options))
    close(dense(merge(name, written, rank=rank, **options)), expected, tolerance(name))


#: What becomes of a module that only one of two adapters has: this times its ΔW.
_ALONE = {
    **dict.fromkeys(("linear", "cat", "svd", "slerp"), 0.25),
    **dict.fromkeys(("dare_linear", "breadcrumbs", "magnitude_prune"), 0.25),
    **dict.fromkeys(("multislerp", "karcher"), 0.25),
    **dict.fromkeys(("ties", "dare_ties", "della", "wudi"), 1.0),
    **dict.fromkeys(("tsv", "lego"), 0.25),
    "model_stock": 0.0,
    "ema": 0.9,
}


@pytest.mark.parametrize("name", sorted(_ALONE))
def test_a_module_of_one_adapter_alone(name: str) -> None:
    """Sums and means take w · ΔW; what averages only those that have an entry takes ΔW."""
    own = lora(1)
    found = merge(name, [own, nothing()], weights_for(name, (0.25, 0.75)), **whole(name))
    expected = _ALONE[name] * dense(own)
    close(dense(found), expected, tolerance(name))


@pytest.mark.parametrize(("name", "options"), IN_SPACES, ids=named(IN_SPACES))
def test_a_module_of_one_adapter_alone_in_a_space(name: str, options: dict[str, Any]) -> None:
    own = lora(1)
    if options["inner"] in _FLATTENS:
        pytest.skip("flattens the spectrum")
    found = merge(name, [own, nothing()], (0.25, 0.75), **whole(name, options), **options)
    close(dense(found), _ALONE[options["inner"]] * dense(own), tolerance(name))


_REMOVED = [(n, o) for n, o in VARIANTS if n not in {"model_stock", "ema"} and most(n, o) > 2]


@pytest.mark.parametrize(("name", "options"), _REMOVED, ids=named(_REMOVED))
def test_weight_0_removes_an_adapter(name: str, options: dict[str, Any]) -> None:
    """In axes that all adapters span together they are still seen: sums alone stay the same."""
    two, rank = [lora(1), lora(2)], 9 if name in _BY_ENTRIES else None
    without = dense(merge(name, two, (0.4, 0.6), rank=rank, **options))
    found = dense(merge(name, [*two, lora(3)], (0.4, 0.6, 0.0), rank=rank, **options))
    if name in {"core", "knots"} and options["inner"] != "linear":
        assert np.isfinite(found).all()
        return
    close(found, without, tolerance(name))


_SELF = ("linear", "cat", "svd", "slerp", "karcher", "multislerp", "ties", "dare_ties", "wudi")


@pytest.mark.parametrize("name", _SELF)
def test_an_adapter_merged_with_itself(name: str) -> None:
    own = lora(1)
    found = merge(name, [own, turned(own, 5)], (0.3, 0.7), **whole(name))
    close(dense(found), dense(own), tolerance(name))


def test_an_adapter_dropped_at_random_meets_itself() -> None:
    """The same matrix draws the same mask: DARE of two equal adapters is DARE of one."""
    own = lora(1)
    twice = merge("dare_linear", [own, turned(own, 5)], (0.3, 0.7), density=0.5, rank=9)
    once = merge("dare_linear", [own], [1.0], density=0.5, rank=9)
    close(dense(twice), dense(once), FLOAT32)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_scale_multiplies_what_comes_out(name: str) -> None:
    inputs = [lora(1), lora(2)]
    once = merge(name, inputs)
    found = merge(name, inputs, scale=-1.5)
    close(dense(found), -1.5 * dense(once), 1e-12)
    assert found.energy == pytest.approx(2.25 * once.energy)


_EACH = [*VARIANTS, *((name, {}) for name in ON_FACTORS)]


@pytest.mark.parametrize(("name", "options"), _EACH, ids=named(_EACH))
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 3)])
def test_the_smallest_modules(name: str, options: dict[str, Any], shape: tuple[int, int]) -> None:
    inputs = [lora(seed, 1, shape) for seed in (1, 2)]
    inputs = [Factors(np.abs(own.a), np.abs(own.b), 1.0) for own in inputs]
    found = merge(name, inputs, **options)
    assert dense(found).shape == shape
    assert np.isfinite(dense(found)).all()


@pytest.mark.parametrize(("name", "options"), _EACH, ids=named(_EACH))
def test_adapters_that_are_zero(name: str, options: dict[str, Any]) -> None:
    """B is zero where training left a module alone."""
    own = lora(1)
    zero = Factors(lora(2).a, np.zeros_like(own.b), 1.0)
    for inputs in ([zero, zero], [own, zero], [zero, own]):
        found = dense(merge(name, inputs, **options))
        assert np.isfinite(found).all()
        if inputs[0] is zero and inputs[1] is zero:
            assert not found.any()


_MANY = [(n, o) for n, o in _EACH if most(n, o) > 2]


@pytest.mark.parametrize(("name", "options"), _MANY, ids=named(_MANY))
def test_thirty_adapters_of_which_some_are_equal(name: str, options: dict[str, Any]) -> None:
    """Together they have ten times as many ranks as the module has dimensions."""
    inputs = [lora(seed % 25) for seed in range(30)]
    found = dense(merge(name, inputs, **options))
    assert np.isfinite(found).all()
    if name not in ON_FACTORS:
        largest = max(float(np.linalg.norm(dense(own))) for own in inputs)
        assert np.linalg.norm(found) < 30 * largest


def test_opposite_directions_have_no_mean() -> None:
    own = lora(1)
    against = Factors(own.a, -own.b, 1.0)
    for name in ("karcher", "multislerp"):
        with pytest.raises(MergeError, match="opposite"):
            merge(name, [own, against])
    close(dense(merge("slerp", [own, against], [0.75, 0.25])), 0.5 * dense(own), TOLERANCE)


@pytest.mark.parametrize("name", ["slerp", "karcher", "multislerp", "wudi"])
def test_weights_that_a_method_cannot_use_are_refused(name: str) -> None:
    with pytest.raises(MergeOptionError):
        merge(name, [lora(1), lora(2)], (1.5, -0.5))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))
@pytest.mark.parametrize("seed", range(3))
def test_one_adapter_twice_may_be_factored_in_two_ways(
    name: str, options: dict[str, Any], seed: int
) -> None:
    """As float32 stores them the two differ by its rounding, which is no direction of its own."""
    adapter = _as_float32(lora(seed, shape=(40, 30)))
    other = _as_float32(turned(adapter, seed + 9))
    expected = dense(merge(name, [adapter, adapter], **options))
    close(dense(merge(name, [adapter, other], **options)), expected, 1e-5)


def _as_float32(factors: Factors) -> Factors:
    a, b = (side.astype(np.float32).astype(np.float64) for side in (factors.a, factors.b))
    return Factors(a, b, factors.scale)
