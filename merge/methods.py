"""List every way to merge: one row each, with its paper.

A new method is a function and a row. Weights mean one of two things. Methods that sum take shares:
without `--weight` every adapter has 1/n. Those that put tasks beside one another, such as TSV-M, or
average what agrees, such as TIES, take every adapter whole: without `--weight` each has 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from merge import coefficients, factor_space, shared_spaces, spectral
from merge.definitions import (
    by_entries,
    on_factors,
    plain,
    units,
    with_weights,
)
from merge.errors import MergeOptionError
from merge.factor_space import by_rule
from merge.method import Method, Reach, Space, Usual
from merge.options import Inner, Scalar, inner_named
from merge.whole import combined, scaled
from merge.wudi import wudi

_SHARES, _WHOLE, _FOUND = Usual.SHARES, Usual.WHOLE, Usual.FOUND
_FACTORS, _LARGEST, _TOTAL = Space.FACTORS, Reach.LARGEST, Reach.TOTAL
_FIFTH: Mapping[str, Scalar] = {"density": 0.2}
_HALF: Mapping[str, Scalar] = {"density": 0.5}
_BY_CHANCE: Mapping[str, Scalar] = {"density": 0.5, "seed": 0}
_BY_RANK: Mapping[str, Scalar] = {**_BY_CHANCE, "epsilon": 0.1}
_CRUMBS: Mapping[str, Scalar] = {"density": 0.9, "gamma": 0.01}
#: Without a ridge near-dependent rows make ΔW many times as large as what went in.
_RIDGE: Mapping[str, Scalar] = {"ridge": 1e-3, "steps": 0, "learning_rate": 1e-5}
_TIES_INSIDE: Mapping[str, Scalar] = {"inner": Inner.TIES, **_FIFTH}
_TWO = (2, 2)

# fmt: off
_ROWS = (
    # Sums and means: Σ cᵢ ΔWᵢ.
    Method("linear", "task arithmetic: Σ wᵢ ΔWᵢ", "2212.04089", plain, _SHARES),
    Method("cat", "the same, as stacked factors", "PEFT", plain, _SHARES, reducible=frozenset()),
    Method("svd", "the same, at the best low rank", "Eckart, Young 1936", plain, _SHARES,
           reach=_LARGEST),
    Method("slerp", "along the great circle", "Shoemake 1985",
           with_weights(combined(coefficients.slerp)), _SHARES, inputs=_TWO),
    Method("multislerp", "mean of directions, on the sphere", "mergekit",
           with_weights(combined(coefficients.multislerp)), _SHARES),
    Method("karcher", "Riemannian mean of directions", "Karcher 1977",
           with_weights(combined(coefficients.karcher)), _SHARES),
    Method("model_stock", "Model Stock: mean, shorter by disagreement", "2403.19522",
           with_weights(combined(coefficients.model_stock)), _FOUND),
    Method("ema", "exponential average of a chain, oldest first", "Polyak, Juditsky 1992",
           with_weights(combined(coefficients.ema)), _FOUND, {"decay": 0.9}),
    # Singular vectors, least squares and rank-1 units of ΔW.
    Method("tsv", "TSV-M", "2412.00081", with_weights(scaled(spectral.tsv))),
    Method("iso", "Iso-C", "2502.04959", with_weights(scaled(spectral.iso))),
    Method("wudi", "WUDI", "2503.08099", with_weights(wudi), _WHOLE, _RIDGE),
    Method("lego", "LoRA-LEGO", "2409.16167", units, reach=_LARGEST,
           reducible=frozenset({"rank"})),
    # Coordinates in a space that the adapters share.
    Method("knots", "KnOTS", "2410.19735", with_weights(shared_spaces.knots), _WHOLE,
           _TIES_INSIDE, Space.KNOTS),
    Method("core", "Core Space", "2509.17786", with_weights(shared_spaces.core), _WHOLE,
           _TIES_INSIDE, Space.CORE),
    # Entries of ΔW.
    Method("ties", "TIES", "2306.01708", by_entries(Inner.TIES), _WHOLE, _FIFTH, reach=_TOTAL),
    Method("dare_linear", "DARE, then the sum", "2311.03099", by_entries(Inner.DARE_LINEAR),
           _SHARES, _BY_CHANCE, reach=_TOTAL),
    Method("dare_ties", "DARE, then what agrees", "2311.03099", by_entries(Inner.DARE_TIES),
           _WHOLE, _BY_CHANCE, reach=_TOTAL),
    Method("della", "DELLA", "2406.11617", by_entries(Inner.DELLA), _WHOLE, _BY_RANK,
           reach=_TOTAL),
    Method("breadcrumbs", "Model Breadcrumbs", "2312.06795", by_entries(Inner.BREADCRUMBS),
           _SHARES, _CRUMBS, reach=_TOTAL),
    Method("magnitude_prune", "largest entries, then the sum", "PEFT",
           by_entries(Inner.MAGNITUDE_PRUNE), _SHARES, _HALF, reach=_TOTAL),
    # Entries of A and of B, one by one: what PEFT does, and no merge of ΔW.
    Method("linear-factors", "sums of A and of B", "PEFT",
           on_factors(by_rule(factor_space.LINEAR)), _SHARES, space=_FACTORS),
    Method("slerp-factors", "A along a circle, B along another", "Shoemake 1985",
           on_factors(factor_space.slerp_factors, proportions=True), _SHARES, space=_FACTORS,
           inputs=_TWO),
    Method("ties-factors", "TIES of A and of B", "PEFT",
           on_factors(by_rule(factor_space.TIES)), _WHOLE, _FIFTH, _FACTORS),
    Method("dare_linear-factors", "DARE of A and of B, then sums", "PEFT",
           on_factors(by_rule(factor_space.DARE_LINEAR)), _SHARES, _BY_CHANCE, _FACTORS),
    Method("dare_ties-factors", "DARE of A and of B, then what agrees", "PEFT",
           on_factors(by_rule(factor_space.DARE_TIES)), _WHOLE, _BY_CHANCE, _FACTORS),
    Method("della-factors", "DELLA of A and of B", "2406.11617",
           on_factors(by_rule(factor_space.DELLA)), _WHOLE, _BY_RANK, _FACTORS),
    Method("breadcrumbs-factors", "Model Breadcrumbs of A and of B", "2312.06795",
           on_factors(by_rule(factor_space.BREADCRUMBS)), _SHARES, _CRUMBS, _FACTORS),
    Method("magnitude_prune-factors", "largest entries of A and of B, then sums", "PEFT",
           on_factors(by_rule(factor_space.MAGNITUDE_PRUNE)), _SHARES, _HALF, _FACTORS),
    Method("mhr_mu", "MHR-μ: mean A, mean B of skills trained together", "2211.03831",
           on_factors(factor_space.mhr_mu), _SHARES, space=_FACTORS),
)
# fmt: on
METHODS: Mapping[str, Method] = {row.name: row for row in _ROWS}
#: What KnOTS cannot do to its coordinates, which have no rows of their own for each adapter.
_CORE_ONLY = frozenset(shared_spaces.WHOLE)


def method_named(name: str) -> Method:
    """Return a row of the table.

    Raises:
        MergeOptionError: there is none of this name.
    """
    if name not in METHODS:
        raise MergeOptionError(
            f"there is no method {name[:60]}",
            field="method",
            expected=", ".join(METHODS),
            actual=name[:60],
        )
    return METHODS[name]


def usual_options(row: Method, asked: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return what a method takes, with its defaults: those of the inner method where it has one.

    Raises:
        MergeOptionError: there is no such inner method, or this one cannot use it.
    """
    if "inner" not in row.options:
        return dict(row.options)
    inner = inner_named(asked.get("inner", row.options["inner"]))
    if row.space is Space.KNOTS and inner in _CORE_ONLY:
        raise MergeOptionError(
            f"{row.name} cannot do {inner} inside",
            field="inner",
            expected=", ".join(name for name in Inner if name not in _CORE_ONLY),
            actual=inner,
        )
    return {"inner": inner, **METHODS[inner].options}
