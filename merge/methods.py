"""List every way to merge: one row each, with its paper.

A row says in which space a method works, what it can be told, what weights and ranks it has without
being told, and which function is its definition. A new method is a function and a row.

Weights mean one of two things. Methods that sum take shares: without `--weight` every adapter has
1/n. Those that put tasks beside one another, such as TSV-M, or average what agrees, such as TIES,
take every adapter whole: without `--weight` each has 1, and a weight w stands for w · ΔW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from merge import coefficients, factor_space, shared_spaces, spectral
from merge import definitions as define
from merge.definitions import MergeModule
from merge.errors import MergeOptionError
from merge.options import Inner, Options
from merge.wudi import wudi

_FACTORS_ENDING = "-factors"
_PLAIN = Options()


class Space(StrEnum):
    """Name what a method looks at."""

    DELTA = "delta"
    KNOTS = "knots"
    CORE = "core"
    FACTORS = "factors"


class Reach(StrEnum):
    """Name the rank of a result for which none was asked."""

    ALL = "all"
    LARGEST = "largest input rank"
    TOTAL = "sum of the input ranks"


@dataclass(frozen=True, slots=True)
class Method:
    """Be one way to merge.

    Attributes:
        name: what people type.
        title: what its authors call it, or in a few words what it does.
        paper: arXiv number or who published it.
        merge: its definition, for one module.
        space: what it looks at.
        takes: names of the options that it has, beside `scale`.
        defaults: what they are without being asked for.
        reach: the rank of the result where none is asked for.
        shares: without weights each input has 1/n; else 1.
        inputs: how many adapters it takes at least and at most.
        weighted: weights can be given.
        reducible: a rank or a share of energy can be asked for.
    """

    name: str
    title: str
    paper: str
    merge: MergeModule
    space: Space = Space.DELTA
    takes: frozenset[str] = frozenset()
    defaults: Options = _PLAIN
    reach: Reach = Reach.ALL
    shares: bool = False
    inputs: tuple[int, int] = (1, 1 << 16)
    weighted: bool = True
    reducible: frozenset[str] = frozenset({"rank", "energy"})

    def weights(self, asked: Sequence[float] | None, count: int) -> tuple[float, ...]:
        """Return the weights of so many inputs, those that were asked for or the usual ones."""
        return tuple(asked) if asked is not None else (1 / count if self.shares else 1.0,) * count


_TIES, _DARE = frozenset({"density"}), frozenset({"density", "seed"})
_DELLA, _CRUMBS = _DARE | {"epsilon"}, frozenset({"density", "gamma"})
_INNER = frozenset({"inner", "density", "seed", "epsilon", "gamma"})
_WUDI = frozenset({"ridge", "steps", "learning_rate"})
_FIFTH, _HALF = Options(density=0.2), Options(density=0.5)
#: Without a ridge near-dependent rows make ΔW many times as large as what went in.
_RIDGE = Options(ridge=0.001)
_CRUMBS_DEFAULTS = Options(density=0.9, gamma=0.01)
_RANK_ONLY, _NOTHING = frozenset({"rank"}), frozenset[str]()
_TWO = (2, 2)

_DELTA_ROWS = (
    Method("linear", "task arithmetic: Σ wᵢ ΔWᵢ", "2212.04089", define.plain, shares=True),
    Method(
        "cat", "stacked factors, exactly", "PEFT", define.plain, shares=True, reducible=_NOTHING
    ),
    Method(
        "svd",
        "best approximation of Σ wᵢ ΔWᵢ",
        "Eckart and Young, 1936",
        define.plain,
        reach=Reach.LARGEST,
        shares=True,
    ),
    Method(
        "slerp",
        "along the great circle",
        "Shoemake, 1985",
        define.by_coefficients(coefficients.slerp),
        shares=True,
        inputs=_TWO,
    ),
    Method(
        "multislerp",
        "in the tangent space at the mean",
        "mergekit",
        define.by_coefficients(coefficients.multislerp),
        shares=True,
    ),
    Method(
        "karcher",
        "Riemannian mean of directions",
        "Karcher, 1977",
        define.by_coefficients(coefficients.karcher),
        shares=True,
    ),
    Method(
        "model_stock",
        "mean, drawn to the base by disagreement",
        "2403.19522",
        define.by_coefficients(coefficients.model_stock),
        shares=True,
        weighted=False,
    ),
    Method(
        "ema",
        "exponential average of a chain, oldest first",
        "Polyak and Juditsky, 1992",
        define.by_coefficients(coefficients.ema),
        takes=frozenset({"decay"}),
        shares=True,
        weighted=False,
    ),
    Method("tsv", "TSV-M", "2412.00081", define.in_whole(spectral.tsv)),
    Method("iso", "Iso-C", "2502.04959", define.in_whole(spectral.iso)),
    Method("wudi", "WUDI", "2503.08099", define.with_weights(wudi), takes=_WUDI, defaults=_RIDGE),
    Method(
        "lego", "LoRA-LEGO", "2409.16167", define.units, reach=Reach.LARGEST, reducible=_RANK_ONLY
    ),
    Method(
        "knots",
        "KnOTS",
        "2410.19735",
        define.with_weights(shared_spaces.knots),
        Space.KNOTS,
        _INNER,
        _FIFTH,
    ),
    Method(
        "core",
        "Core Space",
        "2509.17786",
        define.with_weights(shared_spaces.core),
        Space.CORE,
        _INNER,
        _FIFTH,
    ),
)
_ENTRY_ROWS = (
    ("ties", Inner.TIES, "TIES", "2306.01708", _TIES, _FIFTH, False),
    ("dare_linear", Inner.DARE_LINEAR, "DARE, then sum", "2311.03099", _DARE, _HALF, True),
    ("dare_ties", Inner.DARE_TIES, "DARE, then TIES's mean", "2311.03099", _DARE, _HALF, False),
    ("della", Inner.DELLA, "DELLA", "2406.11617", _DELLA, _HALF, False),
    (
        "breadcrumbs",
        Inner.BREADCRUMBS,
        "Model Breadcrumbs",
        "2312.06795",
        _CRUMBS,
        _CRUMBS_DEFAULTS,
        True,
    ),
    ("magnitude_prune", Inner.MAGNITUDE_PRUNE, "largest entries", "PEFT", _TIES, _HALF, True),
)
_FACTOR_RULES = {
    Inner.TIES: factor_space.TIES,
    Inner.DARE_LINEAR: factor_space.DARE_LINEAR,
    Inner.DARE_TIES: factor_space.DARE_TIES,
    Inner.DELLA: factor_space.DELLA,
    Inner.BREADCRUMBS: factor_space.BREADCRUMBS,
    Inner.MAGNITUDE_PRUNE: factor_space.MAGNITUDE_PRUNE,
}


def _rows() -> dict[str, Method]:
    rows = {row.name: row for row in _DELTA_ROWS}
    for name, inner, title, paper, takes, defaults, shares in _ENTRY_ROWS:
        rows[name] = Method(
            name,
            title,
            paper,
            define.by_entries(inner),
            Space.DELTA,
            takes,
            defaults,
            Reach.TOTAL,
            shares=shares,
        )
        twin = name + _FACTORS_ENDING
        on_factors = define.on_factors(factor_space.by_rule(_FACTOR_RULES[inner]))
        rows[twin] = Method(
            twin,
            f"{title}, on A and B",
            paper,
            on_factors,
            Space.FACTORS,
            takes,
            defaults,
            shares=shares,
        )
    for name, title, paper, define_factors, inputs in (
        ("linear", "sums of A and of B", "PEFT", factor_space.by_rule(factor_space.LINEAR), None),
        ("slerp", "A with A, B with B", "mergekit", factor_space.slerp_factors, _TWO),
    ):
        twin = name + _FACTORS_ENDING
        rows[twin] = Method(
            twin,
            title,
            paper,
            define.on_factors(define_factors, proportions=inputs == _TWO),
            Space.FACTORS,
            shares=True,
            inputs=inputs or (1, 1 << 16),
        )
    rows["mhr_mu"] = Method(
        "mhr_mu",
        "MHR-μ: mean A, mean B of skills trained together",
        "2211.03831",
        define.on_factors(factor_space.mhr_mu),
        Space.FACTORS,
        shares=True,
    )
    return rows


METHODS: Mapping[str, Method] = _rows()


def method_named(name: str) -> Method:
    """Return a row of the table.

    Raises:
        MergeOptionError: there is none of this name.
    """
    if name not in METHODS:
        raise MergeOptionError(
            f"there is no method {name}",
            field="method",
            expected=", ".join(METHODS),
            actual=name[:60],
        )
    return METHODS[name]
