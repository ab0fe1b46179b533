"""Turn the options that search weights into a task; without `--search` there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

import click

if TYPE_CHECKING:
    from api.workflows.search_curve import SearchOptions
    from api.workflows.weight_search import SearchTask

P = ParamSpec("P")
R = TypeVar("R")


class SearchAsked(TypedDict):
    """Hold what the options said; None stands for nothing.

    The names are those of the options, with underscores.
    """

    search: Path | None
    base_model: Path | None
    search_steps: int | None
    search_seed: int | None


@dataclass(frozen=True, slots=True)
class Search:
    """Hold a search that was asked for.

    Attributes:
        task: what weights are judged by.
        options: how they are searched.
    """

    task: SearchTask
    options: SearchOptions


_OPTIONS = (
    click.option(
        "--search",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Search the weights on these rows of the task (JSON Lines); -w is where it starts.",
    ),
    click.option(
        "--base-model",
        metavar="DIR",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="The model that --search runs.",
    ),
    click.option("--search-steps", type=int, help="Merges that --search tries; else 40."),
    click.option("--search-seed", type=int, help="Of --search; else 0."),
)


def search_options(action: Callable[P, R]) -> Callable[P, R]:
    """Add the options of a search to a command, which takes them as `SearchAsked`."""
    for option in reversed(_OPTIONS):
        action = option(action)
    return action


def search_of(asked: SearchAsked) -> Search | None:
    """Make the search that was asked for.

    Raises:
        UsageError: an option is there without `--search`, or the model is not.
        OptionError: a value is out of its range.
    """
    rows, base_model = asked["search"], asked["base_model"]
    if rows is None:
        values: Mapping[str, object] = asked
        stray = [
            name
            for name in ("base_model", "search_steps", "search_seed")
            if values[name] is not None
        ]
        if stray:
            flags = " and ".join("--" + name.replace("_", "-") for name in stray)
            raise click.UsageError(f"{flags}: for --search FILE.jsonl")
        return None
    if base_model is None:
        raise click.UsageError("--search needs --base-model DIR, the model that it runs")
    from api.workflows.search_curve import SearchOptions
    from api.workflows.weight_search import SearchTask

    usual = SearchOptions()
    steps, seed = asked["search_steps"], asked["search_seed"]
    return Search(
        SearchTask(rows, base_model),
        SearchOptions(
            steps=usual.steps if steps is None else steps,
            seed=usual.seed if seed is None else seed,
        ),
    )
