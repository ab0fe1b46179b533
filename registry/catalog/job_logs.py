"""Keep the last lines of each job's log."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from registry.catalog.job_leases import held_row
from registry.catalog.jobs import find_job
from registry.catalog.tables import job_log, jobs
from registry.jobs.values import MAX_LOG_LINE, MAX_LOG_LINES, Lease, LogLine


def append_log(connection: Connection, lease: Lease, texts: Sequence[str], now: str) -> None:
    """Append lines, and drop the oldest beyond the limit.

    Raises:
        LeaseLostError: the lease does not hold any more.
    """
    row = held_row(connection, lease)
    kept = [_clean(text)[:MAX_LOG_LINE] for text in texts][-MAX_LOG_LINES:]
    if not kept:
        return
    values = [
        {"job": row.number, "attempt": lease.attempt, "time": now, "text": text} for text in kept
    ]
    connection.execute(insert(job_log), values)
    lines = select(job_log.c.number).where(job_log.c.job == row.number)
    newest = lines.order_by(job_log.c.number.desc()).offset(MAX_LOG_LINES).limit(1)
    beyond = connection.scalar(newest)
    if beyond is not None:
        old = (job_log.c.job == row.number) & (job_log.c.number <= beyond)
        connection.execute(delete(job_log).where(old))
    grown = jobs.c.version + 1
    connection.execute(update(jobs).where(jobs.c.number == row.number).values(version=grown))


def read_log(connection: Connection, job: str, *, after: int, limit: int) -> list[LogLine]:
    """Return the last lines of a job's log behind a number, in order."""
    row = find_job(connection, job)
    if row is None:
        return []
    lines = connection.execute(
        select(job_log)
        .where(job_log.c.job == row.number, job_log.c.number > after)
        .order_by(job_log.c.number.desc())
        .limit(limit)
    ).all()
    return [LogLine(line.number, line.attempt, line.time, line.text) for line in reversed(lines)]


def _clean(text: str) -> str:
    """Drop what no database takes and what would begin a new line."""
    return text.replace("\0", "").replace("\r", " ").replace("\n", " ")
