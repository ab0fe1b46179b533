"""Turn jobs into the bodies that the API shows."""

from __future__ import annotations

from collections.abc import Iterable

from api.schemas_jobs import (
    JobBody,
    JobErrorBody,
    JobLogBody,
    JobLogLineBody,
    JobPage,
    JobProgressBody,
    JobResultBody,
)
from registry.catalog.values import Page
from registry.jobs.values import Job, LogLine


def job_body(job: Job) -> JobBody:
    """Return the body of a job."""
    progress, result, error = job.progress, job.result, job.error
    return JobBody(
        id=job.id,
        kind=job.kind,
        namespace=job.namespace,
        state=job.state,
        cancel_requested=job.cancel_requested,
        parameters=dict(job.parameters),
        progress=JobProgressBody(
            step=progress.step,
            total=progress.total,
            message=progress.message,
            metrics=dict(progress.metrics),
        ),
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        gpus=job.gpus,
        asked_by=job.asked_by,
        worker=job.owner,
        lease_expires_at=job.lease_expires_at,
        heartbeat_at=job.heartbeat_at,
        checkpoint=str(job.checkpoint) if job.checkpoint else None,
        result=JobResultBody(adapter=str(result.adapter), digest=str(result.revision))
        if result
        else None,
        outcome=dict(job.outcome) if job.outcome is not None else None,
        error=JobErrorBody(code=error.code, message=error.message, hint=error.hint)
        if error
        else None,
        parent=job.parent,
        children=job.children,
        version=job.version,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )


def job_page(page: Page[Job]) -> JobPage:
    """Return the body of a page of jobs."""
    return JobPage(items=[job_body(job) for job in page.items], next_cursor=page.next_cursor)


def log_body(lines: Iterable[LogLine]) -> JobLogBody:
    """Return the body of some lines of a log."""
    return JobLogBody(lines=[log_line_body(line) for line in lines])


def log_line_body(line: LogLine) -> JobLogLineBody:
    """Return the body of one line of a log."""
    return JobLogLineBody(number=line.number, attempt=line.attempt, time=line.time, text=line.text)
