"""Compress."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from api.cli import output
from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.methods import Asked, Choice, choose, how, method_options
from api.cli.session import Session, command, common, device_option
from api.cli.sources import REFERENCE, existing, local_path, parse_reference

if TYPE_CHECKING:
    from pydantic import JsonValue

    from api.forward.gain import GainCurve
    from api.workflows.compress import CompressOptions, Origin
    from registry.refs import Reference


@command(example="adapters compress team/sql-expert --as team/sql-expert-small --bits 0.5")
@click.argument("source", metavar="[SRC]", required=False)
@click.option("--to", "destination", type=click.Path(path_type=Path), help="FILE.tern or folder.")
@click.option("--as", "target", metavar="NAME", type=REFERENCE, help="Publish it on the hub.")
@method_options
@click.option(
    "--base", type=click.Path(path_type=Path), help="Base model, if SRC is a full fine-tune of it."
)
@click.option(
    "--kind",
    type=click.Choice(["full-residual"]),
    help="SRC is a file here that holds fine-tuned minus base.",
)
@click.option("-m", "--message", default="", help="What to note on the published revision.")
@device_option
@click.option(
    "--all-of", metavar="BASE", help="With --job: every adapter of a base model, each on its own."
)
@click.option(
    "--suffix", default="-small", show_default=True, help="With --all-of: ends the new names."
)
@job_option
@common
def compress(
    session: Session,
    *,
    source: str | None,
    destination: Path | None,
    target: Reference | None,
    base: Path | None,
    kind: str | None,
    message: str,
    device: str,
    all_of: str | None,
    suffix: str,
    as_job: bool,
    **asked: Unpack[Asked],
) -> None:
    """Shrink an adapter to a .tern.

    SRC is a folder or file here, or a revision on the hub. Say how much with one of --bits,
    --max-error and --layers. With --as the result becomes a revision that knows what it was made
    from. A module of which nothing is left is reported.
    """
    from api.cli.compress_report import Outcome, tell
    from api.workflows.compress import CompressOptions, compress_and_push, shrink

    if as_job:
        elsewhere = "" if device == "cpu" else device
        refuse_with_job(to=destination, base=base, kind=kind, device=elsewhere)
        wanted = _wanted(source, target, all_of, suffix)
        submit_job(session, "compress", {**wanted, "how": how(asked), "message": message})
        return
    if source is None or all_of is not None:
        raise click.UsageError("name a source; --all-of is for --job")
    if (destination is None) == (target is None):
        raise click.UsageError("say where to: --to FILE|DIR or --as NAME, one of them")
    choice = choose(asked, residual=base is not None or kind is not None)
    progress = session.progress()
    with origin_of(session, source, base=base) as origin:
        given = CompressOptions(choice.method, base, kind, device)
        options, curve = _tuned(origin, choice, given)
        if target is None:
            report = shrink(origin, destination or Path(), options=options, progress=progress)
            outcome = Outcome(report, str(destination), curve=curve)
        else:
            with session.client() as client:
                report, pushed = compress_and_push(
                    client, origin, target, options=options, message=message, progress=progress
                )
            digest = pushed.revision.digest
            outcome = Outcome(report, f"{target.adapter}@{digest}", digest, curve)
    if asked["method"] is None and report.method == "compeft":
        output.message("a full fine-tune has no factors that rd could take apart: compeft it is")
    tell(session, outcome)


def _wanted(
    source: str | None, target: Reference | None, all_of: str | None, suffix: str
) -> dict[str, JsonValue]:
    """Say what a job is to compress."""
    if all_of is not None:
        if source is not None or target is not None:
            raise click.UsageError("--all-of BASE takes neither SRC nor --as")
        return {"base_model": all_of, "suffix": suffix}
    if source is None or target is None:
        raise click.UsageError("a job needs SRC and --as NAME, or --all-of BASE")
    return {"source": on_the_hub(source), "target": str(target)}


def _tuned(
    origin: Origin, choice: Choice, options: CompressOptions
) -> tuple[CompressOptions, GainCurve | None]:
    """Find the gain first, where that was asked for."""
    if choice.tuning is None:
        return options, None
    from api.workflows.tune import tuned
    from compress import Rd

    method = options.method if isinstance(options.method, Rd) else Rd()
    method, curve = tuned(origin, method, choice.tuning)
    output.message(
        f"gain {curve.gain:g} is best of {len(curve.points)} on {curve.rows} rows: "
        f"loss {curve.best.loss:.4f}, accuracy {curve.best.accuracy:.4f}"
    )
    return replace(options, method=method), curve


@contextmanager
def origin_of(session: Session, source: str, *, base: Path | None = None) -> Iterator[Origin]:
    """Give a source as an ordinary folder; one on the hub is pulled and decoded.

    Args:
        session: the common options.
        source: a path or a reference.
        base: the base model, which decoding a full fine-tune's residual needs.
    """
    from api.workflows.compress import Origin, fetch_origin

    path = local_path(source)
    if path is not None:
        yield Origin(existing(path))
        return
    reference = parse_reference(source)
    with tempfile.TemporaryDirectory(prefix="adapters-") as name, session.client() as client:
        yield fetch_origin(
            client,
            reference,
            Path(name) / reference.adapter.name,
            cache_dir=session.settings().cache_dir,
            base=base,
            progress=session.progress(),
        )
