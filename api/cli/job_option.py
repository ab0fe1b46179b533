"""Let a long command run as a job on the hub: `--job`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from api.cli.job_views import print_job
from api.cli.session import Session
from api.cli.sources import local_path, parse_reference

if TYPE_CHECKING:
    from pydantic import JsonValue

job_option = click.option(
    "--job", "as_job", is_flag=True, help="Queue it on the hub's workers, and print the job's id."
)


def submit_job(session: Session, kind: str, parameters: Mapping[str, JsonValue]) -> None:
    """Queue a job and print it: its id as data, or with `--json` all of it."""
    from api.remote.jobs import HubJobs

    given = {name: value for name, value in parameters.items() if value is not None}
    with session.client() as client:
        print_job(session, HubJobs(client).submit(kind, given), brief=True)


def on_the_hub(text: str) -> str:
    """Return a source that a job can reach.

    Raises:
        UsageError: it is a local path, or no reference.
    """
    if local_path(text) is not None:
        raise click.UsageError(f"{text} is a file here: a job works on what is on the hub, push it")
    return str(parse_reference(text))


def refuse_with_job(**options: object) -> None:
    """Let pass only a command line without options that name files here.

    Raises:
        UsageError: one of them is given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise click.UsageError(f"{flags} cannot go with --job: it is about what is here")
