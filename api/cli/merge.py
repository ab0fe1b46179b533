"""Merge adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from api.cli import output
from api.cli.compress import origin_of
from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.merge_options import Asked, for_a_job, merge_options, recipe_of
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE, local_path, parse_reference

if TYPE_CHECKING:
    from api.client import HubClient
    from api.workflows.push import PushedRevision
    from merge import MergeReport
    from registry.refs import Reference


@command(example="adapters merge team/sql team/python -w 0.7 -w 0.3 --method ties --as team/coder")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.option(
    "-w", "--weight", "weights", multiple=True, type=float, help="One per SRC; else the method's."
)
@merge_options
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
    **asked: Unpack[Asked],
) -> None:
    """Combine adapters into one.

    What is merged is ΔW, so that it does not matter how each was factored, nor which rank or alpha
    it has. The result is an ordinary PEFT folder, here or on the hub. `--list` shows the methods.
    """
    from api.workflows.merge import MergeInput, combine, publish

    if (destination is None) == (target is None):
        raise click.UsageError("say where to: --to DIR or --as NAME, one of them")
    if history is not None:
        sources = _chain(session, sources, history)
    if weights and len(weights) != len(sources):
        raise click.UsageError(f"{len(sources)} adapters need as many --weight, not {len(weights)}")
    recipe = recipe_of(asked)
    recipe.check(weights or (None,) * len(sources))
    if as_job:
        refuse_with_job(to=destination)
        job = for_a_job(asked)
        job |= {"sources": [on_the_hub(source) for source in sources], "message": message}
        job |= {"weights": list(weights) or None, "target": str(target)}
        submit_job(session, "merge", job)
        return
    with ExitStack() as stack:
        origins = [stack.enter_context(origin_of(session, source)) for source in sources]
        inputs = [
            MergeInput(origin, weights[n] if weights else None) for n, origin in enumerate(origins)
        ]
        client = _client(stack, session, sources, target)
        place = destination or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "merged"
        report = combine(inputs, place, recipe, client=client, progress=session.progress())
        pushed = None
        if target is not None and client is not None:
            used = list(zip(origins, report.weights, strict=True))
            pushed = publish(client, place, target, inputs=used, recipe=recipe, message=message)
        _tell(session, report, where=str(destination), target=target, pushed=pushed)


def _chain(session: Session, sources: Sequence[str], count: int) -> tuple[str, ...]:
    """Name the revisions of a branch, oldest first."""
    from api.workflows.merge import chain

    if len(sources) != 1 or local_path(sources[0]) is not None:
        raise click.UsageError("--history takes one branch on the hub: namespace/name[:branch]")
    with session.client() as client:
        return tuple(str(r) for r in chain(client, parse_reference(sources[0]), count))


def _client(
    stack: ExitStack, session: Session, sources: Sequence[str], target: Reference | None
) -> HubClient | None:
    """Return a client of the hub if it has part in this."""
    if target is None and all(local_path(source) is not None for source in sources):
        return None
    return stack.enter_context(session.client())


def _tell(
    session: Session,
    report: MergeReport,
    *,
    where: str,
    target: Reference | None,
    pushed: PushedRevision | None,
) -> None:
    if pushed is not None and target is not None:
        where = f"{target.adapter}@{pushed.revision.digest}"
    if session.as_json:
        output.as_json(
            {
                "result": where,
                "digest": pushed.revision.digest if pushed else None,
                "method": report.method,
                "weights": list(report.weights),
                "modules": report.modules,
                "rank": report.rank,
                "error": report.error,
                "full_tensors": report.full_tensors,
            }
        )
        return
    output.fields(
        [
            ("method", report.method),
            ("weights", ", ".join(f"{weight:g}" for weight in report.weights)),
            ("modules", output.count(report.modules)),
            ("rank", str(report.rank)),
            ("error of ΔW", f"{report.error:.4f}" if report.error else "none: nothing was cut"),
            ("full tensors", str(report.full_tensors)),
        ]
    )
    output.line(where)
