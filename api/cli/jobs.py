"""Ask for jobs, look at them, watch them, cancel them and try them again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.job_views import follow, job_table, print_job
from api.cli.session import Session, command, common

if TYPE_CHECKING:
    from pydantic import JsonValue

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
JOB = click.argument("job", metavar="ID")


@click.group(epilog="\b\nExample:\n  adapters jobs list --state running")
def jobs() -> None:
    """Ask for long work, watch it, cancel it.

    Jobs run on the hub's workers and survive crashes: an attempt that dies is begun again from its
    checkpoint, and what it makes is published once.
    """


@command("submit", example="adapters jobs submit noop -p namespace=team -p steps=1")
@click.argument("kind")
@click.option(
    "-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="VALUE is JSON or text."
)
@click.option("--key", default="", help="Idempotency key: asked for again, it is the same job.")
@click.option("--gpus", type=click.IntRange(0, 1024), default=0, help="GPUs that it needs.")
@click.option(
    "--max-attempts", type=click.IntRange(1, 100), default=3, help="How often it may be begun."
)
@click.option("--watch", "wait", is_flag=True, help="Follow it until it ends.")
@common
def submit(
    session: Session,
    *,
    kind: str,
    pairs: tuple[str, ...],
    key: str,
    gpus: int,
    max_attempts: int,
    wait: bool,
) -> None:
    """Queue a job of any kind; `adapters jobs kinds` tells which there are."""
    from api.remote.jobs import HubJobs

    with session.client() as client:
        remote = HubJobs(client)
        job = remote.submit(
            kind, dict(map(_pair, pairs)), key=key, gpus=gpus, max_attempts=max_attempts
        )
        if wait:
            job = follow(session, remote, job)
    print_job(session, job, brief=not wait)


def _pair(text: str) -> tuple[str, JsonValue]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--parameter {text!r} is not NAME=VALUE")
    try:
        found: JsonValue = json.loads(value)
    except ValueError:
        found = value
    return name, found


@command("kinds", example="adapters jobs kinds")
@common
def kinds(session: Session) -> None:
    """List the kinds of jobs, and what each takes."""
    from api.remote.jobs import HubJobs

    with session.client() as client:
        found = HubJobs(client).kinds().items
    if session.as_json:
        output.as_json([kind.model_dump(mode="json") for kind in found])
        return
    columns = (output.Column("kind"), output.Column("summary"), output.Column("parameters"))
    rows = []
    for kind in found:
        properties = kind.parameters.get("properties")
        names = ", ".join(properties) if isinstance(properties, dict) else ""
        rows.append((kind.kind, kind.summary, names))
    output.table(columns, rows)


@command("list", example="adapters jobs list --state running --kind compress")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.option("--kind", metavar="KIND", help="Only of this kind.")
@click.option("--of", "parent", metavar="ID", help="Those of a map, instead of those of none.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@common
def list_jobs(
    session: Session,
    *,
    state: str | None,
    kind: str | None,
    parent: str | None,
    limit: int,
    quiet: bool,
) -> None:
    """List jobs, newest first."""
    from api.remote.jobs import HubJobs
    from registry.jobs.states import JobState

    wanted = JobState(state) if state else None
    with session.client() as client:
        found = list(HubJobs(client).list(state=wanted, kind=kind, parent=parent, limit=limit))
    if session.as_json:
        output.as_json([job.model_dump(mode="json") for job in found])
    elif quiet:
        for job in found:
            output.line(job.id)
    else:
        job_table(found)


@command("show", example="adapters jobs show 1f3a90c2d4e5b6a7 --json")
@JOB
@common
def show(session: Session, *, job: str) -> None:
    """Show one job: state, progress, result, error."""
    from api.remote.jobs import HubJobs

    with session.client() as client:
        print_job(session, HubJobs(client).get(job))


@command("watch", example="adapters jobs watch 1f3a90c2d4e5b6a7")
@JOB
@common
def watch(session: Session, *, job: str) -> None:
    """Follow a job until it ends; Ctrl-C leaves it running.

    Exits with 1 if it does not succeed. With --json every change is one line of JSON.
    """
    from api.remote.jobs import HubJobs

    with session.client() as client:
        remote = HubJobs(client)
        ended = follow(session, remote, remote.get(job), lines=session.as_json)
    if not session.as_json:
        print_job(session, ended)
    if ended.state != "succeeded":
        raise click.exceptions.Exit(1)


@command("logs", example="adapters jobs logs 1f3a90c2d4e5b6a7 --follow")
@JOB
@click.option("-n", "--tail", type=click.IntRange(1, 1000), default=200, show_default=True)
@click.option("-f", "--follow", "stay", is_flag=True, help="Go on until the job ends.")
@common
def logs(session: Session, *, job: str, tail: int, stay: bool) -> None:
    """Print the end of a job's log."""
    from api.remote.jobs import HubJobs

    with session.client() as client:
        remote = HubJobs(client)
        lines = remote.log(job, limit=tail).lines
        if session.as_json and not stay:
            output.as_json([line.model_dump(mode="json") for line in lines])
            return
        for line in lines:
            _log_line(session, line.model_dump(mode="json"))
        last = lines[-1].number if lines else 0
        for event in remote.watch(job) if stay else ():
            if event.line is not None and event.line.number > last:
                _log_line(session, event.line.model_dump(mode="json"))


def _log_line(session: Session, line: dict[str, object]) -> None:
    text = json.dumps(line, ensure_ascii=False) if session.as_json else _plain(line)
    output.line(text)


def _plain(line: dict[str, object]) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(line["text"]))
    return f"{str(line['time'])[:19].replace('T', ' ')}  {text}"


@command("cancel", example="adapters jobs cancel 1f3a90c2d4e5b6a7")
@JOB
@common
def cancel(session: Session, *, job: str) -> None:
    """Cancel a job; one that runs is stopped within seconds.

    Of a map, all jobs are cancelled. A job that has ended stays as it is.
    """
    from api.remote.jobs import HubJobs

    with session.client() as client:
        print_job(session, HubJobs(client).cancel(job), brief=True)


@command("retry", example="adapters jobs retry 1f3a90c2d4e5b6a7")
@JOB
@common
def retry(session: Session, *, job: str) -> None:
    """Queue a job again that failed or was cancelled.

    It goes on from its checkpoint; of a map, only what did not succeed is done again.
    """
    from api.remote.jobs import HubJobs

    with session.client() as client:
        print_job(session, HubJobs(client).retry(job), brief=True)


for _command in (submit, kinds, list_jobs, show, watch, logs, cancel, retry):
    jobs.add_command(_command)
