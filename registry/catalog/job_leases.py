"""Hand out leases on jobs, and let nobody change a job without the one that holds.

A lease names a job and an attempt. Whoever claims a job makes its attempt grow by one, so that what
an earlier attempt still believes to hold fits no row any more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from registry.catalog.jobs import error_text, find_job, job_of, move_job, start_map
from registry.catalog.tables import jobs
from registry.digest import Digest
from registry.jobs.errors import LeaseLostError
from registry.jobs.states import JobState
from registry.jobs.values import (
    MAX_MESSAGE,
    Job,
    JobFailure,
    JobProgress,
    JobResult,
    Lease,
)

LOST = JobFailure(
    "job-lost",
    "whoever worked on it died, as often as the job may be begun",
    "see its log; `adapters jobs retry` begins again from its checkpoint",
)


def has_queued(connection: Connection, gpus: int) -> bool:
    """Tell whether something waits that needs no more GPUs than these."""
    return connection.execute(_next(gpus)).first() is not None


def claim_job(
    connection: Connection, owner: str, *, gpus: int, now: str, expires_at: str
) -> Job | None:
    """Take the job that waits longest, in one statement; None if nothing waits.

    On PostgreSQL rows that another claim has locked are passed over.
    """
    waiting = _next(gpus).with_for_update(skip_locked=True).scalar_subquery()
    row = connection.execute(
        update(jobs)
        .where(jobs.c.number == waiting)
        .values(
            state=JobState.RUNNING.value,
            attempt=jobs.c.attempt + 1,
            lease_owner=owner,
            lease_expires_at=expires_at,
            heartbeat_at=now,
            started_at=func.coalesce(jobs.c.started_at, now),
            version=jobs.c.version + 1,
        )
        .returning(jobs)
    ).one_or_none()
    if row is None:
        return None
    if row.parent is not None:
        start_map(connection, row.parent, now)
    return job_of(row)


def _next(gpus: int) -> Any:  # noqa: ANN401 -- a select of a number
    return (
        select(jobs.c.number)
        .where(jobs.c.state == JobState.QUEUED.value, jobs.c.children == 0, jobs.c.gpus <= gpus)
        .order_by(jobs.c.number)
        .limit(1)
    )


def held_row(connection: Connection, lease: Lease) -> Row[Any]:
    """Return the locked row of the job that a lease is on.

    Raises:
        LeaseLostError: the lease does not hold it any more.
    """
    row = find_job(connection, lease.job, lock=True)
    if row is None or row.attempt != lease.attempt or row.state != JobState.RUNNING:
        raise LeaseLostError(lease.job, lease.attempt)
    return row


def held_job(connection: Connection, lease: Lease) -> Job | None:
    """Return the job that a lease holds, or None if it holds none any more."""
    row = find_job(connection, lease.job)
    if row is None or row.attempt != lease.attempt or row.state != JobState.RUNNING:
        return None
    return job_of(row)


def extend(connection: Connection, lease: Lease, *, now: str, expires_at: str) -> bool:
    """Say that a worker lives; return whether the job is to stop.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    _change(connection, row, heartbeat_at=now, lease_expires_at=expires_at)
    return bool(row.cancel_requested)


def report(connection: Connection, lease: Lease, progress: JobProgress) -> None:
    """Keep how far a job is.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    _change(
        connection,
        row,
        step=progress.step,
        total=progress.total,
        message=progress.message[:MAX_MESSAGE],
        metrics=json.dumps(dict(progress.metrics), allow_nan=False),
    )


def set_checkpoint(connection: Connection, lease: Lease, digest: Digest, *, stored: bool) -> bool:
    """Keep what a later attempt goes on from; return whether its blob is stored, as it must be.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    if stored:
        _change(connection, row, checkpoint=digest.hex)
    return stored


