"""Decompress."""

from __future__ import annotations

from pathlib import Path

import click

from api.cli import output
from api.cli.session import Session, command, common, device_option
from api.cli.sources import as_folder


@command(example="adapters decompress sql-expert.tern --to ./sql-expert")
@click.argument("source", metavar="SRC")
@click.option(
    "--to", "destination", type=click.Path(path_type=Path), required=True, help="A new folder."
)
@click.option(
    "--base", type=click.Path(path_type=Path), help="Base model, for a full fine-tune's residual."
)
@click.option(
    "--layers",
    type=click.IntRange(min=1),
    metavar="K",
    help="Only the first K layers: a coarser adapter. The file may end after them.",
)
@device_option
@common
def decompress(
    session: Session,
    *,
    source: str,
    destination: Path,
    base: Path | None,
    layers: int | None,
    device: str,
) -> None:
    """Turn a .tern into a folder."""
    from api.workflows.layers import open_layers
    from compress import decompress as decode

    told = None
    with as_folder(session, source) as path:
        if layers is not None:
            told = open_layers(path, layers)
        decode(path, destination, base=base, layers=layers, device=device)
    if told is not None and layers != told.of:
        output.message(f"decoded {told}")
    if session.as_json:
        files = sorted(p.name for p in destination.rglob("*")) if destination.is_dir() else []
        shown = {"layers": told.count, "of_layers": told.of, "error": told.error} if told else {}
        output.as_json({"result": str(destination), "files": files, **shown})
    else:
        output.line(str(destination))
