"""Find experts that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.session import Session, command, common
from api.cli.similar_report import tell_all, tell_nearest
from api.cli.sources import as_folder, existing, local_path, parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from merge.compressed import CompressedExpert
    from merge.compressed.comparable import Refused

_PLOTS = (".png", ".svg")
_NEIGHBOURS, _PAIRS = 10, 50


@command(example="adapters similar team/sql-expert --top 5")
@click.argument("reference", metavar="REF")
@click.argument("others", metavar="[OTHERS]...", nargs=-1)
@click.option("--top", type=click.IntRange(min=1), help="At most so many lines.")
@click.option(
    "--threshold",
    type=float,
    default=0.95,
    show_default=True,
    help="The cosine of near-duplicates; from 0.9999 on they are duplicates.",
)
@click.option("--all-pairs", is_flag=True, help="Compare all with all: list duplicates.")
@click.option("--clusters", is_flag=True, help="Gather those that are alike, all with all.")
@click.option(
    "--cut",
    type=float,
    default=0.5,
    show_default=True,
    help="The mean cosine from which two clusters are one.",
)
@click.option(
    "--space",
    type=click.Choice(["delta", "factors"]),
    default="delta",
    show_default=True,
    help="Compare what experts do, or A and B as vectors, as ComPEFT does.",
)
@click.option(
    "--plot",
    "picture",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the cosines, all with all, by cluster: a .png or .svg.",
)
@job_option
@common
def similar(
    session: Session,
    *,
    reference: str,
    others: tuple[str, ...],
    top: int | None,
    threshold: float,
    all_pairs: bool,
    clusters: bool,
    cut: float,
    space: str,
    picture: Path | None,
    as_job: bool,
) -> None:
    """Find experts that are alike, compressed or not.

    The cosine of ΔW between REF and OTHERS; without OTHERS, all adapters on the hub of the same
    base model. Paths, files and references may be mixed.
    """
    from api.workflows.similar import SimilarOptions, compare_all, nearest
    from merge.compressed import Space

    if picture is not None and picture.suffix.lower() not in _PLOTS:
        raise click.UsageError(f"--plot draws {' or '.join(_PLOTS)}, not {picture.name!r}")
    together = all_pairs or clusters or picture is not None
    if as_job:
        refuse_with_job(others=others, plot=picture)
        wanted = _wanted(session, reference, together=together)
        how: dict[str, JsonValue] = {"space": space, "threshold": threshold, "cut": cut, "top": top}
        submit_job(session, "similar", {**wanted, **how})
        return
    options = SimilarOptions(Space(space), threshold, cut)
    expert, library, refused = _read(session, reference, others)
    if together:
        compared = compare_all(
            [expert, *library],
            options=options,
            clusters=clusters or picture is not None,
            progress=session.progress(),
        )
        if picture is not None:
            from api.cli.similarity_plot import draw

            what = "ΔW" if options.space is Space.DELTA else "A and B"
            draw(picture, compared, title=f"cosine of {what}")
            output.message(f"drew {picture}")
        tell_all(session, compared, refused, top=top or _PAIRS)
        return
    near = nearest(expert, library, options=options, progress=session.progress())
    tell_nearest(session, near, refused, top=top or _NEIGHBOURS)


def _wanted(session: Session, reference: str, *, together: bool) -> dict[str, JsonValue]:
    """Say what a job is to compare: one with all, or all of its base model with one another."""
    source = on_the_hub(reference)
    if not together:
        return {"source": source}
    with session.client() as client:
        base = client.resolve(parse_reference(source)).manifest.base_model
    if base is None:
        raise click.UsageError(f"nothing says which base model {reference} belongs to")
    return {"base_model": base}


def _read(
    session: Session, reference: str, others: Sequence[str]
) -> tuple[CompressedExpert, list[CompressedExpert], list[Refused]]:
    """Read the expert and those to compare it with."""
    from api.workflows.similar import read_all
    from merge.compressed import read_expert

    if not others:
        return _read_hub(session, reference)
    with as_folder(session, reference) as path:
        expert = read_expert(path, label=reference)
    library: list[CompressedExpert] = []
    refused: list[Refused] = []
    for text in others:
        if _same_place(text, reference):
            output.message(f"{text} is what the others are compared with: left out")
            continue
        with as_folder(session, text) as path:
            found, odd = read_all([(text, path)])
        library += found
        refused += odd
    return expert, library, refused


def _same_place(one: str, other: str) -> bool:
    """Say whether two sources are one, as where REF is among the files that a pattern names."""
    first, second = local_path(one), local_path(other)
    if first is None or second is None:
        return one == other
    return first.resolve() == second.resolve()


def _read_hub(
    session: Session, reference: str
) -> tuple[CompressedExpert, list[CompressedExpert], list[Refused]]:
    """Read an expert, and all of the hub that have its base model."""
    from api.workflows.expert_library import hub_expert, hub_library
    from merge.compressed import read_expert
    from registry.digest import Digest

    path, own = local_path(reference), None
    cache_dir = session.settings().cache_dir
    with session.client() as client:
        if path is None:
            expert, revision = hub_expert(
                client, parse_reference(reference), cache_dir=cache_dir, label=reference
            )
            base, own = revision.manifest.base_model, Digest.parse(revision.digest)
        else:
            expert = read_expert(existing(path), label=reference)
            base = expert.base
        if base is None:
            raise click.UsageError(
                f"nothing says which base model {reference} belongs to: name OTHERS"
            )
        library, refused = hub_library(
            client, base, cache_dir=cache_dir, without=own, progress=session.progress()
        )
    return expert, library, refused
