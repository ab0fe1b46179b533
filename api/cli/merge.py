"""Merge adapters."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.compress import origin_of
from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from pydantic import JsonValue

    from api.workflows.compress import Origin
    from api.workflows.push import PushedRevision
    from merge import MergeReport
    from registry.manifest import Scalar
    from registry.refs import Reference


@command(example="adapters merge team/sql team/python -w 0.7 -w 0.3 --as team/coder")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.option("--method", type=click.Choice(["linear"]), default="linear", show_default=True)
@click.option(
    "-w", "--weight", "weights", multiple=True, type=float, help="One per SRC; else 1/n each."
)
@click.option("--rank", type=click.IntRange(min=1), help="Rank of the result; else all of ΔW.")
@click.option(
    "--heads",
    type=click.Choice(["average", "first"]),
    default="average",
    show_default=True,
    help="What becomes of classifier heads.",
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
    method: str,
    weights: tuple[float, ...],
    rank: int | None,
    heads: str,
    destination: Path | None,
    target: Reference | None,
    message: str,
    as_job: bool,
) -> None:
    """Combine adapters into one.

    The result's ΔW is the weighted sum of theirs, as an ordinary PEFT folder.
    """
    from merge import HeadPolicy, Recipe, WeightedAdapter, merge_adapters

    if (destination is None) == (target is None):
        raise click.UsageError("say where to: --to DIR or --as NAME, one of them")
    if weights and len(weights) != len(sources):
        raise click.UsageError(f"{len(sources)} adapters need as many --weight, not {len(weights)}")
    if as_job:
        refuse_with_job(to=destination)
        asked: dict[str, JsonValue] = {
            "sources": [on_the_hub(source) for source in sources],
            "weights": list(weights) or None,
            "target": str(target),
            "method": method,
            "rank": rank,
            "heads": heads,
            "message": message,
        }
        submit_job(session, "merge", asked)
        return
    shares = weights or (1 / len(sources),) * len(sources)
    with ExitStack() as stack:
        origins = [stack.enter_context(origin_of(session, source)) for source in sources]
        inputs = [
            WeightedAdapter(origin.path, share)
            for origin, share in zip(origins, shares, strict=True)
        ]
        place = destination or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "merged"
        recipe = Recipe(rank=rank, heads=HeadPolicy(heads))
        report = merge_adapters(inputs, place, recipe)
        where, pushed = str(place), None
        if target is not None:
            parameters: dict[str, Scalar] = {"method": method, "rank": rank, "heads": heads}
            pairs = list(zip(origins, shares, strict=True))
            pushed = _publish(
                session, place, target, origins=pairs, parameters=parameters, message=message
            )
            where = f"{target.adapter}@{pushed.revision.digest}"
    _tell(session, report, where, pushed)


def _publish(
    session: Session,
    folder: Path,
    target: Reference,
    *,
    origins: list[tuple[Origin, float]],
    parameters: dict[str, Scalar],
    message: str,
) -> PushedRevision:
    from api.workflows.compress import merge_and_push

    with session.client() as client:
        return merge_and_push(
            client, folder, target, origins=origins, parameters=parameters, message=message
        )


def _tell(session: Session, report: MergeReport, where: str, pushed: PushedRevision | None) -> None:
    if session.as_json:
        output.as_json(
            {
                "result": where,
                "digest": pushed.revision.digest if pushed else None,
                "modules": report.modules,
                "rank": report.rank,
                "error": report.error,
                "full_tensors": report.full_tensors,
            }
        )
        return
    output.fields(
        [
            ("modules", output.count(report.modules)),
            ("rank", str(report.rank)),
            ("error of ΔW", f"{report.error:.4f}" if report.error else "none: nothing was cut"),
            ("full tensors", str(report.full_tensors)),
        ]
    )
    output.line(where)