def set_result(connection: Connection, lease: Lease, result: JobResult) -> None:
    """Keep what a job published, in the transaction that publishes it: once, whoever tries again.

    Raises:
        LeaseLostError: the lease does not hold any more, or the job published something else.
    """
    row = held_row(connection, lease)
    if row.result_digest not in {None, result.revision.hex}:
        raise LeaseLostError(lease.job, lease.attempt)
    _change(
        connection,
        row,
        result_namespace=result.adapter.namespace,
        result_name=result.adapter.name,
        result_digest=result.revision.hex,
    )


def succeed(connection: Connection, lease: Lease, outcome: str | None, now: str) -> None:
    """End a job well.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    _succeed(connection, row, now, outcome)


def fail(connection: Connection, lease: Lease, failure: JobFailure, *, now: str) -> None:
    """End a job badly, for good; one that has published has succeeded all the same.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    if not _settled(connection, row, now):
        move_job(connection, row, JobState.FAILED, error=error_text(failure), ended_at=now)


def give_back(
    connection: Connection, lease: Lease, failure: JobFailure, *, now: str, forgive: bool = False
) -> JobState:
    """Let somebody else go on with a job, or end it: cancelled, or begun too often.

    Args:
        connection: where.
        lease: the attempt that is over.
        failure: why, if it was begun too often.
        now: the time.
        forgive: do not count this attempt.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    return _give_back(connection, row, failure, now=now, forgive=forgive)


def expire(connection: Connection, now: str, *, limit: int) -> list[tuple[str, JobState]]:
    """Take jobs from workers that were silent for too long; return each with its new state."""
    rows = connection.execute(
        select(jobs)
        .where(jobs.c.state == JobState.RUNNING.value, jobs.c.lease_expires_at < now)
        .order_by(jobs.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    return [(row.id, _give_back(connection, row, LOST, now=now)) for row in rows]


def has_expired(connection: Connection, now: str) -> bool:
    """Tell whether a lease ran out."""
    query = select(jobs.c.number).where(
        jobs.c.state == JobState.RUNNING.value, jobs.c.lease_expires_at < now
    )
    return connection.execute(query.limit(1)).first() is not None


def states_of(connection: Connection, leases: Sequence[Lease]) -> dict[Lease, bool | None]:
    """Tell of each lease whether its job is to stop; None if the lease does not hold any more."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.attempt, jobs.c.state, jobs.c.cancel_requested).where(
            jobs.c.id.in_({lease.job for lease in leases})
        )
    )
    found: dict[Lease, bool | None] = dict.fromkeys(leases)
    for row in rows:
        lease = Lease(row.id, row.attempt)
        if lease in found and row.state == JobState.RUNNING:
            found[lease] = bool(row.cancel_requested)
    return found


def _give_back(
    connection: Connection, row: Row[Any], failure: JobFailure, *, now: str, forgive: bool = False
) -> JobState:
    if settled := _settled(connection, row, now):
        return settled
    if not forgive and row.attempt - row.forgiven >= row.max_attempts:
        move_job(connection, row, JobState.FAILED, error=error_text(failure), ended_at=now)
        return JobState.FAILED
    forgiven = row.forgiven + 1 if forgive else row.forgiven
    move_job(connection, row, JobState.QUEUED, forgiven=forgiven)
    return JobState.QUEUED


def _settled(connection: Connection, row: Row[Any], now: str) -> JobState | None:
    """End a job that has published, or that is to stop, whatever else was to become of it."""
    if row.result_digest is not None:
        _succeed(connection, row, now, row.outcome)
        return JobState.SUCCEEDED
    if row.cancel_requested:
        move_job(connection, row, JobState.CANCELLED, ended_at=now)
        return JobState.CANCELLED
    return None


def _succeed(connection: Connection, row: Row[Any], now: str, outcome: str | None) -> None:
    move_job(
        connection,
        row,
        JobState.SUCCEEDED,
        outcome=outcome,
        checkpoint=None,
        error=None,
        ended_at=now,
    )


def _change(connection: Connection, row: Row[Any], **values: object) -> None:
    changed = {"version": jobs.c.version + 1, **values}
    connection.execute(update(jobs).where(jobs.c.number == row.number).values(changed))
