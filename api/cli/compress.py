"""Compress and decompress."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE, as_folder, existing, local_path, parse_reference

if TYPE_CHECKING:
    from api.workflows.compress import CompressOptions, Origin
    from api.workflows.push import PushedRevision
    from compress import CompressionReport
    from registry.refs import Reference


@command(example="adapters compress team/sql-expert --as team/sql-expert-small --density 0.3")
@click.argument("source", metavar="SRC")
@click.option("--to", "destination", type=click.Path(path_type=Path), help="FILE.tern or folder.")
@click.option("--as", "target", metavar="NAME", type=REFERENCE, help="Publish it on the hub.")
@click.option("--method", type=click.Choice(["compeft"]), default="compeft", show_default=True)
@click.option("--density", type=float, default=0.2, show_default=True, help="Share kept, (0, 1].")
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Factor of the scale.")
@click.option(
    "--scope",
    type=click.Choice(["global", "factor", "tensor"]),
    default="global",
    show_default=True,
    help="Which values compete for being kept.",
)
@click.option("--exact-count", is_flag=True, help="Keep exactly that share, ties by position.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Base model, if SRC is a full fine-tune of it."
)
@click.option(
    "--kind",
    type=click.Choice(["full-residual"]),
    help="SRC is a file here that holds fine-tuned minus base.",
)
@click.option("-m", "--message", default="", help="What to note on the published revision.")
@common
def compress(
    session: Session,
    *,
    source: str,
    destination: Path | None,
    target: Reference | None,
    method: str,
    density: float,
    alpha: float,
    scope: str,
    exact_count: bool,
    base: Path | None,
    kind: str | None,
    message: str,
) -> None:
    """Shrink an adapter to a .tern.

    SRC is a folder or file here, or a revision on the hub. With --as the result becomes a revision
    that knows what it was made from. A module of which nothing is left is reported.
    """
    from api.workflows.compress import CompressOptions, shrink
    from compress import Compeft, Scope

    del method  # there is one so far
    if (destination is None) == (target is None):
        raise click.UsageError("say where to: --to FILE|DIR or --as NAME, one of them")
    chosen = CompressOptions(
        Compeft(density=density, alpha=alpha, scope=Scope(scope), exact_count=exact_count),
        base,
        kind,
    )
    if target is not None:
        report, pushed = _publish(session, source, target, chosen, message)
        tell(session, report, where=f"{target.adapter}@{pushed.revision.digest}", pushed=pushed)
        return
    with origin_of(session, source, base=base) as origin:
        report = shrink(origin, destination or Path(), options=chosen, progress=session.progress())
    tell(session, report, where=str(destination))


def _publish(
    session: Session, source: str, target: Reference, options: CompressOptions, message: str
) -> tuple[CompressionReport, PushedRevision]:
    from api.workflows.compress import compress_and_push

    with (
        origin_of(session, source, base=options.base) as origin,
        session.client() as client,
    ):
        return compress_and_push(
            client, origin, target, options=options, message=message, progress=session.progress()
        )


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


def tell(
    session: Session,
    report: CompressionReport,
    *,
    where: str,
    pushed: PushedRevision | None = None,
) -> None:
    """Print what compressing did; what was erased cannot be overlooked."""
    for text in report.warnings:
        if not text.startswith("erased"):  # said louder below
            output.warning(text)
    if report.erased:
        names = ", ".join(report.erased[:6]) + (" …" if len(report.erased) > 6 else "")
        output.alarm(
            f"ERASED: nothing is left of {len(report.erased)} of {len(report.modules)} modules "
            f"({names}). Raise --density, or try --scope factor."
        )
    if session.as_json:
        digest = pushed.revision.digest if pushed else None
        output.as_json({"result": where, "digest": digest, **report.to_json()})
        return
    kept = len(report.exact_tensors)
    method = f"{report.method}, density {report.density:g}, alpha {report.alpha:g}"
    bits = f"{report.bits_per_param:.3f} bits per parameter"
    error = "" if report.delta_error is None else f"{report.delta_error:.4f}"
    output.fields(
        [
            ("method", f"{method}, scope {report.scope}"),
            ("size", f"{output.size(report.source_bytes)} → {output.size(report.size.total)}"),
            ("ratio", f"{report.ratio:.1f}× of {report.baseline_dtype}"),
            ("compressed part", f"{report.lossy_ratio:.1f}×, {bits}"),
            ("parameters", output.count(report.parameters)),
            ("error of ΔW", error),
            ("kept exactly", f"{kept} tensors, {output.size(report.size.exact)}" if kept else ""),
        ]
    )
    output.line(where)


@command(example="adapters decompress sql-expert.tern --to ./sql-expert")
@click.argument("source", metavar="SRC")
@click.option(
    "--to", "destination", type=click.Path(path_type=Path), required=True, help="A new folder."
)
@click.option(
    "--base", type=click.Path(path_type=Path), help="Base model, for a full fine-tune's residual."
)
@common
def decompress(session: Session, *, source: str, destination: Path, base: Path | None) -> None:
    """Turn a .tern into a folder."""
    from compress import decompress as decode

    with as_folder(session, source) as path:
        decode(path, destination, base=base)
    if session.as_json:
        files = sorted(p.name for p in destination.rglob("*")) if destination.is_dir() else []
        output.as_json({"result": str(destination), "files": files})
    else:
        output.line(str(destination))
