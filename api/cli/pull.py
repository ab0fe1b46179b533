"""Pull a revision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
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
@common
def pull(
    session: Session,
    *,
    reference: Reference,
    folder: Path | None,
    encoding: str,
    force: bool,
    base: Path | None,
) -> None:
    """Fetch a revision into a folder.

    Every byte is checked against its digest before the folder appears. An interrupted pull goes on
    where it stopped when it is repeated; files that are there already are not fetched again.
    """
    from api.workflows.pull import PullOptions, WantedEncoding
    from api.workflows.pull import pull as pull_revision

    target = (folder or Path(reference.adapter.name)).expanduser()
    options = PullOptions(
        cache_dir=session.settings().cache_dir,
        encoding=WantedEncoding(encoding),
        force=force,
        base=base,
    )
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
