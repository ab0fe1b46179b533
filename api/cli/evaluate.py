"""Judge an adapter on rows."""

from __future__ import annotations

from pathlib import Path

import click

from api.cli import output
from api.cli.job_option import job_option, on_the_hub, submit_job
from api.cli.session import Session, command, common
from api.cli.sources import as_folder


@command(example="adapters evaluate sql-expert.tern --base-model ./base --rows test.jsonl")
@click.argument("source", metavar="ADAPTER")
@click.option(
    "--base-model",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the model that the adapter belongs to.",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help='JSON Lines: {"text", "label"} for a classifier, else {"input", "output"}.',
)
@job_option
@common
def evaluate(session: Session, *, source: str, base_model: Path, rows: Path, as_job: bool) -> None:
    """Judge an adapter on rows: accuracy and loss.

    A compressed one is decoded first. Needs the torch extra; nothing is downloaded. A job reads
    --base-model and --rows on the worker's machine, and only an administrator may name them.
    """
    from dataclasses import asdict

    from api.workflows.forward import judge

    if as_job:
        paths = {"base_model": str(base_model.absolute()), "rows": str(rows.absolute())}
        submit_job(session, "evaluate", {"source": on_the_hub(source), **paths})
        return

    with as_folder(session, source, raw=False) as adapter:
        score = judge(adapter, base_model, rows)
    if session.as_json:
        output.as_json({"adapter": source, **asdict(score)})
        return
    output.fields(
        [
            ("adapter", source),
            ("rows", output.count(score.rows)),
            ("answers", output.count(score.judged)),
            ("accuracy", f"{score.accuracy:.4f}"),
            ("loss", f"{score.loss:.4f}"),
        ]
    )
