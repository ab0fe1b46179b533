"""Merge adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.merge_options import Asked, for_a_job, merge_options, recipe_of
from api.cli.search_options import SearchAsked, search_of, search_options
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE, local_path, parse_reference

if TYPE_CHECKING:
    from registry.refs import Reference


class Everything(Asked, SearchAsked):
    """Hold what the options of the method and of a search said."""


@command(example="adapters merge team/sql team/python -w 0.7 -w 0.3 --method ties --as team/coder")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.option(
    "-w", "--weight", "weights", multiple=True, type=float, help="One per SRC; else the method's."
)
@merge_options
@search_options
@click.option(
    "--conflicts", is_flag=True, help="Also tell where the adapters contradict one another."
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path),
    help="Draw that, modules by layer: a .png or .svg.",
)
@click.option(
    "--history",
    type=click.IntRange(min=1),
    help="SRC is one branch on the hub: merge its last so many revisions, oldest first.",
)
@click.option("--to", "destination", type=click.Path(path_type=Path), help="A new folder.")
@click.option("--as", "target", metavar="NAME", type=REFERENCE, help="Publish it on the hub.")
@click.option("-m", "--message", default="", help="What to note on the published revision.")
@job_option
@common
def merge(
    session: Session,
    *,
    sources: tuple[str, ...],
    weights: tuple[float, ...],
    history: int | None,
    destination: Path | None,
    target: Reference | None,
    message: str,
    as_job: bool,
    conflicts: bool,
    picture: Path | None,
    **asked: Unpack[Everything],
) -> None:
    """Combine adapters into one.

    What is merged is ΔW, so that it does not matter how each was factored, nor which rank or alpha
    it has. The result is an ordinary PEFT folder, here or on the hub. `--list` shows the methods.
    """
    from api.cli.merge_here import Wanted, merge_here
    from api.cli.merge_report import draw, tell
    from api.cli.plot_conflicts import check_picture

    if (destination is None) == (target is None):
        raise click.UsageError("say where to: --to DIR or --as NAME, one of them")
    if history is not None:
        sources = _chain(session, sources, history)
    if weights and len(weights) != len(sources):
        raise click.UsageError(f"{len(sources)} adapters need as many --weight, not {len(weights)}")
    recipe = recipe_of(asked)
    recipe.check(weights or (None,) * len(sources))
    if as_job:
        refuse_with_job(to=destination, search=asked["search"], plot=picture)
        job = for_a_job(asked)
        job |= {"sources": [on_the_hub(source) for source in sources], "message": message}
        job |= {"conflicts": conflicts or None}
        job |= {"weights": list(weights) or None, "target": str(target)}
        submit_job(session, "merge", job)
        return
    wanted = Wanted(
        sources=sources,
        weights=weights or (None,) * len(sources),
        recipe=recipe,
        search=search_of(asked),
        conflicts=conflicts or picture is not None,
    )
    if picture is not None:
        check_picture(picture)
    outcome = merge_here(session, wanted, destination or target or Path(), message=message)
    if picture is not None and outcome.conflicts is not None:
        draw(picture, outcome.conflicts)
    tell(session, outcome, names=sources)


def _chain(session: Session, sources: Sequence[str], count: int) -> tuple[str, ...]:
    """Name the revisions of a branch, oldest first."""
    from api.workflows.merge import chain

    if len(sources) != 1 or local_path(sources[0]) is not None:
        raise click.UsageError("--history takes one branch on the hub: namespace/name[:branch]")
    with session.client() as client:
        return tuple(str(r) for r in chain(client, parse_reference(sources[0]), count))
