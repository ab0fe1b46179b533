"""Submit, cancel and retry jobs, each in one transaction and with its entry in the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from registry.catalog.audit import append_audit
from registry.catalog.jobs import (
    asked_digest,
    cancel_job,
    find_by_key,
    find_job,
    insert_job,
    job_of,
    retry_job,
)
from registry.catalog.values import AuditEntry
from registry.jobs.errors import JobKeyError, JobNotFoundError
from registry.jobs.values import Job, NewJob


def submit(
    connection: Connection, new: NewJob, children: Sequence[NewJob], *, ids: Sequence[str], now: str
) -> tuple[Job, bool]:
    """Queue a job and those of a map, or find the one of the same key; tell whether it is new.

    Args:
        connection: where.
        new: what is asked for.
        children: the jobs of a map.
        ids: what to call the job, then its children.
        now: the time.

    Raises:
        JobKeyError: the key was used before for something else.
    """
    if not insert_job(connection, new, job=ids[0], now=now, children=len(children)):
        known = find_by_key(connection, new.namespace, new.key)
        if known is None or known.asked != asked_digest(new):
            raise JobKeyError(new.key, known.id if known else "")
        return job_of(known), False
    for child, name in zip(children, ids[1:], strict=True):
        insert_job(connection, child, job=name, now=now, parent=ids[0])
    _note(connection, "submit-job", new.asked_by, f"{new.namespace}/{ids[0]}", now)
    return get(connection, ids[0]), True


def get(connection: Connection, job: str) -> Job:
    """Return a job.

    Raises:
        JobNotFoundError: there is none of this id.
    """
    return job_of(_required(find_job(connection, job), job))


def cancel(connection: Connection, job: str, *, principal: str, now: str) -> Job:
    """Cancel a job, or ask that it stop if it runs; what has ended stays as it is.

    Raises:
        JobNotFoundError: there is none of this id.
    """
    row = _required(find_job(connection, job, lock=True), job)
    cancel_job(connection, row, now)
    _note(connection, "cancel-job", principal, f"{row.namespace}/{job}", now)
    return get(connection, job)


def retry(connection: Connection, job: str, *, principal: str, now: str) -> Job:
    """Queue a job again that failed or was cancelled.

    Raises:
        JobNotFoundError: there is none of this id.
        JobStateError: it did neither fail nor was it cancelled.
    """
    row = _required(find_job(connection, job, lock=True), job)
    retry_job(connection, row)
    _note(connection, "retry-job", principal, f"{row.namespace}/{job}", now)
    return get(connection, job)


def _required(row: Row[Any] | None, job: str) -> Row[Any]:
    if row is None:
        raise JobNotFoundError(job)
    return row


def _note(connection: Connection, action: str, principal: str, subject: str, now: str) -> None:
    append_audit(connection, AuditEntry(now, principal, action, subject))
