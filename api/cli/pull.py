"""Pull a revision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from api.workflows.pull import PullOptions
    from registry.refs import Reference


@command(example="adapters pull team/sql-expert:v2 --to ./sql-expert")
@click.argument("reference", metavar="REF", type=REFERENCE)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder; else ./NAME.")
@click.option(
    "--encoding",
    type=click.Choice(["peft", "tern"]),
    default="peft",
    show_default=True,
    help="peft decodes a compressed revision; tern gives the compressed form.",
)
@click.option("--force", is_flag=True, help="Replace files of the same name.")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="Base model's folder: decodes a full fine-tune's residual.",
)
@click.option(
    "--layers",
    type=click.IntRange(min=1),
    metavar="K",
    help="Only the first K layers: a coarser adapter for fewer bytes.",
)
@common
def pull(
    session: Session,
    *,
    reference: Reference,
    folder: Path | None,
    encoding: str,
    force: bool,
    base: Path | None,
    layers: int | None,
) -> None:
    """Fetch a revision into a folder.

    Every byte is checked against its digest before the folder appears. An interrupted pull goes on
    where it stopped when it is repeated; files that are there already are not fetched again.
    """
    from api.workflows.pull import PullOptions, WantedEncoding
    from api.workflows.pull import pull as pull_revision

    if layers is not None and base is not None:
        raise click.UsageError("a full fine-tune's residual has no --layers: leave out --base")
    target = (folder or Path(reference.adapter.name)).expanduser()
    options = PullOptions(
        cache_dir=session.settings().cache_dir,
        encoding=WantedEncoding(encoding),
        force=force,
        base=base,
    )
    if layers is not None:
        _pull_layers(session, reference, target, layers, options)
        return
    with session.client() as client:
        pulled = pull_revision(
            client, reference, target, options=options, progress=session.progress()
        )
    manifest = pulled.revision.manifest
    for text in manifest.warnings:
        output.warning(text)
    if session.as_json:
        output.as_json(
            {
                "adapter": manifest.adapter,
                "digest": pulled.revision.digest,
                "folder": str(pulled.folder),
                "files": list(pulled.files),
                "fetched_bytes": pulled.fetched_bytes,
                "decoded": pulled.decoded,
            }
        )
        return
    how = ", decoded" if pulled.decoded else ""
    output.message(
        f"pulled {manifest.adapter}@{pulled.revision.digest}: {len(pulled.files)} files, "
        f"{output.size(pulled.fetched_bytes)} fetched{how}"
    )
    output.line(str(pulled.folder))


def _pull_layers(
    session: Session, reference: Reference, target: Path, layers: int, options: PullOptions
) -> None:
    """Pull a part of a revision, and say that it is one."""
    from api.workflows.layers import pull_layers

    with session.client() as client:
        pulled = pull_layers(
            client, reference, target, layers=layers, options=options, progress=session.progress()
        )
    manifest, told = pulled.revision.manifest, pulled.layers
    if session.as_json:
        output.as_json(
            {
                "adapter": manifest.adapter,
                "digest": None,
                "cut_from": pulled.revision.digest,
                "layers": told.count,
                "of_layers": told.of,
                "error": told.error,
                "folder": str(pulled.folder),
                "files": list(pulled.files),
                "fetched_bytes": pulled.fetched_bytes,
                "whole_bytes": pulled.whole_bytes,
                "decoded": pulled.decoded,
            }
        )
        return
    output.message(
        f"pulled {told}: not the whole of {manifest.adapter}@{pulled.revision.digest}; "
        f"{output.size(pulled.fetched_bytes)} fetched of {output.size(pulled.whole_bytes)}"
    )
    output.line(str(pulled.folder))
