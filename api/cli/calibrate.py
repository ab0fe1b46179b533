"""Measure what enters the modules of an adapter."""

from __future__ import annotations

from pathlib import Path

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import as_folder


@command(
    example="adapters calibrate ./sql --base-model ./base --texts rows.jsonl --to m.safetensors"
)
@click.argument("source", metavar="ADAPTER")
@click.option(
    "--base-model",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the model that the adapter belongs to.",
)
@click.option(
    "--texts",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="JSON Lines of rows; only what a model would read of them counts.",
)
@click.option(
    "--to",
    "destination",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A new .safetensors, for `adapters compress --calibrate`.",
)
@click.option("--full", is_flag=True, help="All of each second moment, not its diagonal.")
@click.option(
    "--rows",
    "most",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Read no more rows than this, from the top.",
)
@common
def calibrate(
    session: Session,
    *,
    source: str,
    base_model: Path,
    texts: Path,
    destination: Path,
    full: bool,
    most: int,
) -> None:
    """Measure what enters an adapter's modules.

    Some texts run through the model with the adapter; the second moments of every module's inputs
    let `adapters compress` spend bits where outputs depend on them. Needs the torch extra.
    """
    from api.workflows.forward import calibrate as measure

    with as_folder(session, source, raw=False) as adapter:
        found = measure(
            adapter, base_model, texts, destination=destination, full=full, most_rows=most
        )
    if session.as_json:
        output.as_json(
            {"result": str(destination), "modules": found.modules, "rows": found.rows, "full": full}
        )
        return
    output.message(f"read {found.rows} rows: second moments of {found.modules} modules")
    output.line(str(destination))
