"""Run jobs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from api.cli import output
from api.cli.serve import hub_settings
from api.cli.session import Session, command, common


@command(example="adapters worker --slots 4")
@click.option("--slots", type=click.IntRange(1, 1024), help="Jobs at once; else 2.")
@click.option(
    "--gpus", metavar="LIST", help="GPUs to hand out, as 0,1; else those that can be seen."
)
@click.option(
    "--executor", type=click.Choice(["local", "ray"]), help="Processes here, or a Ray cluster."
)
@click.option("--ray-address", metavar="HOST:PORT", help="The head of that cluster; else auto.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="The hub's folder; else ADAPTERS_DATA_DIR."
)
@click.option("--parent", type=int, hidden=True, help="Stop when this process dies.")
@common
def worker(
    session: Session,
    *,
    slots: int | None,
    gpus: str | None,
    executor: str | None,
    ray_address: str | None,
    data_dir: Path | None,
    parent: int | None,
) -> None:
    """Run jobs of a hub, on this machine or on a Ray cluster.

    Works on the database and the store that the ADAPTERS_ settings name, as the hub itself does;
    any number of workers share them. Ctrl-C gives what runs back to the queue. With --json the
    worker's name is printed as one line of JSON as soon as it takes jobs.
    """
    import signal

    from api.executors.orphans import end_with
    from api.jobs.worker import work

    if parent is not None:
        end_with(parent, signal.SIGTERM)
    given = {
        "job_slots": slots,
        "job_gpus": gpus,
        "job_executor": executor,
        "ray_address": ray_address,
        "data_dir": data_dir,
    }
    settings = hub_settings(**{key: value for key, value in given.items() if value is not None})

    def ready(name: str) -> None:
        if session.as_json:
            output.line(json.dumps({"worker": name}))
        else:
            output.message(f"worker {name} takes jobs; Ctrl-C stops it")

    work(settings, ready=ready)
