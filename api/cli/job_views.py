"""Print jobs, and draw one that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from api.remote.jobs import HubJobs
    from api.schemas_jobs import JobBody

_LINES_SHOWN = 8
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def job_table(jobs: Sequence[JobBody]) -> None:
    """Print jobs, one a line."""
    if not jobs:
        output.message("no jobs: `adapters compress … --job` asks for one")
        return
    titles = ("id", "kind", "state", "progress", "asked by", "asked (UTC)", "about")
    rows = [
        (
            job.id,
            job.kind,
            str(job.state),
            progress_text(job),
            job.asked_by,
            output.when(job.created_at),
            _about(job),
        )
        for job in jobs
    ]
    output.table([Column(title) for title in titles], rows)


def print_job(session: Session, job: JobBody, *, brief: bool = False) -> None:
    """Print one job; briefly, its id alone as data and its state beside it."""
    if session.as_json:
        output.as_json(job.model_dump(mode="json"))
    elif brief:
        output.message(f"job {job.id} is {job.state}; follow it: adapters jobs watch {job.id}")
        output.line(job.id)
    else:
        output.fields(_rows(job))


def progress_text(job: JobBody) -> str:
    """Say how far a job is."""
    progress = job.progress
    if progress.total:
        return f"{min(100, 100 * progress.step // progress.total)} %"
    return output.count(progress.step) if progress.step else ""


def follow(session: Session, remote: HubJobs, job: JobBody, *, lines: bool = False) -> JobBody:
    """Watch a job until it ends and return it: live on a terminal, by lines elsewhere.

    Args:
        session: the common options.
        remote: the hub's jobs.
        job: as it was last seen.
        lines: print every event as one line of JSON on stdout instead.
    """
    with ExitStack() as stack:
        live = _Live(stack) if sys.stderr.isatty() and not lines else None
        shown: list[str] = []
        for event in remote.watch(job.id):
            if lines:
                _json_line(event.job.model_dump(mode="json") if event.job else None, "job")
                _json_line(event.line.model_dump(mode="json") if event.line else None, "log")
            if event.line is not None:
                shown = [*shown, event.line.text][-_LINES_SHOWN:]
                if live is None and not lines and not session.as_json:
                    output.message(event.line.text)
            if event.job is not None:
                if live is None and not lines and event.job.state != job.state:
                    output.message(f"job {job.id} is {event.job.state}")
                job = event.job
            if live is not None:
                live.show(job, shown)
    return job


def _json_line(value: object, name: str) -> None:
    if value is not None:
        output.line(json.dumps({"event": name, name: value}, ensure_ascii=False))


class _Live:
    """Draw one job over and over on stderr, until the stack is left."""

    def __init__(self, stack: ExitStack) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._live = stack.enter_context(Live(console=console, transient=True))

    def show(self, job: JobBody, lines: Sequence[str]) -> None:
        """Draw the job as it is now."""
        self._live.update(view(job, lines))


def view(job: JobBody, lines: Sequence[str]) -> RenderableType:
    """Return what a watched job looks like: its state, a bar, the last lines of its log."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(str(job.state), style=_STYLES.get(str(job.state), "bold")),
        Text(_clean(job.progress.message)),
        Text(progress_text(job)),
        Text(f"attempt {job.attempt} of {job.max_attempts}" if job.attempt else ""),
    )
    metrics = "  ".join(f"{name} {value:g}" for name, value in sorted(job.progress.metrics.items()))
    bar = ProgressBar(total=job.progress.total or None, completed=job.progress.step)
    log = [Text(_clean(line), style="dim", no_wrap=True) for line in lines]
    body = Group(head, bar, *([Text(metrics)] if metrics else []), *log)
    return Panel(body, title=f"{job.kind} {job.id}", title_align="left")


def _rows(job: JobBody) -> list[tuple[str, str]]:
    result, error = job.result, job.error
    return [
        ("job", job.id),
        ("kind", job.kind),
        ("state", f"{job.state}, to be cancelled" if _stopping(job) else str(job.state)),
        ("about", _about(job)),
        ("progress", " ".join(part for part in (progress_text(job), job.progress.message) if part)),
        ("jobs", f"{job.children}: adapters jobs list --of {job.id}" if job.children else ""),
        ("attempts", f"{job.attempt}, may die {job.max_attempts} times"),
        ("worker", job.worker or ""),
        ("GPUs", str(job.gpus) if job.gpus else ""),
        ("asked by", job.asked_by),
        ("asked", f"{output.when(job.created_at)} UTC"),
        ("ended", f"{output.when(job.ended_at)} UTC" if job.ended_at else ""),
        ("result", f"{result.adapter}@{result.digest}" if result else ""),
        ("outcome", json.dumps(job.outcome, ensure_ascii=False) if job.outcome else ""),
        ("error", f"{error.code}: {error.message}" if error else ""),
        ("hint", error.hint if error else ""),
    ]


def _stopping(job: JobBody) -> bool:
    return job.cancel_requested and str(job.state) == "running"


def _about(job: JobBody) -> str:
    asked = job.parameters
    sources = asked.get("sources")
    source = ", ".join(map(str, sources)) if isinstance(sources, list) else asked.get("source")
    target = asked.get("target")
    base = asked.get("base_model") if source is None else None
    parts = [str(source or "").partition("@")[0], f"all of {base}" if base else ""]
    return " → ".join(part for part in (*parts, str(target or "")) if part)


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
