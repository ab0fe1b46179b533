"""Turn the options of `adapters merge` into a recipe; each method says which it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

import click

from api.cli import output
from api.cli.output import Column

if TYPE_CHECKING:
    from pydantic import JsonValue

    from merge import Recipe
    from merge.options import Scalar

P = ParamSpec("P")
R = TypeVar("R")


class Asked(TypedDict):
    """Hold what the options said; None and an empty text stand for nothing.

    The names are those of the options, with underscores.
    """

    method: str
    rank: int | None
    energy: float | None
    scale: float | None
    density: float | None
    seed: int | None
    epsilon: float | None
    gamma: float | None
    inner: str | None
    ridge: float | None
    steps: int | None
    learning_rate: float | None
    decay: float | None
    heads: str
    dtype: str | None
    same_base: str


#: What the method itself is told; the rest says what becomes of its result.
_OF_THE_METHOD = (
    "scale",
    "density",
    "seed",
    "epsilon",
    "gamma",
    "inner",
    "ridge",
    "steps",
    "learning_rate",
    "decay",
)


def _list_methods(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    """Print the table of methods and be done."""
    if not wanted or context.resilient_parsing:
        return
    from merge import METHODS

    rows = []
    for row in METHODS.values():
        options = ", ".join(f"{name} {value}" for name, value in sorted(row.options.items()))
        rows.append((row.name, row.title, row.paper, row.space, row.usual, options))
    titles = ("method", "what it does", "paper", "space", "weights", "options")
    output.table([Column(title) for title in titles], rows)
    context.exit()


_OPTIONS = (
    click.option(
        "--method",
        default="linear",
        show_default=True,
        metavar="NAME",
        help="linear, ties, knots, tsv … as --list shows.",
    ),
    click.option(
        "--list",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_list_methods,
        help="Show all methods with their papers and options.",
    ),
    click.option("--rank", type=int, help="Rank of the result; else what the method gives."),
    click.option(
        "--energy",
        type=float,
        help="Or the least rank of each module that keeps this share of ‖ΔW‖².",
    ),
    click.option("--scale", type=float, help="λ: multiplies the merged ΔW; else 1."),
    click.option("--density", type=float, help="Share of entries that sparsification keeps."),
    click.option("--seed", type=int, help="Of what is drawn at random; else 0."),
    click.option("--epsilon", type=float, help="della: keeps with density ± this."),
    click.option("--gamma", type=float, help="breadcrumbs: share of the largest to drop."),
    click.option("--inner", metavar="NAME", help="core, knots: what they do in their space."),
    click.option("--ridge", type=float, help="wudi: ω as a share of ‖ΔWᵢ‖²; else 0.001."),
    click.option("--steps", type=int, help="wudi: steps of Adam; else the exact solution."),
    click.option("--learning-rate", type=float, help="wudi: of Adam; else 1e-5."),
    click.option("--decay", type=float, help="ema: what a step leaves of the past; else 0.9."),
    click.option(
        "--heads",
        type=click.Choice(["auto", "average", "first", "none"]),
        default="auto",
        show_default=True,
        help="Classifier heads: auto averages equal ones, else keeps the first's.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float16", "bfloat16"]),
        help="How the result is stored; else as the adapters are.",
    ),
    click.option(
        "--same-base",
        metavar="REASON",
        default="",
        help="Merge although the names of the base models differ, and note why.",
    ),
)


def merge_options(action: Callable[P, R]) -> Callable[P, R]:
    """Add the options of every method to a command, which takes them as `Asked`."""
    for option in reversed(_OPTIONS):
        action = option(action)
    return action


def told(asked: Asked) -> dict[str, Scalar]:
    """Return what the method itself was told, by name."""
    values: Mapping[str, object] = asked
    given = {name: values[name] for name in _OF_THE_METHOD}
    return {k: v for k, v in given.items() if isinstance(v, int | float | str)}


def recipe_of(asked: Asked) -> Recipe:
    """Make the recipe that was asked for; whether it fits is checked with the adapters at hand."""
    from merge import HeadPolicy, Recipe

    return Recipe(
        method=asked["method"],
        options=told(asked),
        rank=asked["rank"],
        energy=asked["energy"],
        heads=HeadPolicy(asked["heads"]),
        dtype=asked["dtype"],
        base_override=asked["same_base"],
    )


def for_a_job(asked: Asked) -> dict[str, JsonValue]:
    """Return the recipe as a job takes it."""
    return {
        "method": asked["method"],
        "options": dict(told(asked)) or None,
        "rank": asked["rank"],
        "energy": asked["energy"],
        "heads": asked["heads"],
        "dtype": asked["dtype"],
        "same_base": asked["same_base"] or None,
    }
